//! What does the log's one thread do, in which order?
//!
//! A turn: take what is queued, write it, sync once, tell everyone who waited, free what no group needs. Committed ids
//! ride along and need no sync of their own: they only say how far a restart may apply at once.
//!
//! `space` gets the segments, `free` gives them back.

mod free;
mod space;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::queue::{Item, Shared};
use super::record::{self, Fact};
use super::segment::Segment;
use super::state::{Kept, Place};
use space::Spare;

use crate::disk::{DiskError, Operation, SharedDisk};
use crate::planted::{Bug, is_planted};
use crate::raft::blocking::Blocking;
use crate::raft::type_config::{Entry, GroupId, LogId};

/// Entry bytes of one turn: what one sync covers at most.
const TURN_BYTES: usize = 8 << 20;

/// Encoded bytes are handed to the disk at this size.
const WRITE_BYTES: usize = 1 << 20;

/// Starts the thread on a recovered log, whose next record goes to `offset` of the last segment. In a simulation it is a
/// task, which ends by itself when the log is closed.
pub fn start(
    disk: SharedDisk,
    dir: PathBuf,
    shared: Arc<Shared>,
    offset: usize,
) -> Result<Option<JoinHandle<()>>, DiskError> {
    let current = {
        let mut locked = shared.lock();
        let current = locked
            .state
            .segments
            .values()
            .next_back()
            .expect("recovery leaves a segment")
            .clone();
        locked.end_position = current.position_at(offset);
        current
    };
    let synced = current.position_at(offset);
    let mut writer = Writer {
        disk,
        dir,
        shared,
        current,
        offset,
        buffer: Vec::new(),
        synced,
        spare: Spare::None,
        may_free: true,
    };
    writer.look_at_space();
    if let Blocking::Inline(delay) = writer.shared.options.blocking {
        tokio::spawn(writer.run_as_task(delay));
        return Ok(None);
    }
    let thread = Builder::new().name("raft-log".to_owned());
    let at = writer.dir.clone();
    thread
        .spawn(move || writer.run())
        .map(Some)
        .map_err(|source| DiskError {
            operation: Operation::Open,
            path: at,
            source,
        })
}

struct Writer {
    disk: SharedDisk,
    dir: PathBuf,
    shared: Arc<Shared>,
    current: Segment,
    /// Where `buffer` goes in the current segment.
    offset: usize,
    /// Records not yet handed to the disk.
    buffer: Vec<u8>,
    /// Position up to which everything is durable.
    synced: u64,
    spare: Spare,
    may_free: bool,
}

/// How much of a segment's end a record leaves to more important ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Entries.
    Ordinary,
    /// Votes and committed ids.
    Small,
    /// Truncations, purges, drops: memory already shows them, and purges free space.
    Must,
}

enum Put {
    At(Place),
    NoRoom,
}

impl Writer {
    fn run(mut self) {
        while let Some(items) = self.shared.take(TURN_BYTES, self.shared.options.space_interval) {
            if !self.turn_or_fail(items) {
                return;
            }
        }
        self.end();
    }

    async fn run_as_task(mut self, delay: fn() -> Duration) {
        let patience = self.shared.options.space_interval;
        loop {
            if self.shared.is_idle() {
                // Late or rung: a turn is due in either case.
                let _ = tokio::time::timeout(patience, self.shared.bell.notified()).await;
            }
            tokio::time::sleep(delay()).await;
            let Some(items) = self.shared.take(TURN_BYTES, Duration::ZERO) else {
                return self.end();
            };
            if !self.turn_or_fail(items) {
                return;
            }
        }
    }

    fn turn_or_fail(&mut self, items: Vec<Item>) -> bool {
        match self.turn(items) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the raft log has stopped: nobody knows what is durable");
                self.shared.fail(&error.into());
                false
            }
        }
    }

    fn end(&mut self) {
        if let Err(error) = self.flush().and_then(|()| self.sync()) {
            tracing::error!(%error, "the raft log could not be synced at its end");
        }
        self.finish_spare(matches!(self.spare, Spare::Preparing(_)));
    }

    fn turn(&mut self, items: Vec<Item>) -> Result<(), DiskError> {
        if is_planted(Bug::AcknowledgeBeforeSync) && !items.is_empty() {
            // What the last turn with items left out.
            self.sync()?;
        }
        let written = match self.write(&items) {
            Ok(written) => written,
            Err(error) => {
                let failed = || io::Error::new(error.source.kind(), error.to_string());
                items.into_iter().for_each(|item| item.finish(Err(failed())));
                return Err(error);
            }
        };
        self.settle(&items, &written);
        for (item, written) in items.into_iter().zip(written) {
            item.finish(written.map(drop));
        }
        if self.may_free {
            self.free_segments()?;
        }
        self.look_at_space();
        Ok(())
    }

    /// Writes all items, and syncs once if there were any. Answers for each the segment it is in, or why it was refused.
    fn write(&mut self, items: &[Item]) -> Result<Vec<io::Result<u64>>, DiskError> {
        let written = items
            .iter()
            .map(|item| self.write_item(item))
            .collect::<Result<Vec<_>, _>>()?;
        self.write_committed()?;
        self.flush()?;
        if !items.is_empty() && !is_planted(Bug::AcknowledgeBeforeSync) {
            self.sync()?;
        }
        Ok(written)
    }

    fn write_item(&mut self, item: &Item) -> Result<io::Result<u64>, DiskError> {
        let (group, fact, need) = match item {
            Item::Append {
                group,
                generation,
                entries,
                ..
            } => return self.write_entries(*group, *generation, entries),
            Item::Vote { group, vote, .. } => (*group, Fact::Vote(*vote), Need::Small),
            Item::TruncateAfter { group, last, .. } => (*group, Fact::TruncateAfter(*last), Need::Must),
            Item::Purge { group, last, .. } => (*group, Fact::Purge(*last), Need::Must),
            Item::Drop { group, .. } => (*group, Fact::Drop, Need::Must),
        };
        self.may_free |= need == Need::Must;
        match self.put(group, &fact, need)? {
            Put::At(place) => Ok(Ok(place.segment)),
            // Memory already shows it: a log without it would be another one.
            Put::NoRoom if need == Need::Must => Err(DiskError {
                operation: Operation::Write,
                path: self.current.file.path().to_owned(),
                source: no_room(group),
            }),
            Put::NoRoom => Ok(Err(no_room(group))),
        }
    }

    fn write_entries(&mut self, id: GroupId, generation: u64, entries: &[Entry]) -> Result<io::Result<u64>, DiskError> {
        let current = self.shared.lock().state.groups.get(&id).map(|group| group.generation);
        if current != Some(generation) {
            return Ok(Err(closed(id)));
        }
        let mut places = Vec::with_capacity(entries.len());
        let mut refused = None;
        for entry in entries {
            let fact = Fact::Entry {
                entry: entry.clone(),
                carried: false,
            };
            match self.put(id, &fact, Need::Ordinary)? {
                Put::At(place) => places.push((entry.log_id, place)),
                Put::NoRoom => {
                    refused = Some(entry.log_id.index);
                    break;
                }
            }
        }
        let mut locked = self.shared.lock();
        // Readers find these in memory until the turn is written: `settle` evicts, nobody else does.
        places
            .into_iter()
            .for_each(|(at, place)| locked.state.place(id, at, place));
        if let Some(index) = refused {
            locked.state.take_back(id, index);
            locked.full = true;
            return Ok(Err(no_room(id)));
        }
        Ok(Ok(self.current.number))
    }

    /// Writes the newest committed id of each group that has a new one.
    fn write_committed(&mut self) -> Result<(), DiskError> {
        let mut locked = self.shared.lock();
        let groups: BTreeSet<GroupId> = locked.committed.drain(..).collect();
        drop(locked);
        for id in groups {
            let committed = {
                let locked = self.shared.lock();
                let group = locked
                    .state
                    .groups
                    .get(&id)
                    .filter(|group| group.committed_is_written());
                group
                    .filter(|group| group.committed_dirty)
                    .map(|group| group.committed.value)
            };
            if let Some(committed) = committed {
                self.put_committed(id, committed)?;
            }
        }
        Ok(())
    }

    fn put_committed(&mut self, id: GroupId, committed: Option<LogId>) -> Result<bool, DiskError> {
        let Put::At(place) = self.put(id, &Fact::Committed(committed), Need::Small)? else {
            return Ok(false);
        };
        if let Some(group) = self.shared.lock().state.groups.get_mut(&id) {
            group.committed.segment = Some(place.segment);
            group.committed_dirty &= group.committed.value != committed;
        }
        Ok(true)
    }

    /// Shows in the state what is durable now.
    fn settle(&mut self, items: &[Item], written: &[io::Result<u64>]) {
        let cache_bytes = self.shared.options.cache_bytes;
        let mut guard = self.shared.lock();
        let locked = &mut *guard;
        for (item, written) in items.iter().zip(written) {
            if let Some(released) = item.released() {
                locked.state.release(released);
            }
            let Some(group) = locked.state.groups.get_mut(&item.group()) else {
                continue;
            };
            match (item, written) {
                (Item::Vote { vote, .. }, Ok(segment)) => {
                    group.vote = Kept {
                        value: Some(*vote),
                        segment: Some(*segment),
                    };
                }
                (Item::Purge { .. }, Ok(segment)) => group.purged.segment = Some(*segment),
                _ => {}
            }
            if group.committed_dirty && group.committed_is_written() {
                locked.committed.push(item.group());
            }
        }
        locked.end_position = self.current.position_at(self.offset);
        locked.state.evict(cache_bytes);
    }

    /// Puts a record behind the others, in the next segment where this one has no room for it.
    fn put(&mut self, group: GroupId, fact: &Fact, need: Need) -> Result<Put, DiskError> {
        let bytes = match fact {
            Fact::Entry { entry, .. } => record::entry_bytes(&entry.payload),
            _ => record::OVERHEAD_BYTES,
        };
        let small = self.shared.options.small_record_bytes();
        let kept = match need {
            Need::Ordinary => small,
            Need::Small => small / 2,
            Need::Must => 0,
        };
        if self.offset + self.buffer.len() + bytes + kept > self.current.length && !self.roll()? {
            return Ok(Put::NoRoom);
        }
        let offset = self.offset + self.buffer.len();
        record::encode(
            &mut self.buffer,
            group,
            fact,
            self.current.position_at(offset),
            self.synced,
        );
        self.shared.counters.wrote(1, bytes);
        let place = Place {
            segment: self.current.number,
            offset: offset as u32,
        };
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(Put::At(place))
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if !self.buffer.is_empty() {
            self.current.file.write_at(self.offset as u64, &self.buffer)?;
            self.offset += self.buffer.len();
            self.buffer.clear();
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let begun = Instant::now();
        self.current.file.sync_data()?;
        self.shared.counters.synced(begun.elapsed());
        self.synced = self.current.position_at(self.offset);
        Ok(())
    }
}

fn no_room(group: GroupId) -> io::Error {
    let reason = format!("the raft log has no room for group {group}: the disk is full");
    io::Error::new(io::ErrorKind::StorageFull, reason)
}

/// The error of a handle whose group has gone on without it.
pub fn closed(group: GroupId) -> io::Error {
    let reason =
        format!("this handle of group {group}'s log is closed: the group was dropped, or an append has failed");
    io::Error::new(io::ErrorKind::BrokenPipe, reason)
}
