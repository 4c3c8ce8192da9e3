//! An open column: its frame checked, its marks read.
//!
//! Sections: 0 ends of the marks, u64 each · 1 marks, bitmaps end to end · from 2 on as [`layout`] says. The footer's
//! dimension is the kind and the rules that values were read by, its name the field's path, its fingerprint the checksum
//! table's digest of the payload file: a column of other payloads or other rules is not used.

use std::path::Path as Directory;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use granum_model::{PayloadField, PayloadKind};
use roaring::RoaringBitmap;

use super::cache::BitmapCache;
use super::{MARKS, Mark, numbers, path_of, points, terms};
use crate::bytes::field as number_at;
use crate::error::{OpenError, ReadError};
use crate::filter::path::Path;
use crate::fine::{Kind, PagedFile};
use crate::segment::{Segment, deleted, names};

const MARK_ENDS: usize = 0;
const MARK_BITMAPS: usize = 1;
/// How values are read out of payloads: another number makes columns of before useless, and they are built anew.
const RULES: u32 = 1;

/// What the footer's dimension says: kind, rules and, for words, whose classes of letters were used.
pub(super) fn dimension(kind: PayloadKind) -> u32 {
    let unicode = match kind {
        PayloadKind::Text => u32::from(char::UNICODE_VERSION.0),
        _ => 0,
    };
    code(kind) | RULES << 8 | unicode << 16
}

/// The number of a kind in files.
fn code(kind: PayloadKind) -> u32 {
    match kind {
        PayloadKind::Keyword => 1,
        PayloadKind::Integer => 2,
        PayloadKind::Float => 3,
        PayloadKind::Bool => 4,
        PayloadKind::Datetime => 5,
        PayloadKind::Uuid => 6,
        PayloadKind::Geo => 7,
        PayloadKind::Text => 8,
    }
}

/// What follows the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Terms,
    Numbers,
    Points,
}

/// How values of a kind are kept.
pub(super) fn layout(kind: PayloadKind) -> Layout {
    match kind {
        PayloadKind::Keyword | PayloadKind::Bool | PayloadKind::Uuid | PayloadKind::Text => Layout::Terms,
        PayloadKind::Integer | PayloadKind::Float | PayloadKind::Datetime => Layout::Numbers,
        PayloadKind::Geo => Layout::Points,
    }
}

/// See the file. Invariants: derived from its segment's payload; the fixed-size sections have the lengths that their
/// entries ask for.
pub(crate) struct Column {
    pub(super) file: PagedFile,
    pub(super) kind: PayloadKind,
    path: Path,
    /// Tells its bitmaps from those of the segment's other columns in the cache.
    number: u64,
    cache: Arc<BitmapCache>,
    is_damaged: AtomicBool,
}

impl Column {
    /// Opens the column of a field, if there is one that fits.
    pub(super) fn open(
        directory: &Directory,
        segment: &Segment,
        field: &PayloadField,
        cache: Arc<BitmapCache>,
    ) -> Result<Column, OpenError> {
        let name = names::column(segment.id, field);
        let file = PagedFile::open(directory, &name, None)?;
        let footer = file.footer();
        let fits = footer.kind == Kind::Column
            && footer.segment == segment.id.0
            && footer.rows == u64::from(segment.rows)
            && footer.fingerprint == segment.payload_identity()
            && footer.dimension == dimension(field.kind)
            && footer.name == field.key;
        let Some(path) = path_of(field).filter(|_| fits) else {
            return Err(file.malformed("not the column of this segment's field").into());
        };
        let is_whole = file.section_bytes(MARK_ENDS) == MARKS.len() as u64 * 8
            && match layout(field.kind) {
                Layout::Terms => terms::is_whole(&file),
                Layout::Numbers => numbers::is_whole(&file),
                Layout::Points => points::is_whole(&file),
            };
        if !is_whole {
            return Err(file.malformed("sections of other lengths than their entries").into());
        }
        Ok(Column {
            number: names::column_number(field),
            kind: field.kind,
            file,
            path,
            cache,
            is_damaged: AtomicBool::new(false),
        })
    }

    /// Opens the column in a file of that name, whatever its field; `None`: one that was derived by other rules.
    pub fn open_named(directory: &Directory, segment: &Segment, name: &str) -> Result<Option<Column>, OpenError> {
        let file = PagedFile::open(directory, name, None)?;
        let footer = file.footer();
        let kind = PayloadKind::ALL
            .into_iter()
            .find(|kind| code(*kind) == footer.dimension & 0xff);
        let field = kind.map(|kind| PayloadField {
            key: footer.name.clone(),
            kind,
        });
        match field.filter(|field| names::column(segment.id, field) == name) {
            None => Err(file.malformed("not named by its field").into()),
            Some(field) if dimension(field.kind) != footer.dimension => Ok(None),
            Some(field) => Column::open(directory, segment, &field, Arc::default()).map(Some),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn kind(&self) -> PayloadKind {
        self.kind
    }

    pub fn is_of(&self, field: &PayloadField) -> bool {
        self.kind == field.kind && self.file.footer().name == field.key
    }

    /// Rows of the segment.
    pub fn rows(&self) -> u32 {
        // The footer's number is the segment's.
        self.file.footer().rows as u32
    }

    /// Whether a page was found damaged: the column is done without until it is built anew.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Remembers that a page is damaged.
    pub fn give_up(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }

    /// Checks every page and what the pages mean.
    pub fn check(&self) -> Result<(), ReadError> {
        for page in 0..self.file.footer().pages {
            self.file.check_page(page)?;
        }
        for mark in MARKS {
            self.mark(mark)?;
        }
        match layout(self.kind) {
            Layout::Terms => self.check_terms(),
            Layout::Numbers => self.check_numbers(),
            Layout::Points => self.check_points(),
        }
    }

    pub(super) fn mark(&self, mark: Mark) -> Result<Arc<RoaringBitmap>, ReadError> {
        self.listed(MARK_ENDS, MARK_BITMAPS, mark as u64)
    }

    /// The `at`-th of the bitmaps in section `bitmaps`, whose ends are in section `ends`.
    pub(super) fn listed(&self, ends: usize, bitmaps: usize, at: u64) -> Result<Arc<RoaringBitmap>, ReadError> {
        let start = at.checked_sub(1).map_or(Ok(0), |before| self.number(ends, before))?;
        self.bitmap(bitmaps, start, self.number(ends, at)?)
    }

    /// The bitmap in bytes `start..end` of a section.
    pub(super) fn bitmap(&self, section: usize, start: u64, end: u64) -> Result<Arc<RoaringBitmap>, ReadError> {
        let key = (self.number, section, start);
        if let Some(bitmap) = self.cache.get(key) {
            return Ok(bitmap);
        }
        let bytes = self.file.bytes(section, start..end)?;
        let bitmap = Arc::new(deleted::decode_bytes(&self.file, bytes)?);
        self.cache.put(key, bitmap.clone(), bytes.len());
        Ok(bitmap)
    }

    /// The `at`-th u64 of a section.
    pub(super) fn number(&self, section: usize, at: u64) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(number_at(
            self.file.bytes(section, at * 8..at * 8 + 8)?,
            0,
        )))
    }
}
