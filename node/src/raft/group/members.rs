//! How does one replica take another's place, or join the others? It learns first, then gets the vote: a group never has
//! fewer voters than before, and no voter that knows less than a majority did.
//!
//! Both steps are asked of the leader and may be repeated. What else is in the group and does not vote, a replica that was
//! to join and was given up, leaves with the second.

use std::collections::BTreeSet;
use std::time::Instant;

use granum_model::ReplicaId;
use granum_proto::internal::Member;
use granum_proto::status::Failure;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState};

use super::{Group, Peer, TypeConfig};

type Changed =
    Result<openraft::raft::ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

impl Group {
    /// Makes `joining` a learner; it is sent what it lacks from then on.
    ///
    /// Fails with `NotLeader`, `Busy` (the members change already) or `Unknown`.
    pub async fn add_learner(&self, joining: Member, deadline: Instant) -> Result<(), Failure> {
        let membership = self.led_membership()?;
        if membership.get_node(&joining.replica).is_some() {
            return Ok(());
        }
        let peer = Peer { node_id: joining.node };
        self.change(self.raft.add_learner(joining.replica, peer, false), deadline)
            .await
    }

    /// Gives the vote of `leaving` to the learner `joining`, or one of its own where `leaving` (0, say) has none; none but voters
    /// are members then.
    ///
    /// Fails with `Precondition` (`joining` is no learner, or `leaving` leads), `NotLeader`, `Busy` or `Unknown`.
    pub async fn promote(&self, joining: ReplicaId, leaving: ReplicaId, deadline: Instant) -> Result<(), Failure> {
        let membership = self.led_membership()?;
        if membership.get_node(&joining.0).is_none() {
            let problem = format!("shard {}: replica {joining} does not learn yet", self.shard);
            return Err(Failure::Precondition(problem));
        }
        if leaving == self.replica {
            let problem = format!("shard {}: replica {leaving} leads, and can't leave", self.shard);
            return Err(Failure::Precondition(problem));
        }
        let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
        voters.remove(&leaving.0);
        voters.insert(joining.0);
        if membership.voter_ids().ne(voters.iter().copied()) {
            self.change(self.raft.change_membership(voters.clone(), false), deadline)
                .await?;
        }
        let others: BTreeSet<u64> = membership.nodes().map(|(replica, _)| *replica).collect();
        let others: BTreeSet<u64> = others
            .difference(&voters)
            .copied()
            .filter(|other| *other != leaving.0)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        self.change(
            self.raft.change_membership(ChangeMembers::RemoveNodes(others), false),
            deadline,
        )
        .await
    }

    /// Whether this replica votes, as far as it knows. One that does not is empty, or on its way.
    pub(super) fn is_voter(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut voters = metrics.membership_config.membership().voter_ids();
        voters.any(|voter| voter == self.replica.0)
    }

    /// Whether this replica votes in a group whose members are not changing just now, as far as it knows.
    pub fn has_settled_vote(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let sets = metrics.membership_config.membership().get_joint_config();
        matches!(&sets[..], [voters] if voters.contains(&self.replica.0))
    }

    fn led_membership(&self) -> Result<crate::raft::type_config::Membership, Failure> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            let status = self.status();
            return Err(Failure::NotLeader {
                shard: self.shard.0,
                leader_node: status.leader_node,
            });
        }
        Ok(metrics.membership_config.membership().clone())
    }

    async fn change(&self, change: impl Future<Output = Changed>, deadline: Instant) -> Result<(), Failure> {
        match tokio::time::timeout_at(deadline.into(), change).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(Failure::Busy(format!("shard {}: {error}", self.shard)))
            }
            Ok(Err(error)) => Err(self.write_failure(error)),
            Err(_) => Err(Failure::Unknown(format!(
                "shard {}: its members were not changed before the deadline",
                self.shard
            ))),
        }
    }
}
