//! When does a replica take another's place, where, and which step is next? Pure, a part of `plan`.
//!
//! A replica is *lost* when its node was removed from the cluster, when its node says that its log or files are damaged, or
//! when most replicas of its shard contradict it about the documents (`compare`).
//! It is replaced by a new one, under a new id, on the emptiest node that has none of the shard; one that is damaged on its
//! own node if there is no other, and the others are a majority without it: it goes before its successor comes. One replica of a
//! shard at a time, and only while another leads: what is dropped is never the last that knows.
//!
//! Steps: note the replacement in the map · make the replica on its node (after dropping the damaged one, if it is there) ·
//! add it as a learner · promote it when it has caught up · give it the place in the map. Each is due until a report or the
//! map shows that it was taken, so any coordinator goes on where another stopped. The register is a shard like others here.

use std::sync::Arc;

use granum_model::ids::REGISTER;
use granum_model::{NodeId, ReplicaId};
use granum_proto::internal::{Member, ReplicaReport, ShardRecord};

use super::compare;
use super::observe::Reports;
use super::plan::{LAG_ENTRIES_MAX, Step, candidates};
use crate::map::range::HashRange;
use crate::map::{Collection, Shard, ShardMap};

/// The step that is due for a shard, if one is.
pub(super) fn replace(
    map: &ShardMap,
    collection: Option<&Arc<Collection>>,
    shard: &Arc<Shard>,
    reports: &Reports,
) -> Option<Step> {
    let (led_on, leader) = reports.leader(shard)?;
    let lost = Lost::of(map, shard, reports);
    match shard.replacing() {
        None => {
            let mut members = shard.record.replicas.iter();
            let leaving = *members.find(|member| lost.has(member))?;
            begin(&lost, leaving, (led_on, leader))
        }
        // What was to join is lost itself.
        Some((joining, leaving)) if lost.has(&joining) => begin(&lost, leaving, (led_on, leader)),
        Some((_, leaving)) if leader.replica == leaving.replica => hand_over(&lost, led_on),
        Some((joining, leaving)) => go_on(collection, shard, (joining, leaving), reports, (led_on, leader)),
    }
}

/// The register's replicas: as the map has them, or else as its leader says.
pub(super) fn register(map: &ShardMap, reports: &Reports) -> Option<Arc<Shard>> {
    if let Some(register) = &map.register {
        return Some(register.clone());
    }
    let replicas = reports.iter().flat_map(|(_, report)| &report.replicas);
    let leaders = replicas.filter(|replica| replica.shard == REGISTER.0 && replica.leader);
    let leader = leaders.max_by_key(|replica| replica.term)?;
    let votes = |member: &&Member| leader.voters.contains(&member.replica);
    Some(Arc::new(Shard {
        id: REGISTER,
        epoch: 0,
        range: HashRange { start: 0, end: 0 },
        record: ShardRecord {
            id: REGISTER.0,
            replicas: leader.members.iter().filter(votes).copied().collect(),
            initialized: true,
            ..ShardRecord::default()
        },
        revision: 0,
    }))
}

/// Which replicas of a shard are lost?
struct Lost<'a> {
    map: &'a ShardMap,
    shard: &'a Arc<Shard>,
    reports: &'a Reports,
    /// Those that most others contradict.
    outvoted: Vec<ReplicaId>,
}

impl<'a> Lost<'a> {
    fn of(map: &'a ShardMap, shard: &'a Arc<Shard>, reports: &'a Reports) -> Lost<'a> {
        let divergence = compare::divergence(shard, reports);
        Lost {
            map,
            shard,
            reports,
            outvoted: divergence.map_or_else(Vec::new, |divergence| divergence.outvoted),
        }
    }

    fn has(&self, member: &Member) -> bool {
        let node = NodeId(member.node);
        let report = self.reports.replica(node, self.shard.id);
        let is_damaged = report.is_some_and(|report| report.replica == member.replica && !report.damage.is_empty());
        is_damaged || self.map.removed.contains(&node) || self.outvoted.contains(&ReplicaId(member.replica))
    }
}

/// Whether the other replicas are a majority, all well.
fn is_dispensable(shard: &Shard, member: &Member, reports: &Reports) -> bool {
    let is_well = |other: &&Member| {
        let report = reports.replica(NodeId(other.node), shard.id);
        report.is_some_and(|report| report.replica == other.replica && report.fault.is_empty())
    };
    let others = shard.record.replicas.iter().filter(|other| *other != member);
    others.filter(is_well).count() > shard.record.replicas.len() / 2
}

/// A lost replica leads: another is to, before anything else. One that is lost is still a voter, and may lead again.
fn hand_over(lost: &Lost<'_>, led_on: NodeId) -> Option<Step> {
    let (shard, reports) = (lost.shard, lost.reports);
    let mut others = shard.record.replicas.iter();
    let is_able = |member: &&Member| {
        let is_there = reports.has(NodeId(member.node), shard.id, ReplicaId(member.replica));
        member.node != led_on.0 && is_there && !lost.has(member)
    };
    let other = others.find(is_able)?;
    Some(Step::TransferLeader(shard.clone(), led_on, ReplicaId(other.replica)))
}

fn begin(lost: &Lost<'_>, leaving: Member, (led_on, leader): (NodeId, &ReplicaReport)) -> Option<Step> {
    if leader.replica == leaving.replica {
        return hand_over(lost, led_on);
    }
    let Lost {
        map, shard, reports, ..
    } = *lost;
    let is_free = |node: &NodeId| {
        let joining = shard.replacing().is_some_and(|(joining, _)| joining.node == node.0);
        shard.replica_on(*node).is_none() && reports.replica(*node, shard.id).is_none() && !joining
    };
    let load = |node: &NodeId| map.shards().filter(|shard| shard.replica_on(*node).is_some()).count();
    let has_room = |node: &NodeId| reports.node(*node).is_some_and(|report| !report.read_only);
    let free = candidates(map, reports)
        .into_iter()
        .filter(|node| is_free(node) && has_room(node));
    let own = NodeId(leaving.node);
    let in_place = || Some(own).filter(|own| reports.node(*own).is_some() && is_dispensable(shard, &leaving, reports));
    let node = free.min_by_key(load).or_else(in_place)?;
    Some(Step::BeginReplacing(shard.clone(), leaving, node))
}

fn go_on(
    collection: Option<&Arc<Collection>>,
    shard: &Arc<Shard>,
    (joining, leaving): (Member, Member),
    reports: &Reports,
    (led_on, leader): (NodeId, &ReplicaReport),
) -> Option<Step> {
    let node = NodeId(joining.node);
    let is_member = |replica: u64| leader.members.iter().any(|member| member.replica == replica);
    if leader.voters.contains(&joining.replica) && !is_member(leaving.replica) {
        return Some(Step::EndReplacing(shard.clone()));
    }
    let Some(report) = reports.replica(node, shard.id) else {
        reports.node(node)?;
        return Some(Step::Ensure(
            collection.cloned(),
            shard.clone(),
            node,
            ReplicaId(joining.replica),
        ));
    };
    if report.replica != joining.replica {
        let is_leaving = report.replica == leaving.replica && is_dispensable(shard, &leaving, reports);
        return is_leaving.then(|| Step::Drop(node, shard.id, ReplicaId(report.replica)));
    }
    if !is_member(joining.replica) {
        return Some(Step::AddLearner(shard.clone(), led_on, joining));
    }
    let has_caught_up = report.applied_index > 0 && report.applied_index + LAG_ENTRIES_MAX >= leader.committed_index;
    has_caught_up.then(|| Step::Promote(shard.clone(), led_on, joining, leaving))
}
