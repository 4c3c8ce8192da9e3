//! Writes a paged file in one pass, under another name until it is complete and on disk.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::format::{Footer, PAGE_BYTES, Section};
use crate::segment::FileRef;

/// Ending of a file that is not complete; such files are removed when a directory is cleaned.
pub(crate) const UNFINISHED: &str = ".tmp";
const BUFFER_BYTES: usize = 256 << 10;

/// See the file. One that is dropped before it has finished leaves nothing behind.
pub(crate) struct PagedWriter {
    file: BufWriter<File>,
    unfinished: Unfinished,
    directory: PathBuf,
    name: String,
    digest: Xxh3,
    checksums: Vec<u32>,
    page: Vec<u8>,
    sections: Vec<Section>,
}

impl PagedWriter {
    pub fn create(directory: &Path, name: &str) -> io::Result<PagedWriter> {
        let path = directory.join(format!("{name}{UNFINISHED}"));
        let file = File::create(&path)?;
        Ok(PagedWriter {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            unfinished: Unfinished { path, is_named: false },
            directory: directory.to_owned(),
            name: name.to_owned(),
            digest: Xxh3::new(),
            checksums: Vec::new(),
            page: Vec::with_capacity(PAGE_BYTES),
            sections: Vec::new(),
        })
    }

    /// Ends the section before and begins the next on a page boundary.
    pub fn section(&mut self) -> io::Result<()> {
        self.end_page()?;
        self.sections.push(Section {
            offset: self.offset(),
            bytes: 0,
        });
        Ok(())
    }

    /// Appends to the current section.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.sections.last_mut().expect("a section was begun").bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let taken = bytes.len().min(PAGE_BYTES - self.page.len());
            self.page.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.page.len() == PAGE_BYTES {
                self.flush_page()?;
            }
        }
        Ok(())
    }

    /// Fills the current page with zeros, as content, unless it has just begun.
    pub fn fill_page(&mut self) -> io::Result<()> {
        let missing = (PAGE_BYTES - self.page.len()) % PAGE_BYTES;
        self.write(&[0; PAGE_BYTES][..missing])
    }

    /// Room left in the current page.
    pub fn room(&self) -> usize {
        PAGE_BYTES - self.page.len()
    }

    /// Writes table and footer, syncs, and gives the file its name. The caller syncs the directory.
    pub fn finish(mut self, mut footer: Footer) -> io::Result<FileRef> {
        self.end_page()?;
        footer.pages = self.checksums.len() as u64;
        footer.sections = std::mem::take(&mut self.sections);
        let mut table: Vec<u8> = self
            .checksums
            .iter()
            .flat_map(|checksum| checksum.to_le_bytes())
            .collect();
        table.resize(table.len().next_multiple_of(PAGE_BYTES), 0);
        footer.table_digest = xxhash_rust::xxh3::xxh3_64(&table);
        for bytes in [&table[..], &footer.encode()] {
            self.digest.update(bytes);
            self.file.write_all(bytes)?;
        }
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()?;
        fs::rename(&self.unfinished.path, self.directory.join(&self.name))?;
        self.unfinished.is_named = true;
        Ok(FileRef {
            name: self.name,
            bytes: footer.file_bytes(),
            xxh3: self.digest.digest(),
        })
    }

    fn offset(&self) -> u64 {
        (self.checksums.len() * PAGE_BYTES + self.page.len()) as u64
    }

    /// Zero fill that belongs to no section.
    fn end_page(&mut self) -> io::Result<()> {
        if !self.page.is_empty() {
            self.page.resize(PAGE_BYTES, 0);
            self.flush_page()?;
        }
        Ok(())
    }

    fn flush_page(&mut self) -> io::Result<()> {
        self.checksums.push(crc32c::crc32c(&self.page));
        self.digest.update(&self.page);
        self.file.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }
}

/// A file that goes unless it gets its name.
struct Unfinished {
    path: PathBuf,
    is_named: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_named {
            // As far as that goes: the next cleaning removes the rest.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
