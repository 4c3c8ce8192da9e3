//! Sends a call to a shard and does not give up early: hints are followed, what `proto/status` allows is repeated with
//! the same request id, other replicas are asked, and everything ends by the deadline.
//!
//! A write that may have been sent and was never answered ends as [`Failure::Unknown`], whatever failed after it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use granum_model::{NodeId, RequestId, ShardId};
use granum_proto::internal::ShardCall;
use granum_proto::internal::shard_client::ShardClient;
use granum_proto::limits::{MESSAGE_IN_BYTES_MAX, MESSAGE_OUT_BYTES_MAX};
use granum_proto::status::{Failure, Retry};
use granum_proto::v1::ReadLevel;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::allowance::Allowance;
use super::health::Health;
use super::hedge::Hedge;
use super::plan::{self, Wanted};
use super::repeat::{Failed, Repeat, is_pushed_back};
use super::rpc::ShardRpc;
use crate::map::Shard;
use crate::map::store::Store;
use crate::metrics::{Metrics, class};
use crate::pool::{Pool, failure_of};

/// A node that has said nothing for so long may be gone, though its connections stand: another one is asked as well.
const SILENCE: Duration = Duration::from_millis(500);
/// One attempt may take this share of what is left of the deadline, if that is more than `attempt_timeout_ms`.
const ATTEMPT_SHARE: u32 = 3;

/// Reads that every replica they may ask has refused as busy are repeated for one read in ten: what is refused because there is
/// too much to do is not made less by asking again. Writes may be without end: that is how writers are slowed down.
const BUSY_REPEATS: f64 = 0.1;
/// Such repetitions that may be saved up.
const BUSY_REPEATS_SAVED: f64 = 100.0;

/// What a request may spend, and its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub request_id: RequestId,
    pub deadline: Instant,
}

/// Calls shards.
pub(crate) struct Caller {
    pub store: Arc<Store>,
    pub pool: Arc<Pool>,
    pub metrics: Arc<Metrics>,
    pub health: Health,
    hedge: Hedge,
    busy_repeats: Allowance,
    attempt_timeout: Duration,
    turn: AtomicUsize,
}

impl Caller {
    /// Calls over `pool`, to shards as `store` has them.
    pub fn new(store: Arc<Store>, pool: Arc<Pool>, metrics: Arc<Metrics>, attempt_timeout: Duration) -> Self {
        Caller {
            store,
            pool,
            metrics,
            health: Health::default(),
            hedge: Hedge::new(),
            busy_repeats: Allowance::new(BUSY_REPEATS, BUSY_REPEATS_SAVED, BUSY_REPEATS_SAVED),
            attempt_timeout,
            turn: AtomicUsize::new(0),
        }
    }

    /// Reads from a shard at a level (`None`: the strictest).
    pub async fn read<R: ShardRpc>(
        &self,
        shard: ShardId,
        request: R,
        level: &ReadLevel,
        budget: Budget,
    ) -> Result<R::Reply, Failure> {
        self.busy_repeats.earn();
        self.call(shard, request, Some(level), budget).await
    }

    /// Changes a shard, through its leader.
    pub async fn write<R: ShardRpc>(&self, shard: ShardId, request: R, budget: Budget) -> Result<R::Reply, Failure> {
        self.call(shard, request, None, budget).await
    }

    async fn call<R: ShardRpc>(
        &self,
        id: ShardId,
        request: R,
        level: Option<&ReadLevel>,
        budget: Budget,
    ) -> Result<R::Reply, Failure> {
        let wanted = level.map_or(Wanted::Leader, plan::wanted);
        let mut repeat = Repeat::new(level.is_none());
        let mut waiting = VecDeque::new();
        loop {
            let shard = self.shard(id)?;
            if waiting.is_empty() {
                waiting = self.order(&shard, wanted);
            }
            let failed = match self.attempt(&shard, &request, level, &mut waiting, budget).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            self.learn(&shard, &failed);
            repeat.failed(&failed);
            let pause = match failed.failure.retry() {
                Retry::Never if repeat.elsewhere(&failed, shard.record.replicas.len()) => false,
                Retry::Never => return Err(repeat.gave_up(id, failed.failure)),
                Retry::Leader => !repeat.follow(&failed.failure, &shard, &mut waiting),
                Retry::Map => {
                    waiting.clear();
                    let known = self.store.refresh(budget.deadline).await;
                    known.map_err(|failure| repeat.gave_up(id, failure))?;
                    true
                }
                Retry::Later => waiting.is_empty() || is_pushed_back(&failed.failure, wanted),
            };
            let until = Instant::now()
                + if pause {
                    repeat.backoff.next_pause()
                } else {
                    Duration::ZERO
                };
            if until >= budget.deadline {
                return Err(repeat.gave_up(id, failed.failure));
            }
            let is_refused_read = level.is_some() && matches!(failed.failure, Failure::Busy(_));
            if is_refused_read && pause && !self.busy_repeats.spend() {
                self.metrics.repeats_withheld.inc();
                return Err(repeat.gave_up(id, failed.failure));
            }
            self.metrics.retries.with_label_values(&[class(&failed.failure)]).inc();
            if pause {
                sleep_until(until).await;
            }
        }
    }

    fn shard(&self, id: ShardId) -> Result<Arc<Shard>, Failure> {
        let map = self.store.map()?;
        let shard = map.shard(id).cloned();
        shard.ok_or_else(|| Failure::NotFound(format!("shard {id} does not exist any more")))
    }

    fn order(&self, shard: &Shard, wanted: Wanted) -> VecDeque<NodeId> {
        let nodes: Vec<NodeId> = shard.nodes().collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let suspect = |node| self.health.avoided(node, shard.id, now);
        plan::order(&nodes, wanted, self.health.leader(shard.id), suspect, turn).into()
    }

    /// Asks the first of `waiting`; if it is slow, another one too.
    async fn attempt<R: ShardRpc>(
        &self,
        shard: &Shard,
        request: &R,
        level: Option<&ReadLevel>,
        waiting: &mut VecDeque<NodeId>,
        budget: Budget,
    ) -> Result<R::Reply, Failed> {
        let first = waiting
            .pop_front()
            .expect("a shard has replicas, and they were just listed");
        if level.map_or(Wanted::Leader, plan::wanted) == Wanted::Leader {
            return self.attempt_leader(shard, request, level, first, budget).await;
        }
        let mut asking = pin!(self.ask(shard, request, level, first, budget));
        if waiting.is_empty() {
            return asking.await;
        }
        let begun = Instant::now();
        let delay = self.hedge.delay();
        let mut answered = timeout(delay, &mut asking).await.ok();
        let mut silent = false;
        if answered.is_none() && !self.hedge.affordable() {
            answered = timeout(SILENCE.saturating_sub(delay), &mut asking).await.ok();
            silent = answered.is_none();
        }
        if let Some(answered) = answered {
            self.hedge.took(begun.elapsed());
            return answered;
        }
        self.metrics.hedges.inc();
        let second = waiting.pop_front().expect("checked above");
        let mut asking_second = pin!(self.ask(shard, request, level, second, budget));
        let answered = tokio::select! {
            answered = &mut asking => match answered {
                Ok(reply) => Ok(reply),
                Err(_) => asking_second.await,
            },
            answered = &mut asking_second => match answered {
                Ok(reply) => {
                    if silent {
                        self.health.failed(first, Instant::now());
                    }
                    Ok(reply)
                }
                Err(_) => asking.await,
            },
        };
        self.hedge.took(begun.elapsed());
        answered
    }

    /// Asks the leader, which `first` is thought to be. While it says nothing, the others are asked in turn, with the same request
    /// id: who leads has its effect once, and who doesn't says who does.
    async fn attempt_leader<R: ShardRpc>(
        &self,
        shard: &Shard,
        request: &R,
        level: Option<&ReadLevel>,
        first: NodeId,
        budget: Budget,
    ) -> Result<R::Reply, Failed> {
        let mut asking = pin!(self.ask(shard, request, level, first, budget));
        let others: Vec<NodeId> = shard.nodes().filter(|&node| node != first).collect();
        let mut in_doubt = false;
        for &other in others.iter().cycle() {
            if let Ok(answered) = timeout(SILENCE, &mut asking).await {
                return answered.map_err(|failed| Failed { in_doubt, ..failed });
            }
            let answered = tokio::select! {
                answered = &mut asking => return answered.map_err(|failed| Failed { in_doubt: true, ..failed }),
                answered = self.ask(shard, request, level, other, budget) => answered,
            };
            match answered {
                Err(failed) => {
                    in_doubt |= matches!(failed.failure, Failure::Unknown(_));
                    let Failure::NotLeader { leader_node, .. } = failed.failure else {
                        continue;
                    };
                    // Nobody, or still the silent one: it is waited for.
                    if leader_node == 0 || leader_node == first.0 {
                        continue;
                    }
                    return Err(Failed {
                        silent: Some(first),
                        in_doubt: true,
                        ..failed
                    });
                }
                Ok(reply) => {
                    self.health.failed(first, Instant::now());
                    return Ok(reply);
                }
            }
        }
        asking.await
    }

    /// One call to one node.
    async fn ask<R: ShardRpc>(
        &self,
        shard: &Shard,
        request: &R,
        level: Option<&ReadLevel>,
        node: NodeId,
        budget: Budget,
    ) -> Result<R::Reply, Failed> {
        let left = budget.deadline.saturating_duration_since(Instant::now());
        let patience = left.min(self.attempt_timeout.max(left / ATTEMPT_SHARE));
        let mut request = request.clone();
        request.head(ShardCall {
            shard: shard.id.0,
            epoch: shard.epoch,
            request_id: bytes::Bytes::copy_from_slice(&budget.request_id.0),
            timeout_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1),
            read: level.cloned(),
        });
        let answered = self.send(node, request, Instant::now() + patience).await;
        let outcome = answered.as_ref().err().map_or("ok", class);
        self.metrics.shard_calls.with_label_values(&[R::METHOD, outcome]).inc();
        match answered {
            Ok(reply) => {
                self.health.answered(node);
                if level.map_or(Wanted::Leader, plan::wanted) == Wanted::Leader {
                    self.health.leads(shard.id, Some(node));
                }
                Ok(reply)
            }
            Err(failure) => Err(Failed {
                node,
                hasty: patience < SILENCE && matches!(failure, Failure::Unknown(_)),
                failure,
                silent: None,
                in_doubt: false,
            }),
        }
    }

    async fn send<R: ShardRpc>(&self, node: NodeId, request: R, deadline: Instant) -> Result<R::Reply, Failure> {
        let map = self.store.map()?;
        let address = map.address(node);
        let address = address.ok_or_else(|| Failure::Unavailable(format!("node {node} has no address")))?;
        let client = ShardClient::new(self.pool.channel(address)?)
            .max_decoding_message_size(MESSAGE_OUT_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_IN_BYTES_MAX);
        match timeout_at(deadline, request.send(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(failure_of(&status)),
            Err(_) => Err(Failure::Unknown(format!("node {node} did not answer in time"))),
        }
    }

    /// What a failure says about nodes and leaders.
    fn learn(&self, shard: &Shard, failed: &Failed) {
        if let Some(silent) = failed.silent {
            self.health.failed(silent, Instant::now());
        }
        match failed.failure {
            _ if failed.hasty => {}
            Failure::NoReplica { .. } => {
                self.health.lacks(failed.node, shard.id, Instant::now());
                if self.health.leader(shard.id) == Some(failed.node) {
                    self.health.leads(shard.id, None);
                }
            }
            Failure::Fault(_) if self.health.leader(shard.id) == Some(failed.node) => self.health.leads(shard.id, None),
            Failure::Unavailable(_) | Failure::Unknown(_) => {
                self.health.failed(failed.node, Instant::now());
                if self.health.leader(shard.id) == Some(failed.node) {
                    self.health.leads(shard.id, None);
                }
            }
            Failure::NotLeader { leader_node, .. } => {
                self.health.answered(failed.node);
                let leader = Some(NodeId(leader_node)).filter(|&node| shard.replica_on(node).is_some());
                self.health.leads(shard.id, leader);
            }
            _ => self.health.answered(failed.node),
        }
    }
}
