//! How much may wait in memory to be sealed? One bound for all shards of a node.

use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that the unsealed documents of all shards of a node share.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit_bytes: u64) -> Budget {
        Budget {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes used now, about.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that may be used.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// A shard that held `from` bytes holds `to`.
    pub(super) fn change(&self, from: u64, to: u64) {
        self.used_bytes.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }
}
