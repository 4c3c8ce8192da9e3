//! A file as a slice of memory that the system pages in and out.
//!
//! Mapped pages belong to the page cache (RssFile), so a node's anonymous memory does not grow with its sealed vectors,
//! and a row that is resident is read without a system call. What is not resident is asked for ahead, page by page, so that a
//! query's reads are under way together. A ring (io_uring) was slower at that, and containers often forbid it
//! (docs/decisions/0003-cold-reads.md). [`pressure`] tells when what was read once can't be relied on to be there still.
#![allow(unsafe_code, reason = "mapping a file, asking what a thread has read")]

mod pressure;
mod resident;

use std::fs::File;
use std::io;

use memmap2::Mmap;
pub(crate) use pressure::is_memory_short;
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use rustix::fs::{Advice, fadvise};

    const PAGE_BYTES: usize = 4096;

    fn is_resident(map: &Map, page: usize) -> bool {
        let mut told = 0u8;
        // SAFETY: the page is one of the map's, and there is a byte for what is told of it.
        let done = unsafe {
            libc::mincore(
                map[page * PAGE_BYTES..].as_ptr().cast_mut().cast(),
                PAGE_BYTES,
                &mut told,
            )
        };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
        told & 1 == 1
    }

    #[test]
    fn the_page_that_is_asked_for_comes_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, vec![7; 64 * PAGE_BYTES]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let map = map(&file).unwrap();
        if (0..64).any(|page| is_resident(&map, page)) {
            eprintln!("skipped: this file system keeps its pages in memory");
            return;
        }
        will_need(&map, 20 * PAGE_BYTES..21 * PAGE_BYTES);
        let resident: Vec<usize> = (0..64).filter(|page| is_resident(&map, *page)).collect();
        // The page may be on its way still.
        assert!(resident.iter().all(|page| *page == 20), "{resident:?}");
        assert_eq!(map[20 * PAGE_BYTES], 7);
        assert!(is_resident(&map, 20));
    }
}
