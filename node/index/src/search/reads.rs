//! The rows that one query reads to prove scores: asked for together, then scored one by one, and counted.

use crate::error::ReadError;
use crate::fine::is_memory_short;
use crate::fine::verify::Claim;
use crate::metric::Probe;
use crate::query::{RowRef, Usage};
use crate::segment::VectorFile;

/// Rows asked for in a round, at most: where so many must be read, waits for the rest are few beside them, and the system's queue
/// is full.
const ASKED_MAX: usize = 512;

/// Reads of one query; an item's `row` is a place of its part's vectors. What they cost is in the query's usage when they are
/// finished.
pub(super) struct Reads<'a> {
    probe: &'a Probe,
    usage: &'a mut Usage,
    /// Rows that were read before may have left memory.
    is_memory_short: bool,
    /// Sorted by part and place.
    asked: Vec<RowRef>,
    /// Part and page, one a row and page: rows that share a page repeat it.
    pages: Vec<(u32, u64)>,
}

impl<'a> Reads<'a> {
    pub fn new(probe: &'a Probe, usage: &'a mut Usage) -> Reads<'a> {
        Reads {
            probe,
            usage,
            is_memory_short: is_memory_short(),
            asked: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// Asks the system for rows that are hardly in memory, all under way at once and in the order of the disk.
    pub fn ask<'c, 'v>(
        &mut self,
        likely: impl Iterator<Item = &'c Claim<RowRef>>,
        file: impl Fn(&RowRef) -> &'v VectorFile,
    ) {
        let missing = likely.filter(|claim| self.may_miss(file(&claim.item), &claim.item));
        let mut asked: Vec<RowRef> = missing.map(|claim| claim.item).take(ASKED_MAX).collect();
        asked.sort_unstable();
        asked.iter().for_each(|item| file(item).ask(u64::from(item.row)));
        self.asked = asked;
    }

    /// The exact score of a row.
    pub fn score(&mut self, file: &VectorFile, item: &RowRef) -> Result<f32, ReadError> {
        let place = u64::from(item.row);
        if self.may_miss(file, item) && self.asked.binary_search(item).is_err() {
            // A wait that nobody foresaw; where the file is only touched, the system reads much around it.
            file.ask(place);
        }
        self.usage.rows_read += 1;
        self.usage.bytes_read += file.place_bytes(place)?;
        self.pages
            .extend(file.place_pages(place)?.map(|page| (item.part, page)));
        file.score(self.probe, place)
    }

    /// Counts pages.
    pub fn finish(mut self) {
        self.pages.sort_unstable();
        self.pages.dedup();
        self.usage.pages_read += self.pages.len() as u64;
    }

    fn may_miss(&self, file: &VectorFile, item: &RowRef) -> bool {
        self.is_memory_short || !file.was_read(u64::from(item.row))
    }
}
