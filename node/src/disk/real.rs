//! How do the verbs of [`Disk`] reach the operating system?
//!
//! Plainly: std for names, positioned reads and writes for bytes, rustix for `statvfs`. Nothing is cached here.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskError, File, Operation};

/// Zeros are written in pieces of this size, so that preallocating takes no memory to speak of.
const ZERO_BLOCK: &[u8] = &[0; 256 << 10];

/// The disk of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    path: PathBuf,
}

/// Names operation and path in an error.
fn at<T>(operation: Operation, path: &Path, result: io::Result<T>) -> Result<T, DiskError> {
    result.map_err(|source| DiskError::new(operation, path, source))
}

impl RealDisk {
    fn list_where(dir: &Path, wanted: fn(&fs::FileType) -> bool) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        for entry in at(Operation::List, dir, fs::read_dir(dir))? {
            let entry = at(Operation::List, dir, entry)?;
            let kind = at(Operation::List, &entry.path(), entry.file_type())?;
            // A name that is no UTF-8 is none of ours.
            if let (true, Ok(name)) = (wanted(&kind), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn opened(path: &Path, file: fs::File) -> Arc<dyn File> {
        Arc::new(RealFile {
            file,
            path: path.to_owned(),
        })
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        Ok(Self::opened(path, at(Operation::Create, path, file)?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path);
        Ok(Self::opened(path, at(Operation::Open, path, file)?))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        at(Operation::CreateDir, path, fs::create_dir_all(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        Self::list_where(dir, fs::FileType::is_file)
    }

    fn list_dirs(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        Self::list_where(dir, fs::FileType::is_dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        at(Operation::Exists, path, path.try_exists())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        at(Operation::Rename, from, fs::rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        at(Operation::HardLink, to, fs::hard_link(from, to))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        at(Operation::Remove, path, fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => at(Operation::RemoveDir, path, other),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        at(
            Operation::SyncDir,
            dir,
            fs::File::open(dir).and_then(|folder| folder.sync_all()),
        )
    }

    fn available_space(&self, path: &Path) -> Result<u64, DiskError> {
        let space = rustix::fs::statvfs(path).map_err(io::Error::from);
        at(Operation::AvailableSpace, path, space).map(|space| space.f_bavail.saturating_mul(space.f_frsize))
    }
}

impl File for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, DiskError> {
        at(Operation::Length, &self.path, self.file.metadata()).map(|metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        at(Operation::Read, &self.path, self.file.read_exact_at(buffer, offset))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        at(Operation::Write, &self.path, self.file.write_all_at(bytes, offset))
    }

    fn preallocate(&self, bytes: u64) -> Result<(), DiskError> {
        let mut end = self.len()?;
        while end < bytes {
            let piece = ZERO_BLOCK.len().min(usize::try_from(bytes - end).unwrap_or(usize::MAX));
            at(
                Operation::Preallocate,
                &self.path,
                self.file.write_all_at(&ZERO_BLOCK[..piece], end),
            )?;
            end += piece as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        at(Operation::Sync, &self.path, self.file.sync_data())
    }
}
