//! Writes a merged segment: ids, payload, one file a vector. All are on disk, under their names, when it returns.
//!
//! In memory are the order of the rows, where each row went, and the tables that files end with: about 20 bytes a row,
//! 8 more for each sparse or multi vector. Contents pass through in rows and blocks.

mod ids;
mod payload;
mod vectors;

use std::path::Path;
use std::sync::Arc;

use granum_model::Schema;

use super::order::{RowMap, SourceRow};
use crate::document::SegmentId;
use crate::error::MergeError;
use crate::fine::writer::sync_directory;
use crate::pace::{CopyError, Pace};
use crate::segment::build::failed;
use crate::segment::{FileRef, Segment, SegmentRef, names};

/// What is copied, and where to.
pub(crate) struct Copying<'a> {
    pub directory: &'a Path,
    /// The merged segment.
    pub id: SegmentId,
    /// Opened for this, so that every page is checked.
    pub sources: Vec<Segment>,
    /// Where each source's rows go.
    pub new_rows: Vec<Arc<RowMap>>,
    /// The merged segment's rows, in order.
    pub rows: &'a [SourceRow],
}

impl Copying<'_> {
    /// The source of a row.
    fn source(&self, at: &SourceRow) -> &Segment {
        &self.sources[at.source as usize]
    }

    /// Writes the segment, with the vectors that `schema` has.
    pub fn write(&self, schema: &Schema, pace: &mut Pace<'_>) -> Result<SegmentRef, MergeError> {
        let id = self.id;
        let mut files: Vec<FileRef> = Vec::with_capacity(2 + schema.vectors.len());
        let (ids, digest) = ids::write(self, pace).map_err(CopyError::merging(names::ids(id)))?;
        files.push(ids);
        pace.ask()?;
        files.push(payload::write(self, pace).map_err(CopyError::merging(names::payload(id)))?);
        for (number, field) in schema.vectors.iter().enumerate() {
            pace.ask()?;
            let written = vectors::write(self, number, field, pace);
            files.extend(written.map_err(CopyError::merging(names::vector(id, number)))?);
        }
        sync_directory(self.directory).map_err(failed(self.directory.display().to_string()))?;
        let rows = self.rows.len() as u32;
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
}
