//! Is everything that was confirmed there after a crash, and nothing else?
//!
//! The oracle is the list of states that the log's one order of facts leads through. After a crash, what is recovered
//! must be one of them, and none from before the last confirmation. A script is cut at every call that changes the disk,
//! under every kind of survival; random scripts are cut at random, recovered and cut again. Then every byte is flipped.

#[cfg(test)]
pub mod model;

use std::path::Path;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use proptest::prelude::*;

use super::{Log, LogError};
use crate::disk::{Disk, Faults, MemoryDisk, SECTOR_BYTES, Survival};
use crate::raft::type_config::{GroupId, log_id};
use model::{DIR, GROUPS, Op, Run, block_on, entry, open, recovered};

fn survivals() -> Vec<Survival> {
    let seeded = (0..4).flat_map(|seed| [Survival::Prefix(seed), Survival::Scattered(seed)]);
    [Survival::Everything, Survival::Synced]
        .into_iter()
        .chain(seeded)
        .collect()
}

/// Fills several segments, frees some, carries and truncates.
fn script() -> Vec<Op> {
    let mut script = vec![
        Op::Vote { group: 1 },
        Op::Append {
            group: 1,
            count: 3,
            bytes: 30,
        },
        Op::Committed { group: 1 },
        Op::Append {
            group: 2,
            count: 6,
            bytes: 900,
        },
        Op::Append {
            group: 3,
            count: 4,
            bytes: 900,
        },
        Op::Truncate { group: 3, count: 2 },
        Op::Append {
            group: 3,
            count: 3,
            bytes: 700,
        },
        Op::Committed { group: 3 },
        Op::Purge {
            group: 2,
            keep: 1,
            beyond: false,
        },
        Op::Vote { group: 3 },
    ];
    for _ in 0..6 {
        script.push(Op::Append {
            group: 2,
            count: 5,
            bytes: 900,
        });
        script.push(Op::Committed { group: 2 });
        script.push(Op::Purge {
            group: 2,
            keep: 2,
            beyond: false,
        });
    }
    script.extend([
        Op::Purge {
            group: 3,
            keep: 0,
            beyond: true,
        },
        Op::Append {
            group: 3,
            count: 2,
            bytes: 600,
        },
        Op::Drop { group: 1 },
        Op::Append {
            group: 1,
            count: 2,
            bytes: 60,
        },
    ]);
    script
}

#[test]
fn a_crash_at_any_call_to_the_disk_loses_nothing_confirmed() {
    block_on(async {
        let mut whole = Run::new(MemoryDisk::new());
        whole.life.disk.set_faults(Faults::default());
        for op in script() {
            whole.step(op).await.unwrap();
        }
        assert!(
            whole.log.stats().freed_segments > 2,
            "the script frees segments: {:?}",
            whole.log.stats()
        );
        whole.log.shutdown();
        let calls = whole.life.disk.changes();
        for cut in 0..=calls {
            let mut run = Run::new(MemoryDisk::new());
            run.life.disk.set_faults(Faults {
                power_cut_after: Some(cut),
                ..Faults::default()
            });
            for op in script() {
                if run.step(op).await.is_err() {
                    break;
                }
            }
            for survival in survivals() {
                let mut again = run.life.crash(survival).await;
                // It goes on from there, and comes back once more.
                for group in GROUPS {
                    again
                        .step(Op::Append {
                            group,
                            count: 2,
                            bytes: 90,
                        })
                        .await
                        .unwrap();
                }
                again.life.crash(Survival::Synced).await;
            }
        }
    });
}

fn any_op() -> impl Strategy<Value = Op> {
    let group = prop::sample::select(GROUPS.to_vec());
    prop_oneof![
        6 => (group.clone(), 1..6_u64, 0..1500_usize).prop_map(|(group, count, bytes)| Op::Append { group, count, bytes }),
        2 => group.clone().prop_map(|group| Op::Vote { group }),
        2 => (group.clone(), 0..5_u64).prop_map(|(group, count)| Op::Truncate { group, count }),
        2 => (group.clone(), 0..6_u64, prop::bool::weighted(0.2))
            .prop_map(|(group, keep, beyond)| Op::Purge { group, keep, beyond }),
        2 => group.clone().prop_map(|group| Op::Committed { group }),
        1 => group.prop_map(|group| Op::Drop { group }),
    ]
}

fn any_survival() -> impl Strategy<Value = Survival> {
    prop_oneof![
        Just(Survival::Everything),
        Just(Survival::Synced),
        any::<u64>().prop_map(Survival::Prefix),
        any::<u64>().prop_map(Survival::Scattered),
    ]
}

proptest! {
    #[test]
    fn crash_after_crash_loses_nothing_confirmed_and_invents_nothing(
        lives in prop::collection::vec((prop::collection::vec(any_op(), 1..25), 0..120_u64, any_survival()), 1..4)
    ) {
        block_on(async {
            let mut run = Run::new(MemoryDisk::new());
            for (script, cut, survival) in lives {
                run.life.disk.set_faults(Faults { power_cut_after: Some(cut), ..Faults::default() });
                for op in script {
                    // A committed id must name an entry that stays: openraft truncates no committed entry.
                    let unsafe_here = matches!(op, Op::Truncate { .. } | Op::Drop { .. });
                    if unsafe_here && committed(&run.log) {
                        continue;
                    }
                    if run.step(op).await.is_err() {
                        break;
                    }
                }
                run = run.life.crash(survival).await;
            }
        });
    }
}

fn committed(log: &Log) -> bool {
    log.shared
        .lock()
        .state
        .groups
        .values()
        .any(|group| group.committed.value.is_some())
}

#[test]
fn no_flipped_byte_goes_unseen_and_only_its_group_is_closed() {
    block_on(async {
        let mut run = Run::new(MemoryDisk::new());
        for op in script() {
            run.step(op).await.unwrap();
        }
        run.log.shutdown();
        let whole = recovered(&open(&run.life.disk.crash(Survival::Everything)).unwrap()).await;
        let (mut closed_logs, mut closed_groups) = (0, 0);
        for name in run
            .life
            .disk
            .list(Path::new(DIR))
            .unwrap()
            .iter()
            .filter(|name| name.ends_with(".log"))
        {
            let path = Path::new(DIR).join(name);
            for offset in (0..used_bytes(&run.life.disk, &path)).step_by(3) {
                let disk = run.life.disk.crash(Survival::Everything);
                disk.flip(&path, offset, 0x41);
                let log = match open(&disk) {
                    Ok(log) => log,
                    Err(error) => {
                        assert!(error.to_string().contains(name), "{error}");
                        closed_logs += 1;
                        continue;
                    }
                };
                let damaged: Vec<GroupId> = log.groups().into_iter().filter(|id| log.group(*id).is_err()).collect();
                if damaged.is_empty() {
                    // The record was of a group that has been dropped since.
                    assert_eq!(recovered(&log).await, whole, "byte {offset} of {name} flipped unseen");
                    continue;
                }
                assert_eq!(damaged.len(), 1, "byte {offset} of {name}");
                let LogError::Group { group, cause } = log.group(damaged[0]).unwrap_err() else {
                    panic!("{damaged:?}")
                };
                assert!(cause.to_string().contains(name), "{cause}");
                closed_groups += 1;
                log.drop_group(group).await.unwrap();
                let mut others = whole.clone();
                others.remove(&group);
                assert_eq!(recovered(&log).await, others, "byte {offset} of {name}");
            }
        }
        assert!(
            closed_logs > 100 && closed_groups > 100,
            "{closed_logs} logs, {closed_groups} groups"
        );
    });
}

/// A disk that lost a write looks like one that never got it; only a later record knows better.
#[test]
fn a_lost_write_of_what_was_synced_is_damage_and_no_torn_tail() {
    block_on(async {
        let mut run = Run::new(MemoryDisk::new());
        for _ in 0..8 {
            run.step(Op::Append {
                group: 1,
                count: 1,
                bytes: 700,
            })
            .await
            .unwrap();
        }
        run.log.shutdown();
        let path = Path::new("/log/0000000000000001.log");
        let mut ends = vec![super::segment::HEADER_BYTES as u64];
        for index in 0..7 {
            let bytes = super::record::entry_bytes(&entry(1, 1, index, 700).payload) as u64;
            ends.push(ends[index as usize] + bytes);
        }
        let records = ends.windows(2).map(|pair| pair[0]..pair[1]);
        let sectors = (1..ends[7] / SECTOR_BYTES as u64).map(|sector| sector * SECTOR_BYTES as u64);
        let sectors = sectors.map(|start| start..start + SECTOR_BYTES as u64);
        for lost in records.chain(sectors) {
            let disk = run.life.disk.crash(Survival::Everything);
            for offset in lost.clone() {
                disk.flip(path, offset, byte(&disk, path, offset));
            }
            let refused = open(&disk).map_or(true, |log| log.group(1).is_err());
            assert!(refused, "bytes {lost:?} are gone, and nobody has noticed");
        }
    });
}

/// The only records that know what was synced may stand behind a torn one, and must not go with it.
#[test]
fn damage_beside_a_torn_tail_is_still_damage_at_the_second_start() {
    block_on(async {
        let mut run = Run::new(MemoryDisk::new());
        for group in GROUPS {
            let (count, bytes) = (4, 600);
            run.step(Op::Append { group, count, bytes }).await.unwrap();
        }
        run.log.shutdown();
        let path = Path::new("/log/0000000000000001.log");
        let length = |index| super::record::entry_bytes(&entry(1, 1, index, 600).payload) as u64;
        let start_of =
            |record: u64| super::segment::HEADER_BYTES as u64 + (0..record).map(|at| length(at % 4)).sum::<u64>();
        let disk = run.life.disk.crash(Survival::Everything);
        let body = start_of(6) + super::record::HEADER_BYTES as u64..start_of(7);
        let never_written = start_of(8)..start_of(11);
        for offset in body.chain(never_written) {
            disk.flip(path, offset, byte(&disk, path, offset));
        }
        for start in 1..=3 {
            let log = open(&disk).unwrap();
            assert!(
                matches!(log.group(2), Err(LogError::Group { group: 2, .. })),
                "start {start}"
            );
            assert_eq!(log.groups(), [1, 2], "start {start}");
            let kept = log.group(1).unwrap().try_get_log_entries(..).await.unwrap();
            assert_eq!(kept.len(), 4, "start {start}");
            log.shutdown();
        }
        let log = open(&disk).unwrap();
        log.drop_group(2).await.unwrap();
        log.group(1)
            .unwrap()
            .blocking_append([entry(1, 1, 4, 600)])
            .await
            .unwrap();
        log.shutdown();
        assert_eq!(recovered(&open(&disk).unwrap()).await[&1].entries.len(), 5);
    });
}

fn byte(disk: &MemoryDisk, path: &Path, offset: u64) -> u8 {
    let mut byte = [0];
    disk.open(path).unwrap().read_at(offset, &mut byte).unwrap();
    byte[0]
}

/// Bytes of a file up to the last that is not zero.
fn used_bytes(disk: &MemoryDisk, path: &Path) -> u64 {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

#[tokio::test]
async fn a_damaged_group_holds_its_segments_until_it_is_dropped() {
    let mut run = Run::new(MemoryDisk::new());
    run.step(Op::Append {
        group: 1,
        count: 3,
        bytes: 300,
    })
    .await
    .unwrap();
    run.step(Op::Append {
        group: 2,
        count: 3,
        bytes: 300,
    })
    .await
    .unwrap();
    run.log.shutdown();
    let disk = run.life.disk.crash(Survival::Everything);
    disk.flip(Path::new("/log/0000000000000001.log"), 64 + 69 + 69 + 50 + 80, 1);
    let log = open(&disk).unwrap();
    assert!(matches!(log.group(1), Err(LogError::Group { group: 1, .. })));
    let mut busy = log.group(2).unwrap();
    for index in 3..40 {
        busy.blocking_append([entry(2, 9, index, 900)]).await.unwrap();
        busy.purge(log_id(9, index)).await.unwrap();
    }
    assert_eq!(
        log.stats().freed_segments,
        0,
        "its loss must not come to look like an empty log"
    );
    log.drop_group(1).await.unwrap();
    assert!(log.stats().freed_segments > 0 || log.group(1).unwrap().is_fresh());
}
