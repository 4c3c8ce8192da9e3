//! Names of a segment's files. A name that is not one of these is not ours: it is neither opened nor removed.

use crate::document::SegmentId;
use crate::fine::writer::UNFINISHED;

pub(crate) fn ids(segment: SegmentId) -> String {
    format!("{:016x}.ids", segment.0)
}

pub(crate) fn payload(segment: SegmentId) -> String {
    format!("{:016x}.payload", segment.0)
}

/// `number`: the vector's place among the segment's.
pub(crate) fn vector(segment: SegmentId, number: usize) -> String {
    format!("{:016x}.vector.{number:02x}", segment.0)
}

pub(crate) fn graph(segment: SegmentId, number: usize) -> String {
    format!("{:016x}.graph.{number:02x}", segment.0)
}

/// Codes of vector `number`.
pub(crate) fn codes(segment: SegmentId, number: usize) -> String {
    format!("{:016x}.codes.{number:02x}", segment.0)
}

pub(crate) fn deleted(segment: SegmentId, generation: u64) -> String {
    format!("{:016x}.deleted.{generation:016x}", segment.0)
}

/// The segment that a file name belongs to, unfinished files included; `None`: not a name of ours.
pub(crate) fn segment_of(name: &str) -> Option<SegmentId> {
    let (id, rest) = name.strip_suffix(UNFINISHED).unwrap_or(name).split_once('.')?;
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let known = match rest.split_once('.') {
        None => matches!(rest, "ids" | "payload"),
        Some(("vector" | "graph" | "codes", number)) => is_hex(number, 2),
        Some(("deleted", generation)) => is_hex(generation, 16),
        Some(_) => false,
    };
    (known && is_hex(id, 16)).then(|| u64::from_str_radix(id, 16).ok().map(SegmentId))?
}

/// Which vector of its segment a vector's file holds.
pub(crate) fn vector_number(name: &str) -> Option<usize> {
    let (_, number) = name.split_once(".vector.")?;
    usize::from_str_radix(number, 16).ok()
}

/// Whether a name is that of a derived file, which no manifest names; also while it is being written, beside whatever else
/// goes on.
pub(crate) fn is_derived(name: &str) -> bool {
    let is_kind = name.contains(".graph.") || name.contains(".codes.");
    is_kind && segment_of(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_others_are_not_ours() {
        let id = SegmentId(0xabc);
        for name in [
            ids(id),
            payload(id),
            vector(id, 3),
            graph(id, 255),
            codes(id, 0),
            deleted(id, 7),
            payload(id) + UNFINISHED,
        ] {
            assert_eq!(segment_of(&name), Some(id), "{name}");
        }
        assert_eq!(vector_number(&vector(id, 18)), Some(18));
        assert_eq!(vector_number(&graph(id, 18)), None);
        for name in [
            "",
            "manifest",
            "../0000000000000abc.ids",
            "abc.ids",
            "0000000000000abc.vector.3",
            "0000000000000abc.x",
        ] {
            assert_eq!(segment_of(name), None, "{name}");
        }
    }
}
