//! What a coordinator counts, and how Prometheus reads it. One registry per instance, so that several coordinators live
//! in one process; the label `collection` is set only for collections that exist, so that its values are bounded.

use std::time::Duration;

use granum_proto::status::Failure;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Upper bounds of the latency histograms, in seconds.
const LATENCY_BUCKETS_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];

/// All metrics of one coordinator.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    /// Calls to shards, by method and outcome (`ok`, or the failure's class).
    pub shard_calls: IntCounterVec,
    /// Calls repeated after a failure, by its class.
    pub retries: IntCounterVec,
    /// Reads refused as busy that were not repeated, because too many had been.
    pub repeats_withheld: IntCounter,
    /// Second replicas asked because the first was slow.
    pub hedges: IntCounter,
    /// Shards that a partial answer missed.
    pub missing_shards: IntCounter,
    /// Documents taken, by collection.
    pub documents_written: IntCounterVec,
    /// Texts turned into vectors.
    pub texts_embedded: IntCounter,
    /// Revision of the map in use.
    pub map_revision: IntGauge,
    /// Nodes that answered the last time all were asked.
    pub nodes_reachable: IntGauge,
    /// Shards whose replicas held different documents when last compared.
    pub shards_diverged: IntGauge,
    /// Steps of the control loop, by kind and outcome.
    pub control_steps: IntCounterVec,
}

impl Metrics {
    /// Registers everything in a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| registered(&registry, IntCounter::new(full(name), help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(full(name), help), labels))
        };
        let gauge = |name: &str, help: &str| registered(&registry, IntGauge::new(full(name), help));
        let seconds = HistogramOpts::new(full("request_seconds"), "Time from request to answer")
            .buckets(LATENCY_BUCKETS_SECONDS.to_vec());
        Metrics {
            requests: counters(
                "requests_total",
                "Requests answered",
                &["method", "collection", "outcome"],
            ),
            seconds: registered(&registry, HistogramVec::new(seconds, &["method", "collection"])),
            in_flight: gauge("requests_in_flight", "Requests being served"),
            shard_calls: counters("shard_calls_total", "Calls to shards", &["method", "outcome"]),
            retries: counters(
                "retries_total",
                "Calls to shards repeated, by the failure before",
                &["failure"],
            ),
            repeats_withheld: counter(
                "repeats_withheld_total",
                "Reads refused as busy that were not repeated, because too many had been",
            ),
            hedges: counter("hedges_total", "Second replicas asked because the first was slow"),
            missing_shards: counter("missing_shards_total", "Shards that partial answers missed"),
            documents_written: counters(
                "documents_written_total",
                "Documents written or deleted",
                &["collection"],
            ),
            texts_embedded: counter("texts_embedded_total", "Texts turned into vectors"),
            map_revision: gauge("map_revision", "Revision of the cluster map in use"),
            shards_diverged: gauge(
                "shards_diverged",
                "Shards whose replicas held different documents when last compared",
            ),
            nodes_reachable: gauge("nodes_reachable", "Nodes that answered when last asked"),
            control_steps: counters("control_steps_total", "Steps of the control loop", &["step", "outcome"]),
            registry,
        }
    }

    /// Counts one request answered.
    pub fn answered(&self, method: &str, collection: &str, outcome: &str, took: Duration) {
        self.requests.with_label_values(&[method, collection, outcome]).inc();
        self.seconds
            .with_label_values(&[method, collection])
            .observe(took.as_secs_f64());
    }

    /// Counts a request as being served until the value is dropped.
    pub fn serving(&self) -> Serving {
        self.in_flight.inc();
        Serving(self.in_flight.clone())
    }

    /// All of it in Prometheus' text format.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory cannot fail, and names were checked when they were registered");
        text
    }
}

/// A request being served.
pub(crate) struct Serving(IntGauge);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn full(name: &str) -> String {
    format!("granum_coordinator_{name}")
}

fn registered<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("names and labels are constants, tested below");
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is registered once, tested below");
    metric
}

/// A failure's class, as a label.
pub(crate) fn class(failure: &Failure) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.answered("query", "packages", "ok", Duration::from_millis(3));
        let text = String::from_utf8(one.text()).unwrap();
        let line = "granum_coordinator_requests_total{collection=\"packages\",method=\"query\",outcome=\"ok\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(!String::from_utf8(other.text()).unwrap().contains("packages"));
    }
}
