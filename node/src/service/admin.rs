//! Upkeep of replicas, as coordinators order it, and a node's report of itself. All idempotent.

use std::time::{Duration, Instant};

use granum_model::ids::REGISTER;
use granum_model::{ReplicaId, ShardId};
use granum_proto::internal::{
    DropReplicaRequest, EnsureReplicaRequest, InitializeShardRequest, NodeReport, ReplaceMemberRequest, ReplicaReport,
    TransferLeaderRequest,
};
use granum_proto::status::Failure;

use crate::holdings::Holdings;
use crate::process;
use crate::raft::GroupStatus;

/// Time a hand-over of leadership or a change of members may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most members of a group.
const MEMBERS_MAX: usize = 16;

/// Makes this node hold a replica; whether it is new here.
pub async fn ensure_replica(holdings: &Holdings, request: EnsureReplicaRequest) -> Result<bool, Failure> {
    if request.shard != REGISTER.0 && request.epoch == 0 {
        return Err(Failure::Invalid("epoch: 0, a shard's epochs begin at 1".into()));
    }
    if request.range_start > request.range_end {
        let (start, end) = (request.range_start, request.range_end);
        return Err(Failure::Invalid(format!(
            "range_start: {start:016x} is behind range_end {end:016x}"
        )));
    }
    holdings.ensure(request).await
}

/// Gives a new group its first members; `false`: it has some.
pub async fn initialize_shard(holdings: &Holdings, request: InitializeShardRequest) -> Result<bool, Failure> {
    let members = &request.members;
    if members.is_empty() || members.len() > MEMBERS_MAX {
        return Err(Failure::Invalid(format!(
            "members: {}, must be 1..={MEMBERS_MAX}",
            members.len()
        )));
    }
    let group = holdings
        .groups()
        .group(ShardId(request.shard))
        .ok_or(Failure::NoReplica { shard: request.shard })?;
    group.initialize(members).await
}

/// Removes a replica with all it keeps; whether there was one.
pub async fn drop_replica(holdings: &Holdings, request: &DropReplicaRequest) -> Result<bool, Failure> {
    holdings.drop_replica(request).await
}

/// Hands a group's leadership to another replica.
pub async fn transfer_leader(holdings: &Holdings, request: &TransferLeaderRequest) -> Result<(), Failure> {
    let group = holdings
        .groups()
        .group(ShardId(request.shard))
        .ok_or(Failure::NoReplica { shard: request.shard })?;
    let status = group.status();
    if !status.leader {
        return Err(Failure::NotLeader {
            shard: request.shard,
            leader_node: status.leader_node,
        });
    }
    let to = (request.to_replica != 0).then_some(ReplicaId(request.to_replica));
    group.transfer_leader(to, Instant::now() + TRANSFER_TIMEOUT).await
}

/// Takes a step of a replacement in a group that is led here.
pub async fn replace_member(holdings: &Holdings, request: &ReplaceMemberRequest) -> Result<(), Failure> {
    let joining = request
        .joining
        .ok_or_else(|| Failure::Invalid("joining: missing".into()))?;
    if joining.replica == 0 || joining.node == 0 {
        return Err(Failure::Invalid(
            "joining: replica or node is 0, which names none".into(),
        ));
    }
    let group = holdings
        .groups()
        .group(ShardId(request.shard))
        .ok_or(Failure::NoReplica { shard: request.shard })?;
    let deadline = Instant::now() + TRANSFER_TIMEOUT;
    match request.promote {
        false => group.add_learner(joining, deadline).await,
        true => {
            let (joining, leaving) = (ReplicaId(joining.replica), ReplicaId(request.leaving));
            let voters = request.voters.iter().copied().collect();
            group.promote(joining, leaving, voters, deadline).await
        }
    }
}

/// This node as it sees itself. Blocks: it asks the file system.
pub fn report(holdings: &Holdings, draining: bool) -> NodeReport {
    let identity = holdings.directory().identity();
    let log = holdings.groups().log();
    let log_bytes = log.stats().disk_bytes;
    let replicas = identity.replicas.iter();
    let replicas: Vec<ReplicaReport> = replicas.map(|record| replica_report(holdings, record)).collect();
    NodeReport {
        node: identity.node,
        cluster: identity.cluster,
        version: env!("CARGO_PKG_VERSION").into(),
        disk_used_bytes: log_bytes + replicas.iter().map(|replica| replica.disk_bytes).sum::<u64>(),
        disk_available_bytes: holdings.available_bytes(),
        replicas,
        memory_bytes: process::anonymous_bytes(),
        log_bytes,
        draining,
        register_voter: holdings
            .register()
            .is_some_and(|register| register.group.has_settled_vote()),
        read_only: !log.accepts_writes(),
    }
}

fn replica_report(holdings: &Holdings, record: &EnsureReplicaRequest) -> ReplicaReport {
    let group = holdings.groups().group(ShardId(record.shard));
    let status = group.map_or_else(
        || GroupStatus {
            fault: holdings
                .unopened(record.shard)
                .unwrap_or_else(|| "not open yet".to_owned()),
            ..GroupStatus::default()
        },
        |group| group.status(),
    );
    let stats = holdings
        .replicas()
        .find(record.shard)
        .map(|replica| replica.machine.stats())
        .unwrap_or_default();
    ReplicaReport {
        shard: record.shard,
        replica: record.replica,
        epoch: if stats.epoch == 0 { record.epoch } else { stats.epoch },
        collection: record.collection,
        leader: status.leader,
        leader_node: status.leader_node,
        leader_replica: status.leader_replica,
        term: status.term,
        last_log_index: status.last_log,
        committed_index: status.committed,
        applied_index: status.applied,
        sequence: stats.sequence,
        documents: stats.index.documents,
        recent_documents: stats.index.recent_documents,
        recent_bytes: stats.index.recent_bytes,
        segments: stats.index.segments,
        disk_bytes: stats.index.disk_bytes,
        members: status.members,
        fault: status.fault,
        voters: status.voters,
        damage: holdings.damage(record).unwrap_or_default(),
        seals: stats.seals,
    }
}
