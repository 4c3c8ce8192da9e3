//! How does the cluster become what the map says? Every coordinator runs this loop; each change of the map is a
//! compare-and-swap and each step on a node may be repeated, so any of them can go on where another stopped.
//!
//! `observe`: what the nodes report. `plan` (pure): map and reports in, steps out; `replace` is the part of it that
//! replaces lost replicas, `compare` finds those that have diverged. `apply`: one step. This file: the loop.

pub(crate) mod apply;
pub(crate) mod compare;
pub(crate) mod observe;
pub(crate) mod plan;
pub(crate) mod replace;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::stream::{self, StreamExt};
use granum_model::ShardId;
use granum_proto::status::Failure;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::map::ShardMap;
use crate::metrics::{Metrics, class};
use crate::route::call::Caller;
use observe::Reports;

/// Steps under way at once.
const STEPS_AT_ONCE: usize = 16;
/// Pause between passes while there is work and it succeeds.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The control loop of one coordinator.
pub(crate) struct Control {
    caller: Arc<Caller>,
    metrics: Arc<Metrics>,
    reports: ArcSwap<Reports>,
    /// Shards whose replicas differed in the last pass.
    diverged: Mutex<BTreeSet<ShardId>>,
    wake: Notify,
    interval: Duration,
}

impl Control {
    /// A loop that compares every `interval`, and when woken.
    pub fn new(caller: Arc<Caller>, metrics: Arc<Metrics>, interval: Duration) -> Self {
        Control {
            caller,
            metrics,
            reports: ArcSwap::default(),
            diverged: Mutex::default(),
            wake: Notify::new(),
            interval,
        }
    }

    /// The map was changed on purpose: look at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Asks all nodes for their reports now.
    pub async fn observe(&self) -> Result<Arc<Reports>, Failure> {
        let map = self.caller.store.map()?;
        let reports = Arc::new(observe::observe(&map, &self.caller, self.caller.store.cluster()).await);
        self.metrics
            .map_revision
            .set(i64::try_from(map.revision).unwrap_or(i64::MAX));
        self.metrics
            .nodes_reachable
            .set(i64::try_from(reports.len()).unwrap_or(i64::MAX));
        self.reports.store(reports.clone());
        Ok(reports)
    }

    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut revisions = self.caller.store.revisions();
        loop {
            let pause = tokio::select! {
                pause = self.pass() => pause,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wake.notified() => {}
                _ = revisions.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Looks once, takes the steps that are due, and says how long to wait.
    async fn pass(&self) -> Duration {
        let Ok(reports) = self.observe().await else {
            return self.interval;
        };
        let Ok(map) = self.caller.store.map() else {
            return self.interval;
        };
        self.alarm(&map, &reports);
        let steps = plan::plan(&map, &reports);
        if steps.is_empty() {
            return self.interval;
        }
        let taken = stream::iter(steps)
            .map(|step| self.take(step))
            .buffer_unordered(STEPS_AT_ONCE);
        let failed = taken.filter(|ok| std::future::ready(!ok)).count().await;
        if failed == 0 { BUSY_PAUSE } else { self.interval }
    }

    /// Says which shards' replicas hold different documents, each once until it is over.
    fn alarm(&self, map: &ShardMap, reports: &Reports) {
        let mut diverged = BTreeSet::new();
        let mut known = self.diverged.lock().unwrap_or_else(PoisonError::into_inner);
        for shard in map.shards() {
            let Some(divergence) = compare::divergence(shard, reports) else {
                continue;
            };
            diverged.insert(shard.id);
            if !known.contains(&shard.id) {
                let (index, outvoted) = (divergence.index, divergence.outvoted);
                tracing::error!(shard = %shard.id, index, ?outvoted, "replicas of a shard hold different documents");
            }
        }
        self.metrics
            .shards_diverged
            .set(i64::try_from(diverged.len()).unwrap_or(i64::MAX));
        *known = diverged;
    }

    async fn take(&self, step: plan::Step) -> bool {
        let name = step.name();
        let taken = apply::apply(&self.caller, &step).await;
        let outcome = taken.as_ref().err().map_or("ok", class);
        self.metrics.control_steps.with_label_values(&[name, outcome]).inc();
        match taken {
            Ok(()) => tracing::debug!(%step, "control"),
            Err(failure) => tracing::warn!(%step, %failure, "control: this step failed and will be tried again"),
        }
        outcome == "ok"
    }
}
