//! Which steps bring the cluster closer to the map? Pure: map and reports in, steps out. A step that is due stays due
//! until a report or the map shows that it was taken, so nothing is remembered between passes.
//!
//! Life of a collection: its shards are placed, their replicas ensured on their nodes, each group initialised once, its
//! leadership moved to the first replica; when every shard has a leader it is active. A deleted one is dropped replica by
//! replica, and forgotten when no node holds any of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use granum_model::ids::REGISTER;
use granum_model::{NodeId, ReplicaId, ShardId};
use granum_proto::internal::{Member, ReplicaReport};
use granum_proto::v1::collection_info::State;

use super::observe::Reports;
use super::replace;
use crate::map::{Collection, Replacing, Shard, ShardMap};

/// Entries that a replica may lack when it gets a vote or the lead: it has them a moment later.
pub(super) const LAG_ENTRIES_MAX: u64 = 64;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Give unplaced shards their nodes, out of these.
    Place(Arc<Collection>, Vec<NodeId>),
    /// Make a node hold a replica; the register's belongs to no collection.
    Ensure(Option<Arc<Collection>>, Arc<Shard>, NodeId, ReplicaId),
    /// Give a group its first membership, on this node.
    Initialize(Arc<Shard>, NodeId),
    /// Note that the group has a leader.
    NoteInitialized(Arc<Shard>),
    /// Move leadership to a replica; asked of the node that leads.
    TransferLeader(Arc<Shard>, NodeId, ReplicaId),
    /// Put the collection's schema into the shard's log.
    AlterSchema(Arc<Collection>, Arc<Shard>),
    /// Let the collection be asked and written.
    Activate(Arc<Collection>),
    /// Note that a replica is replaced by a new one, on this node; none: that one is to be added.
    BeginReplacing(Arc<Shard>, Option<Member>, NodeId),
    /// Let a new replica learn; asked of the node that leads.
    AddLearner(Arc<Shard>, NodeId, Member),
    /// Give a learner the vote of the replica that leaves, or one of its own; asked of the node that leads.
    Promote(Arc<Shard>, NodeId, Replacing),
    /// Give the new replica its place in the map.
    EndReplacing(Arc<Shard>),
    /// Remove a replica that nobody wants from a node.
    Drop(NodeId, ShardId, ReplicaId),
    /// Remove a deleted collection from the map.
    Forget(Arc<Collection>),
}

impl Step {
    /// Its kind, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Place(..) => "place",
            Step::Ensure(..) => "ensure",
            Step::Initialize(..) => "initialize",
            Step::NoteInitialized(..) => "note_initialized",
            Step::TransferLeader(..) => "transfer_leader",
            Step::AlterSchema(..) => "alter_schema",
            Step::Activate(..) => "activate",
            Step::BeginReplacing(..) => "begin_replacing",
            Step::AddLearner(..) => "add_learner",
            Step::Promote(..) => "promote",
            Step::EndReplacing(..) => "end_replacing",
            Step::Drop(..) => "drop",
            Step::Forget(..) => "forget",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Step::Place(collection, _) | Step::Activate(collection) | Step::Forget(collection) => {
                write!(f, "{name} collection {:?}", collection.name())
            }
            Step::Ensure(_, shard, node, replica) => {
                write!(f, "{name} shard {} replica {replica} on node {node}", shard.id)
            }
            Step::Initialize(shard, node) => write!(f, "{name} shard {} on node {node}", shard.id),
            Step::TransferLeader(shard, _, replica) => write!(f, "{name} shard {} to replica {replica}", shard.id),
            Step::NoteInitialized(shard) | Step::AlterSchema(_, shard) | Step::EndReplacing(shard) => {
                write!(f, "{name} shard {}", shard.id)
            }
            Step::BeginReplacing(shard, Some(Member { replica, .. }), node) => {
                write!(f, "{name} shard {} replica {replica} on node {node}", shard.id)
            }
            Step::BeginReplacing(shard, None, node) => {
                write!(f, "{name} shard {} one more on node {node}", shard.id)
            }
            Step::AddLearner(shard, _, joining) | Step::Promote(shard, _, Replacing { joining, .. }) => {
                write!(f, "{name} shard {} replica {}", shard.id, joining.replica)
            }
            Step::Drop(node, shard, replica) => write!(f, "{name} shard {shard} replica {replica} on node {node}"),
        }
    }
}

/// The steps due now; they don't depend on each other.
pub(crate) fn plan(map: &ShardMap, reports: &Reports) -> Vec<Step> {
    let mut steps = Vec::new();
    for collection in map.collections.values() {
        match collection.state() {
            State::Creating | State::Unspecified => create(map, collection, reports, &mut steps),
            State::Active => keep(map, collection, reports, &mut steps),
            State::Deleting => delete(map, collection, reports, &mut steps),
        }
    }
    if let Some(register) = replace::register(map, reports) {
        let replace = replace::replace(map, None, &register, reports);
        steps.extend(replace.or_else(|| replace::grow(map, &register, reports)));
    }
    drop_strays(map, reports, &mut steps);
    steps
}

/// Nodes that may get replicas: they answer, and they stay.
pub(crate) fn candidates(map: &ShardMap, reports: &Reports) -> Vec<NodeId> {
    let stays = |node: &NodeId| map.nodes.get(node).is_some_and(|record| !record.draining);
    let answering = reports
        .iter()
        .filter(|(_, report)| !report.draining)
        .map(|(node, _)| node);
    answering.filter(stays).collect()
}

fn create(map: &ShardMap, collection: &Arc<Collection>, reports: &Reports, steps: &mut Vec<Step>) {
    let placed = collection.unplaced().is_empty();
    let candidates = candidates(map, reports);
    if !placed && candidates.len() >= collection.record.replication_factor as usize {
        steps.push(Step::Place(collection.clone(), candidates));
    }
    for shard in &collection.shards {
        ensure(collection, shard, reports, steps);
        match reports.leader(shard) {
            Some((node, leader)) => {
                if !shard.record.initialized {
                    steps.push(Step::NoteInitialized(shard.clone()));
                }
                let first = &shard.record.replicas[0];
                if leader.replica != first.replica
                    && reports.has(NodeId(first.node), shard.id, ReplicaId(first.replica))
                {
                    steps.push(Step::TransferLeader(shard.clone(), node, ReplicaId(first.replica)));
                }
            }
            None if !shard.record.initialized => steps.extend(initialize(shard, reports)),
            None => {}
        }
    }
    let led = |shard: &Arc<Shard>| shard.record.initialized && reports.leader(shard).is_some();
    if placed && collection.shards.iter().all(led) {
        steps.push(Step::Activate(collection.clone()));
    }
}

fn keep(map: &ShardMap, collection: &Arc<Collection>, reports: &Reports, steps: &mut Vec<Step>) {
    for shard in &collection.shards {
        ensure(collection, shard, reports, steps);
        let replace = || replace::replace(map, Some(collection), shard, reports);
        steps.extend(replace().or_else(|| leave_full_disk(shard, reports)));
        if shard.record.schema_version < collection.record.schema_version {
            steps.push(Step::AlterSchema(collection.clone(), shard.clone()));
        }
    }
}

/// A leader whose node takes no writes hands over to a replica that is well and whose node does.
fn leave_full_disk(shard: &Arc<Shard>, reports: &Reports) -> Option<Step> {
    let (led_on, leader) = reports.leader(shard)?;
    let takes_writes = |node: NodeId| reports.node(node).is_some_and(|report| !report.read_only);
    if takes_writes(led_on) {
        return None;
    }
    let is_able = |member: &&Member| {
        let node = NodeId(member.node);
        let report = reports.replica(node, shard.id);
        let is_well = |report: &ReplicaReport| {
            let is_near = report.applied_index + LAG_ENTRIES_MAX >= leader.committed_index;
            report.replica == member.replica && report.fault.is_empty() && report.damage.is_empty() && is_near
        };
        takes_writes(node) && report.is_some_and(is_well)
    };
    let other = shard.record.replicas.iter().find(is_able)?;
    Some(Step::TransferLeader(shard.clone(), led_on, ReplicaId(other.replica)))
}

/// Replicas that their nodes, which answer, don't have. One that is being replaced is not made again.
fn ensure(collection: &Arc<Collection>, shard: &Arc<Shard>, reports: &Reports, steps: &mut Vec<Step>) {
    let leaving = shard.replacing().and_then(|replacing| replacing.leaving);
    for member in &shard.record.replicas {
        let (node, replica) = (NodeId(member.node), ReplicaId(member.replica));
        if Some(*member) != leaving && reports.node(node).is_some() && !reports.has(node, shard.id, replica) {
            steps.push(Step::Ensure(Some(collection.clone()), shard.clone(), node, replica));
        }
    }
}

/// A group is initialised once a majority of its replicas is there, on the first of them. Doing it twice, even on two of
/// them, is harmless: the membership is the same.
fn initialize(shard: &Arc<Shard>, reports: &Reports) -> Option<Step> {
    let members = &shard.record.replicas;
    let there = |member: &&Member| reports.has(NodeId(member.node), shard.id, ReplicaId(member.replica));
    let known = |member: &&Member| reports.node(NodeId(member.node)).is_some();
    let ensured = members.iter().filter(there).count();
    if ensured * 2 <= members.len() || ensured < members.iter().filter(known).count() {
        return None;
    }
    let first = members.iter().find(there)?;
    Some(Step::Initialize(shard.clone(), NodeId(first.node)))
}

fn delete(map: &ShardMap, collection: &Arc<Collection>, reports: &Reports, steps: &mut Vec<Step>) {
    let mut gone = true;
    for shard in &collection.shards {
        for node in shard.nodes() {
            match (reports.node(node), reports.replica(node, shard.id)) {
                (Some(_), Some(report)) => {
                    steps.push(Step::Drop(node, shard.id, ReplicaId(report.replica)));
                    gone = false;
                }
                (Some(_), None) => {}
                // A node that doesn't answer may still hold it; one that the map doesn't know is gone.
                (None, _) => gone &= !map.nodes.contains_key(&node),
            }
        }
    }
    if gone {
        steps.push(Step::Forget(collection.clone()));
    }
}

/// Replicas of shards that are no more, or that the map gave to others. A shard that this map may be too old to know is
/// left alone: its id was not given yet, or its collection is still being placed.
fn drop_strays(map: &ShardMap, reports: &Reports, steps: &mut Vec<Step>) {
    let unplaced = map.collections.values().flat_map(|collection| collection.unplaced());
    let placing: BTreeSet<ShardId> = unplaced.map(|(_, id)| id).collect();
    for (node, report) in reports.iter() {
        for replica in &report.replicas {
            let (shard, id) = (ShardId(replica.shard), ReplicaId(replica.replica));
            let old = shard.0 < map.counters.0.next_shard && id.0 < map.counters.0.next_replica;
            let known = match shard {
                REGISTER => map.register.as_ref(),
                shard => map.shard(shard),
            };
            let wanted = match known {
                Some(shard) => shard.wants(node, id),
                None => placing.contains(&shard) || shard == REGISTER,
            };
            if old && !wanted && map.damaged.is_empty() {
                steps.push(Step::Drop(node, shard, id));
            }
        }
    }
}

#[cfg(test)]
mod tests;
