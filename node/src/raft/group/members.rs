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
use openraft::{ChangeMembers, RaftMetrics, ServerState};

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
        self.check_newest(&membership, joining.replica)?;
        let peer = Peer { node_id: joining.node };
        self.change(self.raft.add_learner(joining.replica, peer, false), deadline)
            .await
    }

    /// Gives the vote of `leaving` to the learner `joining`, or one of its own where `leaving` is 0; `voters`, if they are named, vote
    /// then, and nobody else is a member.
    ///
    /// Fails with `Precondition` (`joining` is no learner, or not the newest member, or `leaving` leads), `NotLeader`, `Busy` or
    /// `Unknown`; what it began may be half done then, and is completed when it is asked again.
    pub async fn promote(
        &self,
        joining: ReplicaId,
        leaving: ReplicaId,
        voters: BTreeSet<u64>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let membership = self.led_membership()?;
        if membership.get_node(&joining.0).is_none() {
            let problem = format!("shard {}: replica {joining} does not learn yet", self.shard);
            return Err(Failure::Precondition(problem));
        }
        if leaving == self.replica {
            let problem = format!("shard {}: replica {leaving} leads, and can't leave", self.shard);
            return Err(Failure::Precondition(problem));
        }
        self.check_newest(&membership, joining.0)?;
        let voters = if voters.is_empty() {
            let others = membership.voter_ids().filter(|voter| *voter != leaving.0);
            others.chain([joining.0]).collect()
        } else {
            voters
        };
        // A change that was cut off leaves two sets of voters behind.
        if membership.get_joint_config()[..] != [voters.clone()] {
            self.change(self.raft.change_membership(voters.clone(), false), deadline)
                .await?;
        }
        let others: BTreeSet<u64> = membership.nodes().map(|(replica, _)| *replica).collect();
        let others: BTreeSet<u64> = others
            .difference(&voters)
            .copied()
            .filter(|other| !membership.voter_ids().any(|voter| voter == *other))
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

    /// Refuses what was planned before a newer replica became a member: ids ascend.
    fn check_newest(&self, membership: &crate::raft::type_config::Membership, joining: u64) -> Result<(), Failure> {
        match membership.nodes().map(|(replica, _)| *replica).max() {
            Some(newest) if newest > joining => Err(Failure::Precondition(format!(
                "shard {}: replica {joining} is older than {newest}, which joined since",
                self.shard
            ))),
            _ => Ok(()),
        }
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

/// Who votes whichever way the change of members ends that may be under way; nobody until it is `applied`, because before that it
/// may be taken back.
pub(super) fn settled_voters(metrics: &RaftMetrics<TypeConfig>, applied: u64) -> Vec<u64> {
    let stored = &metrics.membership_config;
    let is_applied = stored.log_id().as_ref().is_some_and(|id| id.index() <= applied);
    let sets = stored.membership().get_joint_config();
    let votes = |voter: &u64| sets.iter().all(|set| set.contains(voter));
    let voters = stored.membership().voter_ids().filter(votes);
    if is_applied { voters.collect() } else { Vec::new() }
}
