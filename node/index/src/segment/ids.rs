//! Row -> id, version and digest, id -> row, and the rows in the order of their ids.
//!
//! Sections: 0 versions, u64 a row · 1 ends of the ids, u64 a row · 2 encoded ids, end to end · 3 rows by id, u32 each ·
//! 4 digests of the documents, u64 a row.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use granum_model::DocId;

use super::{FileRef, names};
use crate::bytes::{field, u32_at};
use crate::document::{Document, SegmentId};
use crate::error::ReadError;
use crate::fine::{Footer, Kind, PagedFile, PagedWriter};

const VERSIONS: usize = 0;
const ENDS: usize = 1;
const IDS: usize = 2;
const BY_ID: usize = 3;
const DIGESTS: usize = 4;

/// Writes the file; returns it with the sum of the documents' digests.
pub(super) fn write(
    directory: &Path,
    segment: SegmentId,
    documents: &[Arc<Document>],
) -> std::io::Result<(FileRef, u64)> {
    let mut writer = PagedWriter::create(directory, &names::ids(segment))?;
    writer.section()?;
    for document in documents {
        writer.write(&document.version.to_le_bytes())?;
    }
    let ids: Vec<Vec<u8>> = documents.iter().map(|document| document.id.encode()).collect();
    writer.section()?;
    let mut end = 0;
    for id in &ids {
        end += id.len() as u64;
        writer.write(&end.to_le_bytes())?;
    }
    writer.section()?;
    for id in &ids {
        writer.write(id)?;
    }
    let mut by_id: Vec<u32> = (0..documents.len() as u32).collect();
    by_id.sort_unstable_by_key(|row| &ids[*row as usize]);
    writer.section()?;
    for row in by_id {
        writer.write(&row.to_le_bytes())?;
    }
    let mut sum = 0u64;
    writer.section()?;
    for document in documents {
        let digest = document.digest();
        sum = sum.wrapping_add(digest);
        writer.write(&digest.to_le_bytes())?;
    }
    let file = writer.finish(Footer::new(Kind::Ids, segment.0, documents.len() as u64))?;
    Ok((file, sum))
}

/// Invariant: the fixed-size sections have a place for each row.
pub(super) struct Ids {
    file: PagedFile,
    rows: u32,
}

impl Ids {
    pub fn open(file: PagedFile) -> Result<Ids, ReadError> {
        let rows = file.footer().rows;
        for (section, width) in [(VERSIONS, 8), (ENDS, 8), (BY_ID, 4), (DIGESTS, 8)] {
            if file.section_bytes(section) != rows * width {
                return Err(file.malformed(format!("section {section} does not have {width} bytes a row")));
            }
        }
        Ok(Ids {
            rows: rows as u32,
            file,
        })
    }

    pub fn file(&self) -> &PagedFile {
        &self.file
    }

    pub fn version(&self, row: u32) -> Result<u64, ReadError> {
        self.number(VERSIONS, u64::from(row))
    }

    pub fn digest(&self, row: u32) -> Result<u64, ReadError> {
        self.number(DIGESTS, u64::from(row))
    }

    pub fn id(&self, row: u32) -> Result<DocId, ReadError> {
        let bytes = self.encoded(row)?;
        DocId::decode(bytes).map_err(|error| self.file.malformed(format!("row {row}: {error}")))
    }

    /// The id and version of a row will be read soon: where the id lies is asked for, and the version.
    pub fn expect(&self, row: u32) {
        let row = u64::from(row);
        self.file.prefetch(ENDS, row.saturating_sub(1) * 8..row * 8 + 8);
        self.file.prefetch(VERSIONS, row * 8..row * 8 + 8);
    }

    /// The id of a row will be read now, after [`expect`](Self::expect).
    pub fn expect_bytes(&self, row: u32) {
        if let Ok(range) = self.range(row) {
            self.file.prefetch(IDS, range);
        }
    }

    pub fn find(&self, id: &DocId) -> Result<Option<u32>, ReadError> {
        let wanted = id.encode();
        let at = self.lower_bound(&wanted)?;
        if at == self.rows {
            return Ok(None);
        }
        let row = self.row_by_id(at)?;
        Ok((self.encoded(row)? == wanted).then_some(row))
    }

    /// Rows with an id not below `from`, in the order of ids.
    pub fn rows_from(
        &self,
        from: Option<&DocId>,
    ) -> Result<impl Iterator<Item = Result<u32, ReadError>> + '_, ReadError> {
        let start = from.map_or(Ok(0), |id| self.lower_bound(&id.encode()))?;
        Ok((start..self.rows).map(|at| self.row_by_id(at)))
    }

    /// Number of ids below `wanted`.
    fn lower_bound(&self, wanted: &[u8]) -> Result<u32, ReadError> {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.encoded(self.row_by_id(middle)?)? < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn row_by_id(&self, at: u32) -> Result<u32, ReadError> {
        let start = u64::from(at) * 4;
        let row = u32_at(self.file.bytes(BY_ID, start..start + 4)?, 0).expect("four bytes");
        if row < self.rows {
            return Ok(row);
        }
        Err(self
            .file
            .malformed(format!("row {row} of {} in the order of ids", self.rows)))
    }

    /// The encoded id of a row.
    pub fn encoded(&self, row: u32) -> Result<&[u8], ReadError> {
        self.file.bytes(IDS, self.range(row)?)
    }

    fn range(&self, row: u32) -> Result<Range<u64>, ReadError> {
        let start = if row == 0 {
            0
        } else {
            self.number(ENDS, u64::from(row) - 1)?
        };
        Ok(start..self.number(ENDS, u64::from(row))?)
    }

    fn number(&self, section: usize, at: u64) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(field(
            self.file.bytes(section, at * 8..at * 8 + 8)?,
            0,
        )))
    }
}
