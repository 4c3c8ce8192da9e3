//! What does a data service need to answer? The replicas that live here, and workers to run their searches.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use granum_proto::internal::{EnsureReplicaRequest, Epoch, ShardCall};
use granum_proto::limits::{Invalid, TIMEOUT_MS_MAX};
use granum_proto::status::Failure;

use crate::raft::Group;
use crate::recall::RecallChecks;
use crate::shard::ShardMachine;
use crate::worker::Workers;

/// Shared by all calls of a node.
pub struct Context {
    /// This node.
    pub node: u64,
    /// The replicas that live here.
    pub replicas: Replicas,
    /// Where searches and other work of more than 500 us runs.
    pub workers: Workers,
    /// Told of every answer.
    pub recall: Arc<RecallChecks>,
}

/// One replica of a shard: its documents, and the group that agrees on them.
pub struct Replica {
    /// What it was made from.
    pub birth: EnsureReplicaRequest,
    /// Its documents.
    pub machine: Arc<ShardMachine>,
    /// Its place in the Raft group.
    pub group: Arc<Group>,
    /// A call met a fault: all of its files are to be looked at.
    pub is_suspect: AtomicBool,
}

/// Replicas by shard id; at most one of a shard lives on a node. Clones share them.
#[derive(Clone, Default)]
pub struct Replicas {
    by_shard: Arc<RwLock<BTreeMap<u64, Arc<Replica>>>>,
}

impl Replicas {
    /// The replica of a shard.
    pub fn find(&self, shard: u64) -> Option<Arc<Replica>> {
        self.by_shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&shard)
            .cloned()
    }

    /// Adds a replica; the one of that shard that was here before, if any.
    pub fn insert(&self, replica: Arc<Replica>) -> Option<Arc<Replica>> {
        self.by_shard
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(replica.birth.shard, replica)
    }

    /// Takes the replica of a shard out.
    pub fn remove(&self, shard: u64) -> Option<Arc<Replica>> {
        self.by_shard
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&shard)
    }

    /// All of them, by shard id.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.by_shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

impl Context {
    /// The replica that a call names, and the call itself; refused where its frame is wrong.
    pub(super) fn called(&self, call: Option<ShardCall>) -> Result<(Arc<Replica>, ShardCall), Failure> {
        let call = call.ok_or_else(|| Invalid::new("call", "missing"))?;
        granum_proto::ids::request_id(&call.request_id).map_err(|error| error.within("call"))?;
        if !(1..=TIMEOUT_MS_MAX).contains(&call.timeout_ms) {
            let problem = format!("{}, must be 1..={TIMEOUT_MS_MAX}", call.timeout_ms);
            return Err(Invalid::new("call.timeout_ms", problem).into());
        }
        let replica = self
            .replicas
            .find(call.shard)
            .ok_or(Failure::NoReplica { shard: call.shard })?;
        Ok((replica, call))
    }
}

impl Replica {
    /// Refuses a call that was made under another epoch than the one that stands.
    pub(super) fn check_epoch(&self, call: &ShardCall, standing: &Epoch) -> Result<(), Failure> {
        let current = match standing.epoch {
            0 => self.birth.epoch,
            epoch => epoch,
        };
        match call.epoch == current {
            true => Ok(()),
            false => Err(Failure::WrongEpoch {
                shard: call.shard,
                current,
            }),
        }
    }
}
