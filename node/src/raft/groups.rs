//! Which groups live on this node? All of them share one log, one runtime and one pair of connections a peer.
//!
//! Each group has a *keeper*: the task that turns seal points into seals (the slow work runs on blocking threads), that
//! proposes one where this replica leads and its state machine wants it, and that sweeps away what is left of snapshots. One task for all watches the log's
//! budget and seals the group that pins the oldest entry.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use granum_model::{ReplicaId, ShardId};
use granum_proto::status::Failure;
use openraft::{Config, SnapshotPolicy};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::blocking::Blocking;
use super::group::{Group, Parts};
use super::log::Log;
use super::machine::{Machine, Progress};
use super::network::{Network, Peers};
use crate::shard::StateMachine;

/// Entries kept behind a seal, so that a follower a little behind needs no snapshot.
const ENTRIES_KEPT: u64 = 64;
/// Most entries of one append before bytes bound it.
const APPEND_ENTRIES_MAX: u64 = 256;
/// How often the log's budget is looked at, and an unfinished seal is asked for again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How fast a group notices a lost leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Without a heartbeat for one and a half to two times this, a replica asks for an election.
    pub election_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat: Duration,
}

impl Timing {
    /// openraft's bounds of the time that a replica waits before an election, in milliseconds. It begins to wait when the leader's
    /// lease has run out, which is the upper bound, so that both times count.
    fn waits_ms(self) -> (u64, u64) {
        let lease = self.election_timeout.as_millis() as u64;
        let heartbeat = self.heartbeat.as_millis() as u64;
        ((lease / 2).max(heartbeat + 1), lease)
    }
}

/// All groups of a node.
pub struct Groups {
    config: Arc<Config>,
    runtime: Handle,
    peers: Arc<Peers>,
    log: Arc<Log>,
    log_budget_bytes: u64,
    groups: RwLock<HashMap<u64, Arc<Group>>>,
    keepers: Mutex<HashMap<u64, JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Groups {
    /// No group yet. They run on `runtime`, which should serve nothing else.
    pub fn new(
        runtime: Handle,
        timing: Timing,
        peers: Arc<Peers>,
        log: Arc<Log>,
        log_budget_bytes: u64,
    ) -> Result<Arc<Groups>, Failure> {
        let (wait_min, wait_max) = timing.waits_ms();
        let config = Config {
            cluster_name: "granum".into(),
            election_timeout_min: wait_min,
            election_timeout_max: wait_max,
            heartbeat_interval: timing.heartbeat.as_millis() as u64,
            max_payload_entries: APPEND_ENTRIES_MAX,
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: ENTRIES_KEPT,
            enable_pre_vote: Some(true),
            // Who led before a restart may not answer before its log is committed anew. It may have lost entries that it had sent
            // and not yet synced: resuming its term, it would put others under their log ids. And the last commit is written
            // without a sync of its own, so it may be older than what was acknowledged. (Found by the simulation,
            // node/tests/simulation, and by the loss of power in the fault table.)
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        let config = config
            .validate()
            .map_err(|error| Failure::Invalid(format!("election_timeout_ms, heartbeat_ms: {error}")))?;
        let groups = Arc::new(Groups {
            config: Arc::new(config),
            runtime,
            peers,
            log,
            log_budget_bytes,
            groups: RwLock::default(),
            keepers: Mutex::default(),
            stop: CancellationToken::new(),
        });
        groups.runtime.spawn(watch_log(groups.clone()));
        Ok(groups)
    }

    /// The connections of this node.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// The log that all groups share.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Starts `replica` of `shard`: what is sealed, then the log behind it. Fails with `Exists` while one runs, and with
    /// `Fault` where log or state machine are damaged.
    pub async fn open(
        self: &Arc<Self>,
        shard: ShardId,
        replica: ReplicaId,
        machine: Arc<dyn StateMachine>,
    ) -> Result<Arc<Group>, Failure> {
        if self.group(shard).is_some() {
            return Err(Failure::Exists(format!("shard {shard}: a replica runs here already")));
        }
        let this = self.clone();
        let opening = self
            .runtime
            .spawn(async move { this.start(shard, replica, machine).await });
        let group = opening
            .await
            .map_err(|_| Failure::Fault(format!("shard {shard}: opening its replica failed")))??;
        self.groups
            .write()
            .expect("no holder of this lock panics")
            .insert(shard.0, group.clone());
        let keeper = self
            .runtime
            .spawn(keep(group.clone(), self.log.blocking(), self.stop.child_token()));
        self.keepers
            .lock()
            .expect("no holder of this lock panics")
            .insert(shard.0, keeper);
        Ok(group)
    }

    async fn start(
        &self,
        shard: ShardId,
        replica: ReplicaId,
        machine: Arc<dyn StateMachine>,
    ) -> Result<Arc<Group>, Failure> {
        let fault = |why: &dyn std::fmt::Display| Failure::Fault(format!("shard {shard}: {why}"));
        let log = self.log.group(shard.0).map_err(|error| fault(&error))?;
        let progress = Progress::new(&machine.sealed());
        let adapter = Machine::new(shard.0, machine.clone(), progress.clone(), self.log.blocking())
            .map_err(|error| fault(&error))?;
        let network = Network::new(self.peers.clone(), shard.0, self.log.blocking());
        let raft = openraft::Raft::new(replica.0, self.config.clone(), network, log, adapter)
            .await
            .map_err(|error| progress.fault.get().map_or_else(|| fault(&error), |known| fault(known)))?;
        Ok(Arc::new(Group::new(Parts {
            shard,
            replica,
            raft,
            machine,
            progress,
            peers: self.peers.clone(),
            runtime: self.runtime.clone(),
            log: self.log.clone(),
        })))
    }

    /// The replica of `shard` that runs here.
    pub fn group(&self, shard: ShardId) -> Option<Arc<Group>> {
        self.groups
            .read()
            .expect("no holder of this lock panics")
            .get(&shard.0)
            .cloned()
    }

    /// All that run here, by shard.
    pub fn all(&self) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = self
            .groups
            .read()
            .expect("no holder of this lock panics")
            .values()
            .cloned()
            .collect();
        groups.sort_by_key(|group| group.shard());
        groups
    }

    /// Stops the replica of `shard`; its log and files stay, so that it can be opened again.
    pub async fn close(&self, shard: ShardId) {
        let group = self
            .groups
            .write()
            .expect("no holder of this lock panics")
            .remove(&shard.0);
        let keeper = self
            .keepers
            .lock()
            .expect("no holder of this lock panics")
            .remove(&shard.0);
        if let Some(keeper) = keeper {
            keeper.abort();
        }
        let Some(group) = group else {
            return;
        };
        group.reception.close();
        if group.raft.shutdown().await.is_err() {
            tracing::warn!(shard = shard.0, "its Raft task had died before it was stopped");
        }
        group.reception.wait_unused().await;
    }

    /// Stops the replica of `shard` and strikes its entries out of the log, durably.
    pub async fn drop_group(&self, shard: ShardId) -> Result<(), Failure> {
        self.close(shard).await;
        let dropped = self.log.drop_group(shard.0).await;
        dropped.map_err(|error| Failure::Fault(format!("shard {shard}: its log can't be dropped: {error}")))
    }

    /// Hands over what this node leads, as far as others can take it before `deadline`.
    pub async fn hand_over(&self, deadline: std::time::Instant) {
        let leading = self.all().into_iter().filter(|group| group.status().leader);
        let handing = leading.map(|group| async move {
            if let Err(why) = group.transfer_leader(None, deadline).await {
                tracing::warn!(shard = group.shard().0, %why, "its leadership was not handed over");
            }
        });
        futures::future::join_all(handing).await;
    }

    /// Hands over what this node leads, then stops all groups. The log stays open: its owner closes it.
    pub async fn shutdown(&self, deadline: std::time::Instant) {
        self.hand_over(deadline).await;
        self.stop.cancel();
        for group in self.all() {
            self.close(group.shard()).await;
        }
    }
}

/// Turns seal points into seals, and proposes one where this replica leads and its state machine wants it. Where it follows,
/// and memory is short, the leader is asked: the follower may hold more shards than the leader's node.
async fn keep(group: Arc<Group>, blocking: Blocking, stop: CancellationToken) {
    let progress = group.progress.clone();
    let mut sealed = progress.sealed.subscribe();
    let mut asked: Option<Instant> = None;
    let (mut applied, mut written) = (*progress.applied.borrow(), Instant::now());
    loop {
        let pending = progress.seal_point.load(Ordering::Acquire);
        if pending > *sealed.borrow_and_update() {
            if group.raft.trigger().snapshot().await.is_err() {
                return;
            }
            // Asked again where one was being built already: that one may have begun before this seal point.
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                _ = tokio::time::timeout(WATCH_INTERVAL, sealed.changed()) => continue,
            }
        }
        let applied_now = *progress.applied.borrow();
        if applied != applied_now {
            (applied, written) = (applied_now, Instant::now());
        }
        if group.machine.wants_seal(written.elapsed()) {
            let status = group.status();
            if status.leader && group.propose_seal().await {
                continue;
            }
            let lately = asked.is_some_and(|asked| asked.elapsed() < WATCH_INTERVAL);
            if !status.leader && !lately && group.machine.is_short_of_memory() {
                group.ask_leader_for_seal(&status).await;
                asked = Some(Instant::now());
            }
        }
        group.reception.sweep(blocking).await;
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            _ = progress.seal_wanted.notified() => {}
            _ = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// While the log is over its budget, the group that pins its oldest entry is sealed.
async fn watch_log(groups: Arc<Groups>) {
    loop {
        tokio::select! {
            biased;
            _ = groups.stop.cancelled() => return,
            _ = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        let Some((pinning, bytes)) = groups.log.oldest_pinned() else {
            continue;
        };
        if bytes <= groups.log_budget_bytes {
            continue;
        }
        match groups.group(ShardId(pinning)) {
            Some(group) => group.release_log().await,
            None => tracing::warn!(group = pinning, bytes, "a group that does not run here pins the log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(election_ms: u64, heartbeat_ms: u64, wanted: (u64, u64)) {
        let timing = Timing {
            election_timeout: Duration::from_millis(election_ms),
            heartbeat: Duration::from_millis(heartbeat_ms),
        };
        assert_eq!(timing.waits_ms(), wanted);
        let (election_timeout_min, election_timeout_max) = timing.waits_ms();
        let config = Config {
            election_timeout_min,
            election_timeout_max,
            heartbeat_interval: heartbeat_ms,
            ..Config::default()
        };
        assert!(config.validate().is_ok());
    }

    #[test]
    fn a_lease_and_the_wait_behind_it_are_two_election_timeouts_at_most() {
        check(1_000, 250, (500, 1_000));
        check(500, 250, (251, 500));
    }
}
