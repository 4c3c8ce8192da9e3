//! Where is everything that a node promised its groups, and what does one sync cost them all?
//!
//! One [`Log`] a node, shared by all its Raft groups; the only write-ahead log there is. Every group appends through
//! its own [`GroupLog`] (openraft's log storage); one thread writes what all of them have queued and makes it durable
//! with one `fdatasync`: the more groups are busy, the fewer syncs each pays for (docs/decisions/0001-raft-log.md).
//!
//! The log is a row of pre-zeroed segment files of checksummed records (docs/formats/raft-log.md):
//! ```text
//! 00..01.log  [header][vote g7][entry g7 #0][entry g3 #88][committed g7]...      freed when no group needs it
//! 00..02.log  [header][entry g3 #89][purge g3 ..#60][entry g7 #1]... 0 0 0 0     written to
//! ```
//! Over 400 lines because options, errors and the door to all of it are read together.
//!
//! Reading order: `record`, `segment` (bytes); `state` (what is where, in memory); `recover` (after a crash); `queue`
//! and `writer` (the one thread); `read`, `group` (openraft's door).
//!
//! Promises:
//! - What a callback or an awaited call confirmed survives a crash of the machine, and nothing that was never appended
//!   appears. A torn tail is cut off; damage is never skipped but closes the group, or the log, with file and offset.
//! - A segment is freed when no group needs it. What little an idle group has in the oldest segment (vote, bounds, few
//!   entries) is carried forward; a group with more pins it, and [`Log::oldest_pinned`] names that group so that its
//!   shard can be sealed.
//! - The disk is never filled: below the watermark [`Log::refusal`] says why, so that proposals are refused
//!   before they become entries (those of the register last: they free space); when even the current segment is full an
//!   append fails with `StorageFull`, the group is as it was, and can be opened again.
//! - An error of the disk itself ends the log: after a failed sync nobody knows what is durable. It must be opened anew.

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod golden_test;
mod group;
mod membership;
mod queue;
mod read;
pub(crate) mod record;
mod recover;
mod segment;
mod state;
#[cfg(test)]
mod suite_test;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use granum_proto::limits::ENTRY_BYTES_MAX;

pub use group::GroupLog;
pub use queue::{LogStats, SYNC_BUCKETS_MICROS};

use crate::disk::{DiskError, SharedDisk};
use crate::raft::blocking::Blocking;
use crate::raft::type_config::GroupId;
use queue::{Item, Shared};

/// The register.
const REGISTER_GROUP: GroupId = granum_model::ids::REGISTER.0;

/// How a log is laid out and bounded.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Id of the node that owns the log: another node's log is refused.
    pub owner: u64,
    /// Whether a folder without a log gets one. A node that had a log must pass `false`: a lost log is no empty log.
    pub create: bool,
    /// Length of a new segment file, in bytes: 4 KiB to 1 GiB. An entry must fit one.
    pub segment_bytes: usize,
    /// Payload bytes of all groups' newest entries that stay in memory.
    pub cache_bytes: usize,
    /// Bytes that may wait for the writer; further appends wait before they are queued.
    pub queue_bytes: usize,
    /// Most bytes that a reader is given at once (one entry at least).
    pub read_bytes: usize,
    /// Free bytes of the file system below which new proposals are refused.
    pub reserve_bytes: u64,
    /// How often an idle writer looks at the free space again.
    pub space_interval: Duration,
    /// Where the log, and the groups on it, do what blocks. A simulation's writer is a task instead of a thread.
    pub blocking: Blocking,
}

/// The shortest segment file of a node: the longest command fits one, with what the log writes around it. A follower can't
/// refuse what its leader has proposed, so every node's segments must hold it.
pub const SEGMENT_BYTES_MIN: usize = ENTRY_BYTES_MAX + (1 << 20);
const _: () = {
    let least = LogOptions::max_record_bytes_of(SEGMENT_BYTES_MIN);
    assert!(
        least == record::OVERHEAD_BYTES + record::MAX_BODY_BYTES,
        "an entry must fit a segment"
    );
};

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            owner: 0,
            create: false,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            queue_bytes: 32 << 20,
            read_bytes: 4 << 20,
            reserve_bytes: 256 << 20,
            space_interval: Duration::from_secs(1),
            blocking: Blocking::Pool,
        }
    }
}

impl LogOptions {
    /// Bytes at a segment's end that entries leave to smaller records: so a purge, which frees space, can be written when
    /// there is none.
    fn small_record_bytes(&self) -> usize {
        Self::small_record_bytes_of(self.segment_bytes)
    }

    const fn small_record_bytes_of(segment_bytes: usize) -> usize {
        let (share, most) = (segment_bytes / 8, 256 << 10);
        if share < most { share } else { most }
    }

    /// The longest record of an entry.
    fn max_record_bytes(&self) -> usize {
        Self::max_record_bytes_of(self.segment_bytes)
    }

    const fn max_record_bytes_of(segment_bytes: usize) -> usize {
        let room = segment_bytes - segment::HEADER_BYTES - Self::small_record_bytes_of(segment_bytes);
        let most = record::OVERHEAD_BYTES + record::MAX_BODY_BYTES;
        if room < most { room } else { most }
    }

    /// Live entry bytes of the oldest segment that are carried forward instead of pinning it.
    fn carry_bytes(&self) -> u64 {
        (self.segment_bytes as u64 / 16).min(1 << 20)
    }

    fn check(&self) -> Result<(), LogError> {
        let sizes = [
            ("segment_bytes", self.segment_bytes, 4 << 10, 1 << 30),
            ("queue_bytes", self.queue_bytes, 1 << 10, 1 << 30),
            ("read_bytes", self.read_bytes, 1, 1 << 30),
        ];
        for (name, value, least, most) in sizes {
            if !(least..=most).contains(&value) {
                return Err(LogError::Option {
                    name,
                    value,
                    least,
                    most,
                });
            }
        }
        Ok(())
    }
}

/// What an offline check of a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCheck {
    /// Groups with anything in the log.
    pub groups: u64,
    /// Their entries.
    pub entries: u64,
    /// Length of the segments, in bytes.
    pub bytes: u64,
    /// Bytes of a torn tail, which the next start will cut off.
    pub torn_bytes: u64,
    /// What is wrong with single groups, with file and offset.
    pub damages: Vec<String>,
}

/// Checks all of a log as a start would, and changes nothing.
pub fn check(disk: &SharedDisk, dir: &Path, owner: u64) -> Result<LogCheck, LogError> {
    let missing = || LogError::Missing { path: dir.to_owned() };
    let found = recover::read(disk, dir, owner)?.ok_or_else(missing)?;
    let groups = found.state.groups.values();
    Ok(LogCheck {
        groups: found.state.groups.len() as u64,
        entries: groups.clone().map(|group| group.slots.len() as u64).sum(),
        bytes: found.state.segments.values().map(|segment| segment.length as u64).sum(),
        torn_bytes: found.torn_bytes,
        damages: groups
            .filter_map(|group| group.damage.as_ref().map(ToString::to_string))
            .collect(),
    })
}

/// Makes a log ready to be written as a start does.
#[cfg(feature = "fuzz")]
pub(crate) fn settle(disk: &SharedDisk, dir: &Path, owner: u64) -> Result<(), LogError> {
    let options = LogOptions {
        owner,
        segment_bytes: 4096,
        ..LogOptions::default()
    };
    recover::recover(disk, dir, &options).map(drop)
}

/// Why a log, or a group's part of it, does not open.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("raft log: {0}")]
    Disk(#[from] DiskError),
    /// There is no log, and none may be made: it was lost. The node's replicas must be rebuilt under new ids.
    #[error("raft log: {path} holds no log; a lost log is not an empty log", path = path.display())]
    Missing {
        /// The log's folder.
        path: PathBuf,
    },
    /// Bytes are not what was written.
    #[error("raft log: {path} is damaged at offset {offset}: {reason}", path = path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Byte offset in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Records of a group are missing, though all that are there hold.
    #[error("raft log: group {group} is incomplete up to {path}: {reason}", path = path.display())]
    Incomplete {
        /// The newest segment.
        path: PathBuf,
        /// The group.
        group: GroupId,
        /// What is missing.
        reason: String,
    },
    /// This group's records are damaged; others are not. Its replica must be rebuilt under a new id, after
    /// [`Log::drop_group`].
    #[error("group {group} cannot be opened: {cause}")]
    Group {
        /// The group.
        group: GroupId,
        /// What is wrong.
        cause: Arc<LogError>,
    },
    /// Another format version wrote it.
    #[error("raft log: {path} has format version {found}, and this program knows {known}", path = path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another node wrote it.
    #[error("raft log: {path} belongs to node {found:016x}, and this is node {owner:016x}", path = path.display())]
    Owner {
        /// The segment.
        path: PathBuf,
        /// Who wrote it.
        found: u64,
        /// Who opened it.
        owner: u64,
    },
    /// An option is out of range.
    #[error("raft log: option {name} is {value}, allowed is {least} to {most}")]
    Option {
        /// Name of the field.
        name: &'static str,
        /// Its value.
        value: usize,
        /// Least allowed.
        least: usize,
        /// Most allowed.
        most: usize,
    },
    /// The log has been shut down or its disk has failed.
    #[error("raft log: closed: {0}")]
    Closed(Arc<str>),
}

/// Why a log takes no new proposals, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The disk is nearly full; ends by itself when there is room again.
    NoRoom(String),
    /// The log has been shut down or its disk has failed.
    Stopped(String),
}

impl LogError {
    fn damaged(path: &Path, offset: u64, reason: &str) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            reason: reason.to_owned(),
        }
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        let kind = match &error {
            LogError::Disk(error) => error.source.kind(),
            LogError::Missing { .. } => io::ErrorKind::NotFound,
            LogError::Option { .. } => io::ErrorKind::InvalidInput,
            LogError::Closed(_) => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// The log of a node. Dropping it writes what is queued and stops its thread.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    torn_bytes: u64,
}

impl Log {
    /// Opens the log in `dir` (which must exist), reading all of it, and starts its thread. Blocks: up to a second a GiB.
    ///
    /// # Errors
    /// Everything of [`LogError`] but [`LogError::Group`]: a damaged group does not keep the others from opening.
    pub fn open(disk: SharedDisk, dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        options.check()?;
        let recovered = recover::recover(&disk, dir, &options)?;
        let torn_bytes = recovered.torn_bytes;
        let shared = Arc::new(Shared::new(recovered.state, options));
        let writer = writer::start(disk, dir.to_owned(), shared.clone(), recovered.offset)?;
        Ok(Self {
            shared,
            writer: Mutex::new(writer),
            torn_bytes,
        })
    }

    /// A group's log, empty if the node holds nothing of it. To be asked for again after the group's Raft has died: a
    /// handle whose append failed stays closed.
    ///
    /// # Errors
    /// [`LogError::Group`]: this group's bytes are damaged.
    pub fn group(&self, id: GroupId) -> Result<GroupLog, LogError> {
        let mut locked = self.shared.lock();
        if let Some(reason) = &locked.closed {
            return Err(LogError::Closed(reason.clone()));
        }
        let group = locked.state.group_or_new(id);
        match &group.damage {
            Some(cause) => Err(LogError::Group {
                group: id,
                cause: cause.clone(),
            }),
            None => Ok(GroupLog::new(self.shared.clone(), id, group.generation)),
        }
    }

    /// Groups of which the log holds anything, damaged ones too, ascending.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.lock().state.groups.keys().copied().collect()
    }

    /// What of a group's records is damaged, if anything is.
    pub fn damage(&self, id: GroupId) -> Option<String> {
        let locked = self.shared.lock();
        let damage = locked.state.groups.get(&id)?.damage.as_ref()?;
        Some(damage.to_string())
    }

    /// Forgets a group with its vote and entries. Durable on return. Its handles are closed.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn drop_group(&self, id: GroupId) -> io::Result<()> {
        let (done, written) = tokio::sync::oneshot::channel();
        self.shared.push(|state| Item::Drop {
            group: id,
            released: state.drop_group(id),
            done,
        })?;
        written.await.map_err(|_| self.shared.closed_error())?
    }

    /// Whether there is room for new proposals of shards. To be asked before each one: what is already an entry must be appended.
    pub fn accepts_writes(&self) -> bool {
        self.shared.accepts_writes.load(Ordering::Acquire)
    }

    /// Why a new proposal of a group can't be taken, and what to do about it; `None`: it can.
    pub fn refusal(&self, group: GroupId) -> Option<Refusal> {
        let accepts = match group {
            REGISTER_GROUP => self.shared.accepts_register.load(Ordering::Acquire),
            _ => self.accepts_writes(),
        };
        if accepts {
            return None;
        }
        let (shared, options) = (&self.shared, &self.shared.options);
        if let Some(reason) = &shared.lock().closed {
            return Some(Refusal::Stopped(format!(
                "the raft log of this node has stopped: {reason}"
            )));
        }
        Some(Refusal::NoRoom(format!(
            "the disk is nearly full: {} bytes are free, and writes are taken from {} on (free_space_min_bytes) \
             if the log's next file of {} fits too; delete a collection or enlarge the disk, and they go on by \
             themselves; reads have not stopped",
            shared.available_bytes.load(Ordering::Relaxed),
            options.reserve_bytes,
            options.segment_bytes
        )))
    }

    /// The group whose oldest entry stands furthest back, and the bytes of log from there to the end. Over the log's
    /// budget, that is the one to seal (and purge).
    pub fn oldest_pinned(&self) -> Option<(GroupId, u64)> {
        let locked = self.shared.lock();
        let (group, place) = locked.state.oldest()?;
        let segment = locked.state.segments.get(&place.segment)?;
        Some((
            group,
            locked
                .end_position
                .saturating_sub(segment.position_at(place.offset as usize)),
        ))
    }

    /// Where work that blocks is done.
    pub fn blocking(&self) -> Blocking {
        self.shared.options.blocking
    }

    /// Sizes and counts, for metrics.
    pub fn stats(&self) -> LogStats {
        self.shared.stats()
    }

    /// Bytes cut off as a torn tail when the log was opened.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Writes and syncs what is queued and stops the thread. Later calls fail. Blocks.
    pub fn shutdown(&self) {
        self.shared.close();
        let writer = self
            .writer
            .lock()
            .expect("nobody panics while holding this lock")
            .take();
        if let Some(writer) = writer {
            // A panic of the writer was printed when it happened.
            writer.join().unwrap_or_default();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shutdown();
    }
}
