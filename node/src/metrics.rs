//! What can be watched of a node? Its numbers for Prometheus, whether it lives and whether it is ready, on a port that
//! serves nothing else. (The home of prometheus here; one registry a node, never the global one.)
//!
//! Calls are counted as they end. Everything else is read when it is asked for, from whoever knows it ([`readings`]), so
//! no number is kept twice. Labels are few: method, collection, shard, vector.

mod readings;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use granum_proto::status::Failure;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::holdings::Holdings;
use crate::merging::Merging;
use crate::process;
use crate::recall::ShardRecall;
use crate::service::Context;
use readings::{NodeState, Of, Reading, Value};

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
        let latency = HistogramOpts::new(
            "granum_request_duration_seconds",
            "Time a call took, by method and collection",
        )
        .buckets(LATENCY_SECONDS.to_vec());
        let build = Opts::new("granum_build_info", "1, labelled with the version");
        let build = registered(&registry, IntGaugeVec::new(build, &["version"]));
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
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
        let mut families = self.registry.gather();
        families.extend(watched.readings().into_iter().filter_map(family));
        families.sort_by(|one, other| one.name().cmp(other.name()));
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

/// A reading as Prometheus has it; `None` where there is no shard to speak of.
fn family(reading: Reading) -> Option<MetricFamily> {
    let label = |(name, value): (&str, String)| {
        let mut label = LabelPair::default();
        label.set_name(name.into());
        label.set_value(value);
        label
    };
    let gauge = |labels: Vec<LabelPair>, value: f64| {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_gauge(gauge);
        metric.set_label(labels);
        metric
    };
    let (kind, metrics) = match reading.value {
        Value::Gauge(value) => (MetricType::GAUGE, vec![gauge(Vec::new(), value)]),
        Value::Shards(values) => {
            let metric = |(shard, value): (u64, f64)| gauge(vec![label(("shard", shard.to_string()))], value);
            (MetricType::GAUGE, values.into_iter().map(metric).collect())
        }
        Value::Vectors(values) => {
            let metric = |of: Of| {
                let shard = of.shard.to_string();
                let labels = [("collection", of.collection), ("shard", shard), ("vector", of.vector)];
                gauge(labels.map(label).into(), of.value)
            };
            (MetricType::GAUGE, values.into_iter().map(metric).collect())
        }
        Value::Counter(value) => {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            let mut metric = Metric::default();
            metric.set_counter(counter);
            (MetricType::COUNTER, vec![metric])
        }
        Value::Durations {
            cumulative,
            count,
            seconds,
        } => {
            let bucket = |(bound, count): (f64, u64)| {
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(count);
                bucket
            };
            let mut histogram = proto::Histogram::default();
            histogram.set_bucket(cumulative.into_iter().map(bucket).collect());
            histogram.set_sample_count(count);
            histogram.set_sample_sum(seconds);
            let mut metric = Metric::default();
            metric.set_histogram(histogram);
            (MetricType::HISTOGRAM, vec![metric])
        }
    };
    let mut family = MetricFamily::default();
    family.set_name(reading.name.into());
    family.set_help(reading.help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    (!family.get_metric().is_empty()).then_some(family)
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
    fn readings(&self) -> Vec<Reading> {
        let (groups, load) = (self.holdings.groups(), self.context.workers.load());
        let statuses: Vec<_> = groups
            .all()
            .iter()
            .map(|group| (group.shard().0, group.status()))
            .collect();
        let replicas = self.holdings.replicas().all();
        let stats: Vec<_> = replicas
            .iter()
            .map(|replica| (replica.birth.shard, replica.machine.stats()))
            .collect();
        let state = NodeState {
            ready: self.unready().is_none(),
            draining: self.draining.load(Ordering::Acquire),
            disk_available_bytes: self.holdings.available_bytes(),
            memory_anonymous_bytes: process::anonymous_bytes(),
            recent_bytes: self.holdings.recent_bytes(),
            searches: (load.waiting, load.running, load.capacity),
            merges: self.merging.stats(),
            snapshots: groups.peers().transferred(),
            recall_checks: self.context.recall.counts(),
        };
        let names: HashMap<_, _> = replicas
            .iter()
            .map(|replica| (replica.birth.shard, replica.birth.collection_name.as_str()))
            .collect();
        let recalls = self.context.recall.recalls(|shard| names.contains_key(&shard));
        let of = |recall: ShardRecall| Of {
            collection: names[&recall.shard].to_owned(),
            shard: recall.shard,
            vector: recall.vector,
            value: recall.recall,
        };
        let mut all = readings::of_groups(&statuses);
        all.extend(readings::of_shards(&stats));
        all.push(readings::of_recall(recalls.into_iter().map(of).collect()));
        all.extend(readings::of_node(&state, &groups.log().stats()));
        all
    }

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

    #[test]
    fn each_number_has_a_name_and_says_what_it_is_of() {
        let group = crate::raft::GroupStatus {
            leader: true,
            committed: 9,
            applied: 7,
            ..Default::default()
        };
        let mut log = crate::raft::log::LogStats::default();
        (log.sync_histogram[0], log.sync_histogram[2], log.sync_micros) = (3, 1, 2_500_000);
        let node = NodeState {
            ready: true,
            disk_available_bytes: 5,
            memory_anonymous_bytes: 6,
            recent_bytes: (1, 2),
            searches: (0, 1, 8),
            recall_checks: (3, 1),
            ..NodeState::default()
        };
        let mut all = readings::of_groups(&[(0, group.clone()), (42, group)]);
        all.extend(readings::of_shards(&[]));
        all.push(readings::of_recall(vec![Of {
            collection: "packages".into(),
            shard: 42,
            vector: "text".into(),
            value: 0.75,
        }]));
        all.extend(readings::of_node(&node, &log));
        let names: std::collections::BTreeSet<_> = all.iter().map(|reading| reading.name).collect();
        assert_eq!(names.len(), all.len(), "each once");
        let families: Vec<_> = all.into_iter().filter_map(family).collect();
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        for line in [
            "# TYPE granum_raft_leader gauge",
            "granum_raft_leader{shard=\"42\"} 1",
            "granum_raft_apply_lag_entries{shard=\"0\"} 2",
            "granum_recall_at_k{collection=\"packages\",shard=\"42\",vector=\"text\"} 0.75",
            "granum_recall_checks_total 3",
            "granum_recall_checks_dropped_total 1",
            "granum_node_ready 1",
            "# TYPE granum_log_written_bytes_total counter",
            "granum_log_sync_duration_seconds_bucket{le=\"0.0002\"} 3",
            "granum_log_sync_duration_seconds_bucket{le=\"0.0005\"} 4",
            "granum_log_sync_duration_seconds_bucket{le=\"+Inf\"} 4",
            "granum_log_sync_duration_seconds_sum 2.5",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("granum_shard_"), "no replica, no line:\n{text}");
    }
}
