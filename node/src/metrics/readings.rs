//! Which numbers are read off a node each time somebody asks, and what are they called? One name for one number, as
//! Prometheus has it: unit last, `_total` for what only grows. The label is `shard`, and a node holds a bounded number of
//! those (`REPLICAS_MAX` in `holdings`); what differs by vector names that too, and the collection.

use crate::merging::MergeStats;
use crate::raft::GroupStatus;
use crate::raft::log::{LogStats, SYNC_BUCKETS_MICROS};
use crate::raft::transfer::counts::Transferred;
use crate::shard::ShardStats;

/// A number with its name.
pub struct Reading {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What was read.
    pub value: Value,
}

/// What was read.
pub enum Value {
    /// A state of the node.
    Gauge(f64),
    /// A count since the node started.
    Counter(f64),
    /// A state of each shard, by its id.
    Shards(Vec<(u64, f64)>),
    /// A state of each vector of each shard.
    Vectors(Vec<Of>),
    /// How often something took how long.
    Durations {
        /// Upper bounds in seconds, with the number of times at or below each.
        cumulative: Vec<(f64, u64)>,
        /// How often altogether.
        count: u64,
        /// Seconds altogether.
        seconds: f64,
    },
}

/// A state of one vector.
pub struct Of {
    /// Name of the collection.
    pub collection: String,
    /// The shard.
    pub shard: u64,
    /// Name of the vector.
    pub vector: String,
    /// The state.
    pub value: f64,
}

/// State of a node that is neither its log's nor a shard's.
#[derive(Default)]
pub struct NodeState {
    /// Whether it should get requests.
    pub ready: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Bytes that may still be written where the data directory is.
    pub disk_available_bytes: u64,
    /// Anonymous resident memory of the process.
    pub memory_anonymous_bytes: u64,
    /// Unsealed documents of all shards, and what they may be.
    pub recent_bytes: (u64, u64),
    /// Searches that wait, that run, and that may wait.
    pub searches: (usize, usize, usize),
    /// What was merged.
    pub merges: MergeStats,
    /// What was sent and received of snapshots.
    pub snapshots: Transferred,
    /// Searches asked again for their recall, and those that were to be and were not.
    pub recall_checks: (u64, u64),
}

type Named<T> = (&'static str, &'static str, fn(&T) -> u64);

const OF_A_GROUP: &[Named<GroupStatus>] = &[
    (
        "granum_raft_leader",
        "1 where this node's replica leads the shard",
        |status| status.leader.into(),
    ),
    (
        "granum_raft_has_leader",
        "1 while this node's replica knows a leader",
        |status| u64::from(status.leader_replica != 0),
    ),
    ("granum_raft_term", "Current Raft term", |status| status.term),
    (
        "granum_raft_last_log_index",
        "Index of the last entry in the log",
        |status| status.last_log,
    ),
    (
        "granum_raft_committed_index",
        "Index up to which a majority holds the log, as known here",
        |status| status.committed,
    ),
    (
        "granum_raft_applied_index",
        "Index up to which entries are applied here",
        |status| status.applied,
    ),
    (
        "granum_raft_sealed_index",
        "Index up to which entries are sealed here",
        |status| status.sealed,
    ),
    (
        "granum_raft_apply_lag_entries",
        "Committed entries that are not applied here yet",
        |status| status.committed.saturating_sub(status.applied),
    ),
    ("granum_raft_members", "Voters and learners of the group", |status| {
        status.members.len() as u64
    }),
    (
        "granum_raft_stopped",
        "1 where the replica has stopped after a fault",
        |status| u64::from(!status.fault.is_empty()),
    ),
];

const OF_A_SHARD: &[Named<ShardStats>] = &[
    ("granum_shard_documents", "Live documents of the replica", |stats| {
        stats.index.documents
    }),
    (
        "granum_shard_recent_documents",
        "Documents in memory, not sealed yet",
        |stats| stats.index.recent_documents,
    ),
    (
        "granum_shard_recent_bytes",
        "Memory of documents not sealed yet",
        |stats| stats.index.recent_bytes,
    ),
    ("granum_shard_segments", "Sealed segments", |stats| stats.index.segments),
    (
        "granum_shard_segment_rows",
        "Rows of sealed segments, deleted ones too",
        |stats| stats.index.segment_rows,
    ),
    ("granum_shard_dead_rows", "Of them, rows that are deleted", |stats| {
        stats.index.dead_rows
    }),
    (
        "granum_shard_unsealed_dead_rows",
        "Of those, rows deleted since the newest seal",
        |stats| stats.index.unsealed_dead_rows,
    ),
    ("granum_shard_disk_bytes", "Bytes of sealed segments on disk", |stats| {
        stats.index.disk_bytes
    }),
    (
        "granum_shard_resident_bytes",
        "Codes and graphs of sealed segments in memory",
        |stats| stats.index.resident_bytes,
    ),
    (
        "granum_shard_sequence",
        "The shard's sequence: operations taken",
        |stats| stats.sequence,
    ),
    ("granum_shard_epoch", "Epoch that writes must name", |stats| stats.epoch),
    (
        "granum_shard_dedup_answers",
        "Answers kept for repeated requests",
        |stats| stats.dedup_answers,
    ),
];

/// Readings of all Raft groups, the register's too.
pub fn of_groups(groups: &[(u64, GroupStatus)]) -> Vec<Reading> {
    by_shard(OF_A_GROUP, groups)
}

/// Readings of all replicas of shards.
pub fn of_shards(shards: &[(u64, ShardStats)]) -> Vec<Reading> {
    by_shard(OF_A_SHARD, shards)
}

/// Recall of each vector that was checked.
pub fn of_recall(vectors: Vec<Of>) -> Reading {
    Reading {
        name: "granum_recall_at_k",
        help: "Share of the exact k best that searches found: moving mean of those asked again",
        value: Value::Vectors(vectors),
    }
}

fn by_shard<T>(named: &[Named<T>], all: &[(u64, T)]) -> Vec<Reading> {
    let reading = |(name, help, read): &Named<T>| Reading {
        name,
        help,
        value: Value::Shards(all.iter().map(|(shard, state)| (*shard, read(state) as f64)).collect()),
    };
    named.iter().map(reading).collect()
}

/// Readings of the node as a whole.
pub fn of_node(node: &NodeState, log: &LogStats) -> Vec<Reading> {
    let gauge = |name, help, value: u64| Reading {
        name,
        help,
        value: Value::Gauge(value as f64),
    };
    let counter = |name, help, value: u64| Reading {
        name,
        help,
        value: Value::Counter(value as f64),
    };
    let (recent, recent_limit) = node.recent_bytes;
    let (waiting, running, capacity) = node.searches;
    let (merges, snapshots) = (node.merges, node.snapshots);
    vec![
        gauge(
            "granum_node_ready",
            "1 while the node should get requests",
            node.ready.into(),
        ),
        gauge(
            "granum_node_draining",
            "1 while the node is on its way out",
            node.draining.into(),
        ),
        gauge(
            "granum_node_disk_available_bytes",
            "Bytes that may still be written where the data directory is",
            node.disk_available_bytes,
        ),
        gauge(
            "granum_memory_anonymous_bytes",
            "Anonymous resident memory of the process",
            node.memory_anonymous_bytes,
        ),
        gauge(
            "granum_node_recent_bytes",
            "Memory of documents not sealed yet, all shards",
            recent,
        ),
        gauge(
            "granum_node_recent_budget_bytes",
            "What that memory may be",
            recent_limit,
        ),
        gauge(
            "granum_search_queue_length",
            "Searches that wait for a worker",
            waiting as u64,
        ),
        gauge("granum_search_running", "Searches on a worker", running as u64),
        gauge(
            "granum_search_queue_capacity",
            "Searches that may wait; more are shed",
            capacity as u64,
        ),
        gauge("granum_merges_running", "Merges of segments under way", merges.running),
        counter("granum_merges_total", "Merges of segments made", merges.done),
        counter(
            "granum_merges_failed_total",
            "Merges of segments that failed",
            merges.failed,
        ),
        gauge(
            "granum_merges_failing",
            "Replicas whose last merge failed; they are tried again within the hour",
            merges.failing,
        ),
        counter(
            "granum_merge_written_bytes_total",
            "Bytes written by merges, finished or not",
            merges.written_bytes,
        ),
        counter(
            "granum_snapshot_sent_bytes_total",
            "Bytes of snapshots' files sent to replicas that the log no longer reaches",
            snapshots.sent_bytes,
        ),
        counter(
            "granum_snapshot_received_bytes_total",
            "Bytes of such files received",
            snapshots.received_bytes,
        ),
        counter(
            "granum_snapshot_held_bytes_total",
            "Bytes of such files that lay here whole and did not travel",
            snapshots.held_bytes,
        ),
        counter(
            "granum_snapshot_resumed_bytes_total",
            "Bytes of files that an interrupted transfer had brought and that did not travel again",
            snapshots.resumed_bytes,
        ),
        counter(
            "granum_snapshots_installed_total",
            "Snapshots taken over",
            snapshots.installed,
        ),
        counter(
            "granum_recall_checks_total",
            "Searches asked again, exactly",
            node.recall_checks.0,
        ),
        counter(
            "granum_recall_checks_dropped_total",
            "Searches that were to be asked again and were not, because the node had no time",
            node.recall_checks.1,
        ),
        gauge(
            "granum_log_disk_bytes",
            "Bytes of the log's segment files",
            log.disk_bytes,
        ),
        gauge(
            "granum_log_entry_bytes",
            "Bytes of entries that are still needed",
            log.entry_bytes,
        ),
        gauge(
            "granum_log_queue_length",
            "Items that wait for the log's writer",
            log.queued,
        ),
        gauge(
            "granum_log_accepts_writes",
            "1 while there is room on disk for new proposals",
            log.accepts_writes.into(),
        ),
        counter(
            "granum_log_written_bytes_total",
            "Bytes of records written to the log",
            log.bytes,
        ),
        Reading {
            name: "granum_log_sync_duration_seconds",
            help: "Time a sync of the log took",
            value: sync_durations(log),
        },
    ]
}

fn sync_durations(log: &LogStats) -> Value {
    let mut count = 0;
    let bounds = SYNC_BUCKETS_MICROS.iter().zip(log.sync_histogram);
    let cumulative = bounds.map(|(bound, syncs)| {
        count += syncs;
        (*bound as f64 / 1e6, count)
    });
    Value::Durations {
        cumulative: cumulative.collect(),
        count: log.sync_histogram.iter().sum(),
        seconds: log.sync_micros as f64 / 1e6,
    }
}
