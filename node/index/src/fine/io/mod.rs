//! A file as a slice of memory that the system pages in and out.
//!
//! Mapped pages belong to the page cache (RssFile), so a node's anonymous memory does not grow with its sealed vectors,
//! and a row that is resident is read without a system call. What is not here yet: reads in batches by io_uring.
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
