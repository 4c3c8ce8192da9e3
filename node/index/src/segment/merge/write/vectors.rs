//! One named vector of a merged segment, its values copied byte for byte.

use granum_model::{VectorField, VectorKind};
use roaring::RoaringBitmap;

use super::Copying;
use crate::error::ReadError;
use crate::fine::PagedWriter;
use crate::fine::rows::Packing;
use crate::pace::{CopyError, Pace};
use crate::segment::{FileRef, VectorFile, names, vectors};
use crate::simd;

/// Writes the vectors of that field; `None` if no row has one. A source's file of that name with another meaning, which a
/// dropped field may have left, is no file of it.
pub(super) fn write(
    copying: &Copying<'_>,
    number: usize,
    field: &VectorField,
    pace: &mut Pace<'_>,
) -> Result<Option<FileRef>, CopyError> {
    let own = |source: &'_ crate::segment::Segment| source.vectors().iter().position(|file| file.is_of(field));
    let mut files: Vec<Option<Places<'_>>> = copying
        .sources
        .iter()
        .map(|source| own(source).map(|at| Places::new(&source.vectors()[at])))
        .collect();
    let has_vector = |(_, at): &(u32, &crate::segment::merge::order::SourceRow)| {
        files[at.source as usize].as_ref().is_some_and(|file| file.has(at.row))
    };
    let present: RoaringBitmap = (0..).zip(copying.rows).filter(has_vector).map(|(new, _)| new).collect();
    if present.is_empty() {
        return Ok(None);
    }
    let mut writer = PagedWriter::create(copying.directory, &names::vector(copying.id, number))?;
    writer.section()?;
    let (mut ends, mut end) = (Vec::new(), 0u64);
    for at in copying.rows {
        let Some(file) = &mut files[at.source as usize] else {
            continue;
        };
        let Some(place) = file.place(at.row) else { continue };
        end += copy_place(&mut writer, field, file, place, pace)?;
        if !matches!(field.kind, VectorKind::Dense { .. }) {
            ends.extend_from_slice(&end.to_le_bytes());
        }
    }
    let rows = copying.rows.len() as u32;
    Ok(Some(vectors::finish(writer, copying.id, field, rows, &present, &ends)?))
}

/// Appends one value; returns what it adds to `ends`.
fn copy_place(
    writer: &mut PagedWriter,
    field: &VectorField,
    file: &mut Places<'_>,
    place: u64,
    pace: &mut Pace<'_>,
) -> Result<u64, CopyError> {
    let packing = |dimension: u32| Packing {
        row_bytes: simd::row_bytes(field.fine, dimension as usize),
    };
    let (bytes, added) = match field.kind {
        VectorKind::Dense { dimension } => {
            let value = file.vectors.dense(place)?;
            packing(dimension).write(writer, value)?;
            (value.len(), 1)
        }
        VectorKind::Sparse => {
            let value = file.vectors.sparse(place)?;
            writer.write(value)?;
            (value.len(), value.len() as u64)
        }
        VectorKind::Multi { dimension } => {
            let (packing, mut bytes) = (packing(dimension), 0);
            file.vectors.try_each_run(place, |rows| {
                bytes += rows.len();
                let mut rows = rows.chunks_exact(packing.row_bytes);
                rows.try_for_each(|row| packing.write(writer, row).map_err(CopyError::Io))
            })?;
            (bytes, (bytes / packing.row_bytes) as u64)
        }
    };
    file.take(bytes as u64)?;
    pace.step(bytes)?;
    Ok(added)
}

/// Places of growing rows, without counting from the start each time.
struct Places<'a> {
    vectors: &'a VectorFile,
    last: Option<(u32, u64)>,
    /// Bytes of values not yet copied: what overlaps in a damaged file ends there.
    left_bytes: u64,
}

impl Places<'_> {
    fn new(vectors: &VectorFile) -> Places<'_> {
        Places {
            vectors,
            last: None,
            left_bytes: vectors.values_bytes(),
        }
    }

    fn has(&self, row: u32) -> bool {
        self.vectors.present().is_none_or(|present| present.contains(row))
    }

    fn place(&mut self, row: u32) -> Option<u64> {
        let present = self.vectors.present();
        let place = match (present, self.last) {
            (Some(present), Some((last, place))) if last < row && present.contains(row) => {
                Some(place + present.range_cardinality(last + 1..=row))
            }
            _ => self.vectors.place(row),
        };
        if let Some(place) = place {
            self.last = Some((row, place));
        }
        place
    }

    fn take(&mut self, bytes: u64) -> Result<(), ReadError> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or_else(|| self.vectors.file().malformed("its values overlap"))?;
        Ok(())
    }
}
