//! Reads a paged file: its frame is checked when it is opened, a page's checksum when the page is first touched.
//!
//! [`PagedFile::bytes`] is the only way to content bytes, so no byte is used before its page was checked. A page that has
//! been found sound is not checked again while the file stays open; `verify` checks all of them anew.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::format::{Footer, PAGE_BYTES, table_pages};
use super::io;
use crate::bytes::{index, u32_at};
use crate::error::{OpenError, ReadError};
use crate::simd;

/// Invariant: the map is exactly as long as the footer says, and the checksum table is sound.
pub(crate) struct PagedFile {
    name: String,
    map: io::Map,
    footer: Footer,
    /// A bit a content page: its checksum was found right.
    sound: Vec<AtomicU64>,
}

impl PagedFile {
    /// Opens a file and checks length, footer and checksum table.
    pub fn open(directory: &Path, name: &str, expected_bytes: Option<u64>) -> Result<PagedFile, OpenError> {
        let failed = |source| OpenError::Io {
            file: name.to_owned(),
            source,
        };
        let file = File::open(directory.join(name)).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if let Some(expected) = expected_bytes.filter(|expected| *expected != found) {
            return Err(OpenError::Length {
                file: name.to_owned(),
                expected,
                found,
            });
        }
        let map = io::map(&file).map_err(failed)?;
        let malformed = |problem| ReadError::malformed(name, problem);
        let Some(page) = map.last_chunk::<PAGE_BYTES>() else {
            return Err(malformed(format!("{found} bytes, shorter than a footer")).into());
        };
        let footer = Footer::decode(page).map_err(malformed)?;
        if footer.file_bytes() != map.len() as u64 {
            let problem = format!("{} bytes, the footer says {}", map.len(), footer.file_bytes());
            return Err(malformed(problem).into());
        }
        let table = table_range(&footer);
        if xxh3_64(&map[table]) != footer.table_digest {
            return Err(malformed("the checksum table is damaged".into()).into());
        }
        let sound = (0..footer.pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(PagedFile {
            name: name.to_owned(),
            map,
            footer,
            sound,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// A whole section; empty where there is none of that number.
    pub fn section(&self, number: usize) -> Result<&[u8], ReadError> {
        self.bytes(number, 0..self.section_bytes(number))
    }

    /// Checks all pages.
    pub fn check_all(&self) -> Result<(), ReadError> {
        (0..self.footer.pages).try_for_each(|page| self.check_page(page))
    }

    /// Bytes will be read soon: the processor is asked for them, where their first page was read before. To ask the system for
    /// the others is dear, and worth it only for what is certain to be read: [`ask`](Self::ask).
    #[inline]
    pub fn prefetch(&self, number: usize, range: Range<u64>) {
        if self.was_read(number, range.start) {
            let start = self.start(number);
            if let Some(bytes) = self.map.get(index(start + range.start)..index(start + range.end)) {
                simd::prefetch(bytes);
            }
        }
    }

    /// Whether the page of a byte of a section was read since the file was opened. The system may have taken it away again.
    #[inline]
    pub fn was_read(&self, number: usize, offset: u64) -> bool {
        let page = (self.start(number) + offset) / PAGE_BYTES as u64;
        let word = self.sound.get(index(page / 64));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 == 1)
    }

    /// Begins to read what of these bytes is not in memory, and does not wait: several misses are under way at once.
    pub fn ask(&self, number: usize, range: Range<u64>) {
        let pages = self.pages(number, range);
        let (start, end) = (index(pages.start) * PAGE_BYTES, index(pages.end) * PAGE_BYTES);
        if start < end && end <= self.map.len() {
            io::will_need(&self.map, start..end);
        }
    }

    /// Pages that bytes `range` of a section lie in. Saturates, as damaged tables of ends may claim anything.
    pub fn pages(&self, number: usize, range: Range<u64>) -> Range<u64> {
        let start = self.start(number);
        let (first, end) = (start.saturating_add(range.start), start.saturating_add(range.end));
        first / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64)
    }

    /// Length of a section, 0 where there is none of that number.
    pub fn section_bytes(&self, number: usize) -> u64 {
        self.footer.sections.get(number).map_or(0, |section| section.bytes)
    }

    /// Bytes `range` of a section, their pages checked.
    #[inline]
    pub fn bytes(&self, number: usize, range: Range<u64>) -> Result<&[u8], ReadError> {
        let start = self.start(number);
        if range.start > range.end || range.end > self.section_bytes(number) {
            let problem = format!(
                "bytes {range:?} of section {number}, which has {}",
                self.section_bytes(number)
            );
            return Err(ReadError::malformed(&self.name, problem));
        }
        if range.is_empty() {
            return Ok(&[]);
        }
        let (start, end) = (start + range.start, start + range.end);
        for page in start / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64) {
            let bit = 1 << (page % 64);
            if self.sound[index(page / 64)].load(Ordering::Relaxed) & bit == 0 {
                self.check_page(page)?;
                self.sound[index(page / 64)].fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(&self.map[index(start)..index(end)])
    }

    /// Compares a content page with its checksum.
    pub fn check_page(&self, page: u64) -> Result<(), ReadError> {
        let at = index(page);
        let found = crc32c::crc32c(&self.map[at * PAGE_BYTES..(at + 1) * PAGE_BYTES]);
        let expected = u32_at(&self.map[table_range(&self.footer)], at).expect("the table has a place for each page");
        if found == expected {
            return Ok(());
        }
        Err(ReadError::Page {
            file: self.name.clone(),
            page,
            found,
            expected,
        })
    }

    /// xxh3_64 of the whole file, as the manifest has it.
    pub fn digest(&self) -> u64 {
        xxh3_64(&self.map)
    }

    fn start(&self, number: usize) -> u64 {
        self.footer.sections.get(number).map_or(0, |section| section.offset)
    }

    /// An error about this file.
    pub fn malformed(&self, problem: impl Into<String>) -> ReadError {
        ReadError::malformed(&self.name, problem)
    }
}

fn table_range(footer: &Footer) -> Range<usize> {
    let start = index(footer.pages) * PAGE_BYTES;
    start..start + index(table_pages(footer.pages)) * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, PagedWriter};
    use super::*;
    use proptest::prelude::*;

    fn write(directory: &Path) -> u64 {
        let mut writer = PagedWriter::create(directory, "f").unwrap();
        writer.section().unwrap();
        writer.write(&[7; 5000]).unwrap();
        writer.section().unwrap();
        writer.section().unwrap();
        writer.write(b"end").unwrap();
        writer.finish(Footer::new(Kind::Ids, 1, 2)).unwrap().bytes
    }

    #[test]
    fn sections_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = write(directory.path());
        let file = PagedFile::open(directory.path(), "f", Some(bytes)).unwrap();
        assert_eq!(file.section(0).unwrap(), [7; 5000]);
        assert_eq!(file.section(1).unwrap(), b"");
        assert_eq!(file.bytes(2, 1..3).unwrap(), b"nd");
        assert_eq!(file.section(3).unwrap(), b"");
        assert!(file.bytes(2, 1..4).is_err());
        assert!(matches!(
            PagedFile::open(directory.path(), "f", Some(bytes + 1)),
            Err(OpenError::Length { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found_and_its_page_named(bit in 0u64..5 * 4096 * 8) {
            let directory = tempfile::tempdir().unwrap();
            let bytes = write(directory.path());
            prop_assert_eq!(bytes, 5 * 4096);
            let path = directory.path().join("f");
            let mut content = std::fs::read(&path).unwrap();
            content[index(bit / 8)] ^= 1 << (bit % 8);
            std::fs::write(&path, content).unwrap();
            match PagedFile::open(directory.path(), "f", None) {
                Err(_) => prop_assert!(bit / 8 >= 3 * 4096),
                Ok(file) => {
                    let damaged: Vec<u64> = (0..3).filter(|page| file.check_page(*page).is_err()).collect();
                    prop_assert_eq!(damaged, [bit / 8 / 4096]);
                }
            }
        }
    }
}
