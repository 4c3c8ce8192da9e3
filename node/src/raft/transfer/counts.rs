//! How many bytes of snapshots has this node sent, received, and been spared?

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the node started, of all its groups.
#[derive(Debug, Default)]
pub struct Counts {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    held_bytes: AtomicU64,
    resumed_bytes: AtomicU64,
    installed: AtomicU64,
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes of files sent to other nodes.
    pub sent_bytes: u64,
    /// Bytes of files that came from other nodes, checked and written.
    pub received_bytes: u64,
    /// Bytes of files that were announced and lay here whole, at each announcement.
    pub held_bytes: u64,
    /// Bytes of files that lay here in part, at each announcement: where transfers went on.
    pub resumed_bytes: u64,
    /// Snapshots taken over.
    pub installed: u64,
}

impl Counts {
    /// So many bytes of a file left for another node.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many arrived.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many need not travel, because they are here in whole files, and in parts of others.
    pub fn spared(&self, held_bytes: u64, resumed_bytes: u64) {
        self.held_bytes.fetch_add(held_bytes, Ordering::Relaxed);
        self.resumed_bytes.fetch_add(resumed_bytes, Ordering::Relaxed);
    }

    /// A snapshot was taken over.
    pub fn installed(&self) {
        self.installed.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them.
    pub fn read(&self) -> Transferred {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Transferred {
            sent_bytes: read(&self.sent_bytes),
            received_bytes: read(&self.received_bytes),
            held_bytes: read(&self.held_bytes),
            resumed_bytes: read(&self.resumed_bytes),
            installed: read(&self.installed),
        }
    }
}
