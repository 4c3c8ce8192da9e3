//! How much may wait in memory to be sealed? One bound for all shards of a node.
//!
//! At the bound a leader refuses what is new, and a follower, which can't refuse what is committed, waits with applying it
//! until a flush has freed memory. It waits only for flushes that go on: a seal point is an entry itself, so without one
//! to flush, waiting would last for ever, and a full disk frees nothing until writes are refused in any case.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::Pressure;

/// Memory that the unsealed documents of all shards of a node share.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    /// Seal points that are being flushed, or will be.
    flushes: AtomicU64,
    /// Sent to whenever one of the two has changed.
    changed: watch::Sender<()>,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit_bytes: u64) -> Budget {
        Budget {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            changed: watch::Sender::new(()),
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

    /// Whether more is used than may be.
    pub fn is_exceeded(&self) -> bool {
        self.used_bytes() > self.limit_bytes
    }

    /// What stands between an entry and its memory, for a replica that has `own` seal points to flush.
    pub(super) fn pressure(&self, own: u64) -> Pressure {
        // Subscribed to before it is looked at, so that no change is missed.
        let changes = self.changed.subscribe();
        match self.flushes.load(Ordering::Relaxed) {
            _ if !self.is_exceeded() => Pressure::None,
            _ if own > 0 => Pressure::Seal,
            0 => Pressure::None,
            _ => Pressure::Others(changes),
        }
    }

    /// A shard that held `from` bytes holds `to`.
    pub(super) fn change(&self, from: u64, to: u64) {
        if from != to {
            self.used_bytes.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
            self.changed.send_replace(());
        }
    }

    /// A shard that had `from` seal points to flush has `to`.
    pub(super) fn change_flushes(&self, from: u64, to: u64) {
        if from != to {
            self.flushes.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
            self.changed.send_replace(());
        }
    }
}
