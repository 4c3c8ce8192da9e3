//! A sorted dictionary of byte strings, each with the rows that have it: keywords, truths, UUIDs, words.
//!
//! Sections: 2 a term each: its end in section 3 and its bitmap's end in section 4, u64 both · 3 terms, end to end, sorted
//! · 4 bitmaps, end to end.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::Column;
use crate::bytes::field;
use crate::error::ReadError;
use crate::fine::PagedFile;
use crate::segment::deleted;

const TABLE: usize = 2;
const TERMS: usize = 3;
const POSTINGS: usize = 4;
/// Bytes of an entry of the table.
const ENTRY_BYTES: u64 = 16;

pub(super) fn is_whole(file: &PagedFile) -> bool {
    file.section_bytes(TABLE).is_multiple_of(ENTRY_BYTES)
}

impl Column {
    /// How many terms there are.
    pub(super) fn terms(&self) -> u64 {
        self.file.section_bytes(TABLE) / ENTRY_BYTES
    }

    /// Rows that have this term; `None`: none has.
    pub(super) fn posting(&self, term: &[u8]) -> Result<Option<Arc<RoaringBitmap>>, ReadError> {
        let (mut low, mut high) = (0, self.terms());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.term(middle)?.cmp(term) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return self.posting_at(middle).map(Some),
            }
        }
        Ok(None)
    }

    /// Rows that have a term of which `wanted` is true: looks at every term.
    pub(super) fn postings_where(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<RoaringBitmap, ReadError> {
        let mut rows = RoaringBitmap::new();
        for at in 0..self.terms() {
            if wanted(self.term(at)?) {
                rows |= &*self.posting_at(at)?;
            }
        }
        Ok(rows)
    }

    /// Checks order and bitmaps.
    pub(super) fn check_terms(&self) -> Result<(), ReadError> {
        for at in 0..self.terms() {
            if at > 0 && self.term(at - 1)? >= self.term(at)? {
                return Err(self.file.malformed(format!("term {at} does not follow the one before")));
            }
            self.posting_at(at)?;
        }
        Ok(())
    }

    /// The `at`-th term.
    pub(super) fn term(&self, at: u64) -> Result<&[u8], ReadError> {
        let start = match at.checked_sub(1) {
            Some(before) => self.ends(before)?.0,
            None => 0,
        };
        self.file.bytes(TERMS, start..self.ends(at)?.0)
    }

    /// Rows that have the `at`-th term, without a place in the cache: of use to who looks at every term.
    pub(super) fn posting_once(&self, at: u64) -> Result<RoaringBitmap, ReadError> {
        let bytes = self.file.bytes(POSTINGS, self.posting_range(at)?)?;
        deleted::decode_bytes(&self.file, bytes)
    }

    fn posting_at(&self, at: u64) -> Result<Arc<RoaringBitmap>, ReadError> {
        let range = self.posting_range(at)?;
        self.bitmap(POSTINGS, range.start, range.end)
    }

    /// Bytes of the `at`-th term's bitmap.
    fn posting_range(&self, at: u64) -> Result<Range<u64>, ReadError> {
        let start = match at.checked_sub(1) {
            Some(before) => self.ends(before)?.1,
            None => 0,
        };
        Ok(start..self.ends(at)?.1)
    }

    /// Ends of a term's bytes and of its bitmap.
    fn ends(&self, at: u64) -> Result<(u64, u64), ReadError> {
        let entry = self.file.bytes(TABLE, at * ENTRY_BYTES..(at + 1) * ENTRY_BYTES)?;
        Ok((u64::from_le_bytes(field(entry, 0)), u64::from_le_bytes(field(entry, 8))))
    }
}
