//! A disk that can be read and forgets what is written: what a start would find can be found without changing anything.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskError, File, SharedDisk};

/// Reads go to the disk below; changes are answered and not made.
#[derive(Debug)]
pub struct Forgetful(pub SharedDisk);

#[derive(Debug)]
struct ForgetfulFile(Arc<dyn File>);

impl Disk for Forgetful {
    /// Nothing is made: the file is as empty as it will be found.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        self.open(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        Ok(Arc::new(ForgetfulFile(self.0.open(path)?)))
    }

    fn create_dir_all(&self, _path: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        self.0.list(dir)
    }

    fn list_dirs(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        self.0.list_dirs(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.0.exists(path)
    }

    fn rename(&self, _from: &Path, _to: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn hard_link(&self, _from: &Path, _to: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove_dir_all(&self, _path: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn available_space(&self, path: &Path) -> Result<u64, DiskError> {
        self.0.available_space(path)
    }
}

impl File for ForgetfulFile {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn preallocate(&self, _bytes: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        Ok(())
    }
}
