//! When is this replica's state fresh enough for a read, and how surely? Reads don't pass the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use granum_proto::status::Failure;
use granum_proto::v1::{ReadLevel, read_level};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{LinearizableReadError, RaftError};
use openraft::{Instant as _, ReadPolicy, ServerState};
use tokio::sync::watch;

use super::refusal::stopped;
use super::{Barrier, Group};
use crate::planted::{Bug, is_planted};
use crate::raft::type_config::LogId;
use crate::raft::wire;

/// How long a bounded read waits for a replica to become fresh enough before another one is to be asked.
const FRESHNESS_WAIT: Duration = Duration::from_millis(500);

/// The index up to which the leader of `term` knows everything that was ever committed; `None`: it has not committed in
/// its own term yet, so that the one before it may have committed more (Raft, section 8).
pub(in crate::raft) fn commit_of_term(committed: Option<LogId>, term: u64) -> Option<u64> {
    let committed = committed.map(wire::position);
    committed.filter(|at| at.term == term).map(|at| at.index)
}

/// Tokio's clock, which a simulation drives.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Group {
    /// Returns once this replica's state satisfies `level`; never a lesser one. `Unavailable` where it does not vote yet.
    ///
    /// `linearizable` needs the leader (`NotLeader` elsewhere): a majority confirms it, then everything committed before
    /// is applied. `bounded` fails as `Stale` when this replica does not become fresh enough soon. For `session` this
    /// only reports where the replica stands: the shard compares sequences and waits by [`wait_applied`](Self::wait_applied).
    pub async fn read_barrier(&self, level: &ReadLevel, deadline: Instant) -> Result<Barrier, Failure> {
        self.check_fault()?;
        if !self.is_voter() {
            return Err(Failure::Unavailable(format!(
                "shard {}: replica {} has no vote yet, it may know nothing",
                self.shard, self.replica
            )));
        }
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
        if is_planted(Bug::LeaderReadsUnasked) {
            return self.unasked();
        }
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
            Err(RaftError::Fatal(fatal)) => return Err(stopped(shard, &fatal)),
        };
        let applied_index = self.wait_applied(index, deadline).await?;
        Ok(Barrier {
            level: "linearizable",
            applied_index,
            staleness_ms: 0,
        })
    }

    /// The planted bug: a leader believes that it still is one.
    fn unasked(&self) -> Result<Barrier, Failure> {
        let metrics = self.metrics();
        match metrics.state {
            ServerState::Leader => Ok(Barrier {
                staleness_ms: 0,
                ..self.barrier("linearizable")
            }),
            _ => Err(Failure::NotLeader {
                shard: self.shard.0,
                leader_node: 0,
            }),
        }
    }

    async fn bounded(&self, bound: &read_level::Bounded, deadline: Instant) -> Result<Barrier, Failure> {
        let mut applied = self.progress.applied.subscribe();
        let mut contacts = self.contact.changed.subscribe();
        let mut quorums = self.raft.data_metrics();
        let give_up = deadline.min(now() + FRESHNESS_WAIT);
        loop {
            let (age, behind) = self.freshness();
            let fresh = bound.max_lag_ms == 0 || age.is_some_and(|age| age.as_millis() <= u128::from(bound.max_lag_ms));
            let near = bound.max_lag_entries == 0 || behind.is_some_and(|behind| behind <= bound.max_lag_entries);
            if fresh && near {
                return Ok(self.barrier("bounded"));
            }
            let news = async {
                tokio::select! {
                    biased;
                    changed = applied.changed() => changed.is_ok(),
                    changed = contacts.changed() => changed.is_ok(),
                    changed = quorums.changed() => changed.is_ok(),
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
            let at = now().checked_sub(acked.elapsed());
            let committed = commit_of_term(metrics.cluster_committed, metrics.current_term);
            if let (Some(at), Some(committed)) = (at, committed) {
                self.contact.note(at, committed);
            }
        }
        self.contact.freshness(*self.progress.applied.borrow())
    }

    /// The leader was heard at `at`; it had committed up to `committed`.
    pub(in crate::raft) fn heard(&self, at: Instant, committed: u64) {
        self.contact.heard(at, committed);
    }
}

/// Contacts with the leader: when was it last heard with everything it had committed by then applied here?
#[derive(Debug)]
pub(super) struct Contact {
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
        self.note(at, committed);
        self.changed.send_replace(());
    }

    /// As [`heard`](Self::heard), by who reads it next: nobody is woken, least of all the reader itself.
    fn note(&self, at: Instant, committed: u64) {
        let mut times = self.times.lock().expect("no holder of this lock panics");
        times.pending.get_or_insert((at, committed));
        times.committed = times.committed.max(Some(committed));
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
        (times.fresh.map(|at| now().saturating_duration_since(at)), behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_leader_makes_nobody_fresh_before_it_has_committed_in_its_term() {
        use crate::raft::type_config::log_id;
        assert_eq!(commit_of_term(None, 3), None);
        assert_eq!(commit_of_term(Some(log_id(2, 50)), 3), None);
        assert_eq!(commit_of_term(Some(log_id(3, 51)), 3), Some(51));
    }

    /// Such a leader's bounded reads woke themselves, again and again until they gave up.
    #[test]
    fn a_reader_on_a_leader_that_lost_its_quorum_does_not_wake_itself() {
        let contact = Contact::default();
        let mut changed = contact.changed.subscribe();
        contact.note(Instant::now() - Duration::from_secs(60), 10);
        assert!(!changed.has_changed().unwrap());
        contact.heard(Instant::now(), 10);
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
    }

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
