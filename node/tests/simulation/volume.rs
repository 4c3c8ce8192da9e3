//! Which disk do a node's manifests, segments and snapshots lie on? A real folder (segments are mapped), of which a crash
//! keeps what was synced.
//!
//! What goes through [`Disk`] is followed: bytes without a sync and names without a sync of their folder may be gone after
//! a crash, newest first. Segments, which the index writes by itself, are taken as durable once written; that index syncs
//! them is not tried here. The power can be cut at any change, in the middle of a seal or of a snapshot's install: the
//! folder is copied as it is then, and every later call fails.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use granum_node::disk::{Disk, DiskError, File, MemoryDisk, Operation, RealDisk, Survival};
use tokio::sync::Notify;

use crate::dice::Dice;

/// A folder as a node's disk.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The node's folder.
    pub root: PathBuf,
    /// The log's disk, which loses power at the same time.
    pub log: MemoryDisk,
    /// Rings when the power is cut.
    pub cut: Arc<Notify>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Files with bytes that no sync has covered.
    dirty: BTreeMap<PathBuf, ()>,
    /// Changes of names that no sync has covered, oldest first, as what undoes them.
    names: Vec<(PathBuf, Undo)>,
    /// Changes until the power is cut, what survives, and where the folder is copied to.
    cut_after: Option<(u64, Survival, PathBuf)>,
    /// The log as the cut left it.
    left: Option<MemoryDisk>,
}

#[derive(Clone, Debug)]
enum Undo {
    Remove,
    /// What had the name before, and the name that it came from.
    Replace(Option<Vec<u8>>, PathBuf),
}

impl Volume {
    /// A folder that is there.
    pub fn new(root: PathBuf, log: MemoryDisk) -> Volume {
        Volume {
            root,
            log,
            cut: Arc::default(),
            state: Arc::default(),
        }
    }

    /// The next but `changes` cuts the power; what survives is copied to `to`.
    pub fn cut_after(&self, changes: u64, survival: Survival, to: PathBuf) {
        self.state.lock().unwrap().cut_after = Some((changes, survival, to));
    }

    /// The cut that was asked for has not come: it won't.
    pub fn spare(&self) {
        self.state.lock().unwrap().cut_after = None;
    }

    /// What a crash leaves: folder and log. Where the power was cut before, what that left.
    pub fn crash(&self, survival: Survival, to: &Path) -> MemoryDisk {
        let mut state = self.state.lock().unwrap();
        if let Some(left) = state.left.take() {
            return left;
        }
        self.copy(&state, survival, to);
        self.log.crash(survival)
    }

    fn copy(&self, state: &State, survival: Survival, to: &Path) {
        copy(&self.root, to);
        let mut dice = match survival {
            Survival::Everything => return,
            Survival::Synced => Dice::new(0, 0),
            Survival::Prefix(seed) | Survival::Scattered(seed) => Dice::new(seed, 7),
        };
        let there = |path: &Path| to.join(path.strip_prefix(&self.root).unwrap());
        for path in state.dirty.keys() {
            let path = there(path);
            if let Ok(bytes) = std::fs::read(&path) {
                let kept = match survival {
                    Survival::Synced => 0,
                    _ => dice.between(0, bytes.len() as u64 + 1) as usize,
                };
                std::fs::write(&path, &bytes[..kept]).unwrap();
            }
        }
        let kept = match survival {
            Survival::Synced => 0,
            _ => dice.between(0, state.names.len() as u64 + 1) as usize,
        };
        for (path, undo) in state.names[kept..].iter().rev() {
            let path = there(path);
            match undo {
                // Removed again meanwhile where it is not there.
                Undo::Remove => {
                    let _ = std::fs::remove_file(&path);
                }
                Undo::Replace(before, from) => {
                    let _ = std::fs::rename(&path, there(from));
                    if let Some(bytes) = before {
                        std::fs::write(&path, bytes).unwrap();
                    }
                }
            }
        }
    }

    /// Counts a change, and meets the cut.
    fn change(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock().unwrap();
        self.alive(&state, operation, path)?;
        match state.cut_after.take() {
            None => Ok(()),
            Some((0, survival, to)) => {
                self.copy(&state, survival, &to);
                state.left = Some(self.log.crash(survival));
                self.cut.notify_one();
                self.alive(&state, operation, path)
            }
            Some((changes, survival, to)) => {
                state.cut_after = Some((changes - 1, survival, to));
                Ok(())
            }
        }
    }

    fn alive(&self, state: &State, operation: Operation, path: &Path) -> Result<(), DiskError> {
        match state.left {
            None => Ok(()),
            Some(_) => Err(DiskError {
                operation,
                path: path.to_owned(),
                source: io::Error::new(io::ErrorKind::BrokenPipe, "the power is cut"),
            }),
        }
    }

    fn follow(&self, path: &Path, undo: Undo) {
        self.state.lock().unwrap().names.push((path.to_owned(), undo));
    }

    fn opened(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(Followed {
            file,
            volume: self.clone(),
        })
    }
}

/// Copies all files of a folder. Whole folders, small ones.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Disk for Volume {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        self.change(Operation::Create, path)?;
        let file = RealDisk.create(path)?;
        self.follow(path, Undo::Remove);
        Ok(self.opened(file))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        RealDisk.open(path).map(|file| self.opened(file))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.change(Operation::CreateDir, path)?;
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        RealDisk.list(dir)
    }

    fn list_dirs(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        RealDisk.list_dirs(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        RealDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.change(Operation::Rename, from)?;
        let before = std::fs::read(to).ok();
        RealDisk.rename(from, to)?;
        self.follow(to, Undo::Replace(before, from.to_owned()));
        let mut state = self.state.lock().unwrap();
        if state.dirty.remove(from).is_some() {
            state.dirty.insert(to.to_owned(), ());
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.change(Operation::HardLink, to)?;
        RealDisk.hard_link(from, to)?;
        self.follow(to, Undo::Remove);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.change(Operation::Remove, path)?;
        RealDisk.remove(path)?;
        self.state.lock().unwrap().dirty.remove(path);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.change(Operation::RemoveDir, path)?;
        let mut state = self.state.lock().unwrap();
        state.dirty.retain(|name, ()| !name.starts_with(path));
        state.names.retain(|(name, _)| !name.starts_with(path));
        drop(state);
        RealDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.change(Operation::SyncDir, dir)?;
        let mut state = self.state.lock().unwrap();
        state.names.retain(|(name, _)| name.parent() != Some(dir));
        Ok(())
    }

    fn available_space(&self, _path: &Path) -> Result<u64, DiskError> {
        Ok(u64::MAX >> 1)
    }
}

/// A file whose unsynced bytes are known.
#[derive(Debug)]
struct Followed {
    file: Arc<dyn File>,
    volume: Volume,
}

impl Followed {
    fn dirty(&self) {
        let mut state = self.volume.state.lock().unwrap();
        state.dirty.insert(self.file.path().to_owned(), ());
    }
}

impl File for Followed {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.volume.change(Operation::Write, self.path())?;
        self.file.write_at(offset, bytes)?;
        self.dirty();
        Ok(())
    }

    fn preallocate(&self, bytes: u64) -> Result<(), DiskError> {
        self.volume.change(Operation::Preallocate, self.path())?;
        self.file.preallocate(bytes)?;
        self.dirty();
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        // Not carried out: the folder outlives this process or nothing does.
        self.volume.change(Operation::Sync, self.path())?;
        self.volume.state.lock().unwrap().dirty.remove(self.file.path());
        Ok(())
    }
}
