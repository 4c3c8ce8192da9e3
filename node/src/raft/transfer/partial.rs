//! How does a file come to be whole, over as many transfers as it takes?
//!
//! Two files, whose names say to which it belongs: its bytes so far, and a CRC-32C for each chunk of them
//! (docs/formats/manifest.md). A later transfer of the very same file, by name, length and digest, reads them back and goes
//! on behind the last chunk that is as it was sent. Nothing is synced before the file is whole: what a loss of power
//! takes, and what damage alters, the checksums find missing. Whether the whole is right only its digest says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::{CHUNK_BYTES, FileOf, chunk_length};
use crate::disk::{Disk, DiskError, File, SharedDisk};

/// Bytes of a chunk's checksum.
const CHECKSUM_BYTES: u64 = 4;
/// Ends the name of the file of checksums.
const CHECKSUMS_SUFFIX: &str = ".crc32c";

/// A file that is there in part, and whose next chunk begins at [`Partial::offset`].
pub struct Partial {
    disk: SharedDisk,
    directory: PathBuf,
    file: FileOf,
    content: Arc<dyn File>,
    checksums: Arc<dyn File>,
    offset: u64,
    /// Of the bytes below `offset`.
    hash: Xxh3,
}

/// Names of content and checksums. They begin with a dot, as no file of a snapshot does.
pub fn names((name, bytes, xxh3): &FileOf) -> (String, String) {
    let content = format!(".{name}.{bytes:016x}.{xxh3:016x}");
    let checksums = format!("{content}{CHECKSUMS_SUFFIX}");
    (content, checksums)
}

impl Partial {
    /// Begins `file`: nothing of it is there.
    pub fn begin(disk: &SharedDisk, directory: &Path, file: &FileOf) -> Result<Partial, DiskError> {
        let (content, checksums) = names(file);
        Ok(Partial {
            disk: disk.clone(),
            directory: directory.to_owned(),
            file: file.clone(),
            content: disk.create(&directory.join(content))?,
            checksums: disk.create(&directory.join(checksums))?,
            offset: 0,
            hash: Xxh3::new(),
        })
    }

    /// What earlier transfers brought of `file`, as far as it is sound; `None`: nothing. Reads it.
    pub fn find(disk: &SharedDisk, directory: &Path, file: &FileOf) -> Result<Option<Partial>, DiskError> {
        let (content, checksums) = names(file);
        let (content, checksums) = (directory.join(content), directory.join(checksums));
        let mut partial = match (disk.open(&content), disk.open(&checksums)) {
            (Ok(content), Ok(checksums)) => Partial {
                disk: disk.clone(),
                directory: directory.to_owned(),
                file: file.clone(),
                content,
                checksums,
                offset: 0,
                hash: Xxh3::new(),
            },
            _ => {
                remove(disk.as_ref(), directory, file)?;
                return Ok(None);
            }
        };
        let unreadable = partial.read_back().is_err();
        if unreadable || partial.offset == 0 {
            partial.remove()?;
            return Ok(None);
        }
        Ok(Some(partial))
    }

    /// Goes on behind each chunk that has its checksum, until one has not.
    fn read_back(&mut self) -> Result<(), DiskError> {
        let there = self.content.len()?;
        let checksums = self.checksums.len()? / CHECKSUM_BYTES;
        let mut buffer = vec![0; chunk_length(0, self.file.1) as usize];
        while self.offset / CHUNK_BYTES < checksums {
            let length = chunk_length(self.offset, self.file.1);
            if length == 0 || self.offset + length > there {
                break;
            }
            let bytes = &mut buffer[..length as usize];
            let mut checksum = [0; CHECKSUM_BYTES as usize];
            self.content.read_at(self.offset, bytes)?;
            self.checksums
                .read_at(self.offset / CHUNK_BYTES * CHECKSUM_BYTES, &mut checksum)?;
            if crc32c::crc32c(bytes) != u32::from_le_bytes(checksum) {
                break;
            }
            self.hash.update(bytes);
            self.offset += length;
        }
        Ok(())
    }

    /// Bytes that are there: where the next chunk begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the last chunk is there.
    pub fn is_whole(&self) -> bool {
        self.offset == self.file.1
    }

    /// Adds the next chunk, whose length and checksum were checked.
    pub fn write(&mut self, chunk: &[u8], crc32c: u32) -> Result<(), DiskError> {
        debug_assert_eq!(chunk.len() as u64, chunk_length(self.offset, self.file.1));
        self.content.write_at(self.offset, chunk)?;
        let at = self.offset / CHUNK_BYTES * CHECKSUM_BYTES;
        self.checksums.write_at(at, &crc32c.to_le_bytes())?;
        self.hash.update(chunk);
        self.offset += chunk.len() as u64;
        Ok(())
    }

    /// Gives a whole file its name, synced; `false`: it is not the file that was announced, and is removed.
    pub fn complete(self) -> Result<bool, DiskError> {
        let (name, bytes, xxh3) = &self.file;
        if self.hash.digest() != *xxh3 || self.content.len()? != *bytes {
            self.remove()?;
            return Ok(false);
        }
        self.content.sync_data()?;
        let (content, checksums) = names(&self.file);
        self.disk
            .rename(&self.directory.join(content), &self.directory.join(name))?;
        self.disk.remove(&self.directory.join(checksums))?;
        Ok(true)
    }

    fn remove(self) -> Result<(), DiskError> {
        remove(self.disk.as_ref(), &self.directory, &self.file)
    }
}

/// Removes what there is of `file`.
fn remove(disk: &dyn Disk, directory: &Path, file: &FileOf) -> Result<(), DiskError> {
    let (content, checksums) = names(file);
    for name in [content, checksums] {
        match disk.remove(&directory.join(name)) {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use xxhash_rust::xxh3::xxh3_64;

    const CHUNK: usize = CHUNK_BYTES as usize;

    struct Sample {
        memory: MemoryDisk,
        disk: SharedDisk,
        directory: PathBuf,
        bytes: Vec<u8>,
        file: FileOf,
    }

    /// A file of two chunks and a bit.
    fn sample() -> Sample {
        let memory = MemoryDisk::new();
        let disk: SharedDisk = Arc::new(memory.clone());
        let directory = PathBuf::from("/incoming");
        disk.create_dir_all(&directory).unwrap();
        let bytes: Vec<u8> = (0..CHUNK * 2 + 17).map(|at| (at / 7) as u8).collect();
        let file = ("a".to_owned(), bytes.len() as u64, xxh3_64(&bytes));
        Sample {
            memory,
            disk,
            directory,
            bytes,
            file,
        }
    }

    impl Sample {
        fn write(&self, partial: &mut Partial, chunks: std::ops::Range<usize>) {
            for chunk in self.bytes.chunks(CHUNK).skip(chunks.start).take(chunks.len()) {
                partial.write(chunk, crc32c::crc32c(chunk)).unwrap();
            }
        }

        /// Two chunks arrive, then the transfer breaks.
        fn interrupted(&self) {
            let mut partial = Partial::begin(&self.disk, &self.directory, &self.file).unwrap();
            self.write(&mut partial, 0..2);
        }

        fn find(&self) -> Option<Partial> {
            Partial::find(&self.disk, &self.directory, &self.file).unwrap()
        }

        fn flip(&self, name: &str, offset: u64) {
            let path = self.directory.join(name);
            self.disk.open(&path).unwrap().sync_data().unwrap();
            self.memory.flip(&path, offset, 1);
        }

        #[track_caller]
        fn check_whole(&self, mut partial: Partial) {
            let from = partial.offset() as usize / CHUNK;
            self.write(&mut partial, from..3);
            assert!(partial.is_whole() && partial.complete().unwrap());
            assert_eq!(self.disk.list(&self.directory).unwrap(), ["a"]);
            let mut read = vec![0; self.bytes.len()];
            let whole = self.disk.open(&self.directory.join("a")).unwrap();
            whole.read_at(0, &mut read).unwrap();
            assert_eq!((read, whole.len().unwrap()), (self.bytes.clone(), self.file.1));
        }
    }

    #[test]
    fn a_file_goes_on_behind_its_last_chunk() {
        let sample = sample();
        assert!(sample.find().is_none());
        sample.interrupted();
        let found = sample.find().unwrap();
        assert_eq!(found.offset(), CHUNK_BYTES * 2);
        sample.check_whole(found);
    }

    #[test]
    fn another_file_of_that_name_begins_anew() {
        let sample = sample();
        sample.interrupted();
        let (name, bytes, xxh3) = sample.file.clone();
        for other in [
            (name.clone(), bytes, xxh3 ^ 1),
            (name, bytes - 1, xxh3),
            ("b".to_owned(), bytes, xxh3),
        ] {
            let found = Partial::find(&sample.disk, &sample.directory, &other).unwrap();
            assert!(found.is_none(), "{other:?}");
        }
        assert!(sample.find().is_some());
    }

    #[test]
    fn a_file_goes_on_before_a_damaged_chunk() {
        for (damaged, sound_chunks) in [(CHUNK_BYTES + 5, 1), (CHUNK_BYTES * 2 - 1, 1)] {
            let sample = sample();
            sample.interrupted();
            sample.flip(&names(&sample.file).0, damaged);
            let found = sample.find().unwrap();
            assert_eq!(found.offset(), CHUNK_BYTES * sound_chunks);
            sample.check_whole(found);
        }
    }

    #[test]
    fn damage_in_the_first_chunk_or_its_checksum_leaves_nothing() {
        for (which, at) in [(0, 0), (1, 3)] {
            let sample = sample();
            sample.interrupted();
            let (content, checksums) = names(&sample.file);
            sample.flip(&[content, checksums][which], at);
            assert!(sample.find().is_none());
            assert!(sample.disk.list(&sample.directory).unwrap().is_empty());
        }
    }

    #[test]
    fn what_a_loss_of_power_leaves_is_sound_or_not_used() {
        use crate::disk::Survival;
        for seed in 0..50 {
            let mut sample = sample();
            sample.interrupted();
            sample.disk.sync_dir(&sample.directory).unwrap();
            sample.memory = sample.memory.crash(Survival::Scattered(seed));
            sample.disk = Arc::new(sample.memory.clone());
            let found = match sample.find() {
                Some(found) => found,
                None => Partial::begin(&sample.disk, &sample.directory, &sample.file).unwrap(),
            };
            sample.check_whole(found);
        }
    }

    #[test]
    fn a_whole_file_of_another_digest_is_removed() {
        let mut sample = sample();
        sample.file.2 ^= 1;
        let mut partial = Partial::begin(&sample.disk, &sample.directory, &sample.file).unwrap();
        sample.write(&mut partial, 0..3);
        assert!(partial.is_whole() && !partial.complete().unwrap());
        assert!(sample.disk.list(&sample.directory).unwrap().is_empty());
    }

    #[test]
    fn bytes_behind_the_end_are_not_taken_for_the_file() {
        let sample = sample();
        sample.interrupted();
        let content = sample.disk.open(&sample.directory.join(names(&sample.file).0)).unwrap();
        content.write_at(sample.file.1, b"more").unwrap();
        let mut found = sample.find().unwrap();
        sample.write(&mut found, 2..3);
        assert!(found.is_whole() && !found.complete().unwrap());
    }
}
