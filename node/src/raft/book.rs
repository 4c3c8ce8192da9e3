//! Where does a node live? Memberships name nodes by id only; their addresses are announced at each start (in the
//! register, under `nodes/`) and looked up here. Reading takes no lock: every Raft message does it.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use granum_proto::internal::NodeRecord;
use tokio::sync::watch;

/// The last announced record of every node, by node id.
#[derive(Debug)]
pub struct AddressBook {
    records: ArcSwap<HashMap<u64, NodeRecord>>,
    changed: watch::Sender<u64>,
}

impl AddressBook {
    /// A book that begins with what was known before.
    pub fn new(records: impl IntoIterator<Item = NodeRecord>) -> Arc<AddressBook> {
        let records = records.into_iter().map(|record| (record.node, record)).collect();
        Arc::new(AddressBook {
            records: ArcSwap::from_pointee(records),
            changed: watch::Sender::new(0),
        })
    }

    /// What is known of `node`.
    pub fn find(&self, node: u64) -> Option<NodeRecord> {
        self.records.load().get(&node).cloned()
    }

    /// `host:port` of a node's Raft service.
    pub fn raft_address(&self, node: u64) -> Option<String> {
        self.records.load().get(&node).map(|record| record.raft_address.clone())
    }

    /// All records, by node id.
    pub fn all(&self) -> Vec<NodeRecord> {
        let mut records: Vec<NodeRecord> = self.records.load().values().cloned().collect();
        records.sort_by_key(|record| record.node);
        records
    }

    /// Takes `record` over, unless a later start of the same node is known. Whether anything changed.
    pub fn learn(&self, record: NodeRecord) -> bool {
        let mut learned = false;
        self.records.rcu(|known| {
            learned = known
                .get(&record.node)
                .is_none_or(|old| old.incarnation <= record.incarnation && *old != record);
            let mut next = HashMap::clone(known);
            if learned {
                next.insert(record.node, record.clone());
            }
            next
        });
        if learned {
            self.changed.send_modify(|version| *version += 1);
        }
        learned
    }

    /// Strikes out a node that left for good.
    pub fn forget(&self, node: u64) {
        self.records.rcu(|known| {
            let mut next = HashMap::clone(known);
            next.remove(&node);
            next
        });
        self.changed.send_modify(|version| *version += 1);
    }

    /// Counts the changes, for whoever keeps a copy on disk.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(incarnation: u64, raft_address: &str) -> NodeRecord {
        NodeRecord {
            node: 7,
            incarnation,
            raft_address: raft_address.to_owned(),
            ..NodeRecord::default()
        }
    }

    #[test]
    fn an_older_start_never_overwrites_a_later_one() {
        let book = AddressBook::new([record(2, "b:1")]);
        assert!(!book.learn(record(1, "a:1")));
        assert!(!book.learn(record(2, "b:1")), "the same again changes nothing");
        assert_eq!(book.raft_address(7).as_deref(), Some("b:1"));
        assert!(book.learn(record(3, "c:1")));
        assert_eq!(book.raft_address(7).as_deref(), Some("c:1"));
        book.forget(7);
        assert_eq!(book.find(7), None);
    }
}
