//! What may the node do to a disk, and how is that tried without one?
//!
//! [`Disk`] and [`File`] are the whole of it: the few verbs that log, manifest and shard files need, with the two calls
//! that make something last spelled out ([`File::sync_data`] for bytes, [`Disk::sync_dir`] for names). Two
//! implementations: [`RealDisk`] (rustix and std) and [`MemoryDisk`], which is deterministic, loses what was not
//! flushed and fails when told to. The calls block: they belong on the log's thread or on a worker, never on an async
//! task.
//!
//! [`tree`] is apart: ordered trees over sled, a cache on which nothing durable depends.
//!
//! Left out: memory mapping and io_uring (`granum-index`, `fine/io`), and any cleverness about caches.

mod memory;
mod real;
pub mod tree;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use memory::{Faults, MemoryDisk, SECTOR_BYTES, Survival};
pub use real::RealDisk;

/// A disk shared by all parts of a node.
pub type SharedDisk = Arc<dyn Disk>;

/// Names and space. All paths are given in full; a name is durable only after [`Disk::sync_dir`] on its folder.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a new, empty file and opens it for reading and writing. Fails if the name is taken.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, DiskError>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>, DiskError>;

    /// Makes a folder and those above it. No error if it is there.
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// File names (not folders) directly in a folder, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError>;

    /// Names of the folders directly in a folder, sorted.
    fn list_dirs(&self, dir: &Path) -> Result<Vec<String>, DiskError>;

    /// Whether a file or folder of this name exists.
    fn exists(&self, path: &Path) -> Result<bool, DiskError>;

    /// Renames a file, replacing what had the new name.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Gives a file a second name. Fails if that is taken.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file's name; its bytes go with the last name and the last open handle.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a folder and all in it. No error if it is not there.
    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Bytes that may still be written on the file system that holds `path`.
    fn available_space(&self, path: &Path) -> Result<u64, DiskError>;
}

/// One open file. Reads and writes name their offset, so a handle may be shared by threads.
pub trait File: Send + Sync + fmt::Debug {
    /// The name it was opened by, for messages.
    fn path(&self) -> &Path;

    /// Length in bytes.
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether the file holds nothing.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset` on; an error if the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`, growing the file where needed. Not durable before [`File::sync_data`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` behind the last byte and answers the offset where they begin. For one writer at a time.
    fn append(&self, bytes: &[u8]) -> Result<u64, DiskError> {
        let offset = self.len()?;
        self.write_at(offset, bytes)?;
        Ok(offset)
    }

    /// Writes zeros from the file's end up to `bytes`, so that later writes below that cannot run out of space and
    /// sync without touching metadata (written zeros: a bare `fallocate` would leave extents to convert). Not synced.
    fn preallocate(&self, bytes: u64) -> Result<(), DiskError>;

    /// Makes all bytes written so far, and the length, durable (fdatasync).
    fn sync_data(&self) -> Result<(), DiskError>;
}

/// A failed call to a disk: what was tried, on which path, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}: {source}", path = path.display())]
pub struct DiskError {
    /// What was tried.
    pub operation: Operation,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the operating system (or the test) said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    fn new(operation: Operation, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the disk (or a quota) is full: the one failure that heals by itself.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether the file system, as opposed to the disk's state, has no second name for a file here.
    pub fn refuses_links(&self) -> bool {
        self.operation == Operation::HardLink
            && matches!(
                self.source.kind(),
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::TooManyLinks
                    | io::ErrorKind::Unsupported
                    | io::ErrorKind::PermissionDenied
            )
    }

    /// Whether the file or folder was not there.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> Self {
        io::Error::new(error.source.kind(), error)
    }
}

/// The verbs of [`Disk`] and [`File`], for messages and for faults that a test injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the verb of that name")]
pub enum Operation {
    Create,
    Open,
    CreateDir,
    List,
    Exists,
    Rename,
    HardLink,
    Remove,
    RemoveDir,
    SyncDir,
    AvailableSpace,
    Length,
    Read,
    Write,
    Preallocate,
    Sync,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Create => "create",
            Operation::Open => "open",
            Operation::CreateDir => "create folder",
            Operation::List => "list",
            Operation::Exists => "look for",
            Operation::Rename => "rename",
            Operation::HardLink => "link",
            Operation::Remove => "remove",
            Operation::RemoveDir => "remove folder",
            Operation::SyncDir => "sync folder",
            Operation::AvailableSpace => "ask for the free space of",
            Operation::Length => "ask for the length of",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Preallocate => "preallocate",
            Operation::Sync => "sync",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_disk(disk: &dyn Disk, root: &Path) {
        let folder = root.join("a/b");
        disk.create_dir_all(&folder).unwrap();
        let path = folder.join("one");
        let file = disk.create(&path).unwrap();
        assert!(file.is_empty().unwrap());
        assert!(disk.create(&path).is_err(), "a taken name is refused");
        assert_eq!(file.append(b"hello").unwrap(), 0);
        assert_eq!(file.append(b" world").unwrap(), 5);
        file.write_at(0, b"J").unwrap();
        file.preallocate(64).unwrap();
        file.sync_data().unwrap();
        let mut text = [0xFF_u8; 12];
        disk.open(&path).unwrap().read_at(0, &mut text).unwrap();
        assert_eq!(&text, b"Jello world\0");
        assert_eq!(file.len().unwrap(), 64);
        let past_the_end = file.read_at(60, &mut text).unwrap_err();
        assert!(past_the_end.to_string().contains("one"), "{past_the_end}");

        disk.hard_link(&path, &folder.join("two")).unwrap();
        disk.rename(&path, &folder.join("three")).unwrap();
        disk.sync_dir(&folder).unwrap();
        assert_eq!(disk.list(&folder).unwrap(), ["three", "two"]);
        assert_eq!(disk.list_dirs(&root.join("a")).unwrap(), ["b"]);
        assert!(disk.open(&path).unwrap_err().is_missing());
        disk.remove(&folder.join("three")).unwrap();
        assert_eq!(disk.open(&folder.join("two")).unwrap().len().unwrap(), 64);
        assert!(disk.exists(&folder).unwrap() && !disk.exists(&path).unwrap());
        assert!(disk.available_space(&folder).unwrap() > 0);
        disk.remove_dir_all(&root.join("a")).unwrap();
        disk.remove_dir_all(&root.join("a")).unwrap();
        assert!(!disk.exists(&folder).unwrap());
    }

    #[test]
    fn the_real_disk_keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        check_disk(&RealDisk, root.path());
    }

    #[test]
    fn the_disk_in_memory_keeps_the_contract() {
        check_disk(&MemoryDisk::new(), Path::new("/root"));
    }
}
