//! What a collection and the cluster look like: the map, with what the nodes last said.

use granum_model::NodeId;
use granum_proto::internal::{Member, NodeRecord, ReplicaReport};
use granum_proto::v1;

use crate::control::observe::Reports;
use crate::control::{compare, replace};
use crate::map::{Collection, Shard, ShardMap};

/// A collection.
pub(super) fn collection(collection: &Collection, reports: &Reports) -> v1::CollectionInfo {
    let leader = |shard: &Shard| reports.leader(shard).map_or(0, |(_, report)| report.documents);
    v1::CollectionInfo {
        name: collection.name().to_owned(),
        id: collection.id.0,
        schema: collection.record.schema.clone(),
        replication_factor: collection.record.replication_factor,
        default_read: collection.record.default_read.clone(),
        state: collection.record.state,
        shards: collection
            .shards
            .iter()
            .map(|shard| self::shard(shard, reports))
            .collect(),
        documents: collection.shards.iter().map(|shard| leader(shard)).sum(),
    }
}

fn shard(shard: &Shard, reports: &Reports) -> v1::ShardInfo {
    let last_index = reports.leader(shard).map_or(0, |(_, leader)| leader.last_log_index);
    let replica = |member: &Member| {
        let node = NodeId(member.node);
        let report = reports
            .replica(node, shard.id)
            .filter(|report| report.replica == member.replica);
        replica(member, reports.node(node).is_some(), report, last_index)
    };
    let replacing = shard.replacing();
    v1::ShardInfo {
        joining: replacing.map(|replacing| replica(&replacing.joining)),
        leaving: replacing
            .and_then(|replacing| replacing.leaving)
            .map_or(0, |leaving| leaving.replica),
        diverged_at: compare::divergence(shard, reports).map_or(0, |divergence| divergence.index),
        id: shard.id.0,
        epoch: shard.epoch,
        range_start: shard.range.start,
        range_end: shard.range.end,
        replicas: shard.record.replicas.iter().map(replica).collect(),
    }
}

fn replica(member: &Member, reachable: bool, report: Option<&ReplicaReport>, last_index: u64) -> v1::ReplicaInfo {
    let none = ReplicaReport::default();
    let there = report.is_some_and(|report| report.fault.is_empty());
    let report = report.unwrap_or(&none);
    v1::ReplicaInfo {
        replica: member.replica,
        node: member.node,
        reachable: reachable && there,
        leader: report.leader,
        term: report.term,
        applied_index: report.applied_index,
        lag_entries: last_index.saturating_sub(report.applied_index),
        documents: report.documents,
        recent_documents: report.recent_documents,
        segments: report.segments,
        disk_bytes: report.disk_bytes,
    }
}

/// The cluster.
pub(super) fn cluster(map: &ShardMap, reports: &Reports, cluster: u64) -> v1::ClusterStatusResponse {
    let nodes = map.nodes.iter().map(|(id, record)| node(*id, record, reports));
    let register = replace::register(map, reports);
    v1::ClusterStatusResponse {
        cluster,
        map_revision: map.revision,
        nodes: nodes.collect(),
        collections: map
            .collections
            .values()
            .map(|found| collection(found, reports))
            .collect(),
        coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
        register_wanted: register
            .as_ref()
            .map_or(0, |register| replace::register_wanted(map, register) as u32),
        register: Some(register.map_or_else(Default::default, |register| shard(&register, reports))),
    }
}

fn node(id: NodeId, record: &NodeRecord, reports: &Reports) -> v1::NodeInfo {
    let none = Default::default();
    let report = reports.node(id);
    let said = report.unwrap_or(&none);
    let shards = || said.replicas.iter().filter(|replica| replica.shard != 0);
    v1::NodeInfo {
        id: id.0,
        data_address: record.data_address.clone(),
        raft_address: record.raft_address.clone(),
        metrics_address: record.metrics_address.clone(),
        reachable: report.is_some(),
        version: record.version.clone(),
        replicas: shards().count() as u64,
        leaders: shards().filter(|replica| replica.leader).count() as u64,
        disk_used_bytes: said.disk_used_bytes,
        disk_available_bytes: said.disk_available_bytes,
        memory_bytes: said.memory_bytes,
        draining: record.draining || said.draining,
        register_voter: said.register_voter,
        read_only: said.read_only,
    }
}
