//! How do reads, writes and syncs of one file meet the faults of its disk?

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::content::Content;
use super::{MemoryDisk, lock};
use crate::disk::{DiskError, File, Operation};

/// An open file.
#[derive(Debug)]
pub struct MemoryFile {
    /// The disk that holds it.
    pub disk: MemoryDisk,
    /// Its bytes.
    pub content: Arc<Mutex<Content>>,
    /// The name it was opened by.
    pub path: PathBuf,
}

impl MemoryFile {
    fn write(&self, operation: Operation, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let alive = !self.disk.lock().dead;
        let state = self.disk.change(operation, &self.path).inspect_err(|_| {
            // The power went in the middle of this write: some of it may be on the disk.
            if alive && self.disk.lock().dead {
                lock(&self.content).write(offset, bytes);
            }
        })?;
        let length = lock(&self.content).visible.len() as u64;
        let growth = (offset + bytes.len() as u64).saturating_sub(length);
        if growth > state.free_bytes() {
            return Err(DiskError::new(operation, &self.path, io::ErrorKind::StorageFull.into()));
        }
        lock(&self.content).write(offset, bytes);
        Ok(())
    }
}

impl File for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, DiskError> {
        let _state = self.disk.look(Operation::Length, &self.path)?;
        Ok(lock(&self.content).visible.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let _state = self.disk.look(Operation::Read, &self.path)?;
        let content = lock(&self.content);
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| content.visible.get(start..)?.get(..buffer.len()));
        let past_the_end = || DiskError::new(Operation::Read, &self.path, io::ErrorKind::UnexpectedEof.into());
        buffer.copy_from_slice(bytes.ok_or_else(past_the_end)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write(Operation::Write, offset, bytes)
    }

    fn preallocate(&self, bytes: u64) -> Result<(), DiskError> {
        let length = self.len()?;
        let zeros = usize::try_from(bytes.saturating_sub(length)).expect("files in memory fit");
        self.write(Operation::Preallocate, length, &vec![0; zeros])
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let gate = &self.disk.gate;
        drop(
            gate.opened
                .wait_while(lock(&gate.held), |held| *held)
                .expect("see lock"),
        );
        let _state = self.disk.change(Operation::Sync, &self.path)?;
        lock(&self.content).sync();
        Ok(())
    }
}
