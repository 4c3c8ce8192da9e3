//! Does the log keep openraft's own contract, and what that leaves out?
//!
//! First openraft's log-store suite, on both disks. Then what it does not ask: several groups in one log, segments freed
//! and carried forward, a full disk, reads from disk, restarts.

#[cfg(test)]
mod tiny;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};

use super::{GroupLog, Log, LogError, LogOptions, Refusal};
use crate::disk::{Disk, Faults, MemoryDisk, RealDisk, SharedDisk, Survival};
use crate::raft::type_config::{Command, Entry, Payload, TypeConfig, Vote, log_id};
use tiny::SharedTiny;

struct OnReal;
struct InMemory;

impl StoreBuilder<TypeConfig, GroupLog, SharedTiny, (Log, tempfile::TempDir)> for OnReal {
    async fn build(
        &self,
    ) -> Result<((Log, tempfile::TempDir), GroupLog, SharedTiny), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(Arc::new(RealDisk), dir.path(), small()).unwrap();
        let group = log.group(1).unwrap();
        Ok(((log, dir), group, SharedTiny::default()))
    }
}

impl StoreBuilder<TypeConfig, GroupLog, SharedTiny, Log> for InMemory {
    async fn build(&self) -> Result<(Log, GroupLog, SharedTiny), openraft::StorageError<TypeConfig>> {
        let (_, log) = in_memory(LogOptions {
            cache_bytes: 0,
            read_bytes: 1,
            ..small()
        });
        let group = log.group(1).unwrap();
        Ok((log, group, SharedTiny::default()))
    }
}

#[tokio::test]
async fn openrafts_suite_passes_on_the_real_disk() {
    Suite::test_all(OnReal).await.unwrap();
}

/// Without a cache and an entry at a time: every read comes from the segments.
#[tokio::test]
async fn openrafts_suite_passes_in_memory_without_a_cache() {
    Suite::test_all(InMemory).await.unwrap();
}

const DIR: &str = "/log";

fn small() -> LogOptions {
    LogOptions {
        create: true,
        segment_bytes: 16 << 10,
        reserve_bytes: 0,
        space_interval: Duration::from_millis(5),
        ..LogOptions::default()
    }
}

fn in_memory(options: LogOptions) -> (MemoryDisk, Log) {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let log = Log::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    (disk, log)
}

fn reopen(disk: &MemoryDisk, options: LogOptions) -> Result<Log, LogError> {
    let disk: SharedDisk = Arc::new(disk.clone());
    Log::open(
        disk,
        Path::new(DIR),
        LogOptions {
            create: false,
            ..options
        },
    )
}

fn entries(term: u64, indexes: std::ops::Range<u64>, bytes: usize) -> Vec<Entry> {
    let payload = |index: u64| Payload::Normal(Command(vec![index as u8; bytes].into()));
    indexes
        .map(|index| Entry {
            log_id: log_id(term, index),
            payload: payload(index),
        })
        .collect()
}

async fn all(group: &mut GroupLog) -> Vec<Entry> {
    group.try_get_log_entries(..).await.unwrap()
}

fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !met() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn groups_share_the_log_and_come_back_apart() {
    let (disk, log) = in_memory(small());
    let mut oracle = BTreeMap::new();
    for id in 0..5 {
        let mut group = log.group(id).unwrap();
        assert!(group.is_fresh());
        let held = entries(id + 1, 0..40, 100 + id as usize);
        group.save_vote(&Vote::new_committed(id + 1, 70 + id)).await.unwrap();
        group.blocking_append(held.clone()).await.unwrap();
        group.save_committed(Some(log_id(id + 1, 30))).await.unwrap();
        oracle.insert(id, held);
    }
    log.shutdown();
    let log = reopen(&disk, small()).unwrap();
    assert_eq!(log.groups(), [0, 1, 2, 3, 4]);
    for (id, held) in oracle {
        let mut group = log.group(id).unwrap();
        assert!(!group.is_fresh());
        assert_eq!(
            group.read_vote().await.unwrap(),
            Some(Vote::new_committed(id + 1, 70 + id))
        );
        assert_eq!(group.read_committed().await.unwrap(), Some(log_id(id + 1, 30)));
        assert_eq!(all(&mut group).await, held);
        let streamed: Vec<Entry> = group.entries_stream(3..=20).await.try_collect().await.unwrap();
        assert_eq!(streamed, held[3..=20]);
    }
}

#[tokio::test]
async fn one_sync_serves_what_many_groups_have_queued() {
    let (disk, log) = in_memory(LogOptions {
        segment_bytes: 4 << 20,
        ..small()
    });
    disk.hold_syncs(true);
    let begun = Arc::new(AtomicU64::new(0));
    let appends = (0..200_u64).map(|id| {
        let (mut group, begun) = (log.group(id).unwrap(), begun.clone());
        tokio::spawn(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            group.blocking_append(entries(1, 0..1, 1000)).await.unwrap();
        })
    });
    let appends: Vec<_> = appends.collect();
    // On one thread, what has begun is queued by now. The writer took any number of them, and waits for the disk.
    while begun.load(Ordering::Relaxed) < 200 {
        tokio::task::yield_now().await;
    }
    disk.hold_syncs(false);
    futures::future::try_join_all(appends).await.unwrap();
    let syncs = log.stats().syncs;
    assert!(syncs <= 20, "{syncs} syncs for 200 appends that waited for one");
}

#[tokio::test]
async fn a_segment_is_freed_when_all_groups_have_passed_it() {
    let (_disk, log) = in_memory(small());
    let (mut one, mut two) = (log.group(1).unwrap(), log.group(2).unwrap());
    for index in 0..100 {
        one.blocking_append(entries(1, index..index + 1, 1000)).await.unwrap();
        two.blocking_append(entries(1, index..index + 1, 1000)).await.unwrap();
    }
    let full = log.stats();
    assert!(full.segments > 10, "{full:?}");
    one.purge(log_id(1, 90)).await.unwrap();
    two.save_vote(&Vote::new(2, 2)).await.unwrap();
    assert_eq!(log.stats().segments, full.segments, "the other group still needs them");
    assert_eq!(log.oldest_pinned().unwrap().0, 2);
    two.purge(log_id(1, 90)).await.unwrap();
    wait_until("segments are freed", || log.stats().segments <= 4);
    assert_eq!(all(&mut one).await, entries(1, 91..100, 1000));
}

#[tokio::test]
async fn an_idle_group_does_not_hold_the_log() {
    let (disk, log) = in_memory(small());
    let mut idle = log.group(7).unwrap();
    idle.save_vote(&Vote::new_committed(3, 9)).await.unwrap();
    idle.blocking_append(entries(3, 0..3, 50)).await.unwrap();
    idle.save_committed(Some(log_id(3, 2))).await.unwrap();
    let mut busy = log.group(8).unwrap();
    for index in 0..200 {
        busy.blocking_append(entries(1, index..index + 1, 1000)).await.unwrap();
        busy.purge(log_id(1, index)).await.unwrap();
    }
    wait_until("segments are freed", || log.stats().segments <= 3);
    assert!(log.stats().carried_records >= 5, "{:?}", log.stats());
    assert_eq!(all(&mut idle).await, entries(3, 0..3, 50));
    log.shutdown();
    let log = reopen(&disk.crash(Survival::Synced), small()).unwrap();
    let mut idle = log.group(7).unwrap();
    assert_eq!(idle.read_vote().await.unwrap(), Some(Vote::new_committed(3, 9)));
    assert_eq!(idle.read_committed().await.unwrap(), Some(log_id(3, 2)));
    assert_eq!(all(&mut idle).await, entries(3, 0..3, 50));
    idle.blocking_append(entries(3, 3..4, 50)).await.unwrap();
    let mut busy = log.group(8).unwrap();
    assert_eq!(
        busy.get_log_state().await.unwrap().last_purged_log_id,
        Some(log_id(1, 199))
    );
}

#[tokio::test]
async fn a_group_with_much_to_keep_is_named_as_the_one_that_pins() {
    let (_disk, log) = in_memory(small());
    let mut pinning = log.group(7).unwrap();
    pinning.blocking_append(entries(3, 0..10, 1000)).await.unwrap();
    let mut busy = log.group(8).unwrap();
    for index in 0..100 {
        busy.blocking_append(entries(1, index..index + 1, 1000)).await.unwrap();
        busy.purge(log_id(1, index)).await.unwrap();
    }
    busy.save_vote(&Vote::new(2, 2)).await.unwrap();
    let (group, behind) = log.oldest_pinned().unwrap();
    assert!(group == 7 && behind > 100_000, "group {group} pins {behind} bytes");
    pinning.purge(log_id(3, 9)).await.unwrap();
    wait_until("segments are freed", || log.stats().segments <= 3);
}

#[tokio::test]
async fn a_dropped_group_is_gone_and_may_come_again() {
    let (disk, log) = in_memory(small());
    let mut group = log.group(7).unwrap();
    group.save_vote(&Vote::new(9, 1)).await.unwrap();
    group.blocking_append(entries(9, 0..5, 100)).await.unwrap();
    log.drop_group(7).await.unwrap();
    assert!(
        group.save_vote(&Vote::new(10, 1)).await.is_err(),
        "its handle is closed"
    );
    let mut again = log.group(7).unwrap();
    assert!(again.is_fresh());
    again.blocking_append(entries(1, 0..1, 10)).await.unwrap();
    let log = reopen(&disk.crash(Survival::Synced), small()).unwrap();
    let mut again = log.group(7).unwrap();
    assert_eq!(again.read_vote().await.unwrap(), None);
    assert_eq!(all(&mut again).await, entries(1, 0..1, 10));
}

#[tokio::test]
async fn what_does_not_follow_or_does_not_fit_is_refused_and_changes_nothing() {
    let (_disk, log) = in_memory(small());
    let mut group = log.group(7).unwrap();
    group.blocking_append(entries(1, 0..3, 10)).await.unwrap();
    let hole = group.blocking_append(entries(1, 4..5, 10)).await.unwrap_err();
    assert!(hole.to_string().contains("goes on with 3"), "{hole}");
    let big = group.blocking_append(entries(1, 3..4, 20_000)).await.unwrap_err();
    assert!(big.to_string().contains("over the limit of"), "{big}");
    assert_eq!(all(&mut group).await, entries(1, 0..3, 10));
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_heals() {
    let (disk, log) = in_memory(LogOptions {
        reserve_bytes: 8 << 10,
        ..small()
    });
    let mut group = log.group(7).unwrap();
    assert!(log.accepts_writes());
    disk.set_faults(Faults {
        capacity_bytes: Some(70 << 10),
        ..Faults::default()
    });
    let mut index = 0;
    let error = loop {
        let appended = group.blocking_append(entries(1, index..index + 1, 1000)).await;
        match appended {
            Ok(()) => index += 1,
            Err(error) => break error,
        }
        assert!(index < 200, "70 KiB never fill");
    };
    assert!(error.to_string().contains("no room"), "{error}");
    assert!(!log.accepts_writes(), "proposals are refused");
    assert!(
        log.refusal(0).is_some(),
        "the register's too, when there is nowhere to write them"
    );
    // Small records still go, and the group opens again with all that was confirmed.
    let mut group = log.group(7).unwrap();
    group.save_vote(&Vote::new(2, 2)).await.unwrap();
    assert_eq!(all(&mut group).await, entries(1, 0..index, 1000));
    group.purge(log_id(1, index - 1)).await.unwrap();
    wait_until("freed segments make room", || log.accepts_writes());
    group.blocking_append(entries(2, index..index + 1, 1000)).await.unwrap();
    log.shutdown();
    disk.set_faults(Faults::default());
    let log = reopen(&disk.crash(Survival::Synced), small()).unwrap();
    assert_eq!(
        all(&mut log.group(7).unwrap()).await,
        entries(2, index..index + 1, 1000)
    );
}

#[tokio::test]
async fn proposals_are_refused_before_the_disk_is_full() {
    let (disk, log) = in_memory(LogOptions {
        reserve_bytes: 20 << 10,
        ..small()
    });
    disk.set_faults(Faults {
        capacity_bytes: Some(40 << 10),
        ..Faults::default()
    });
    let mut group = log.group(7).unwrap();
    for index in 0..5 {
        group.blocking_append(entries(1, index..index + 1, 1000)).await.unwrap();
    }
    disk.set_faults(Faults {
        capacity_bytes: Some(30 << 10),
        ..Faults::default()
    });
    wait_until("the watermark is noticed", || !log.accepts_writes());
    let Some(Refusal::NoRoom(said)) = log.refusal(7) else {
        panic!("not refused for want of room");
    };
    assert!(said.contains("from 20480 on (free_space_min_bytes)"), "{said}");
    assert_eq!(log.refusal(0), None, "a collection can be deleted still");
    group
        .blocking_append(entries(1, 5..6, 1000))
        .await
        .expect("what is already an entry is still taken");
    disk.set_faults(Faults::default());
    wait_until("the watermark is noticed", || log.accepts_writes());
}

#[tokio::test]
async fn a_failed_sync_closes_the_log_and_confirms_nothing() {
    let (disk, log) = in_memory(small());
    let mut group = log.group(7).unwrap();
    group.blocking_append(entries(1, 0..1, 10)).await.unwrap();
    let fail_next = Some((crate::disk::Operation::Sync, io::ErrorKind::Other));
    disk.set_faults(Faults {
        fail_next,
        ..Faults::default()
    });
    assert!(group.blocking_append(entries(1, 1..2, 10)).await.is_err());
    assert!(
        group.save_vote(&Vote::new(2, 2)).await.is_err(),
        "a log whose sync failed takes nothing more"
    );
    assert!(matches!(log.refusal(7), Some(Refusal::Stopped(_))));
    assert!(matches!(log.group(7), Err(LogError::Closed(_))));
    let log = reopen(&disk.crash(Survival::Synced), small()).unwrap();
    assert_eq!(all(&mut log.group(7).unwrap()).await, entries(1, 0..1, 10));
}

#[tokio::test]
async fn a_lost_log_and_another_nodes_log_are_refused() {
    let (disk, log) = in_memory(LogOptions { owner: 5, ..small() });
    log.shutdown();
    let other = reopen(&disk, LogOptions { owner: 6, ..small() });
    assert!(
        matches!(other, Err(LogError::Owner { found: 5, owner: 6, .. })),
        "{other:?}"
    );
    let empty = MemoryDisk::new();
    empty.create_dir_all(Path::new(DIR)).unwrap();
    let lost = reopen(&empty, small());
    assert!(
        matches!(&lost, Err(LogError::Missing { path }) if path == Path::new(DIR)),
        "{lost:?}"
    );
}

#[tokio::test]
async fn a_change_of_leader_ends_a_leaders_stream() {
    let (_disk, log) = in_memory(LogOptions {
        read_bytes: 1,
        ..small()
    });
    let mut group = log.group(7).unwrap();
    group.save_vote(&Vote::new_committed(1, 4)).await.unwrap();
    group.blocking_append(entries(1, 0..5, 10)).await.unwrap();
    let leader = *Vote::new_committed(1, 4).leader_id();
    let mut reader = group.clone();
    let mut stream = Box::pin(reader.leader_bounded_stream(leader, 0..5).await);
    assert!(stream.next().await.unwrap().is_ok());
    group.save_vote(&Vote::new(2, 5)).await.unwrap();
    assert!(stream.next().await.unwrap().is_err());
    assert!(stream.next().await.is_none());
}
