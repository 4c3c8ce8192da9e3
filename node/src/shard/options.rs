//! What is a replica opened with, beside its birth?

use std::sync::Arc;
use std::time::Duration;

use granum_index::MergePolicy;

use super::budget::Budget;
use crate::disk::SharedDisk;
use crate::disk::tree::Trees;
use crate::threads::Threads;

/// What a replica is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The disk of manifests and snapshots; segments are mapped files of the machine's own.
    pub disk: SharedDisk,
    /// Where the table of documents is cached; `None`: nowhere.
    pub trees: Option<Trees>,
    /// Unsealed bytes at which a shard wants to be sealed.
    pub seal_bytes: u64,
    /// How long nothing may be written before what is worth it is sealed all the same; `None`: however long.
    pub seal_quiet: Option<Duration>,
    /// Memory of all unsealed documents of the node.
    pub budget: Arc<Budget>,
    /// Who builds what is derived from sealed segments.
    pub builders: Threads,
    /// Which segments are merged.
    pub merge: MergePolicy,
    /// Free bytes of the file system that merges and derived files leave to the log and to seals.
    pub free_space_min_bytes: u64,
}

impl Options {
    /// The defaults, on this disk.
    pub fn new(disk: SharedDisk, trees: Option<Trees>) -> Options {
        Options {
            disk,
            trees,
            seal_bytes: 16 << 20,
            seal_quiet: Some(Duration::from_secs(5)),
            budget: Arc::new(Budget::new(512 << 20)),
            builders: Threads::new(1),
            merge: MergePolicy::default(),
            free_space_min_bytes: 0,
        }
    }
}
