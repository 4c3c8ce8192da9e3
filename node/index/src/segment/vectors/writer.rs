//! Writes one named vector of a segment.

use std::path::Path;
use std::sync::Arc;

use granum_model::{Vector, VectorField, VectorKind};
use roaring::RoaringBitmap;

use crate::document::{Document, SegmentId};
use crate::fine::rows::Packing;
use crate::fine::{Footer, Kind, PagedWriter};
use crate::metric::fits;
use crate::segment::{FileRef, deleted, names};
use crate::simd;

/// Writes the vectors of that field; `None` if no document has one.
pub(crate) fn write(
    directory: &Path,
    segment: SegmentId,
    number: usize,
    field: &VectorField,
    documents: &[Arc<Document>],
) -> std::io::Result<Option<FileRef>> {
    let own = |document: &'_ Arc<Document>| {
        document
            .vector(&field.name)
            .filter(|vector| fits(field, vector))
            .is_some()
    };
    let present: RoaringBitmap = (0u32..)
        .zip(documents)
        .filter(|(_, document)| own(document))
        .map(|(row, _)| row)
        .collect();
    if present.is_empty() {
        return Ok(None);
    }
    let vectors = || {
        present
            .iter()
            .filter_map(|row| documents[row as usize].vector(&field.name))
    };
    let mut writer = PagedWriter::create(directory, &names::vector(segment, number))?;
    writer.section()?;
    let mut ends = Vec::new();
    let mut end = 0u64;
    for vector in vectors() {
        end += write_values(&mut writer, field, vector)?;
        ends.extend_from_slice(&end.to_le_bytes());
    }
    finish(writer, segment, field, documents.len() as u32, &present, &ends).map(Some)
}

/// Ends the section of values and writes the others: who has a vector, and `ends`, which dense vectors don't need.
pub(crate) fn finish(
    mut writer: PagedWriter,
    segment: SegmentId,
    field: &VectorField,
    rows: u32,
    present: &RoaringBitmap,
    ends: &[u8],
) -> std::io::Result<FileRef> {
    writer.section()?;
    if present.len() < u64::from(rows) {
        writer.write(&deleted::encode(present)?)?;
    }
    let (kind, dimension) = match field.kind {
        VectorKind::Dense { dimension } => (Kind::Dense, dimension),
        VectorKind::Sparse => (Kind::Sparse, 0),
        VectorKind::Multi { dimension } => (Kind::Multi, dimension),
    };
    if kind != Kind::Dense {
        writer.section()?;
        writer.write(ends)?;
    }
    let footer = Footer::new(kind, segment.0, u64::from(rows));
    let (distance, fine, name) = (field.distance, field.fine, field.name.clone());
    writer.finish(Footer {
        dimension,
        distance,
        fine,
        name,
        ..footer
    })
}

/// Appends one vector; returns what it adds to `ends`.
fn write_values(writer: &mut PagedWriter, field: &VectorField, vector: &Vector) -> std::io::Result<u64> {
    let packing = |dimension: u32| Packing {
        row_bytes: simd::row_bytes(field.fine, dimension as usize),
    };
    match vector {
        Vector::Dense(dense) => {
            let row = simd::stored(dense, field.fine, dense.len());
            packing(dense.len() as u32).write(writer, &row)?;
            Ok(1)
        }
        Vector::Sparse { indices, values } => {
            for index in indices {
                writer.write(&index.to_le_bytes())?;
            }
            for value in values {
                writer.write(&value.to_le_bytes())?;
            }
            Ok(indices.len() as u64 * 8)
        }
        Vector::Multi { dimension, rows } => {
            let packing = packing(*dimension);
            let rows = simd::stored(rows, field.fine, *dimension as usize);
            let rows = rows.chunks_exact(packing.row_bytes);
            let count = rows.len() as u64;
            for row in rows {
                packing.write(writer, row)?;
            }
            Ok(count)
        }
    }
}
