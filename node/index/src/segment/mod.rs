//! An immutable segment: its files, what each holds, how it is opened.
//!
//! ```text
//! {id:016x}.ids                      per row version, id and digest; rows in the order of their ids (ids)
//! {id:016x}.payload                  zstd blocks of JSON, by row                                     (payload)
//! {id:016x}.vector.{n:02x}           a named vector: dense, sparse or multi; which rows have it      (vectors)
//! {id:016x}.deleted.{generation:016x} rows that died up to that generation, a new file each time     (deleted)
//! {id:016x}.codes.{n:02x}            derived from vector n, may be missing                           (coarse)
//! {id:016x}.graph.{n:02x}            derived from vector n, may be missing                           (coarse)
//! {id:016x}.column.{field:016x}      derived from a field of the payload, may be missing             (column)
//! ```
//! All are paged files (`fine`). No file is ever changed: deaths go into a new generation, so a snapshot is hard links.
//! [`build`] writes a segment, [`verify`] checks one offline; the bytes are drawn in docs/formats/segment.md.

pub(crate) mod build;
pub(crate) mod deleted;
mod ids;
pub(crate) mod merge;
pub(crate) mod names;
mod payload;
mod vectors;
pub(crate) mod verify;

use std::path::Path;
use std::sync::Arc;

use granum_model::DocId;
use roaring::RoaringBitmap;
use serde_json::Value;

use crate::column::Columns;
use crate::document::{Document, SegmentId};
use crate::error::{OpenError, ReadError};
use crate::filter::bitmap::FilterCache;
use crate::filter::{Fields, Subject};
use crate::fine::{Kind, PagedFile};
use ids::Ids;
pub(crate) use payload::PayloadCursor;
use payload::Payloads;
pub(crate) use vectors::VectorFile;

/// A file as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Plain name, without a directory.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// xxh3_64 of the whole file, seed 0.
    pub xxh3: u64,
}

/// A segment as a manifest names it: all that is needed to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// Which.
    pub id: SegmentId,
    /// Rows, dead ones included.
    pub rows: u32,
    /// Rows that were alive.
    pub live_rows: u32,
    /// Sum of the digests of all rows' documents, modulo 2^64 ([`Document::digest`]).
    pub digest: u64,
    /// The part of it that is of dead rows.
    pub dead_digest: u64,
    /// Generation of the file of dead rows; `None` while there were none.
    pub deleted: Option<u64>,
    /// Its files; the file of dead rows, if there is one, is the last.
    pub files: Vec<FileRef>,
}

/// What lives in some segments, in two numbers: it depends on the documents alone, not on how they are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Live documents.
    pub documents: u64,
    /// Sum of their digests, modulo 2^64.
    pub digest: u64,
}

impl Census {
    /// Of all that a manifest names.
    pub fn of(segments: &[SegmentRef]) -> Census {
        let digests = segments
            .iter()
            .map(|segment| segment.digest.wrapping_sub(segment.dead_digest));
        Census {
            documents: segments.iter().map(|segment| u64::from(segment.live_rows)).sum(),
            digest: digests.fold(0, u64::wrapping_add),
        }
    }
}

/// An open segment. Invariant: every file says that it belongs to this segment and has its number of rows.
pub(crate) struct Segment {
    pub id: SegmentId,
    pub rows: u32,
    /// Sum of the digests of all rows.
    pub digest: u64,
    /// All but the file of dead rows, in the order of the manifest.
    pub files: Vec<FileRef>,
    pub filters: FilterCache,
    pub columns: Columns,
    ids: Ids,
    payloads: Payloads,
    vectors: Vec<VectorFile>,
}

impl Segment {
    /// Opens all files of `reference`: frames are checked now, pages when they are read. Returns the dead rows too.
    pub fn open(directory: &Path, reference: &SegmentRef) -> Result<(Segment, RoaringBitmap), OpenError> {
        let (mut ids, mut payloads, mut dead, mut vectors, mut files) = (None, None, None, Vec::new(), Vec::new());
        for file_ref in &reference.files {
            let file = open_file(directory, reference, file_ref)?;
            match file.footer().kind {
                Kind::Ids => ids = Some(Ids::open(file)?),
                Kind::Payload => payloads = Some(Payloads::open(file)?),
                Kind::Dense | Kind::Sparse | Kind::Multi if names::vector_number(file.name()).is_none() => {
                    return Err(file.malformed("holds a vector, but is not named so").into());
                }
                Kind::Dense | Kind::Sparse | Kind::Multi => vectors.push(VectorFile::open(file)?),
                Kind::Deleted => {
                    dead = Some(deleted::read(&file)?);
                    continue;
                }
                Kind::Graph | Kind::Codes | Kind::Column => {
                    return Err(file.malformed("a derived file, named by a manifest").into());
                }
            }
            files.push(file_ref.clone());
        }
        let name = names::ids(reference.id);
        let missing = |what: &str| ReadError::malformed(&name, format!("the manifest names no file of {what}"));
        let segment = Segment {
            id: reference.id,
            rows: reference.rows,
            digest: reference.digest,
            files,
            filters: FilterCache::default(),
            columns: Columns::default(),
            ids: ids.ok_or_else(|| missing("ids"))?,
            payloads: payloads.ok_or_else(|| missing("payload"))?,
            vectors,
        };
        if dead.is_some() != reference.deleted.is_some() {
            return Err(missing("dead rows, or one too many").into());
        }
        let dead = dead.unwrap_or_default();
        let live_rows = u64::from(reference.rows) - dead.len();
        if live_rows != u64::from(reference.live_rows) {
            let problem = format!("{live_rows} live rows, the manifest says {}", reference.live_rows);
            return Err(ReadError::malformed(&name, problem).into());
        }
        Ok((segment, dead))
    }

    pub fn id(&self, row: u32) -> Result<DocId, ReadError> {
        self.ids.id(row)
    }

    /// Ids and versions of rows of segments will be read: so that they come from memory together.
    pub fn expect_ids<'a>(rows: impl Iterator<Item = (&'a Segment, u32)> + Clone) {
        rows.clone().for_each(|(segment, row)| segment.ids.expect(row));
        rows.for_each(|(segment, row)| segment.ids.expect_bytes(row));
    }

    pub fn version(&self, row: u32) -> Result<u64, ReadError> {
        self.ids.version(row)
    }

    /// Digest of a row's document as it was written.
    pub fn digest(&self, row: u32) -> Result<u64, ReadError> {
        self.ids.digest(row)
    }

    /// Sum of the digests of some rows, modulo 2^64.
    pub fn digest_of(&self, rows: &RoaringBitmap) -> Result<u64, ReadError> {
        let mut digests = rows.iter().map(|row| self.digest(row));
        digests.try_fold(0u64, |sum, digest| Ok(sum.wrapping_add(digest?)))
    }

    /// The row of an id, dead or alive.
    pub fn find(&self, id: &DocId) -> Result<Option<u32>, ReadError> {
        self.ids.find(id)
    }

    /// Rows with an id not below `from`, in the order of ids.
    pub fn rows_from(
        &self,
        from: Option<&DocId>,
    ) -> Result<impl Iterator<Item = Result<u32, ReadError>> + '_, ReadError> {
        self.ids.rows_from(from)
    }

    pub fn payloads(&self) -> PayloadCursor<'_> {
        PayloadCursor::new(&self.payloads)
    }

    /// Tells these payloads from all others: what a column was derived from.
    pub fn payload_identity(&self) -> u64 {
        self.payloads.file().footer().table_digest
    }

    pub fn vector(&self, name: &str) -> Option<&VectorFile> {
        self.vectors.iter().find(|file| file.name() == name)
    }

    pub fn vectors(&self) -> &[VectorFile] {
        &self.vectors
    }

    /// Bytes that searches keep in memory.
    pub fn resident_bytes(&self) -> u64 {
        let coarse = self.vectors.iter().map(|file| file.coarse());
        coarse
            .map(|coarse| coarse.as_ref().map_or(0, |coarse| coarse.resident_bytes()))
            .sum()
    }

    pub fn document(&self, row: u32) -> Result<Document, ReadError> {
        let mut vectors = Vec::with_capacity(self.vectors.len());
        for file in &self.vectors {
            vectors.extend(file.read(row)?.map(|vector| (file.name().to_owned(), vector)));
        }
        let payload = Arc::from(self.payloads().read(row)?);
        Ok(Document {
            id: self.id(row)?,
            version: self.version(row)?,
            payload,
            vectors,
        })
    }
}

/// Opens one file and checks that it is the one that the manifest means.
fn open_file(directory: &Path, segment: &SegmentRef, file: &FileRef) -> Result<PagedFile, OpenError> {
    if names::segment_of(&file.name) != Some(segment.id) {
        let problem = format!("not a name of a file of segment {}", segment.id);
        return Err(ReadError::malformed(&file.name, problem).into());
    }
    let opened = PagedFile::open(directory, &file.name, Some(file.bytes))?;
    let footer = opened.footer();
    if footer.segment != segment.id.0 || footer.rows != u64::from(segment.rows) {
        let problem = format!(
            "belongs to segment {} of {} rows, the manifest says {} of {}",
            footer.segment, footer.rows, segment.id, segment.rows
        );
        return Err(opened.malformed(problem).into());
    }
    Ok(opened)
}

/// A row of a segment, for a filter.
pub(crate) struct RowSubject<'a, 'b> {
    pub segment: &'a Segment,
    pub payloads: &'b mut PayloadCursor<'a>,
    pub row: u32,
}

impl Subject for RowSubject<'_, '_> {
    fn id(&mut self) -> Result<DocId, ReadError> {
        self.segment.id(self.row)
    }

    fn has_vector(&mut self, name: &str) -> bool {
        self.segment
            .vector(name)
            .is_some_and(|file| file.place(self.row).is_some())
    }

    fn payload(&mut self, fields: &Fields) -> Result<Value, ReadError> {
        let payload = self.payloads.read(self.row)?;
        fields.parse(payload).map_err(|error| {
            ReadError::malformed(&names::payload(self.segment.id), format!("row {}: {error}", self.row))
        })
    }
}
