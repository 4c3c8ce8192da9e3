//! Names of a segment's files. A name that is not one of these is not ours: it is neither opened nor removed.

use granum_model::PayloadField;
use xxhash_rust::xxh3::xxh3_64_with_seed;

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

/// Named by its field, not by a place in the schema: what is dropped and what is added move no other column.
pub(crate) fn column(segment: SegmentId, field: &PayloadField) -> String {
    format!("{:016x}.column.{:016x}", segment.0, column_number(field))
}

/// Tells the columns of a segment apart: xxh3_64 of the field's path, the kind's place among all kinds as its seed.
pub(crate) fn column_number(field: &PayloadField) -> u64 {
    xxh3_64_with_seed(field.key.as_bytes(), field.kind as u64)
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
        Some(("deleted" | "column", number)) => is_hex(number, 16),
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
    let is_kind = name.contains(".graph.") || name.contains(".codes.") || name.contains(".column.");
    is_kind && segment_of(name).is_some()
}

/// Whether a name is that of a column; also while it is being written.
pub(crate) fn is_column(name: &str) -> bool {
    name.contains(".column.") && segment_of(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use granum_model::PayloadKind;

    #[test]
    fn names_lead_back_and_others_are_not_ours() {
        let id = SegmentId(0xabc);
        let field = PayloadField {
            key: "a[].b".into(),
            kind: PayloadKind::Integer,
        };
        assert_eq!(column(id, &field), "0000000000000abc.column.8d35d6ddb31f825b");
        for name in [
            ids(id),
            payload(id),
            vector(id, 3),
            graph(id, 255),
            codes(id, 0),
            deleted(id, 7),
            column(id, &field),
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
