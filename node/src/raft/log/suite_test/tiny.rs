//! The smallest state machine that openraft's suite accepts: it remembers how far it came.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};

use crate::raft::type_config::{CommittedLeader, LogId, Payload, Peer, StoredMembership, TypeConfig};

type Meta = SnapshotMeta<CommittedLeader, u64, Peer>;
type TinySnapshot = Snapshot<CommittedLeader, u64, Peer, ()>;

/// A state machine that remembers how far it came, and nothing else.
#[derive(Clone, Default)]
struct Tiny {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<Meta>,
}

impl Tiny {
    fn meta(&self) -> Meta {
        Meta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        }
    }
}

/// Builds snapshots of a shared [`Tiny`].
#[derive(Clone, Default)]
pub struct SharedTiny(Arc<std::sync::Mutex<Tiny>>);

impl RaftSnapshotBuilder<TypeConfig> for SharedTiny {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<TinySnapshot, io::Error> {
        let mut tiny = self.0.lock().unwrap();
        tiny.snapshot = Some(tiny.meta());
        Ok(Snapshot {
            meta: tiny.meta(),
            snapshot: (),
        })
    }
}

impl RaftStateMachine<TypeConfig> for SharedTiny {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let tiny = self.0.lock().unwrap();
        Ok((tiny.applied, tiny.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, _)) = entries.next().await.transpose()? {
            let mut tiny = self.0.lock().unwrap();
            tiny.applied = Some(entry.log_id);
            if let Payload::Membership(membership) = entry.payload {
                tiny.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Meta, (): ()) -> Result<(), io::Error> {
        *self.0.lock().unwrap() = Tiny {
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            snapshot: Some(meta.clone()),
        };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<TinySnapshot>, io::Error> {
        let meta = self.0.lock().unwrap().snapshot.clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: () }))
    }
}
