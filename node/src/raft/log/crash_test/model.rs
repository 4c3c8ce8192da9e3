//! What may a log hold after a crash? A log under test beside the list of states it has led through.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use crate::disk::{Disk, MemoryDisk, Survival};
use crate::raft::log::{GroupLog, Log, LogError, LogOptions};
use crate::raft::type_config::{Command, Entry, GroupId, LogId, Membership, Payload, Peer, Vote, log_id};

pub const DIR: &str = "/log";
pub const GROUPS: [GroupId; 3] = [1, 2, 3];

#[derive(Clone, Copy, Debug)]
pub enum Op {
    Append {
        group: GroupId,
        count: u64,
        bytes: usize,
    },
    Vote {
        group: GroupId,
    },
    /// So many entries from the end on are truncated.
    Truncate {
        group: GroupId,
        count: u64,
    },
    /// All but so many entries are purged; if `beyond`, these and some that never were.
    Purge {
        group: GroupId,
        keep: u64,
        beyond: bool,
    },
    Committed {
        group: GroupId,
    },
    Drop {
        group: GroupId,
    },
}

/// What the log holds of one group, as far as it must survive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub entries: BTreeMap<u64, Entry>,
}

pub type World = BTreeMap<GroupId, Model>;

impl Model {
    pub fn last(&self) -> Option<LogId> {
        self.entries
            .values()
            .next_back()
            .map(|entry| entry.log_id)
            .or(self.purged)
    }
}

/// A log under test and what it has lived through.
pub struct Run {
    pub log: Log,
    pub life: Life,
}

/// All states that a log's facts have led through, and its disk.
#[derive(Clone)]
pub struct Life {
    pub disk: MemoryDisk,
    pub worlds: Vec<World>,
    /// The first of `worlds` that a crash may leave.
    pub confirmed: usize,
    pub term: u64,
}

pub fn options() -> LogOptions {
    LogOptions {
        create: true,
        segment_bytes: 8 << 10,
        cache_bytes: 2 << 10,
        reserve_bytes: 0,
        space_interval: Duration::from_secs(1),
        ..LogOptions::default()
    }
}

pub fn open(disk: &MemoryDisk) -> Result<Log, LogError> {
    disk.create_dir_all(Path::new(DIR))?;
    Log::open(Arc::new(disk.clone()), Path::new(DIR), options())
}

/// An entry whose payload tells it from every other.
pub fn entry(group: GroupId, term: u64, index: u64, bytes: usize) -> Entry {
    let payload = match index % 5 {
        0 => Payload::Blank,
        1 => {
            let peers = BTreeMap::from([(term, Peer { node_id: group }), (term + 1, Peer { node_id: index })]);
            Payload::Membership(Membership::new(vec![[term].into()], peers).unwrap())
        }
        _ => Payload::Normal(Command([group as u8, term as u8, index as u8].repeat(bytes / 3).into())),
    };
    Entry {
        log_id: log_id(term, index),
        payload,
    }
}

impl Run {
    pub fn new(disk: MemoryDisk) -> Self {
        let log = open(&disk).unwrap();
        Self {
            log,
            life: Life {
                disk,
                worlds: vec![World::new()],
                confirmed: 0,
                term: 1,
            },
        }
    }

    fn world(&self) -> World {
        self.life.worlds.last().unwrap().clone()
    }

    fn model(&self, group: GroupId) -> Model {
        self.world().remove(&group).unwrap_or_default()
    }

    fn note(&mut self, group: GroupId, change: impl FnOnce(&mut Model)) {
        let mut world = self.world();
        change(world.entry(group).or_default());
        self.life.worlds.push(world);
    }

    /// Does one thing; `Err`: the power went.
    pub async fn step(&mut self, op: Op) -> Result<(), String> {
        let confirms = !matches!(op, Op::Truncate { .. } | Op::Purge { .. } | Op::Committed { .. });
        let done = self.act(op).await;
        if done.is_ok() && confirms {
            self.life.confirmed = self.life.worlds.len() - 1;
        }
        done
    }

    async fn act(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Append { group, count, bytes } => {
                let next = self.model(group).last().map_or(0, |last| last.index + 1);
                let entries: Vec<Entry> = (next..next + count)
                    .map(|at| entry(group, self.life.term, at, bytes))
                    .collect();
                for entry in &entries {
                    self.note(group, |model| {
                        drop(model.entries.insert(entry.log_id.index, entry.clone()))
                    });
                }
                let mut log = self.group(group)?;
                log.blocking_append(entries).await.map_err(|error| error.to_string())
            }
            Op::Vote { group } => {
                self.life.term += 1;
                let vote = Vote::new(self.life.term, group);
                self.note(group, |model| model.vote = Some(vote));
                self.group(group)?
                    .save_vote(&vote)
                    .await
                    .map_err(|error| error.to_string())
            }
            Op::Truncate { group, count } => {
                let model = self.model(group);
                let kept = model.entries.len().saturating_sub(count as usize);
                let last = model
                    .entries
                    .values()
                    .take(kept)
                    .next_back()
                    .map(|entry| entry.log_id)
                    .or(model.purged);
                self.life.term += 1;
                self.note(group, |model| {
                    drop(model.entries.split_off(&last.map_or(0, |last| last.index + 1)))
                });
                self.group(group)?
                    .truncate_after(last)
                    .await
                    .map_err(|error| error.to_string())
            }
            Op::Purge { group, keep, beyond } => {
                let model = self.model(group);
                let gone = model.entries.len().saturating_sub(keep as usize);
                let last = match beyond {
                    true => Some(log_id(self.life.term, model.last().map_or(0, |last| last.index) + 7)),
                    false => model.entries.values().take(gone).next_back().map(|entry| entry.log_id),
                };
                let Some(last) = last else { return Ok(()) };
                self.note(group, |model| {
                    model.entries = model.entries.split_off(&(last.index + 1));
                    model.purged = Some(last);
                });
                self.group(group)?.purge(last).await.map_err(|error| error.to_string())
            }
            Op::Committed { group } => {
                let last = self.model(group).last();
                self.group(group)?
                    .save_committed(last)
                    .await
                    .map_err(|error| error.to_string())
            }
            Op::Drop { group } => {
                let mut world = self.world();
                world.remove(&group);
                self.life.worlds.push(world);
                self.log.drop_group(group).await.map_err(|error| error.to_string())
            }
        }
    }

    fn group(&self, group: GroupId) -> Result<GroupLog, String> {
        self.log.group(group).map_err(|error| error.to_string())
    }
}

impl Life {
    /// Crashes, recovers, and goes on from what is there, which must be a state that may be there.
    pub async fn crash(&self, survival: Survival) -> Run {
        let disk = self.disk.crash(survival);
        let log = open(&disk).unwrap_or_else(|error| panic!("{survival:?}: {error}"));
        let found = recovered(&log).await;
        let allowed = &self.worlds[self.confirmed..];
        let matching = allowed.iter().any(|world| without_empty(world) == found);
        assert!(matching, "{survival:?}: found {found:#?}\nnone of {allowed:#?}");
        Run {
            log,
            life: Life {
                disk,
                worlds: vec![found],
                confirmed: 0,
                term: self.term + 1,
            },
        }
    }
}

pub fn without_empty(world: &World) -> World {
    let held = world.iter().filter(|(_, model)| **model != Model::default());
    held.map(|(group, model)| (*group, model.clone())).collect()
}

pub async fn recovered(log: &Log) -> World {
    let mut world = World::new();
    for id in log.groups() {
        let mut group = log.group(id).unwrap_or_else(|error| panic!("{error}"));
        let entries = group.try_get_log_entries(..).await.unwrap();
        let state = group.get_log_state().await.unwrap();
        let model = Model {
            vote: group.read_vote().await.unwrap(),
            purged: state.last_purged_log_id,
            entries: entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect(),
        };
        assert_eq!(state.last_log_id, model.last());
        let committed = group.read_committed().await.unwrap();
        assert!(
            committed <= model.last(),
            "{committed:?} is committed, and the log ends with {:?}",
            model.last()
        );
        world.insert(id, model);
    }
    without_empty(&world)
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
