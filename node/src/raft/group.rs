//! What can be asked of one replica of a group? Propose, read, hand over, tell its state.
//!
//! A proposal is answered when a majority holds it durably and this leader applied it. Its place among
//! [`IN_FLIGHT_BYTES_MAX`] is held until its fate is known, even if the caller has long gone, so the bound is exact.
//! Reads don't pass the log: [`Group::read_barrier`] says when, and how surely, this replica's state is fresh enough.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use granum_model::{ReplicaId, ShardId};
use granum_proto::internal::Member;
use granum_proto::limits::ENTRY_BYTES_MAX;
use granum_proto::status::Failure;
use granum_proto::v1::{ReadLevel, read_level};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, Fatal, ForwardToLeader, InitializeError, LinearizableReadError, RaftError};
use openraft::metrics::RaftMetrics;
use openraft::{Instant as _, ReadPolicy, ServerState};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::log::Log;
use super::machine::{Machine, Progress};
use super::network::Peers;
use super::type_config::{Command, Peer, TypeConfig};
use crate::shard::{StateMachine, command};

/// Most bytes of a group's proposals whose fate is open; more are refused as busy.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// What the smallest proposal is charged, in bytes: bounds their number to 16,384.
const CHARGE_BYTES_MIN: usize = 4 << 10;
/// How long a bounded read waits for a replica to become fresh enough before another one is to be asked.
const FRESHNESS_WAIT: Duration = Duration::from_millis(500);

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
    /// Why this replica stopped; empty: it works.
    pub fault: String,
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
        Group {
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
    /// Fails with `Invalid` (over [`ENTRY_BYTES_MAX`]), `NotLeader`, `Busy`, `ReadOnly` or `Fault` when it has not
    /// happened, and with `Unknown` when it may have.
    pub async fn propose(&self, command: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        if command.len() > ENTRY_BYTES_MAX {
            let problem = format!("command: {} bytes encoded, at most {ENTRY_BYTES_MAX}", command.len());
            return Err(Failure::Invalid(problem));
        }
        self.check_fault()?;
        if !self.log.accepts_writes() {
            return Err(Failure::ReadOnly(
                "the log takes no writes: the disk is nearly full".into(),
            ));
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

    fn fatal(&self, fatal: &Fatal<TypeConfig>) -> Failure {
        match fatal {
            Fatal::Stopped => Failure::Unavailable(format!("shard {}: the node stops", self.shard)),
            other => Failure::Fault(format!("shard {}: {other}", self.shard)),
        }
    }

    /// Returns once this replica's state satisfies `level`; never a lesser one.
    ///
    /// `linearizable` needs the leader (`NotLeader` elsewhere): a majority confirms it, then everything committed before
    /// is applied. `bounded` fails as `Stale` when this replica does not become fresh enough soon. For `session` this
    /// only reports where the replica stands: the shard compares sequences and waits by [`wait_applied`](Self::wait_applied).
    pub async fn read_barrier(&self, level: &ReadLevel, deadline: Instant) -> Result<Barrier, Failure> {
        self.check_fault()?;
        match &level.kind {
            None | Some(read_level::Kind::Linearizable(_)) => self.linearizable(deadline).await,
            Some(read_level::Kind::Session(_)) => Ok(self.barrier("session")),
            Some(read_level::Kind::Any(_)) => Ok(self.barrier("any")),
            Some(read_level::Kind::Bounded(bound)) => self.bounded(bound, deadline).await,
        }
    }

    fn barrier(&self, level: &'static str) -> Barrier {
        let (staleness, _) = self.freshness();
        let staleness_ms = staleness.map_or(u64::MAX, |age| age.as_millis() as u64);
        Barrier {
            level,
            applied_index: *self.progress.applied.borrow(),
            staleness_ms,
        }
    }

    async fn linearizable(&self, deadline: Instant) -> Result<Barrier, Failure> {
        let shard = self.shard;
        let confirm = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        let confirmed = tokio::time::timeout_at(deadline.into(), confirm)
            .await
            .map_err(|_| Failure::Unavailable(format!("shard {shard}: no majority answered before the deadline")))?;
        let index = match confirmed {
            Ok(linearizer) => linearizer.read_log_id().log_id().index(),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(leader))) => {
                return Err(self.not_leader(&leader));
            }
            Err(RaftError::APIError(error)) => return Err(Failure::Unavailable(format!("shard {shard}: {error}"))),
            Err(RaftError::Fatal(fatal)) => return Err(self.fatal(&fatal)),
        };
        let applied_index = self.wait_applied(index, deadline).await?;
        Ok(Barrier {
            level: "linearizable",
            applied_index,
            staleness_ms: 0,
        })
    }

    async fn bounded(&self, bound: &read_level::Bounded, deadline: Instant) -> Result<Barrier, Failure> {
        let mut applied = self.progress.applied.subscribe();
        let mut contacts = self.contact.changed.subscribe();
        let give_up = deadline.min(Instant::now() + FRESHNESS_WAIT);
        loop {
            let (age, behind) = self.freshness();
            let fresh = bound.max_lag_ms == 0 || age.is_some_and(|age| age.as_millis() <= u128::from(bound.max_lag_ms));
            let near = bound.max_lag_entries == 0 || behind.is_some_and(|behind| behind <= bound.max_lag_entries);
            if fresh && near {
                return Ok(self.barrier("bounded"));
            }
            let news = async {
                tokio::select! {
                    changed = applied.changed() => changed.is_ok(),
                    changed = contacts.changed() => changed.is_ok(),
                }
            };
            if tokio::time::timeout_at(give_up.into(), news).await != Ok(true) {
                let age = age.map_or("unknown".to_owned(), |age| format!("{} ms", age.as_millis()));
                let behind = behind.map_or("unknown".to_owned(), |behind| behind.to_string());
                let problem = format!(
                    "shard {}: state of age {age}, {behind} entries behind its leader",
                    self.shard
                );
                return Err(Failure::Stale(problem));
            }
        }
    }

    /// Returns once the entry at `index` is applied here, with the index applied by then; `Stale` after the deadline.
    pub async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<u64, Failure> {
        let mut applied = self.progress.applied.subscribe();
        let reached = tokio::time::timeout_at(deadline.into(), applied.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(applied)) => Ok(*applied),
            _ => {
                self.check_fault()?;
                Err(Failure::Stale(format!(
                    "shard {}: entry {index} was not applied in time",
                    self.shard
                )))
            }
        }
    }

    /// The index applied here, as it grows.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.progress.applied.subscribe()
    }

    /// How old this replica's state may be, and how many entries it is behind what it knows to be committed.
    fn freshness(&self) -> (Option<Duration>, Option<u64>) {
        let metrics = self.metrics();
        if metrics.state == ServerState::Leader
            && let Some(acked) = &metrics.last_quorum_acked
        {
            let at = Instant::now().checked_sub(acked.elapsed());
            let committed = metrics.cluster_committed.map_or(0, |id| id.index());
            if let Some(at) = at {
                self.contact.heard(at, committed);
            }
        }
        self.contact.freshness(*self.progress.applied.borrow())
    }

    /// The leader was heard at `at`; it had committed up to `committed`.
    pub(super) fn heard(&self, at: Instant, committed: u64) {
        self.contact.heard(at, committed);
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
            Err(RaftError::Fatal(fatal)) => Err(self.fatal(&fatal)),
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
            .map_err(|fatal| self.fatal(&fatal))?;
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
            applied: *self.progress.applied.borrow(),
            sealed: *self.progress.sealed.borrow(),
            members: membership
                .nodes()
                .map(|(replica, peer)| Member {
                    replica: *replica,
                    node: peer.node_id,
                })
                .collect(),
            fault,
        }
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
        } else if status.leader_node != 0 {
            let asked = self
                .peers
                .request_seal(status.leader_node, self.shard.0, status.leader_replica)
                .await;
            if let Err(status) = asked {
                tracing::debug!(
                    shard = self.shard.0,
                    why = status.message(),
                    "the leader was not asked for a seal"
                );
            }
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

/// Contacts with the leader: when was it last heard with everything it had committed by then applied here?
#[derive(Debug)]
struct Contact {
    times: Mutex<Times>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Times {
    /// State is as fresh as this.
    fresh: Option<Instant>,
    /// Oldest contact whose commit index is not yet applied here.
    pending: Option<(Instant, u64)>,
    /// Highest commit index heard of.
    committed: Option<u64>,
}

impl Default for Contact {
    fn default() -> Contact {
        Contact {
            times: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Contact {
    fn heard(&self, at: Instant, committed: u64) {
        let mut times = self.times.lock().expect("no holder of this lock panics");
        times.pending.get_or_insert((at, committed));
        times.committed = times.committed.max(Some(committed));
        drop(times);
        self.changed.send_replace(());
    }

    /// Age of the state where entries up to `applied` are in, and how many are known to be missing.
    fn freshness(&self, applied: u64) -> (Option<Duration>, Option<u64>) {
        let mut times = self.times.lock().expect("no holder of this lock panics");
        if let Some((at, committed)) = times.pending
            && applied >= committed
        {
            times.fresh = times.fresh.max(Some(at));
            times.pending = None;
        }
        let behind = times.committed.map(|committed| committed.saturating_sub(applied));
        (times.fresh.map(|at| at.elapsed()), behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_as_fresh_as_the_last_contact_whose_commits_are_applied() {
        let contact = Contact::default();
        assert_eq!(
            contact.freshness(10),
            (None, None),
            "a leader never heard of promises nothing"
        );
        let long_ago = Instant::now() - Duration::from_secs(60);
        contact.heard(long_ago, 10);
        assert_eq!(contact.freshness(9), (None, Some(1)));
        assert!(contact.freshness(10).0.unwrap() >= Duration::from_secs(60));
        contact.heard(Instant::now(), 20);
        let (age, behind) = contact.freshness(15);
        assert!(
            age.unwrap() >= Duration::from_secs(60),
            "what is committed since is not applied"
        );
        assert_eq!(behind, Some(5));
        assert!(contact.freshness(20).0.unwrap() < Duration::from_secs(60));
    }
}
