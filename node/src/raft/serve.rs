//! What does a node do with Raft's messages from others? Check whom they are for, hand them to that replica, answer.
//!
//! A message for another cluster, or for a replica that no longer lives here, is refused: an old replica's id must never
//! vote in the name of the new one. A contact with the leader is noted with the time it *arrived*.

mod install;

use std::sync::Arc;

use granum_model::ShardId;
use granum_proto::internal;
use granum_proto::status::Failure;
use openraft::raft::{AppendEntriesResponse, TransferLeaderRequest};
use tokio::time::Instant;

use super::group::{Group, commit_of_term};
use super::groups::Groups;
use super::wire::{self, Malformed};

/// The groups of a node as its peers reach them.
#[derive(Clone)]
pub struct Inbox {
    groups: Arc<Groups>,
}

fn malformed(why: Malformed) -> Failure {
    Failure::Invalid(why.to_string())
}

impl Inbox {
    /// Serves `groups`.
    pub fn new(groups: Arc<Groups>) -> Inbox {
        Inbox { groups }
    }

    /// The replica that a message is for.
    fn addressee(&self, target: Option<&internal::RaftTarget>) -> Result<Arc<Group>, Failure> {
        let target = target.ok_or_else(|| malformed(Malformed("target: absent")))?;
        let cluster = self.groups.peers().cluster();
        if target.cluster != cluster {
            return Err(Failure::Precondition(format!(
                "this node belongs to cluster {cluster:016x}"
            )));
        }
        let group = self
            .groups
            .group(ShardId(target.group))
            .ok_or(Failure::NoReplica { shard: target.group })?;
        if group.replica().0 != target.replica {
            return Err(Failure::NoReplica { shard: target.group });
        }
        Ok(group)
    }

    /// Entries, or a heartbeat.
    pub async fn append(&self, request: internal::RaftAppendRequest) -> Result<internal::RaftAppendResponse, Failure> {
        let arrived = Instant::now();
        let group = self.addressee(request.target.as_ref())?;
        let request = wire::append_in(request).map_err(malformed)?;
        let has_entries = !request.entries.is_empty();
        let committed = commit_of_term(request.leader_commit, request.vote.leader_id.term);
        let answer = group.raft.append_entries(request).await;
        let answer = answer.map_err(|error| Failure::Unavailable(format!("shard {}: {error}", group.shard())))?;
        let taken = matches!(
            answer,
            AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)
        );
        if taken && has_entries {
            group.reception.supersede();
        }
        if let (true, Some(committed)) = (taken, committed) {
            group.heard(arrived.into_std(), committed);
        }
        Ok(wire::appended_out(answer))
    }

    /// A candidate asks for this replica's vote.
    pub async fn vote(&self, request: internal::RaftVoteRequest) -> Result<internal::RaftVoteResponse, Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let answer = group
            .raft
            .vote(wire::vote_request_in(request).map_err(malformed)?)
            .await;
        answer
            .map(wire::voted_out)
            .map_err(|error| Failure::Unavailable(error.to_string()))
    }

    /// A would-be candidate asks whether this replica would vote for it. Changes nothing.
    pub async fn pre_vote(&self, request: internal::RaftVoteRequest) -> Result<internal::RaftVoteResponse, Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let answer = group
            .raft
            .pre_vote(wire::vote_request_in(request).map_err(malformed)?)
            .await;
        answer
            .map(wire::voted_out)
            .map_err(|error| Failure::Unavailable(error.to_string()))
    }

    /// The leader hands over, to this replica or to another.
    pub async fn transfer_leader(&self, request: internal::RaftTransferRequest) -> Result<(), Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let from = wire::vote_in(request.from_leader).map_err(malformed)?;
        let request = TransferLeaderRequest::new(from, request.to_replica, request.last_log.map(wire::log_id_in));
        match group.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Precondition(error.to_string())),
            Err(fatal) => Err(Failure::Unavailable(fatal.to_string())),
        }
    }

    /// A follower's log is over its budget: seal, so that both may purge.
    pub async fn request_seal(&self, request: internal::RaftSealRequest) -> Result<(), Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let status = group.status();
        if !status.leader {
            return Err(Failure::NotLeader {
                shard: group.shard().0,
                leader_node: status.leader_node,
            });
        }
        group.release_log().await;
        Ok(())
    }
}
