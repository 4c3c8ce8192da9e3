//! Is every byte of these segments what was written, and does it mean what the format promises? Offline, reading all.
//!
//! Checked: length and xxh3_64 of each file as the manifest has them, frames, every page's checksum, and the invariants:
//! ids decode and are strictly ordered in the table by id (so no id occurs twice), payloads unpack to JSON objects,
//! components are finite, cosine vectors have unit length, sparse indices increase, dead rows exist, and no id is alive in
//! two segments, digests add up to what the manifest says. Derived files are checked if they are there; a damaged one is named, though it is only rebuilt.

use std::path::Path;

use granum_model::{Dense, Distance, Fine, Vector, scaled};
use roaring::RoaringBitmap;

use super::{Segment, SegmentRef, VectorFile, names};
use crate::coarse::{Codes, Graph};
use crate::column::Column;
use crate::error::ReadError;
use crate::fine::PagedFile;
use crate::fine::writer::UNFINISHED;
use crate::simd;

/// Most problems listed; more are only counted.
pub const PROBLEMS_MAX: usize = 1000;
/// How far the squared length of a canonical cosine vector may be from 1: rounding 8,192 components to f16 stays below.
const UNIT_TOLERANCE: f32 = 0.01;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments looked at.
    pub segments: u64,
    /// Their rows, dead ones included.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// What is wrong, each naming its file; at most [`PROBLEMS_MAX`].
    pub problems: Vec<String>,
    /// Problems found, listed or not.
    pub problems_found: u64,
}

impl Verified {
    fn note(&mut self, problem: impl ToString) {
        self.problems_found += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem.to_string());
        }
    }

    fn check<T, E: ToString>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.note(error)).ok()
    }
}

/// Checks all that a manifest names below `directory`, and what was derived from it.
pub fn verify(directory: &Path, segments: &[SegmentRef]) -> Verified {
    let mut verified = Verified::default();
    let mut opened = Vec::new();
    for reference in segments {
        verified.segments += 1;
        verified.rows += u64::from(reference.rows);
        let is_sound = check_files(directory, reference, &mut verified);
        // A damaged page was named already: reading on would name it again for each of its rows.
        if let Some((segment, dead)) = verified.check(Segment::open(directory, reference)).filter(|_| is_sound) {
            check_segment(&segment, &mut verified);
            check_digests(reference, &segment, &dead, &mut verified);
            check_derived(directory, &segment, &mut verified);
            opened.push((segment, dead));
        }
    }
    check_ids_alive_once(&opened, &mut verified);
    verified
}

/// Lengths, digests and pages; whether all are right.
fn check_files(directory: &Path, reference: &SegmentRef, verified: &mut Verified) -> bool {
    let before = verified.problems_found;
    for expected in &reference.files {
        verified.bytes += expected.bytes;
        let Some(file) = verified.check(PagedFile::open(directory, &expected.name, Some(expected.bytes))) else {
            continue;
        };
        for page in 0..file.footer().pages {
            verified.check(file.check_page(page));
        }
        let digest = file.digest();
        if digest != expected.xxh3 {
            let problem = format!("xxh3 {digest:016x}, the manifest says {:016x}", expected.xxh3);
            verified.note(file.malformed(problem));
        }
    }
    verified.problems_found == before
}

/// Codes and graphs that are there: frame, pages, factors finite, links in range and none twice. Columns that are there: frame, pages,
/// order, rows in range.
fn check_derived(directory: &Path, segment: &Segment, verified: &mut Verified) {
    for vectors in segment.vectors() {
        let is_there = |name: String| directory.join(name).exists();
        if is_there(names::codes(segment.id, vectors.number()))
            && let Some(codes) = verified.check(Codes::open(directory, segment.id, vectors))
        {
            verified.check(codes.check());
        }
        if is_there(names::graph(segment.id, vectors.number()))
            && let Some(graph) = verified.check(Graph::open(directory, segment.id, vectors))
        {
            verified.check(graph.check());
        }
    }
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let own = |name: &String| names::is_column(name) && names::segment_of(name) == Some(segment.id);
    for name in names.filter(|name| own(name) && !name.ends_with(UNFINISHED)) {
        if let Some(Some(column)) = verified.check(Column::open_named(directory, segment, &name)) {
            verified.check(column.check());
        }
    }
}

fn check_segment(segment: &Segment, verified: &mut Verified) {
    verified.check(check_ids(segment));
    let mut payloads = segment.payloads();
    for row in 0..segment.rows {
        let parsed = payloads.read(row).map(is_object);
        if verified.check(parsed) == Some(false) {
            verified.note(
                segment
                    .payloads
                    .file()
                    .malformed(format!("row {row}: not a JSON object")),
            );
        }
    }
    for file in &segment.vectors {
        for row in 0..segment.rows {
            if let Some(Some(vector)) = verified.check(file.read(row))
                && let Some(problem) = fault(file, &vector)
            {
                verified.note(file.file().malformed(format!("row {row}: {problem}")));
            }
        }
    }
}

/// The digests of all rows, and of the dead ones, add up to what the manifest says.
fn check_digests(reference: &SegmentRef, segment: &Segment, dead: &RoaringBitmap, verified: &mut Verified) {
    let all = RoaringBitmap::from_iter(0..segment.rows);
    for (rows, expected) in [(&all, reference.digest), (dead, reference.dead_digest)] {
        if let Some(digest) = verified
            .check(segment.digest_of(rows))
            .filter(|digest| *digest != expected)
        {
            let problem = format!("digests add up to {digest:016x}, the manifest says {expected:016x}");
            verified.note(segment.ids.file().malformed(problem));
        }
    }
}

/// Nothing means an empty object.
fn is_object(payload: &[u8]) -> bool {
    payload.is_empty() || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload).is_ok()
}

/// All ids decode, and the table by id is strictly increasing, hence complete.
fn check_ids(segment: &Segment) -> Result<(), ReadError> {
    let mut last = None;
    for row in segment.rows_from(None)? {
        let row = row?;
        segment.version(row)?;
        let id = segment.id(row)?;
        if last.as_ref().is_some_and(|last| *last >= id) {
            return Err(segment
                .ids
                .file()
                .malformed(format!("row {row}: id {id:?} does not follow {last:?}")));
        }
        last = Some(id);
    }
    Ok(())
}

/// What is wrong with a vector, if anything is.
fn fault(file: &VectorFile, vector: &Vector) -> Option<String> {
    let (rows, row_length) = match vector {
        Vector::Dense(dense) => (simd::widened(dense), dense.len()),
        Vector::Multi { dimension, rows } => (simd::widened(rows), *dimension as usize),
        Vector::Sparse { indices, values } => {
            if !indices.windows(2).all(|pair| pair[0] < pair[1]) {
                return Some("indices do not increase".into());
            }
            (simd::widened(&Dense::F32(values.clone())), values.len())
        }
    };
    if let Some(at) = rows.iter().position(|component| !component.is_finite()) {
        return Some(format!("component {at} is {}", rows[at]));
    }
    if file.fine() == Fine::I8 && !rows.chunks_exact(row_length.max(1)).all(scaled::is_round) {
        return Some("not whole numbers of a scale".into());
    }
    // A row of zeros has no direction, and is kept as it is.
    let is_unit = |row: &[f32]| {
        let square = row.iter().map(|x| x * x).sum::<f32>();
        square == 0.0 || (square - 1.0).abs() <= UNIT_TOLERANCE
    };
    let is_dense = !matches!(vector, Vector::Sparse { .. });
    if is_dense && file.distance() == Distance::Cosine && !rows.chunks_exact(row_length.max(1)).all(is_unit) {
        return Some("not of unit length".into());
    }
    None
}

fn check_ids_alive_once(segments: &[(Segment, RoaringBitmap)], verified: &mut Verified) {
    for (at, (segment, dead)) in segments.iter().enumerate() {
        for row in (0..segment.rows).filter(|row| !dead.contains(*row)) {
            let Ok(id) = segment.id(row) else {
                continue;
            };
            for (newer, newer_dead) in &segments[at + 1..] {
                if let Ok(Some(other)) = newer.find(&id)
                    && !newer_dead.contains(other)
                {
                    verified.note(format!("{id:?} is alive in segments {} and {}", segment.id, newer.id));
                }
            }
        }
    }
}
