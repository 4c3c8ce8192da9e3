//! Numbers in order, each with its row: a range of values is a range of entries, found by two binary searches.
//!
//! Sections: 2 sort keys, u64 each, ascending · 3 rows, u32 each, ascending where keys are equal · 4 ends of the blocks'
//! bitmaps, u64 each · 5 bitmaps, one a block of entries. A wide range is the union of whole blocks and of what stands
//! beside them, so that at most two blocks' rows are sorted, whatever the range.

use std::ops::Range;

use granum_model::filter::Bounds;
use roaring::RoaringBitmap;

use super::Column;
use crate::bytes::u32_at;
use crate::error::ReadError;
use crate::fine::PagedFile;

const KEYS: usize = 2;
const ROWS: usize = 3;
const BLOCK_ENDS: usize = 4;
const BLOCKS: usize = 5;

/// Fewest entries of a block: sorting so many rows is as fast as reading their bitmap.
const BLOCK_ENTRIES_MIN: u64 = 1024;
/// Most blocks.
const BLOCKS_MAX: u64 = 64;

/// Entries of each block but the last.
pub(super) fn entries_a_block(entries: u64) -> u64 {
    entries.div_ceil(BLOCKS_MAX).max(BLOCK_ENTRIES_MIN)
}

pub(super) fn is_whole(file: &PagedFile) -> bool {
    let keys = file.section_bytes(KEYS);
    let entries = keys / 8;
    keys.is_multiple_of(8)
        && file.section_bytes(ROWS) == entries * 4
        && file.section_bytes(BLOCK_ENDS) == entries.div_ceil(entries_a_block(entries)) * 8
}

impl Column {
    /// How many entries there are.
    pub(super) fn entries(&self) -> u64 {
        self.file.section_bytes(KEYS) / 8
    }

    /// The sort key of an entry.
    pub(super) fn key(&self, at: u64) -> Result<u64, ReadError> {
        self.number(KEYS, at)
    }

    /// The row of an entry.
    pub(super) fn row(&self, at: u64) -> Result<u32, ReadError> {
        self.read_row(self.file.bytes(ROWS, at * 4..at * 4 + 4)?)
    }

    /// The entries with this key.
    pub(super) fn equal(&self, key: u64) -> Result<Range<u64>, ReadError> {
        let start = self.partition(|own| own < key)?;
        Ok(start..self.partition(|own| own <= key)?.max(start))
    }

    /// The entries whose value is within bounds. `value` turns keys into values and keeps their order.
    pub(super) fn within<T: PartialOrd + Copy>(
        &self,
        bounds: &Bounds<T>,
        value: impl Fn(u64) -> T,
    ) -> Result<Range<u64>, ReadError> {
        let (mut start, mut end) = (0, self.entries());
        // Comparisons are written so that a bound that is not a number lets nothing through.
        if let Some(bound) = bounds.gt {
            start = start.max(self.partition(|key| !matches_greater(value(key), bound))?);
        }
        if let Some(bound) = bounds.gte {
            start = start.max(self.partition(|key| !matches_at_least(value(key), bound))?);
        }
        if let Some(bound) = bounds.lt {
            end = end.min(self.partition(|key| value(key) < bound)?);
        }
        if let Some(bound) = bounds.lte {
            end = end.min(self.partition(|key| value(key) <= bound)?);
        }
        Ok(start.min(end)..end)
    }

    /// The rows of ranges of entries.
    pub(super) fn rows_of(&self, ranges: &[Range<u64>]) -> Result<RoaringBitmap, ReadError> {
        let a_block = entries_a_block(self.entries());
        let (mut rows, mut loose) = (RoaringBitmap::new(), Vec::new());
        for range in ranges {
            let first = range.start.div_ceil(a_block);
            let last = match range.end == self.entries() {
                true => range.end.div_ceil(a_block),
                false => range.end / a_block,
            };
            if first >= last {
                self.collect_rows(range.clone(), &mut loose)?;
                continue;
            }
            for block in first..last {
                rows |= &*self.listed(BLOCK_ENDS, BLOCKS, block)?;
            }
            self.collect_rows(range.start..first * a_block, &mut loose)?;
            self.collect_rows(last * a_block..range.end, &mut loose)?;
        }
        loose.sort_unstable();
        loose.dedup();
        let loose = RoaringBitmap::from_sorted_iter(loose).expect("sorted, without repetition");
        rows |= loose;
        Ok(rows)
    }

    /// Checks order, rows and blocks.
    pub(super) fn check_numbers(&self) -> Result<(), ReadError> {
        let mut before = None;
        let mut rows = Vec::new();
        self.collect_rows(0..self.entries(), &mut rows)?;
        for (at, row) in (0..).zip(&rows) {
            let entry = Some((self.key(at)?, *row));
            if before >= entry {
                return Err(self
                    .file
                    .malformed(format!("entry {at} does not follow the one before")));
            }
            before = entry;
        }
        let a_block = entries_a_block(self.entries());
        for (block, expected) in (0..).zip(rows.chunks(a_block as usize)) {
            if *self.listed(BLOCK_ENDS, BLOCKS, block)? != expected.iter().copied().collect::<RoaringBitmap>() {
                return Err(self
                    .file
                    .malformed(format!("block {block} has other rows than its entries")));
            }
        }
        Ok(())
    }

    fn collect_rows(&self, entries: Range<u64>, rows: &mut Vec<u32>) -> Result<(), ReadError> {
        if entries.is_empty() {
            return Ok(());
        }
        let bytes = self.file.bytes(ROWS, entries.start * 4..entries.end * 4)?;
        for bytes in bytes.chunks_exact(4) {
            rows.push(self.read_row(bytes)?);
        }
        Ok(())
    }

    fn read_row(&self, bytes: &[u8]) -> Result<u32, ReadError> {
        let row = u32_at(bytes, 0).filter(|row| *row < self.rows());
        row.ok_or_else(|| self.file.malformed("a row that the segment does not have"))
    }

    /// Number of leading entries of whose key `is_before` is true.
    fn partition(&self, is_before: impl Fn(u64) -> bool) -> Result<u64, ReadError> {
        let (mut low, mut high) = (0, self.entries());
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(self.key(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

fn matches_greater<T: PartialOrd>(value: T, bound: T) -> bool {
    value > bound
}

fn matches_at_least<T: PartialOrd>(value: T, bound: T) -> bool {
    value >= bound
}
