//! What can be asked of one replica of a group? Propose, read, hand over, tell its state.
//!
//! A proposal is answered when a majority holds it durably and this leader applied it. Its place among
//! [`IN_FLIGHT_BYTES_MAX`] is held until its fate is known, even if the caller has long gone, so the bound is exact.
//! Reads don't pass the log: [`Group::read_barrier`] says when, and how surely, this replica's state is fresh enough.

mod members;
mod read;
mod refusal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use granum_model::{ReplicaId, ShardId};
use granum_proto::internal::Member;
use granum_proto::limits::ENTRY_BYTES_MAX;
use granum_proto::status::Failure;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, Fatal, ForwardToLeader, InitializeError, RaftError};
use openraft::metrics::RaftMetrics;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::log::{Log, Refusal};
use super::machine::{Machine, Progress};
use super::network::Peers;
use super::transfer::Offer;
use super::transfer::reception::Reception;
use super::type_config::{Command, Peer, TypeConfig};
use crate::shard::{StateMachine, command};
use read::Contact;
pub(super) use read::commit_of_term;
use refusal::stopped;

/// Most bytes of a group's proposals whose fate is open; more are refused as busy.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// What the smallest proposal is charged, in bytes: bounds their number to 16,384.
const CHARGE_BYTES_MIN: usize = 4 << 10;

pub(super) type Raft = openraft::Raft<TypeConfig, Machine>;

/// One replica of one group, running.
pub struct Group {
    shard: ShardId,
    replica: ReplicaId,
    pub(super) raft: Raft,
    pub(super) machine: Arc<dyn StateMachine>,
    pub(super) progress: Arc<Progress>,
    pub(super) peers: Arc<Peers>,
    runtime: Handle,
    log: Arc<Log>,
    in_flight: Arc<Semaphore>,
    contact: Contact,
    pub(super) reception: Reception,
}

/// What a read may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The level that was asked for, and held: `linearizable`, `session`, `bounded` or `any`.
    pub level: &'static str,
    /// Index up to which entries are applied here, at least.
    pub applied_index: u64,
    /// Upper bound of how old the state may be, in milliseconds; `u64::MAX`: not known.
    pub staleness_ms: u64,
}

/// A replica as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// Whether this replica leads.
    pub leader: bool,
    /// Node of the leader; 0: not known.
    pub leader_node: u64,
    /// Replica that leads; 0: not known.
    pub leader_replica: u64,
    /// Current term.
    pub term: u64,
    /// Index of the last entry in the log.
    pub last_log: u64,
    /// Index up to which a majority has committed, as known here.
    pub committed: u64,
    /// Index up to which entries are applied.
    pub applied: u64,
    /// Index up to which entries are sealed.
    pub sealed: u64,
    /// Voters and learners, by replica id.
    pub members: Vec<Member>,
    /// Those that vote, by replica id.
    pub voters: Vec<u64>,
    /// Why this replica stopped; empty: it works.
    pub fault: String,
    /// Whether that is damage, which opening it again does not mend.
    pub is_damaged: bool,
}

/// Parts of a [`Group`], put together by `groups`.
pub(super) struct Parts {
    pub shard: ShardId,
    pub replica: ReplicaId,
    pub raft: Raft,
    pub machine: Arc<dyn StateMachine>,
    pub progress: Arc<Progress>,
    pub peers: Arc<Peers>,
    pub runtime: Handle,
    pub log: Arc<Log>,
}

impl Group {
    pub(super) fn new(parts: Parts) -> Group {
        let Parts {
            shard,
            replica,
            raft,
            machine,
            progress,
            peers,
            runtime,
            log,
        } = parts;
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / CHARGE_BYTES_MIN));
        let reception = Reception::new(peers.disk().clone(), machine.incoming());
        Group {
            reception,
            shard,
            replica,
            raft,
            machine,
            progress,
            peers,
            runtime,
            log,
            in_flight,
            contact: Contact::default(),
        }
    }

    /// The shard this group replicates; 0 is the register.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The replica that lives here.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Proposes an encoded `internal::Command` and answers the encoded `internal::Applied`.
    ///
    /// Fails with `Invalid` (over [`ENTRY_BYTES_MAX`]), `NotLeader`, `Busy`, `ReadOnly` or, where this replica or its log has
    /// stopped and another will lead, `Unavailable` when it has not happened, and with `Unknown` when it may have.
    pub async fn propose(&self, command: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        if command.len() > ENTRY_BYTES_MAX {
            let problem = format!("command: {} bytes encoded, at most {ENTRY_BYTES_MAX}", command.len());
            return Err(Failure::Invalid(problem));
        }
        self.check_fault()
            .map_err(|fault| Failure::Unavailable(fault.to_string()))?;
        match self.log.refusal(self.shard.0) {
            None => {}
            // Where another leads, only that one's room counts, and it is about to be named.
            Some(Refusal::NoRoom(_)) if self.metrics().state != ServerState::Leader => {}
            Some(Refusal::NoRoom(problem)) => return Err(Failure::ReadOnly(problem)),
            Some(Refusal::Stopped(problem)) => return Err(Failure::Unavailable(problem)),
        }
        let charge = command.len().max(CHARGE_BYTES_MIN).div_ceil(CHARGE_BYTES_MIN) as u32;
        let permit = self.in_flight.clone().try_acquire_many_owned(charge).map_err(|_| {
            Failure::Busy(format!(
                "shard {}: {IN_FLIGHT_BYTES_MAX} bytes of proposals are in flight",
                self.shard
            ))
        })?;
        let raft = self.raft.clone();
        let proposal = self.runtime.spawn(async move {
            let answer = raft.client_write(Command(command)).await;
            drop(permit);
            answer
        });
        match tokio::time::timeout_at(deadline.into(), proposal).await {
            Err(_) => Err(Failure::Unknown(format!(
                "shard {}: no answer before the deadline",
                self.shard
            ))),
            Ok(Err(_)) => Err(Failure::Unknown(format!("shard {}: the node stops", self.shard))),
            Ok(Ok(Ok(written))) => Ok(written.data.0),
            Ok(Ok(Err(error))) => Err(self.write_failure(error)),
        }
    }

    fn write_failure(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Failure {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(leader)) => self.not_leader(&leader),
            RaftError::APIError(error) => Failure::Unknown(format!("shard {}: {error}", self.shard)),
            RaftError::Fatal(fatal) => Failure::Unknown(format!("shard {}: {fatal}", self.shard)),
        }
    }

    fn not_leader(&self, leader: &ForwardToLeader<TypeConfig>) -> Failure {
        let leader_node = leader.leader_node.map_or(0, |peer| peer.node_id);
        // A leader that waits for its first commit, or hands over, names itself: the caller is to ask again.
        let leader_node = if leader_node == self.peers.node() {
            0
        } else {
            leader_node
        };
        Failure::NotLeader {
            shard: self.shard.0,
            leader_node,
        }
    }

    fn check_fault(&self) -> Result<(), Failure> {
        match self.progress.fault.get() {
            Some(fault) => Err(Failure::Fault(format!(
                "shard {}: this replica stopped: {fault}",
                self.shard
            ))),
            None => Ok(()),
        }
    }

    /// Gives the group its first members, on exactly one of its replicas. `false`: it has some already.
    pub async fn initialize(&self, members: &[Member]) -> Result<bool, Failure> {
        let peers: BTreeMap<u64, Peer> = members
            .iter()
            .map(|member| (member.replica, Peer { node_id: member.node }))
            .collect();
        match self.raft.initialize(peers).await {
            Ok(()) => Ok(true),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(Failure::Invalid(format!("members: {error}")))
            }
            Err(RaftError::Fatal(fatal)) => Err(stopped(self.shard, &fatal)),
        }
    }

    /// Hands the leadership to `to`, or to the voter that is furthest where none is named, and waits until another
    /// replica leads. Nothing happens where this replica doesn't lead.
    pub async fn transfer_leader(&self, to: Option<ReplicaId>, deadline: Instant) -> Result<(), Failure> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return Ok(());
        }
        let Some(to) = to.map(|replica| replica.0).or_else(|| furthest_follower(&metrics)) else {
            return Err(Failure::Precondition(format!(
                "shard {}: no other voter to lead it",
                self.shard
            )));
        };
        if !metrics.membership_config.voter_ids().any(|voter| voter == to) {
            return Err(Failure::Invalid(format!(
                "to_replica: {to} is no voter of shard {}",
                self.shard
            )));
        }
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|fatal| stopped(self.shard, &fatal))?;
        let mut watched = self.raft.server_metrics();
        loop {
            {
                let metrics = watched.borrow_watched();
                let leader = metrics.current_leader;
                if metrics.state != ServerState::Leader && leader.is_some_and(|leader| leader != self.replica.0) {
                    return Ok(());
                }
            }
            if !matches!(
                tokio::time::timeout_at(deadline.into(), watched.changed()).await,
                Ok(Ok(()))
            ) {
                return Err(Failure::Unavailable(format!(
                    "shard {}: replica {to} did not take over in time",
                    self.shard
                )));
            }
        }
    }

    /// This replica as it sees itself, now.
    pub fn status(&self) -> GroupStatus {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let leader_replica = metrics.current_leader.unwrap_or(0);
        let fault = match (self.progress.fault.get(), &metrics.running_state) {
            (Some(fault), _) => fault.to_string(),
            (None, Err(Fatal::Stopped) | Ok(())) => String::new(),
            (None, Err(fatal)) => fatal.to_string(),
        };
        let applied = *self.progress.applied.borrow();
        GroupStatus {
            leader: metrics.state == ServerState::Leader && fault.is_empty(),
            leader_node: membership.get_node(&leader_replica).map_or(0, |peer| peer.node_id),
            leader_replica,
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics
                .cluster_committed
                .or(metrics.local_committed)
                .map_or(0, |id| id.index()),
            applied,
            sealed: *self.progress.sealed.borrow(),
            members: membership
                .nodes()
                .map(|(replica, peer)| Member {
                    replica: *replica,
                    node: peer.node_id,
                })
                .collect(),
            voters: members::settled_voters(&metrics, applied),
            is_damaged: self.progress.fault.get().is_some_and(|fault| fault.is_damage),
            fault,
        }
    }

    /// Whether a snapshot is of no use here: this replica has committed what it holds, or obeys a later leader.
    pub(super) fn needs_nothing_of(&self, offer: &Offer) -> bool {
        let metrics = self.metrics();
        offer.meta.last_log_id <= metrics.local_committed || offer.vote.leader_id.term < metrics.current_term
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Asks for a seal and, once it stands, for the purge of everything behind it: this group pins the log's oldest
    /// entry and the log is over its budget. Called again and again until it isn't.
    pub(super) async fn release_log(&self) {
        let (applied, sealed) = (*self.progress.applied.borrow(), *self.progress.sealed.borrow());
        if sealed > 0 && self.raft.trigger().purge_log(sealed).await.is_err() {
            return;
        }
        let status = self.status();
        if applied <= sealed || self.progress.seal_point.load(Ordering::Acquire) > sealed {
            return;
        }
        if status.leader {
            self.propose_seal().await;
        } else {
            self.ask_leader_for_seal(&status).await;
        }
    }

    /// Asks the leader for a seal point: only it can propose one. It answers whether or not it thought one needed.
    pub(super) async fn ask_leader_for_seal(&self, status: &GroupStatus) {
        if status.leader_node == 0 {
            return;
        }
        let (node, shard, replica) = (status.leader_node, self.shard.0, status.leader_replica);
        if let Err(status) = self.peers.request_seal(node, shard, replica).await {
            tracing::debug!(shard, why = status.message(), "the leader was not asked for a seal");
        }
    }

    /// Proposes a seal point; whether it was applied. The group's keeper does so one at a time.
    pub(super) async fn propose_seal(&self) -> bool {
        let seal = command::seal().encode_to_vec();
        self.raft.client_write(Command(seal.into())).await.is_ok()
    }
}

/// The voter, other than the leader, that holds most of the log.
fn furthest_follower(metrics: &RaftMetrics<TypeConfig>) -> Option<u64> {
    let matched = metrics.replication.clone().unwrap_or_default();
    let voters = metrics
        .membership_config
        .voter_ids()
        .filter(|voter| *voter != metrics.id);
    voters.max_by_key(|voter| matched.get(voter).and_then(|at| at.as_ref().map(|id| id.index())))
}
