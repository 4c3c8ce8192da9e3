//! Bytes that a search keeps in memory, in large pages where the system has them.
//!
//! Codes and links are read at random, a few lines at a time: with pages of 4 KiB most of those reads also miss the
//! translation cache, which in a virtual machine costs more than the read itself (docs/benchmarks.md). The system's page
//! cache has small pages only, so what is searched is copied out of it once.

use std::io;
use std::ops::{Deref, Range};

use memmap2::MmapMut;

/// Every piece begins on a line of the cache.
const LINE_BYTES: usize = 64;

/// Pieces of bytes, end to end in one anonymous mapping.
#[derive(Debug)]
pub(crate) struct Resident {
    map: MmapMut,
    pieces: Vec<Range<usize>>,
}

impl Resident {
    /// Pieces of those lengths in bytes, all 0.
    pub fn zeroed(lengths: &[usize]) -> io::Result<Resident> {
        let mut end = 0;
        let ranges = lengths.iter().map(|length| {
            let start = end;
            end = (start + length).next_multiple_of(LINE_BYTES);
            start..start + length
        });
        let ranges: Vec<Range<usize>> = ranges.collect();
        let map = MmapMut::map_anon(end.max(LINE_BYTES))?;
        // Advice: where it is not taken, pages are small and searches slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Resident { map, pieces: ranges })
    }

    /// The piece of that number, to be filled.
    pub fn piece_mut(&mut self, number: usize) -> &mut [u8] {
        &mut self.map[self.pieces[number].clone()]
    }

    /// The piece of that number.
    #[inline]
    pub fn piece(&self, number: usize) -> &[u8] {
        &self.map.deref()[self.pieces[number].clone()]
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }
}
