//! How is a power cut tried a thousand times a second?
//!
//! [`MemoryDisk`] keeps, for each file, the bytes that readers see and the bytes that would survive, and in between
//! the writes that no [`sync_data`](File::sync_data) has covered; likewise for names and
//! [`sync_dir`](Disk::sync_dir). [`MemoryDisk::crash`] answers a new disk with what a [`Survival`] leaves of that. All
//! is deterministic: the same calls and the same seed leave the same bytes. [`Faults`] fill the disk, fail calls and
//! cut the power in the middle of a write.
//!
//! Left out: folders are durable as soon as they are made, and a sector is written whole or not at all only under
//! [`Survival::Scattered`]; a prefix may end at any byte, which is harsher than disks are.

mod content;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Disk, DiskError, File, Operation};
use content::{Content, Dice};
pub use content::{SECTOR_BYTES, Survival};
use file::MemoryFile;

/// A disk in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
}

/// Where syncs wait while they are held.
#[derive(Debug, Default)]
struct Gate {
    held: Mutex<bool>,
    opened: Condvar,
}

/// What goes wrong. Counts start when the faults are set.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Bytes that all files together may hold; none: without bound.
    pub capacity_bytes: Option<u64>,
    /// This many more changing calls succeed; the next one is cut short and the disk is dead from then on.
    pub power_cut_after: Option<u64>,
    /// The next call of this kind fails so, once.
    pub fail_next: Option<(Operation, io::ErrorKind)>,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    durable_names: Names,
    pending_names: Vec<Renaming>,
    folders: BTreeSet<PathBuf>,
    faults: Faults,
    changes: u64,
    dead: bool,
}

type Names = BTreeMap<PathBuf, Arc<Mutex<Content>>>;

/// One change of names: some go, some come, together.
#[derive(Debug)]
struct Renaming {
    gone: Option<PathBuf>,
    come: Option<(PathBuf, Arc<Mutex<Content>>)>,
}

impl MemoryDisk {
    /// An empty disk without bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.lock();
        state.faults = faults;
        state.changes = 0;
    }

    /// Changing calls (writes, syncs, names) since the faults were last set.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Lets every sync of a file wait from now on, as a slow disk does, or go on.
    pub fn hold_syncs(&self, held: bool) {
        *lock(&self.gate.held) = held;
        self.gate.opened.notify_all();
    }

    /// What is left after a crash at this moment. The old disk lives on apart; whoever holds it is a ghost.
    pub fn crash(&self, survival: Survival) -> MemoryDisk {
        let state = self.lock();
        let mut dice = Dice(match survival {
            Survival::Prefix(seed) | Survival::Scattered(seed) => seed,
            Survival::Everything | Survival::Synced => 0,
        });
        let mut names = state.durable_names.clone();
        let kept = match survival {
            Survival::Everything => state.pending_names.len(),
            Survival::Synced => 0,
            Survival::Prefix(_) | Survival::Scattered(_) => dice.below(state.pending_names.len() + 1),
        };
        for renaming in &state.pending_names[..kept] {
            renaming.apply(&mut names);
        }
        let mut survivor = State {
            folders: state.folders.clone(),
            ..State::default()
        };
        let mut copies: BTreeMap<*const Mutex<Content>, Arc<Mutex<Content>>> = BTreeMap::new();
        for (path, content) in names {
            let copy = copies.entry(Arc::as_ptr(&content)).or_insert_with(|| {
                let bytes = lock(&content).after(survival, &mut dice);
                Arc::new(Mutex::new(Content {
                    visible: bytes.clone(),
                    durable: bytes,
                    pending: Vec::new(),
                }))
            });
            survivor.names.insert(path.clone(), copy.clone());
            survivor.durable_names.insert(path, copy.clone());
        }
        MemoryDisk {
            state: Arc::new(Mutex::new(survivor)),
            gate: Arc::default(),
        }
    }

    /// Flips bits of one durable byte, as a failing disk does. Panics if the file has no such byte: a test's mistake.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let state = self.lock();
        let mut content = lock(&state.names[path]);
        let offset = usize::try_from(offset).expect("offsets in memory fit");
        content.visible[offset] ^= mask;
        content.durable[offset] ^= mask;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Counts a changing call and meets its faults.
    fn change(&self, operation: Operation, path: &Path) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.look(operation, path)?;
        state.changes += 1;
        if state.faults.power_cut_after.is_some_and(|calls| state.changes > calls) {
            state.dead = true;
            return Err(dead(operation, path));
        }
        Ok(state)
    }

    /// Locks for a call that changes nothing.
    fn look(&self, operation: Operation, path: &Path) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.lock();
        if state.dead {
            return Err(dead(operation, path));
        }
        match state.faults.fail_next {
            Some((failing, kind)) if failing == operation => {
                state.faults.fail_next = None;
                Err(DiskError::new(operation, path, io::Error::new(kind, "injected")))
            }
            _ => Ok(state),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no call on the disk in memory panics while it holds a lock")
}

fn dead(operation: Operation, path: &Path) -> DiskError {
    DiskError::new(
        operation,
        path,
        io::Error::new(io::ErrorKind::BrokenPipe, "the power is cut"),
    )
}

fn missing(operation: Operation, path: &Path) -> DiskError {
    DiskError::new(operation, path, io::ErrorKind::NotFound.into())
}

impl State {
    fn used_bytes(&self) -> u64 {
        let mut seen = BTreeSet::new();
        let files = self.names.values().filter(|content| seen.insert(Arc::as_ptr(content)));
        files.map(|content| lock(content).visible.len() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.faults
            .capacity_bytes
            .map_or(u64::MAX >> 1, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn rename(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.pending_names.push(renaming);
    }

    fn taken(&self, path: &Path) -> bool {
        self.names.contains_key(path) || self.folders.contains(path)
    }

    fn in_folder(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        match path.parent() {
            Some(folder) if self.folders.contains(folder) => Ok(()),
            _ => Err(missing(operation, path)),
        }
    }
}

impl Renaming {
    fn apply(&self, names: &mut Names) {
        if let Some(path) = &self.gone {
            names.remove(path);
        }
        if let Some((path, content)) = &self.come {
            names.insert(path.clone(), content.clone());
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        let come = self.come.as_ref().map(|(path, _)| path);
        self.gone.iter().chain(come).any(|path| path.parent() == Some(dir))
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        let mut state = self.change(Operation::Create, path)?;
        state.in_folder(Operation::Create, path)?;
        if state.taken(path) {
            return Err(DiskError::new(
                Operation::Create,
                path,
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        let content = Arc::new(Mutex::new(Content::default()));
        state.rename(Renaming {
            gone: None,
            come: Some((path.to_owned(), content.clone())),
        });
        drop(state);
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            content,
            path: path.to_owned(),
        }))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        let state = self.look(Operation::Open, path)?;
        let content = state
            .names
            .get(path)
            .cloned()
            .ok_or_else(|| missing(Operation::Open, path))?;
        drop(state);
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            content,
            path: path.to_owned(),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.change(Operation::CreateDir, path)?;
        state.folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.look(Operation::List, dir)?;
        if !state.folders.contains(dir) {
            return Err(missing(Operation::List, dir));
        }
        Ok(state.names.keys().filter_map(|path| name_in(dir, path)).collect())
    }

    fn list_dirs(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.look(Operation::List, dir)?;
        if !state.folders.contains(dir) {
            return Err(missing(Operation::List, dir));
        }
        Ok(state.folders.iter().filter_map(|path| name_in(dir, path)).collect())
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        Ok(self.look(Operation::Exists, path)?.taken(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.change(Operation::Rename, from)?;
        state.in_folder(Operation::Rename, to)?;
        let content = state
            .names
            .get(from)
            .cloned()
            .ok_or_else(|| missing(Operation::Rename, from))?;
        state.rename(Renaming {
            gone: Some(from.to_owned()),
            come: Some((to.to_owned(), content)),
        });
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.change(Operation::HardLink, to)?;
        state.in_folder(Operation::HardLink, to)?;
        let content = state
            .names
            .get(from)
            .cloned()
            .ok_or_else(|| missing(Operation::HardLink, from))?;
        if state.taken(to) {
            return Err(DiskError::new(
                Operation::HardLink,
                to,
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        state.rename(Renaming {
            gone: None,
            come: Some((to.to_owned(), content)),
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.change(Operation::Remove, path)?;
        if !state.names.contains_key(path) {
            return Err(missing(Operation::Remove, path));
        }
        state.rename(Renaming {
            gone: Some(path.to_owned()),
            come: None,
        });
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.change(Operation::RemoveDir, path)?;
        let inside: Vec<PathBuf> = state
            .names
            .keys()
            .filter(|name| name.starts_with(path))
            .cloned()
            .collect();
        for name in inside {
            state.rename(Renaming {
                gone: Some(name),
                come: None,
            });
        }
        state.folders.retain(|folder| !folder.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.change(Operation::SyncDir, dir)?;
        for renaming in std::mem::take(&mut state.pending_names) {
            if renaming.touches(dir) {
                renaming.apply(&mut state.durable_names);
            } else {
                state.pending_names.push(renaming);
            }
        }
        Ok(())
    }

    fn available_space(&self, path: &Path) -> Result<u64, DiskError> {
        Ok(self.look(Operation::AvailableSpace, path)?.free_bytes())
    }
}

fn name_in(dir: &Path, path: &Path) -> Option<String> {
    let name = path.file_name().filter(|_| path.parent() == Some(dir))?;
    name.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
