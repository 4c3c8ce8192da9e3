//! What does a crash leave, at whichever step? Copies of the folder are taken before each change of names while a replica
//! seals, merges or takes over a snapshot; every one of them must open as the old state or the new, and replay to the same
//! end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use granum_proto::internal::{Command, EnsureReplicaRequest};
use tempfile::TempDir;

use super::oracle::{apply, documents, eager, replay, state};
use super::sample::{delete, fence, put, write};
use super::{Options, ShardMachine, StateMachine, command};
use crate::disk::{Disk, DiskError, File, RealDisk};

/// The machine's disk, copying `root` before each change of names while it is asked to.
#[derive(Debug)]
struct Photographer {
    root: PathBuf,
    photos: Mutex<Vec<TempDir>>,
    on: AtomicBool,
}

impl Photographer {
    fn new(root: &Path) -> Arc<Photographer> {
        Arc::new(Photographer {
            root: root.to_owned(),
            photos: Mutex::default(),
            on: AtomicBool::new(false),
        })
    }

    fn photograph(&self) {
        if self.on.load(Ordering::Relaxed) {
            let photo = tempfile::tempdir().unwrap();
            copy(&self.root, photo.path());
            self.photos.lock().unwrap().push(photo);
        }
    }

    /// The folder at each step of `work`, and after it.
    fn during(&self, work: impl FnOnce()) -> Vec<TempDir> {
        self.on.store(true, Ordering::Relaxed);
        work();
        self.photograph();
        self.on.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.photos.lock().unwrap())
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Disk for Photographer {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        self.photograph();
        RealDisk.create(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, DiskError> {
        RealDisk.open(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.photograph();
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
        self.photograph();
        RealDisk.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.photograph();
        RealDisk.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.photograph();
        RealDisk.remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.photograph();
        RealDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.photograph();
        RealDisk.sync_dir(dir)
    }

    fn available_space(&self, path: &Path) -> Result<u64, DiskError> {
        RealDisk.available_space(path)
    }
}

fn open(folder: &Path, disk: Arc<dyn Disk>) -> Arc<ShardMachine> {
    let options = Options {
        merge: eager(),
        ..Options::new(disk, None)
    };
    ShardMachine::open(&EnsureReplicaRequest::default(), folder, &options).unwrap()
}

/// Seal points with writes before, between and behind them. Documents die before each but the first, so that each
/// manifest names another file of dead rows than the one before.
fn log() -> Vec<Command> {
    vec![
        fence(1),
        write(1, 1, vec![put(1, 1), put(2, 1), put(3, 1), put(5, 1)]),
        command::seal(),
        write(2, 1, vec![delete(5)]),
        command::seal(),
        write(3, 1, vec![put(2, 2), delete(3), put(4, 1)]),
        command::seal(),
        write(4, 1, vec![put(1, 3), delete(4)]),
    ]
}

const FIRST_SEAL: u64 = 5;
const SECOND_SEAL: u64 = 7;

/// Every photo opens at one of `seals` and replays to what `expected` is; each of `seals` is among them.
#[track_caller]
fn check(photos: &[TempDir], expected: &ShardMachine, seals: &[u64]) {
    let mut reached = BTreeSet::new();
    for photo in photos {
        let machine = open(photo.path(), Arc::new(RealDisk));
        reached.insert(machine.sealed().last.map_or(0, |last| last.index));
        replay(&machine, &log());
        assert_eq!(documents(&machine), documents(expected));
        assert_eq!(state(&machine), state(expected));
        machine.seal().unwrap();
        assert_eq!(documents(&machine), documents(expected));
    }
    assert_eq!(reached, seals.iter().copied().collect());
}

#[test]
fn a_crash_while_sealing_leaves_the_old_seal_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Photographer::new(folder.path());
    let machine = open(folder.path(), disk.clone());
    for (index, command) in (1..).zip(&log()) {
        apply(&machine, index, command);
        if index <= FIRST_SEAL {
            machine.seal().unwrap();
        }
    }
    let photos = disk.during(|| assert_eq!(machine.seal().unwrap().last.unwrap().index, SECOND_SEAL));
    assert!(photos.len() >= 4, "{} photos", photos.len());
    check(&photos, &machine, &[FIRST_SEAL, SECOND_SEAL]);
}

/// Segments of each photo.
fn segments(photos: &[TempDir]) -> BTreeSet<u64> {
    let of = |photo: &TempDir| open(photo.path(), Arc::new(RealDisk)).stats().index.segments;
    photos.iter().map(of).collect()
}

/// Documents die and are replaced behind the seal: a replay still asks for them, and answers what was answered.
#[test]
fn a_crash_while_merging_leaves_the_sources_or_the_merged_segment_as_of_the_same_seal() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Photographer::new(folder.path());
    let machine = open(folder.path(), disk.clone());
    for (index, command) in (1..).zip(&log()) {
        apply(&machine, index, command);
        machine.seal().unwrap();
    }
    let merge = || {
        machine.merge(&|_| {
            disk.photograph();
            false
        })
    };
    let photos = disk.during(|| assert_eq!(merge().unwrap().unwrap().sources, 2));
    assert!(photos.len() >= 6, "{} photos", photos.len());
    assert_eq!(segments(&photos), [1, 2].into());
    check(&photos, &machine, &[SECOND_SEAL]);
}

#[test]
fn a_crash_while_a_merge_overtakes_a_seal_leaves_either_seal() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Photographer::new(folder.path());
    let machine = open(folder.path(), disk.clone());
    for (index, command) in (1..).zip(&log()) {
        apply(&machine, index, command);
        if index <= FIRST_SEAL {
            machine.seal().unwrap();
        }
    }
    // The second seal is frozen: its id is below the merged segment's, its dead rows are told in the source's.
    let photos = disk.during(|| {
        assert_eq!(machine.merge(&|_| false).unwrap().unwrap().sources, 1);
        machine.seal().unwrap();
    });
    check(&photos, &machine, &[FIRST_SEAL, SECOND_SEAL]);
    let photos = disk.during(|| assert!(machine.merge(&|_| false).unwrap().is_some()));
    check(&photos, &machine, &[SECOND_SEAL]);
}

#[test]
fn a_crash_while_a_snapshot_is_taken_over_leaves_the_old_state_or_the_new() {
    let source_folder = tempfile::tempdir().unwrap();
    let source = open(source_folder.path(), Arc::new(RealDisk));
    replay(&source, &log());
    source.seal().unwrap();
    let snapshot = source.snapshot().unwrap().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let disk = Photographer::new(folder.path());
    let machine = open(folder.path(), disk.clone());
    for (index, command) in (1..=FIRST_SEAL).zip(&log()) {
        apply(&machine, index, command);
        machine.seal().unwrap();
    }
    let photos = disk.during(|| machine.install(&snapshot.directory, snapshot.sealed.clone()).unwrap());
    assert!(photos.len() >= 6, "{} photos", photos.len());
    check(&photos, &source, &[FIRST_SEAL, SECOND_SEAL]);
    replay(&machine, &log());
    assert_eq!(documents(&machine), documents(&source));
}

#[test]
fn a_damaged_snapshot_is_refused_and_the_state_stays() {
    let source_folder = tempfile::tempdir().unwrap();
    let source = open(source_folder.path(), Arc::new(RealDisk));
    replay(&source, &log());
    source.seal().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let machine = open(folder.path(), Arc::new(RealDisk));
    for entry in std::fs::read_dir(source.state_directory()).unwrap().map(Result::unwrap) {
        let received = tempfile::tempdir().unwrap();
        copy(&source.state_directory(), received.path());
        let damaged = received.path().join(entry.file_name());
        let mut bytes = std::fs::read(&damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let fault = machine
            .install(received.path(), source.sealed())
            .unwrap_err()
            .to_string();
        assert!(fault.contains(entry.file_name().to_str().unwrap()), "{fault}");
        assert_eq!(machine.sealed().last, None);
    }
    replay(&machine, &log());
    assert_eq!(documents(&machine), documents(&source));
}

#[test]
fn a_dropped_snapshot_leaves_nothing_and_one_left_by_a_crash_goes_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let machine = open(folder.path(), Arc::new(RealDisk));
    replay(&machine, &log());
    machine.seal().unwrap();
    let snapshots = folder.path().join("snapshots");
    let entries = || std::fs::read_dir(&snapshots).unwrap().count();
    let first = machine.snapshot().unwrap().unwrap();
    let second = machine.snapshot().unwrap().unwrap();
    assert_eq!(entries(), 2);
    drop(first);
    assert_eq!(entries(), 1);
    let names: BTreeSet<String> = second.files.iter().map(|(name, ..)| name.clone()).collect();
    assert!(names.contains("MANIFEST") && names.len() > 2, "{names:?}");
    let reopened = open(folder.path(), Arc::new(RealDisk));
    assert!(!snapshots.exists());
    drop(second);
    assert_eq!(reopened.sealed().last.unwrap().index, SECOND_SEAL);
}
