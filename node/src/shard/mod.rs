//! What a Raft group replicates: documents of one shard, or the cluster's register. No async, no openraft, no sockets:
//! commands in, outcomes out, so that a simulation can drive it directly.
//!
//! A group's truth is the last *seal* (a manifest and immutable files, which is also the Raft snapshot) and the log
//! behind it. [`StateMachine`] is the door through which `raft` drives either kind.

mod budget;
mod census;
mod check;
pub mod command;
pub mod core;
#[cfg(test)]
mod crash;
mod damage;
pub mod dedup;
pub mod documents;
mod files;
pub mod frame;
pub mod machine;
pub mod manifest;
pub mod merging;
mod options;
#[cfg(test)]
mod oracle;
mod point;
pub mod register;
#[cfg(test)]
pub(crate) mod sample;
mod seal_error;
pub(crate) mod sealing;
mod staged;
mod worth;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

pub use budget::Budget;
pub use files::OwnedDirectory;
pub(crate) use files::{is_intact, is_plain_name, link_or_copy};
pub use machine::{Pinned, ShardMachine, ShardStats};
pub use merging::{MergeDone, NotMerged};
pub use options::Options;
pub use register::RegisterMachine;
pub use sealing::tree_name;

/// Where an entry stands in a group's log. Ordered by term, then index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Replica id of that leader (0 where ids don't matter).
    pub replica: u64,
    /// Index in the log, from 1 on (0 is the group's first membership where openraft says so).
    pub index: u64,
}

/// An entry that a majority has committed.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Nothing but a position.
    Blank,
    /// An encoded `granum.internal.v1.Command`.
    Command(Bytes),
    /// An encoded `granum.internal.v1.RaftMembership`, kept for snapshots and never interpreted here.
    Membership(Bytes),
}

/// State up to a position, on disk: what a restart begins with, what a snapshot carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sealed {
    /// Last entry contained; `None`: nothing was ever sealed.
    pub last: Option<LogPosition>,
    /// Last membership contained, with its position.
    pub membership: Option<(LogPosition, Bytes)>,
}

/// Files of a seal, pinned (hard links in a directory of their own) for as long as this value lives.
#[derive(Debug)]
pub struct SnapshotFiles {
    /// What they contain.
    pub sealed: Sealed,
    /// Where the links are.
    pub directory: PathBuf,
    /// Plain names, with length in bytes and xxh3_64.
    pub files: Vec<(String, u64, u64)>,
    /// What must last as long as the files are used: of pinned ones what removes them, of received ones the right to their
    /// folder. `None`: whoever made them sees to that.
    pub guard: Option<Box<dyn Any + Send + Sync>>,
}

/// A replica's state broke its own rules or its disk failed: it stops, answers nothing more, and is rebuilt.
/// Refusals that are equal on all replicas are no faults; they travel in `Applied`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// In words.
    pub reason: Arc<str>,
    /// Whether files are not what was written: opening them again will not help, another replica must take the place.
    pub is_damage: bool,
}

impl Fault {
    /// A fault for this reason.
    pub fn new(reason: impl std::fmt::Display) -> Fault {
        Fault {
            reason: reason.to_string().into(),
            is_damage: false,
        }
    }

    /// Bytes are not what was written.
    pub fn damage(reason: impl std::fmt::Display) -> Fault {
        Fault {
            is_damage: true,
            ..Fault::new(reason)
        }
    }
}

impl From<frame::FrameError> for Fault {
    fn from(error: frame::FrameError) -> Fault {
        match error {
            frame::FrameError::Damaged { .. } => Fault::damage(error),
            frame::FrameError::Disk(_) => Fault::new(error),
        }
    }
}

impl From<crate::disk::DiskError> for Fault {
    fn from(error: crate::disk::DiskError) -> Fault {
        Fault::new(error)
    }
}

impl From<granum_index::ReadError> for Fault {
    fn from(error: granum_index::ReadError) -> Fault {
        Fault::damage(error)
    }
}

impl From<granum_index::BuildError> for Fault {
    fn from(error: granum_index::BuildError) -> Fault {
        match error {
            granum_index::BuildError::Read(damage) => Fault::from(damage),
            granum_index::BuildError::Open(error) => Fault::from(error),
            other => Fault::new(other),
        }
    }
}

impl From<granum_index::OpenError> for Fault {
    fn from(error: granum_index::OpenError) -> Fault {
        match error {
            granum_index::OpenError::Io { .. } => Fault::new(error),
            granum_index::OpenError::Length { .. } | granum_index::OpenError::Read(_) => Fault::damage(error),
        }
    }
}

/// What became of an entry.
#[derive(Clone, Debug)]
pub struct Applied {
    /// An encoded `granum.internal.v1.Applied`, equal on all replicas.
    pub reply: Bytes,
    /// This entry was a seal point: the group is to call [`StateMachine::seal`] on a worker.
    pub seal_point: bool,
}

/// What stands between an entry and the memory it takes.
#[derive(Debug)]
pub enum Pressure {
    /// Nothing: it can be applied.
    None,
    /// A seal point of this very replica: [`StateMachine::seal`] frees its memory.
    Seal,
    /// Seal points of other replicas of the node: something changes when one is flushed.
    Others(watch::Receiver<()>),
}

/// What a Raft group drives. Two kinds: a shard's documents and the register.
pub trait StateMachine: Send + Sync + 'static {
    /// What stands sealed on disk.
    fn sealed(&self) -> Sealed;

    /// Applies the entry at `position`, the next after the last applied one (an entry already contained changes nothing).
    /// Deterministic and bounded in time: it never builds, merges or scans.
    fn apply(&self, position: LogPosition, entry: Entry) -> Result<Applied, Fault>;

    /// Whether so much is unsealed that the leader should propose a `Seal` command now, given that nothing was applied for so long.
    fn wants_seal(&self, quiet: Duration) -> bool;

    /// Whether memory for unsealed documents is used up, on the node as a whole.
    fn is_short_of_memory(&self) -> bool {
        false
    }

    /// Whether memory for unsealed documents is used up, and what will free some. Asked before each entry of a replica that
    /// does not lead.
    fn pressure(&self) -> Pressure {
        Pressure::None
    }

    /// Makes the newest seal point durable and returns what is sealed then: for a shard the last `Seal` command applied,
    /// for the register the last entry applied. Slow (it writes and syncs files): called on a worker, never by apply.
    /// Called when no seal point is pending it returns what stands.
    fn seal(&self) -> Result<Sealed, Fault>;

    /// Pins the files of the current seal under a new directory; `None` if nothing was ever sealed.
    fn snapshot(&self) -> Result<Option<SnapshotFiles>, Fault>;

    /// The folder, beside the state, in which another replica's snapshot comes in. It outlives restarts, as a transfer does.
    fn incoming(&self) -> PathBuf;

    /// Replaces the whole state by the files in `directory`, received and digested by the caller, and makes that durable.
    fn install(&self, directory: &std::path::Path, sealed: Sealed) -> Result<(), Fault>;
}
