//! Writes a segment: ids, payload, one file a vector. All are on disk, under their names, when it returns.

use std::path::Path;
use std::sync::Arc;

use granum_model::Schema;

use super::{FileRef, SegmentRef, ids, names, payload, vectors};
use crate::document::{Document, SegmentId};
use crate::error::BuildError;
use crate::fine::writer::sync_directory;

/// Writes the files of a segment whose row numbers are the places in `documents`. Vectors that the schema does not have
/// are left out. A failure leaves unreferenced files behind, which the next cleaning removes.
pub(crate) fn build(
    directory: &Path,
    id: SegmentId,
    schema: &Schema,
    documents: &[Arc<Document>],
) -> Result<SegmentRef, BuildError> {
    let mut files: Vec<FileRef> = Vec::with_capacity(2 + schema.vectors.len());
    let (ids, digest) = ids::write(directory, id, documents).map_err(failed(names::ids(id)))?;
    files.push(ids);
    files.push(payload::write(directory, id, documents).map_err(failed(names::payload(id)))?);
    for (number, field) in schema.vectors.iter().enumerate() {
        let written = vectors::write(directory, id, number, field, documents);
        files.extend(written.map_err(failed(names::vector(id, number)))?);
    }
    sync_directory(directory).map_err(failed(directory.display().to_string()))?;
    let rows = documents.len() as u32;
    Ok(SegmentRef {
        id,
        rows,
        live_rows: rows,
        digest,
        dead_digest: 0,
        deleted: None,
        files,
    })
}

pub(crate) fn failed(file: String) -> impl FnOnce(std::io::Error) -> BuildError {
    move |source| BuildError::Io { file, source }
}
