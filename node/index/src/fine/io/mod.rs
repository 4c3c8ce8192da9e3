//! A file as a slice of memory that the system pages in and out.
//!
//! Mapped pages belong to the page cache (RssFile), so a node's anonymous memory does not grow with its sealed vectors,
//! and a row that is resident is read without a system call. What is not resident is asked for ahead, page by page, so that a
//! query's reads are under way together; that needs no ring, which containers often forbid.
#![allow(unsafe_code, reason = "mapping a file")]

mod resident;

use std::fs::File;
use std::io;

use memmap2::Mmap;
pub(crate) use resident::Resident;

/// A mapped file.
pub(super) type Map = Mmap;

/// Maps a whole file for reading. An empty file maps to an empty slice.
pub(super) fn map(file: &File) -> io::Result<Map> {
    // SAFETY: the slice stays valid and unchanged as long as nobody writes to or truncates the file. Segment files are
    // written under another name, renamed when complete and never opened for writing again; removing one only removes its
    // name. A file changed by somebody else's hand is outside of what a program can defend against.
    unsafe { Mmap::map(file) }
}

/// Begins to read bytes that are not in memory, and does not wait for them.
pub(super) fn will_need(map: &Map, range: std::ops::Range<usize>) {
    // Advice: where it is not taken, the read waits when the bytes are touched.
    #[cfg(unix)]
    let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
    #[cfg(not(unix))]
    let _ = (map, range);
}
