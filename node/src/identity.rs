//! Who is this node? Its id, its cluster and its replicas, in one checksummed file of the data directory.
//!
//! The id is random and born with the directory: a lost disk is a new node. The list of replicas says which group lives
//! under which replica id, so that an old one can never speak for a new one; it is durable before anyone is told. A lock
//! file keeps a second process out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use granum_proto::VERSIONS_AHEAD;
use granum_proto::internal::{EnsureReplicaRequest, Member, NodeRecord};
use prost::Message;

use crate::disk::{Disk, SharedDisk};
use crate::shard::frame::{self, FrameError, Kind};

/// File of the identity.
pub const NODE_FILE: &str = "NODE";
/// File of the address book as last known.
pub const BOOK_FILE: &str = "BOOK";
/// File that is locked while a process uses the directory.
pub const LOCK_FILE: &str = "LOCK";
/// Version of the data directory's format: the newest that this build reads, and that of a directory that it makes. One that
/// is there keeps its own, so that an upgrade can be taken back.
pub const FORMAT_VERSION: u32 = 1 + VERSIONS_AHEAD;

const NODE_KIND: Kind = Kind {
    magic: *b"GRANNODE",
    version: FORMAT_VERSION,
};
const BOOK_KIND: Kind = Kind {
    magic: *b"GRANBOOK",
    version: 1,
};

/// What the identity file holds.
#[derive(Clone, PartialEq, Message)]
pub struct Identity {
    /// This node, random, never 0.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Its cluster; 0: none yet.
    #[prost(uint64, tag = "2")]
    pub cluster: u64,
    /// Grows with each start.
    #[prost(uint64, tag = "3")]
    pub incarnation: u64,
    /// The replicas that live here, as they were ordered.
    #[prost(message, repeated, tag = "4")]
    pub replicas: Vec<EnsureReplicaRequest>,
    /// While this node founds a cluster: the first members of the register, this node's the first.
    #[prost(message, repeated, tag = "5")]
    pub founding: Vec<Member>,
    /// Whether there was a log: from then on a missing one was lost, and is not begun anew.
    #[prost(bool, tag = "6")]
    pub has_log: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Book {
    #[prost(message, repeated, tag = "1")]
    records: Vec<NodeRecord>,
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error("{path}: in use by another process", path = .0.display())]
    InUse(PathBuf),
    /// The lock can't be taken.
    #[error("{path}: {error}", path = path.display())]
    Lock {
        /// Of the lock file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is damaged, of a newer format, or can't be written.
    #[error(transparent)]
    File(#[from] FrameError),
    /// What the checksum vouches for can't be read all the same.
    #[error("{path}: {problem}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The data directory of a running node.
#[derive(Debug)]
pub struct Directory {
    disk: SharedDisk,
    path: PathBuf,
    identity: Mutex<Identity>,
    /// Frame of the identity, of the directory's own version.
    kind: Kind,
    born: bool,
    /// Held as long as this value lives.
    _lock: File,
}

/// Reads the identity of a directory that no process uses, changing nothing; `None`: there is none.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, DirectoryError> {
    let file = path.join(NODE_FILE);
    let framed = frame::read(disk, &file, NODE_KIND)?;
    framed.map(|framed| decode(&file, &framed.content)).transpose()
}

/// Folder of a replica's files, below a data directory.
pub fn replica_path(directory: &Path, shard: u64, replica: u64) -> PathBuf {
    directory.join("shards").join(format!("{shard:016x}-{replica:016x}"))
}

impl Directory {
    /// Takes the directory, makes it where it is missing, and counts this start. `new_id` names a new node.
    ///
    /// Blocks: it reads, writes and syncs.
    pub fn open(disk: SharedDisk, path: &Path, new_id: impl FnOnce() -> u64) -> Result<Directory, DirectoryError> {
        disk.create_dir_all(path).map_err(FrameError::from)?;
        let lock = lock(&path.join(LOCK_FILE))?;
        let file = path.join(NODE_FILE);
        let mut kind = NODE_KIND;
        let (mut identity, born) = match frame::read(disk.as_ref(), &file, NODE_KIND)? {
            Some(framed) => {
                kind.version = framed.version;
                (decode::<Identity>(&file, &framed.content)?, false)
            }
            None => (
                Identity {
                    node: new_id().max(1),
                    ..Identity::default()
                },
                true,
            ),
        };
        identity.incarnation += 1;
        frame::write(disk.as_ref(), &file, kind, &identity.encode_to_vec())?;
        Ok(Directory {
            disk,
            path: path.to_owned(),
            identity: Mutex::new(identity),
            kind,
            born,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this start made it.
    pub fn born(&self) -> bool {
        self.born
    }

    /// The identity as it stands.
    pub fn identity(&self) -> Identity {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the identity; durable on return, unchanged on failure. Blocks.
    pub fn update(&self, change: impl FnOnce(&mut Identity)) -> Result<(), DirectoryError> {
        let mut identity = self.locked();
        let mut changed = identity.clone();
        change(&mut changed);
        if changed != *identity {
            frame::write(
                self.disk.as_ref(),
                &self.path.join(NODE_FILE),
                self.kind,
                &changed.encode_to_vec(),
            )?;
            *identity = changed;
        }
        Ok(())
    }

    /// The address book as last kept. It is a cache: a damaged one is an empty one, said in the log.
    pub fn read_book(&self) -> Vec<NodeRecord> {
        let file = self.path.join(BOOK_FILE);
        let read = frame::read(self.disk.as_ref(), &file, BOOK_KIND).map_err(DirectoryError::from);
        let book = read.and_then(|framed| framed.map_or(Ok(Book::default()), |framed| decode(&file, &framed.content)));
        book.unwrap_or_else(|error| {
            tracing::warn!(%error, "the kept address book is left aside");
            Book::default()
        })
        .records
    }

    /// Keeps the address book. Blocks.
    pub fn write_book(&self, records: Vec<NodeRecord>) -> Result<(), DirectoryError> {
        let content = Book { records }.encode_to_vec();
        frame::write(self.disk.as_ref(), &self.path.join(BOOK_FILE), BOOK_KIND, &content)?;
        Ok(())
    }

    /// Folder of a replica's files.
    pub fn replica_path(&self, shard: u64, replica: u64) -> PathBuf {
        replica_path(&self.path, shard, replica)
    }
}

fn decode<M: Message + Default>(path: &Path, content: &[u8]) -> Result<M, DirectoryError> {
    M::decode(content).map_err(|error| DirectoryError::Content {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(|error| DirectoryError::Lock {
        path: path.to_owned(),
        error,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(DirectoryError::Lock {
            path: path.to_owned(),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::RealDisk;

    fn open(path: &Path) -> Result<Directory, DirectoryError> {
        Directory::open(Arc::new(RealDisk), path, || 7)
    }

    #[test]
    fn a_node_stays_itself_over_restarts_and_counts_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        let directory = open(&path).unwrap();
        assert!(directory.born());
        let replica = EnsureReplicaRequest {
            shard: 3,
            replica: 9,
            ..EnsureReplicaRequest::default()
        };
        directory
            .update(|identity| (identity.cluster, identity.replicas) = (5, vec![replica.clone()]))
            .unwrap();
        drop(directory);
        let directory = Directory::open(Arc::new(RealDisk), &path, || 8).unwrap();
        let expected = Identity {
            node: 7,
            cluster: 5,
            incarnation: 2,
            replicas: vec![replica],
            ..Identity::default()
        };
        assert_eq!(directory.identity(), expected);
        assert!(!directory.born());
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        assert!(matches!(open(folder.path()), Err(DirectoryError::InUse(_))));
        drop(first);
        assert!(open(folder.path()).is_ok());
    }

    #[test]
    fn a_damaged_identity_is_refused_and_a_damaged_book_left_aside() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path()).unwrap();
        let record = NodeRecord {
            node: 7,
            ..NodeRecord::default()
        };
        directory.write_book(vec![record.clone()]).unwrap();
        assert_eq!(directory.read_book(), [record]);
        std::fs::write(folder.path().join(BOOK_FILE), b"scribble").unwrap();
        assert_eq!(directory.read_book(), []);
        drop(directory);
        std::fs::write(folder.path().join(NODE_FILE), b"scribble").unwrap();
        assert!(matches!(
            open(folder.path()),
            Err(DirectoryError::File(FrameError::Damaged { .. }))
        ));
    }
}
