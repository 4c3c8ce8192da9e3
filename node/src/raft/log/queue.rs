//! How do many groups hand their records to one thread?
//!
//! Through [`Shared`]: the state, a queue in one order for all, and a semaphore in bytes, so that a group that outruns
//! the disk waits in `append` and nowhere else. Only `append` waits; votes, truncations and purges are small and few
//! (at most one of each a group under way). A committed id is not queued but noted in the state: the writer picks up
//! the newest.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use openraft::storage::IOFlushed;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::state::{Released, State};
use super::{LogError, LogOptions};
use crate::raft::type_config::{Entry, GroupId, LogId, TypeConfig, Vote};

/// The semaphore counts in units of this many bytes.
const PERMIT_BYTES: usize = 1024;

/// Upper bounds of the histogram of sync times, in microseconds; one more bucket takes the rest.
pub const SYNC_BUCKETS_MICROS: [u64; 12] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000,
];

/// Something for the writer to put on the disk.
pub enum Item {
    /// Entries, with whom to tell.
    Append {
        group: GroupId,
        generation: u64,
        entries: Vec<Entry>,
        flushed: IOFlushed<TypeConfig>,
        room: OwnedSemaphorePermit,
    },
    /// A vote.
    Vote {
        group: GroupId,
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// The end of the entries behind `last`.
    TruncateAfter {
        group: GroupId,
        last: Option<LogId>,
        released: Released,
    },
    /// The end of the entries up to `last`.
    Purge {
        group: GroupId,
        last: LogId,
        released: Released,
    },
    /// The end of a group.
    Drop {
        group: GroupId,
        released: Released,
        done: oneshot::Sender<io::Result<()>>,
    },
}

/// What handles and the writer share.
pub struct Shared {
    /// The options of the log.
    pub options: LogOptions,
    /// Whether new proposals are to be taken.
    pub accepts_writes: AtomicBool,
    /// Whether the register's proposals are to be taken, which free space where a collection is deleted.
    pub accepts_register: AtomicBool,
    /// Free bytes of the file system when they were last looked at.
    pub available_bytes: AtomicU64,
    /// Counts of what was done.
    pub counters: Counters,
    locked: Mutex<Locked>,
    wake: Condvar,
    /// Rings with `wake`, for a writer that is a task.
    pub bell: Notify,
    room: Arc<Semaphore>,
}

/// What the lock guards.
pub struct Locked {
    /// What the log holds.
    pub state: State,
    /// Groups whose committed id is to be written.
    pub committed: Vec<GroupId>,
    /// Why the log takes nothing any more.
    pub closed: Option<Arc<str>>,
    /// Not even the current segment has room: appends are refused.
    pub full: bool,
    /// Position behind the last record written.
    pub end_position: u64,
    queue: VecDeque<Item>,
}

/// Counts since the log was opened.
#[derive(Debug, Default)]
pub struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    sync_micros: AtomicU64,
    sync_histogram: [AtomicU64; SYNC_BUCKETS_MICROS.len() + 1],
    freed_segments: AtomicU64,
    carried_records: AtomicU64,
}

/// Sizes now, and counts since the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Groups that the log holds anything of.
    pub groups: u64,
    /// Segment files, and their length together (a spare one apart).
    pub segments: u64,
    /// Bytes of all segment files.
    pub disk_bytes: u64,
    /// Bytes of the records of entries that are neither purged nor truncated.
    pub entry_bytes: u64,
    /// Payload bytes in memory.
    pub cached_bytes: u64,
    /// Items that wait for the writer.
    pub queued: u64,
    /// Records written.
    pub records: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Calls of `fdatasync`.
    pub syncs: u64,
    /// Time spent in those, in microseconds.
    pub sync_micros: u64,
    /// Syncs by duration: one bucket for each bound of [`SYNC_BUCKETS_MICROS`], and one above.
    pub sync_histogram: [u64; SYNC_BUCKETS_MICROS.len() + 1],
    /// Segments freed.
    pub freed_segments: u64,
    /// Records carried forward out of segments that were freed.
    pub carried_records: u64,
    /// Whether new proposals are taken.
    pub accepts_writes: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("stats", &self.stats()).finish()
    }
}

impl Shared {
    /// What a log that was just recovered begins with.
    pub fn new(state: State, options: LogOptions) -> Self {
        let permits = options.queue_bytes / PERMIT_BYTES;
        let locked = Locked {
            state,
            committed: Vec::new(),
            closed: None,
            full: false,
            end_position: 0,
            queue: VecDeque::new(),
        };
        Self {
            options,
            accepts_writes: AtomicBool::new(true),
            accepts_register: AtomicBool::new(true),
            available_bytes: AtomicU64::new(u64::MAX),
            counters: Counters::default(),
            locked: Mutex::new(locked),
            wake: Condvar::new(),
            bell: Notify::new(),
            room: Arc::new(Semaphore::new(permits)),
        }
    }

    /// Locks; never held across disk or `.await`.
    pub fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().expect("nobody panics while holding the log's lock")
    }

    fn ring(&self) {
        self.wake.notify_one();
        self.bell.notify_one();
    }

    /// Whether there is nothing to write, and more may come.
    pub fn is_idle(&self) -> bool {
        let locked = self.lock();
        locked.queue.is_empty() && locked.committed.is_empty() && locked.closed.is_none()
    }

    /// Waits until the queue has room for so many bytes.
    pub async fn room(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let all = self.options.queue_bytes / PERMIT_BYTES;
        let permits = bytes.div_ceil(PERMIT_BYTES).min(all);
        let permits = u32::try_from(permits).expect("the options bound the queue to 1 GiB");
        self.room
            .clone()
            .acquire_many_owned(permits)
            .await
            .map_err(|_| self.closed_error())
    }

    /// Changes the state and queues what that means for the disk, in one step.
    pub fn push(&self, change: impl FnOnce(&mut State) -> Item) -> io::Result<()> {
        self.try_push(|locked| Ok(change(&mut locked.state)))
    }

    /// As [`Shared::push`], where the change may be refused.
    pub fn try_push(&self, change: impl FnOnce(&mut Locked) -> io::Result<Item>) -> io::Result<()> {
        let mut locked = self.lock();
        if let Some(reason) = &locked.closed {
            return Err(LogError::Closed(reason.clone()).into());
        }
        let item = change(&mut locked)?;
        locked.queue.push_back(item);
        drop(locked);
        self.ring();
        Ok(())
    }

    /// Notes that a group's committed id is to be written.
    pub fn wake_for_committed(&self, mut locked: MutexGuard<'_, Locked>, group: GroupId) {
        locked.committed.push(group);
        drop(locked);
        self.ring();
    }

    /// Waits for work: items whose entries have at most `bytes` together (one item at least), or nothing after `patience`.
    /// None: the log is closed and the queue empty.
    pub fn take(&self, bytes: usize, patience: Duration) -> Option<Vec<Item>> {
        let mut locked = self.lock();
        if locked.queue.is_empty() && locked.committed.is_empty() && locked.closed.is_none() {
            locked = self
                .wake
                .wait_timeout(locked, patience)
                .expect("nobody panics while holding the log's lock")
                .0;
        }
        if locked.queue.is_empty() && locked.committed.is_empty() && locked.closed.is_some() {
            return None;
        }
        let mut items = Vec::new();
        let mut taken = 0;
        while let Some(item) = locked.queue.front() {
            taken += item.bytes();
            if taken > bytes && !items.is_empty() {
                break;
            }
            items.extend(locked.queue.pop_front());
        }
        Some(items)
    }

    /// Takes nothing more; what is queued is still written.
    pub fn close(&self) {
        self.lock().closed.get_or_insert_with(|| "it was shut down".into());
        self.room.close();
        self.ring();
    }

    /// Takes nothing more, and fails all that is queued.
    pub fn fail(&self, error: &io::Error) {
        let mut locked = self.lock();
        locked.closed = Some(error.to_string().into());
        let queue = std::mem::take(&mut locked.queue);
        drop(locked);
        self.accepts_writes.store(false, Ordering::Release);
        self.accepts_register.store(false, Ordering::Release);
        self.room.close();
        queue
            .into_iter()
            .for_each(|item| item.finish(Err(io::Error::new(error.kind(), error.to_string()))));
    }

    /// The error of a call that came too late.
    pub fn closed_error(&self) -> io::Error {
        let reason = self.lock().closed.clone();
        LogError::Closed(reason.unwrap_or_else(|| "its thread is gone".into())).into()
    }

    /// Sizes and counts.
    pub fn stats(&self) -> LogStats {
        let locked = self.lock();
        let state = &locked.state;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        LogStats {
            groups: state.groups.len() as u64,
            segments: state.segments.len() as u64,
            disk_bytes: state.segments.values().map(|segment| segment.length as u64).sum(),
            entry_bytes: state.live_bytes.values().sum(),
            cached_bytes: state.cached_bytes as u64,
            queued: locked.queue.len() as u64,
            records: count(&counters.records),
            bytes: count(&counters.bytes),
            syncs: count(&counters.syncs),
            sync_micros: count(&counters.sync_micros),
            sync_histogram: std::array::from_fn(|bucket| count(&counters.sync_histogram[bucket])),
            freed_segments: count(&counters.freed_segments),
            carried_records: count(&counters.carried_records),
            accepts_writes: self.accepts_writes.load(Ordering::Acquire),
        }
    }
}

impl Counters {
    /// Counts records and their bytes.
    pub fn wrote(&self, records: u64, bytes: usize) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a sync.
    pub fn synced(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_BUCKETS_MICROS.iter().position(|bound| micros <= *bound);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_micros.fetch_add(micros, Ordering::Relaxed);
        self.sync_histogram[bucket.unwrap_or(SYNC_BUCKETS_MICROS.len())].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a freed segment.
    pub fn freed(&self) {
        self.freed_segments.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts records carried forward.
    pub fn carried(&self, records: u64) {
        self.carried_records.fetch_add(records, Ordering::Relaxed);
    }
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Append { room, .. } => room.num_permits() * PERMIT_BYTES,
            _ => super::record::OVERHEAD_BYTES,
        }
    }

    /// Whose item it is.
    pub fn group(&self) -> GroupId {
        match self {
            Item::Append { group, .. }
            | Item::Vote { group, .. }
            | Item::TruncateAfter { group, .. }
            | Item::Purge { group, .. }
            | Item::Drop { group, .. } => *group,
        }
    }

    /// What segments need no longer hold once it is durable.
    pub fn released(&self) -> Option<&Released> {
        match self {
            Item::TruncateAfter { released, .. } | Item::Purge { released, .. } | Item::Drop { released, .. } => {
                Some(released)
            }
            Item::Append { .. } | Item::Vote { .. } => None,
        }
    }

    /// Tells whoever waits for it.
    pub fn finish(self, result: io::Result<()>) {
        match self {
            Item::Append { flushed, .. } => flushed.io_completed(result),
            // Who no longer waits needs no answer.
            Item::Vote { done, .. } | Item::Drop { done, .. } => done.send(result).unwrap_or_default(),
            Item::TruncateAfter { .. } | Item::Purge { .. } => {}
        }
    }
}
