//! Merges on threads of their own, beside commands, seals, snapshots and the end of a replica.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granum_index::MergePolicy;
use granum_proto::internal::{Command, EnsureReplicaRequest};

use super::*;
use crate::disk::RealDisk;
use crate::disk::tree::{DEFAULT_CACHE_BYTES, Trees};
use crate::shard::core::Core;
use crate::shard::oracle::{MapStore, apply, documents, eager, replay, state};
use crate::shard::sample::{delete, fence, put, write};
use crate::shard::{Options, StateMachine, command};

fn open(folder: &std::path::Path, merge: MergePolicy) -> Arc<ShardMachine> {
    let trees = Trees::temporary(DEFAULT_CACHE_BYTES).unwrap();
    let options = Options {
        merge,
        ..Options::new(Arc::new(RealDisk), Some(trees))
    };
    open_with(folder, &options)
}

fn open_with(folder: &std::path::Path, options: &Options) -> Arc<ShardMachine> {
    ShardMachine::open(&EnsureReplicaRequest::default(), folder, options).unwrap()
}

#[test]
fn what_is_written_to_no_more_wants_a_seal_where_it_is_worth_one() {
    let enough = Duration::from_secs(5);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let machine = open(folders[0].path(), MergePolicy::default());
    let never = Options {
        seal_quiet: None,
        ..Options::new(Arc::new(RealDisk), None)
    };
    let patient = open_with(folders[1].path(), &never);
    let puts = |numbers: std::ops::Range<u64>| numbers.map(|number| put(number, 0)).collect();
    let write_both = |index: u64, command: Command| {
        apply(&machine, index, &command);
        apply(&patient, index, &command);
    };
    write_both(1, fence(1));
    write_both(2, write(2, 1, puts(0..999)));
    assert!(
        !machine.wants_seal(enough),
        "999 documents are searched well as they are"
    );
    write_both(3, write(3, 1, puts(999..1000)));
    assert!(!machine.wants_seal(enough - Duration::from_millis(1)), "more may come");
    assert!(machine.wants_seal(enough));
    assert!(!patient.wants_seal(Duration::MAX));
    apply(&machine, 4, &command::seal());
    machine.seal().unwrap();
    assert!(!machine.wants_seal(enough), "all is sealed");
}

/// Eight documents, written and deleted in turn; every fifth command is a seal point.
fn log(commands: u64) -> Vec<Command> {
    let command = |index: u64| match index % 5 {
        0 => command::seal(),
        1 => write(index as u8, 1, vec![delete(index * 3 % 8)]),
        _ => write(index as u8, 1, vec![put(index % 8, index % 3), put(index * 5 % 8, 0)]),
    };
    [fence(1)].into_iter().chain((1..commands).map(command)).collect()
}

#[test]
fn a_replica_merges_while_it_applies_seals_and_is_replaced() {
    const COMMANDS: u64 = 600;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (machine, source) = (open(folder.path(), eager()), open(other.path(), eager()));
    let (is_done, merges) = (AtomicBool::new(false), AtomicU64::new(0));
    let log = log(COMMANDS);
    let (mut core, mut model) = (Core::unborn(), MapStore::default());
    std::thread::scope(|scope| {
        for sealing in [&machine, &source] {
            let is_done = &is_done;
            scope.spawn(move || {
                while !is_done.load(Ordering::Acquire) {
                    sealing.seal().unwrap();
                    std::thread::yield_now();
                }
            });
        }
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                let merged = machine.merge(&|_| false).unwrap();
                merges.fetch_add(u64::from(merged.is_some()), Ordering::Relaxed);
            }
        });
        let _done = Done(&is_done);
        for (index, command) in (1..).zip(&log) {
            let expected = core.apply(&mut model, command.clone()).unwrap().applied;
            assert_eq!(apply(&machine, index, command), expected, "command {index}");
            assert_eq!(apply(&source, index, command), expected);
            if index % 97 == 0
                && let Some(snapshot) = source.snapshot().unwrap()
            {
                machine.install(&snapshot.directory, snapshot.sealed.clone()).unwrap();
                replay(&machine, &log[..index as usize]);
            }
            if index % 10 == 0 {
                assert_eq!(documents(&machine), model.documents, "after command {index}");
            }
        }
        // However few turns the merging thread had: it has some now.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while merges.load(Ordering::Relaxed) == 0 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
    });
    assert!(merges.load(Ordering::Relaxed) > 0);
    assert_eq!(documents(&machine), model.documents);
    machine.seal().unwrap();
    drop(machine);
    let reopened = open(folder.path(), eager());
    replay(&reopened, &log);
    assert_eq!(documents(&reopened), model.documents);
    assert_eq!(state(&reopened), state(&source));
}

/// Lets the others end, also when a check fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_merge_leaves_the_free_space_that_the_log_and_seals_need() {
    let folder = tempfile::tempdir().unwrap();
    drop(sealed_twice(folder.path()));
    let with_kept = |free_space_min_bytes| {
        let options = Options {
            merge: eager(),
            free_space_min_bytes,
            ..Options::new(Arc::new(RealDisk), None)
        };
        open_with(folder.path(), &options)
    };
    let short = with_kept(u64::MAX / 2);
    for _ in 0..2 {
        assert!(matches!(short.merge(&|_| false), Err(NotMerged::NoRoom { bytes, .. }) if bytes > 0));
    }
    assert!(short.is_merge_due(), "nothing was begun");
    drop(short);
    assert!(with_kept(0).merge(&|_| false).unwrap().is_some());
}

/// A replica with two segments to be merged.
fn sealed_twice(folder: &std::path::Path) -> Arc<ShardMachine> {
    let machine = open(folder, eager());
    let log = [
        fence(1),
        write(1, 1, vec![put(1, 1), put(2, 1)]),
        command::seal(),
        write(2, 1, vec![put(3, 1), put(4, 1)]),
        command::seal(),
    ];
    for (index, command) in (1..).zip(&log) {
        apply(&machine, index, command);
        machine.seal().unwrap();
    }
    machine
}

#[test]
fn a_replica_that_goes_ends_its_merge_and_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let machine = sealed_twice(folder.path());
    let before = documents(&machine);
    let (begun, has_begun) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let is_merging = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pace = |_| {
                let _ = begun.send(());
                let _ = held.lock().unwrap().recv();
                false
            };
            assert_eq!(machine.merge(&pace).unwrap(), None);
            is_merging.store(false, Ordering::Release);
        });
        has_begun.recv().unwrap();
        assert_eq!(machine.merge(&|_| false).unwrap(), None, "one merge at a time");
        scope.spawn(|| {
            while !machine.is_interrupted() {
                std::thread::yield_now();
            }
            drop(release);
        });
        machine.retire();
    });
    assert!(!is_merging.load(Ordering::Acquire));
    assert_eq!(machine.merge(&|_| false).unwrap(), None, "it goes");
    assert_eq!(documents(&machine), before);
    assert_eq!(machine.stats().index.segments, 2);
}

#[test]
fn deletes_alone_make_a_seal_worth_while_and_then_a_merge() {
    let folder = tempfile::tempdir().unwrap();
    let machine = open(
        folder.path(),
        MergePolicy {
            floor_bytes: 0,
            ..MergePolicy::default()
        },
    );
    let mut index = 0;
    let mut apply_next = |command: Command| {
        index += 1;
        apply(&machine, index, &command);
    };
    apply_next(fence(1));
    for batch in 0..25u64 {
        let puts = (batch * 1000..(batch + 1) * 1000)
            .map(|number| put(number, 0))
            .collect();
        apply_next(write(batch as u8, 1, puts));
    }
    apply_next(command::seal());
    machine.seal().unwrap();
    assert!(!machine.wants_seal(Duration::ZERO) && !machine.is_merge_due());
    apply_next(write(100, 1, (0..4999).map(delete).collect()));
    assert!(!machine.wants_seal(Duration::ZERO) && !machine.is_merge_due());
    apply_next(write(101, 1, vec![delete(4999)]));
    assert!(machine.wants_seal(Duration::ZERO), "a fifth is dead");
    assert!(!machine.is_merge_due(), "but was alive at the seal that stands");
    apply_next(command::seal());
    machine.seal().unwrap();
    assert!(!machine.wants_seal(Duration::ZERO) && machine.is_merge_due());
    assert_eq!(machine.merge(&|_| false).unwrap().unwrap().sources, 1);
    let stats = machine.stats().index;
    assert_eq!(
        (stats.segment_rows, stats.dead_rows, stats.documents),
        (20_000, 0, 20_000)
    );
}

/// A replica with one segment that lacks codes and a graph.
fn sealed_without_graph(folder: &std::path::Path) -> Arc<ShardMachine> {
    let machine = open(folder, eager());
    let puts = (0..1500).map(|number| put(number, 0)).collect();
    for (index, command) in (1..).zip([fence(1), write(1, 1, puts), command::seal()]) {
        apply(&machine, index, &command);
    }
    machine.seal().unwrap();
    assert!(machine.is_derive_due());
    machine
}

/// Files below a folder that are not complete.
fn unfinished(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => unfinished(&path),
        false => usize::from(path.extension().is_some_and(|ending| ending == "tmp")),
    };
    entries.map(count).sum()
}

#[test]
fn a_build_that_is_given_up_leaves_no_half_file_and_is_done_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let machine = sealed_without_graph(folder.path());
    for asks in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let asked = AtomicU64::new(0);
        let pace = |_| asked.fetch_add(1, Ordering::Relaxed) >= asks;
        machine.derive(&pace).unwrap();
        assert_eq!(unfinished(folder.path()), 0, "after {asks} questions");
        assert!(machine.is_derive_due(), "after {asks} questions");
    }
    machine.derive(&|_| false).unwrap();
    assert!(!machine.is_derive_due());
}

#[test]
fn a_replica_that_goes_ends_a_build_and_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let machine = sealed_without_graph(folder.path());
    let (begun, has_begun) = mpsc::channel();
    let is_building = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pace = |_| {
                let _ = begun.send(());
                // The next question finds the replica going.
                while !machine.is_interrupted() {
                    std::thread::yield_now();
                }
                false
            };
            machine.derive(&pace).unwrap();
            is_building.store(false, Ordering::Release);
        });
        has_begun.recv().unwrap();
        machine.retire();
        assert!(machine.is_derive_due(), "it was given up");
    });
    assert!(!is_building.load(Ordering::Acquire));
    assert_eq!(unfinished(folder.path()), 0);
}
