//! When does a replica take another's place, where, and which step is next? Pure, a part of `plan`.
//!
//! A replica is *lost* when its node was removed from the cluster, when its node says that its log or files are damaged, or
//! when most replicas of its shard contradict it about the documents (`compare`).
//! It is replaced by a new one, under a new id, on the emptiest node that has none of the shard; one that is damaged on its
//! own node if there is no other, and the others are a majority without it: it goes before its successor comes. So is one that was only
//! about to join. One replica of a
//! shard at a time, and only while another leads: what is dropped is never the last that knows.
//! The register *grows* likewise, by replicas that take nobody's place, where the cluster has become larger.
//!
//! Steps: note the replacement in the map · make the replica on its node (after dropping the damaged one, if it is there) ·
//! add it as a learner · promote it when it has caught up · give it the place in the map. Each is due until a report or the
//! map shows that it was taken, so any coordinator goes on where another stopped. The register is a shard like others here.

use std::sync::Arc;

use granum_model::ids::{REGISTER, register_voters};
use granum_model::{NodeId, ReplicaId};
use granum_proto::internal::{Member, ReplicaReport, ShardRecord};

use super::compare;
use super::observe::Reports;
use super::plan::{LAG_ENTRIES_MAX, Step, candidates};
use crate::map::range::HashRange;
use crate::map::{Collection, Replacing, Shard, ShardMap};

/// The step that is due for a shard, if one is.
pub(super) fn replace(
    map: &ShardMap,
    collection: Option<&Arc<Collection>>,
    shard: &Arc<Shard>,
    reports: &Reports,
) -> Option<Step> {
    let (led_on, leader) = reports.leader(shard)?;
    let lost = Lost::of(map, shard, reports);
    let Some(replacing) = shard.replacing() else {
        let mut members = shard.record.replicas.iter();
        let leaving = *members.find(|member| lost.has(member))?;
        return begin(&lost, Some(leaving), (led_on, leader));
    };
    let Replacing { joining, leaving } = replacing;
    let leads = |member: Member| leader.replica == member.replica;
    if is_done(replacing, leader) {
        return Some(Step::EndReplacing(shard.clone()));
    }
    // What was to join is lost itself.
    if lost.has(&joining) {
        return begin(&lost, leaving, (led_on, leader));
    }
    if leaving.is_some_and(leads) {
        return hand_over(&lost, led_on);
    }
    let next = go_on(collection, shard, replacing, reports, (led_on, leader));
    let is_last = matches!(next, Some(Step::Promote(..)));
    let lost_now = || shard.record.replicas.iter().find(|member| lost.has(member));
    // Growing gives way to replacing what was lost meanwhile.
    match lost_now().filter(|_| leaving.is_none() && !is_last) {
        Some(leaving) => begin(&lost, Some(*leaving), (led_on, leader)).or(next),
        None => next,
    }
}

/// The step that brings the register to the number of voters that the cluster's nodes ask for, if it has fewer.
///
/// One at a time, and only if there are nodes for all that it lacks: an even number bears no more losses than one less, so it does
/// not stop at one. It does not begin while one of its replicas is not well. It never shrinks.
pub(super) fn grow(map: &ShardMap, register: &Arc<Shard>, reports: &Reports) -> Option<Step> {
    reports.leader(register)?;
    let lacking = register_wanted(map, register) - register.record.replicas.len();
    if lacking == 0 || register.replacing().is_some() || !may_grow(register, reports) {
        return None;
    }
    let free: Vec<NodeId> = free(map, register, reports).collect();
    let node = emptiest(map, free.iter().copied()).filter(|_| free.len() >= lacking)?;
    Some(Step::BeginReplacing(register.clone(), None, node))
}

/// How many replicas the register is to have, of which it has so many at least.
pub(crate) fn register_wanted(map: &ShardMap, register: &Shard) -> usize {
    let members = register.record.replicas.len();
    let staying = map.nodes.values().filter(|node| !node.draining).count();
    let is_halfway = members.is_multiple_of(2);
    register_voters(staying).max(members + usize::from(is_halfway))
}

/// Whether another vote makes no majority harder to find: all replicas are well, or there is an even number of them.
fn may_grow(register: &Shard, reports: &Reports) -> bool {
    let mut members = register.record.replicas.iter();
    members.len().is_multiple_of(2) || members.all(|member| is_well(register, member, reports))
}

/// The register's replicas: as the map has them, or else as its leader says.
pub(crate) fn register(map: &ShardMap, reports: &Reports) -> Option<Arc<Shard>> {
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

/// Whether the joining replica has its vote, and who was to leave is no member any more.
fn is_done(replacing: Replacing, leader: &ReplicaReport) -> bool {
    let is_member = |leaving: Member| leader.members.iter().any(|member| member.replica == leaving.replica);
    leader.voters.contains(&replacing.joining.replica) && !replacing.leaving.is_some_and(is_member)
}

/// Whether a replica of the shard is on its node, and takes part.
fn is_well(shard: &Shard, member: &Member, reports: &Reports) -> bool {
    let report = reports.replica(NodeId(member.node), shard.id);
    report.is_some_and(|report| report.replica == member.replica && report.fault.is_empty())
}

/// Whether the other replicas are a majority, all well.
fn is_dispensable(shard: &Shard, member: &Member, reports: &Reports) -> bool {
    let others = shard.record.replicas.iter().filter(|other| *other != member);
    others.filter(|other| is_well(shard, other, reports)).count() > shard.record.replicas.len() / 2
}

/// Nodes that have nothing of the shard, and room.
fn free<'a>(map: &ShardMap, shard: &'a Shard, reports: &'a Reports) -> impl Iterator<Item = NodeId> + 'a {
    let is_free = |node: &NodeId| {
        let joining = shard.joining().is_some_and(|joining| joining.node == node.0);
        shard.replica_on(*node).is_none() && reports.replica(*node, shard.id).is_none() && !joining
    };
    let has_room = |node: &NodeId| reports.node(*node).is_some_and(|report| !report.read_only);
    candidates(map, reports)
        .into_iter()
        .filter(move |node| is_free(node) && has_room(node))
}

/// The one that holds the fewest replicas.
fn emptiest(map: &ShardMap, nodes: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    let load = |node: &NodeId| map.shards().filter(|shard| shard.replica_on(*node).is_some()).count();
    nodes.min_by_key(load)
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

fn begin(lost: &Lost<'_>, leaving: Option<Member>, (led_on, leader): (NodeId, &ReplicaReport)) -> Option<Step> {
    if leaving.is_some_and(|leaving| leader.replica == leaving.replica) {
        return hand_over(lost, led_on);
    }
    let Lost {
        map, shard, reports, ..
    } = *lost;
    let in_place = || {
        let leaving = leaving.filter(|leaving| is_dispensable(shard, leaving, reports))?;
        Some(NodeId(leaving.node)).filter(|own| reports.node(*own).is_some())
    };
    // What was to join goes first where it is, full disk or not, and is made anew there. It may have a vote by now.
    let again = || {
        let may_go = |joining: &Member| lost.has(joining) && is_dispensable(shard, joining, reports);
        let joining = shard.joining().filter(may_go)?;
        candidates(map, reports).into_iter().find(|node| node.0 == joining.node)
    };
    let node = emptiest(map, free(map, shard, reports))
        .or_else(again)
        .or_else(in_place)?;
    Some(Step::BeginReplacing(shard.clone(), leaving, node))
}

fn go_on(
    collection: Option<&Arc<Collection>>,
    shard: &Arc<Shard>,
    replacing: Replacing,
    reports: &Reports,
    (led_on, leader): (NodeId, &ReplicaReport),
) -> Option<Step> {
    let Replacing { joining, leaving } = replacing;
    let node = NodeId(joining.node);
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
        let leaving = leaving.filter(|leaving| report.replica == leaving.replica)?;
        let is_dispensable = is_dispensable(shard, &leaving, reports);
        return is_dispensable.then(|| Step::Drop(node, shard.id, ReplicaId(report.replica)));
    }
    if !leader.members.iter().any(|member| member.replica == joining.replica) {
        return Some(Step::AddLearner(shard.clone(), led_on, joining));
    }
    let has_caught_up = report.applied_index > 0 && report.applied_index + LAG_ENTRIES_MAX >= leader.committed_index;
    let stays = reports.node(node).is_some_and(|own| !own.draining) && report.fault.is_empty();
    let may_vote = leaving.is_some() || (stays && may_grow(shard, reports));
    (has_caught_up && may_vote).then(|| Step::Promote(shard.clone(), led_on, replacing))
}
