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

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Disk, DiskError, File, Operation};

/// Bytes that a disk writes together or not at all.
pub const SECTOR_BYTES: usize = 512;

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

/// What a crash leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Everything: the process died, the machine did not.
    Everything,
    /// Nothing that was not synced.
    Synced,
    /// A seeded number of the pending writes, in order, the last of them cut at any byte.
    Prefix(u64),
    /// A seeded choice of the pending sectors, in no order: a disk may write the later sector first.
    Scattered(u64),
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

#[derive(Debug, Default)]
struct Content {
    visible: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<Content>>,
    path: PathBuf,
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

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        put(&mut self.visible, offset, bytes);
        self.pending.push((offset, bytes.to_vec()));
    }

    fn sync(&mut self) {
        for (offset, bytes) in self.pending.drain(..) {
            put(&mut self.durable, offset, &bytes);
        }
    }

    fn after(&self, survival: Survival, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match survival {
            Survival::Everything => bytes.clone_from(&self.visible),
            Survival::Synced => {}
            Survival::Prefix(_) => {
                let whole = dice.below(self.pending.len() + 1);
                for (offset, piece) in &self.pending[..whole] {
                    put(&mut bytes, *offset, piece);
                }
                if let Some((offset, piece)) = self.pending.get(whole) {
                    put(&mut bytes, *offset, &piece[..dice.below(piece.len() + 1)]);
                }
            }
            Survival::Scattered(_) => {
                for (offset, piece) in self.pending.iter().flat_map(|(offset, bytes)| sectors(*offset, bytes)) {
                    if dice.below(2) == 0 {
                        put(&mut bytes, offset, piece);
                    }
                }
            }
        }
        bytes
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).expect("offsets in memory fit");
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

/// Cuts a write where the file's sectors end.
fn sectors(offset: u64, bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = SECTOR_BYTES - (at % SECTOR_BYTES as u64) as usize;
        let (piece, behind) = rest.split_at(room.min(rest.len()));
        pieces.push((at, piece));
        at += piece.len() as u64;
        rest = behind;
    }
    pieces
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers in every version of every crate.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
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

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (MemoryDisk, Arc<dyn File>) {
        let disk = MemoryDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.append(&[1; 1000]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.append(&[2; 3000]).unwrap();
        (disk, file)
    }

    fn bytes(disk: &MemoryDisk) -> Vec<u8> {
        let file = disk.open(Path::new("/d/f")).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_crash_loses_what_was_not_synced() {
        let (disk, _file) = written();
        assert_eq!(bytes(&disk).len(), 4000);
        assert_eq!(bytes(&disk.crash(Survival::Synced)), [1; 1000]);
        assert_eq!(bytes(&disk.crash(Survival::Everything)).len(), 4000);
    }

    #[test]
    fn a_torn_write_leaves_a_prefix_and_a_scattered_one_leaves_sectors() {
        let (disk, _file) = written();
        let lengths: BTreeSet<usize> = (0..50)
            .map(|seed| bytes(&disk.crash(Survival::Prefix(seed))).len())
            .collect();
        assert!(
            lengths.len() > 10 && lengths.iter().all(|length| (1000..=4000).contains(length)),
            "{lengths:?}"
        );
        let holes = (0..50).any(|seed| bytes(&disk.crash(Survival::Scattered(seed)))[1000..].contains(&0));
        assert!(holes, "a later sector survives without an earlier one");
        assert_eq!(
            bytes(&disk.crash(Survival::Prefix(7))),
            bytes(&disk.crash(Survival::Prefix(7)))
        );
    }

    #[test]
    fn a_name_is_lost_until_its_folder_is_synced() {
        let (disk, _file) = written();
        disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
        let survivor = disk.crash(Survival::Synced);
        assert_eq!(survivor.list(Path::new("/d")).unwrap(), ["f"]);
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(disk.crash(Survival::Synced).list(Path::new("/d")).unwrap(), ["g"]);
    }

    #[test]
    fn a_full_disk_refuses_growth_and_takes_overwriting() {
        let (disk, file) = written();
        disk.set_faults(Faults {
            capacity_bytes: Some(4100),
            ..Faults::default()
        });
        assert_eq!(disk.available_space(Path::new("/d")).unwrap(), 100);
        assert!(file.append(&[3; 101]).unwrap_err().is_full());
        file.append(&[3; 100]).unwrap();
        file.write_at(0, &[4; 4100]).unwrap();
    }

    #[test]
    fn a_power_cut_tears_the_call_it_falls_into_and_stops_all_after_it() {
        let (disk, file) = written();
        disk.set_faults(Faults {
            power_cut_after: Some(1),
            ..Faults::default()
        });
        file.sync_data().unwrap();
        assert!(file.append(&[3; 600]).is_err());
        assert!(file.len().is_err() && disk.list(Path::new("/d")).is_err());
        let lengths: BTreeSet<usize> = (0..50)
            .map(|seed| bytes(&disk.crash(Survival::Prefix(seed))).len())
            .collect();
        assert!(
            lengths.iter().all(|length| (4000..=4600).contains(length)) && lengths.len() > 5,
            "{lengths:?}"
        );
    }

    #[test]
    fn an_injected_failure_comes_once() {
        let (disk, file) = written();
        let fail_next = Some((Operation::Sync, io::ErrorKind::Other));
        disk.set_faults(Faults {
            fail_next,
            ..Faults::default()
        });
        assert_eq!(file.sync_data().unwrap_err().to_string(), "sync /d/f: injected");
        file.sync_data().unwrap();
    }
}
