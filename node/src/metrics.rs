//! What can be watched of a node? Its numbers for Prometheus, whether it lives and whether it is ready, on a port that
//! serves nothing else. (The home of prometheus here; one registry a node, never the global one.)
//!
//! Calls are counted as they end. Everything else is read when it is asked for, from whoever knows it, so no number is
//! kept twice. Labels are few: method, collection, shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use granum_proto::status::Failure;
use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::holdings::Holdings;
use crate::merging::Merging;
use crate::process;
use crate::raft::log::{LogStats, SYNC_BUCKETS_MICROS};
use crate::service::Context;

/// Bounds of the latency histogram, in seconds.
const LATENCY_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Entries that a replica of a ready node may be behind.
const READY_LAG_ENTRIES: u64 = 1_000;

/// The numbers of one node.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    latency: HistogramVec,
    in_flight: IntGauge,
    raft: GaugeVec,
    shard: GaugeVec,
    node: GaugeVec,
    memory: Gauge,
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels are constants that prometheus accepts");
    registry
        .register(Box::new(collector.clone()))
        .expect("each name is registered once in a registry of its own");
    collector
}

impl Default for Metrics {
    fn default() -> Metrics {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, GaugeVec::new(Opts::new(name, help), labels))
        };
        let latency = HistogramOpts::new(
            "granum_request_duration_seconds",
            "Time a call took, by method and collection",
        )
        .buckets(LATENCY_SECONDS.to_vec());
        let build = gauges("granum_build_info", "1, labelled with the version", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let requests = Opts::new(
            "granum_requests_total",
            "Calls answered, by method, collection and outcome",
        );
        Metrics {
            requests: registered(
                &registry,
                IntCounterVec::new(requests, &["method", "collection", "code"]),
            ),
            latency: registered(&registry, HistogramVec::new(latency, &["method", "collection"])),
            in_flight: registered(
                &registry,
                IntGauge::new("granum_requests_in_flight", "Calls being served"),
            ),
            raft: gauges(
                "granum_raft",
                "State of a shard's Raft group on this node",
                &["shard", "what"],
            ),
            shard: gauges(
                "granum_shard",
                "Sizes of a shard's replica on this node",
                &["shard", "what"],
            ),
            node: gauges("granum_node", "State of this node", &["what"]),
            memory: registered(
                &registry,
                Gauge::new(
                    "granum_memory_anonymous_bytes",
                    "Anonymous resident memory of the process",
                ),
            ),
            registry,
        }
    }
}

/// One call under way.
pub struct Timer<'a> {
    metrics: &'a Metrics,
    method: &'static str,
    collection: String,
    begun: Instant,
}

impl Metrics {
    /// A call begins.
    pub fn start(&self, method: &'static str, collection: String) -> Timer<'_> {
        self.in_flight.inc();
        Timer {
            metrics: self,
            method,
            collection,
            begun: Instant::now(),
        }
    }

    /// Everything, in Prometheus' text format.
    fn render(&self, watched: &Watched) -> String {
        self.read_groups(&watched.holdings);
        self.read_node(watched);
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    fn read_groups(&self, holdings: &Holdings) {
        self.raft.reset();
        self.shard.reset();
        for group in holdings.groups().all() {
            let (shard, status) = (group.shard().to_string(), group.status());
            for (what, value) in [
                ("leader", u64::from(status.leader)),
                ("leader_known", u64::from(status.leader_replica != 0)),
                ("term", status.term),
                ("last_log_index", status.last_log),
                ("committed_index", status.committed),
                ("applied_index", status.applied),
                ("sealed_index", status.sealed),
                ("lag_entries", status.committed.saturating_sub(status.applied)),
                ("members", status.members.len() as u64),
                ("stopped", u64::from(!status.fault.is_empty())),
            ] {
                self.raft.with_label_values(&[shard.as_str(), what]).set(value as f64);
            }
        }
        for replica in holdings.replicas().all() {
            let (shard, stats) = (replica.birth.shard.to_string(), replica.machine.stats());
            for (what, value) in [
                ("documents", stats.index.documents),
                ("recent_documents", stats.index.recent_documents),
                ("recent_bytes", stats.index.recent_bytes),
                ("segments", stats.index.segments),
                ("segment_rows", stats.index.segment_rows),
                ("dead_rows", stats.index.dead_rows),
                ("unsealed_dead_rows", stats.index.unsealed_dead_rows),
                ("disk_bytes", stats.index.disk_bytes),
                ("sequence", stats.sequence),
                ("epoch", stats.epoch),
                ("dedup_answers", stats.dedup_answers),
            ] {
                self.shard.with_label_values(&[shard.as_str(), what]).set(value as f64);
            }
        }
    }

    fn read_node(&self, watched: &Watched) {
        let log = watched.holdings.groups().log().stats();
        let load = watched.context.workers.load();
        let merges = watched.merging.stats();
        self.memory.set(process::anonymous_bytes() as f64);
        for (what, value) in [
            ("ready", u64::from(watched.unready().is_none())),
            ("draining", u64::from(watched.draining.load(Ordering::Acquire))),
            ("disk_available_bytes", watched.holdings.available_bytes()),
            ("search_queue", load.waiting as u64),
            ("search_running", load.running as u64),
            ("search_queue_capacity", load.capacity as u64),
            ("merges_running", merges.running),
            ("merges_done", merges.done),
            ("merges_failed", merges.failed),
            ("merge_written_bytes", merges.written_bytes),
            ("log_disk_bytes", log.disk_bytes),
            ("log_entry_bytes", log.entry_bytes),
            ("log_queue", log.queued),
            ("log_syncs", log.syncs),
            ("log_written_bytes", log.bytes),
            ("log_accepts_writes", u64::from(log.accepts_writes)),
            ("log_sync_p99_micros", sync_quantile_micros(&log, 0.99)),
        ] {
            self.node.with_label_values(&[what]).set(value as f64);
        }
        self.node
            .with_label_values(&["log_sync_seconds"])
            .set(log.sync_micros as f64 / 1e6);
    }
}

/// The bound below which `quantile` of all syncs stayed, in microseconds; `u64::MAX` above the last bound, 0 for none.
fn sync_quantile_micros(log: &LogStats, quantile: f64) -> u64 {
    let all: u64 = log.sync_histogram.iter().sum();
    let wanted = (all as f64 * quantile).ceil() as u64;
    let mut seen = 0;
    for (bucket, count) in log.sync_histogram.iter().enumerate() {
        seen += count;
        if all > 0 && seen >= wanted {
            return SYNC_BUCKETS_MICROS.get(bucket).map_or(u64::MAX, |bound| *bound);
        }
    }
    0
}

impl Timer<'_> {
    /// The call ended, well or with this failure.
    pub fn finish(self, failure: Option<&Failure>) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let code = failure.map_or("ok", name);
        self.metrics
            .requests
            .with_label_values(&[self.method, self.collection.as_str(), code])
            .inc();
        self.metrics
            .latency
            .with_label_values(&[self.method, self.collection.as_str()])
            .observe(seconds);
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

fn name(failure: &Failure) -> &'static str {
    match failure {
        Failure::Invalid(_) => "invalid",
        Failure::NotFound(_) => "not_found",
        Failure::Exists(_) => "exists",
        Failure::NotLeader { .. } => "not_leader",
        Failure::WrongEpoch { .. } => "wrong_epoch",
        Failure::NoReplica { .. } => "no_replica",
        Failure::Stale(_) => "stale",
        Failure::Busy(_) => "busy",
        Failure::ReadOnly(_) => "read_only",
        Failure::Unavailable(_) => "unavailable",
        Failure::Unknown(_) => "unknown",
        Failure::Expired(_) => "expired",
        Failure::Precondition(_) => "precondition",
        Failure::Fault(_) => "fault",
    }
}

/// What the metrics port looks at.
pub struct Watched {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// The replicas.
    pub holdings: Arc<Holdings>,
    /// The workers.
    pub context: Arc<Context>,
    /// The merges.
    pub merging: Arc<Merging>,
    /// Whether this node is on its way out.
    pub draining: Arc<AtomicBool>,
}

impl Watched {
    /// Why this node should get no requests now; `None`: it should.
    fn unready(&self) -> Option<String> {
        if self.draining.load(Ordering::Acquire) {
            return Some("draining".into());
        }
        if self.holdings.directory().identity().cluster == 0 {
            return Some("belongs to no cluster yet".into());
        }
        if !self.holdings.all_open() {
            return Some("not all replicas are open".into());
        }
        self.holdings.groups().all().into_iter().find_map(|group| {
            let (shard, status) = (group.shard(), group.status());
            let lag = status.committed.saturating_sub(status.applied);
            match () {
                () if !status.fault.is_empty() => Some(format!("shard {shard} has stopped")),
                // A replica that no membership names yet waits for its group to begin.
                () if status.leader_replica == 0 && !status.members.is_empty() => {
                    Some(format!("shard {shard}: no leader"))
                }
                () if lag > READY_LAG_ENTRIES => Some(format!("shard {shard} is {lag} entries behind")),
                () => None,
            }
        })
    }
}

/// `Some` once the node's parts are there; before, it lives but is not ready.
pub type Watch = Arc<std::sync::OnceLock<Watched>>;

/// The metrics port's routes.
pub fn router(watch: Watch) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(watch)
}

async fn metrics(State(watch): State<Watch>) -> String {
    watch
        .get()
        .map_or_else(String::new, |watched| watched.metrics.render(watched))
}

async fn ready(State(watch): State<Watch>) -> (StatusCode, String) {
    let why = watch
        .get()
        .map_or_else(|| Some("starting".to_owned()), Watched::unready);
    match why {
        None => (StatusCode::OK, "ok\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_collection_and_outcome() {
        let metrics = Metrics::default();
        metrics.start("search", "packages".into()).finish(None);
        metrics
            .start("search", "packages".into())
            .finish(Some(&Failure::Busy("full".into())));
        let text = TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap();
        for line in [
            "granum_requests_total{code=\"ok\",collection=\"packages\",method=\"search\"} 1",
            "granum_requests_total{code=\"busy\",collection=\"packages\",method=\"search\"} 1",
            "granum_request_duration_seconds_count{collection=\"packages\",method=\"search\"} 2",
            "granum_requests_in_flight 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
