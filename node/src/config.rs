//! What may be set about a node, under which name, and what holds where nothing is set.

use std::net::{IpAddr, SocketAddr};

use granum_model::Setting;
use serde::{Deserialize, Serialize};

use crate::merging::BYTES_PER_SECOND_MIN;
use crate::raft::log::SEGMENT_BYTES_MIN;

/// All settings; the fields of [`Config`] in their order.
pub const SETTINGS: &[Setting] = &[
    setting(
        "data_dir",
        "DIR",
        "granum-data",
        "Folder of everything this node keeps; made where it is missing",
    ),
    setting(
        "listen_data",
        "ADDRESS",
        "127.0.0.1:6335",
        "Where coordinators are served; port 0 takes a free one",
    ),
    setting(
        "listen_raft",
        "ADDRESS",
        "127.0.0.1:6337",
        "Where the other nodes are served; port 0 takes a free one",
    ),
    setting(
        "listen_metrics",
        "ADDRESS",
        "127.0.0.1:6336",
        "Where /metrics, /livez and /readyz are served",
    ),
    setting(
        "advertise",
        "HOST",
        "",
        "Host by which others reach this node; default: the host of listen_data",
    ),
    setting(
        "bootstrap",
        "HOST:PORT,...",
        "",
        "Data addresses of the nodes of a new cluster, the same list for all; the first one starts it, once",
    ),
    setting(
        "join",
        "HOST:PORT,...",
        "",
        "Data addresses of some nodes of the cluster that this node is to join",
    ),
    setting(
        "insecure",
        "",
        "false",
        "Allow addresses that other machines can reach, without authentication or TLS",
    ),
    setting(
        "election_timeout_ms",
        "MS",
        "1000",
        "Without a leader for one and a half to two times this, an election begins",
    ),
    setting("heartbeat_ms", "MS", "250", "Time between a leader's heartbeats"),
    setting(
        "log_segment_bytes",
        "BYTES",
        "67108864",
        "Size of a file of the log, from 5 MiB: the longest entry must fit",
    ),
    setting(
        "log_budget_bytes",
        "BYTES",
        "1073741824",
        "Size of the log above which the shard that pins it is sealed",
    ),
    setting(
        "recent_budget_bytes",
        "BYTES",
        "268435456",
        "Memory for documents that are not sealed yet, all shards",
    ),
    setting(
        "seal_bytes",
        "BYTES",
        "16777216",
        "Unsealed documents of a shard that make a segment",
    ),
    setting(
        "seal_quiet_ms",
        "MILLISECONDS",
        "5000",
        "After so long without a write, 1,000 unsealed writes of a shard or more make a segment; 0: however long",
    ),
    setting(
        "merge_threads",
        "COUNT",
        "1",
        "Shards whose segments are merged at the same time; 0: segments are not merged",
    ),
    setting(
        "merge_bytes_per_second",
        "BYTES",
        "67108864",
        "What merges may write in a second, all shards; 0: as much as the disk takes",
    ),
    setting(
        "recall_check_every",
        "SEARCHES",
        "1000",
        "One dense search of so many is asked again, exactly, when the node is idle, for granum_recall_at_k and to widen walks that find too little; at most one a second; 0: none",
    ),
    setting(
        "worker_threads",
        "COUNT",
        "0",
        "Threads that search; 0: one a processor",
    ),
    setting("service_threads", "COUNT", "2", "Threads that serve coordinators"),
    setting(
        "raft_threads",
        "COUNT",
        "2",
        "Threads of replication, which nothing else may use",
    ),
    setting(
        "requests_max",
        "COUNT",
        "1024",
        "Requests served at once; more are refused as busy",
    ),
    setting(
        "free_space_min_bytes",
        "BYTES",
        "268435456",
        "Free space on disk below which writes are refused",
    ),
    setting(
        "drain_timeout_ms",
        "MS",
        "10000",
        "Time that leaders and requests have to leave when the node stops",
    ),
];

const fn setting(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        value,
        default,
        help,
    }
}

/// A node's settings; [`SETTINGS`] says what each means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of everything this node keeps.
    pub data_dir: String,
    /// Where coordinators are served.
    pub listen_data: String,
    /// Where the other nodes are served.
    pub listen_raft: String,
    /// Where metrics and health are served.
    pub listen_metrics: String,
    /// Host by which others reach this node; empty: the host of `listen_data`.
    pub advertise: String,
    /// Data addresses of the nodes of a new cluster.
    pub bootstrap: Vec<String>,
    /// Data addresses of some nodes of an existing cluster.
    pub join: Vec<String>,
    /// Whether addresses other than loopback are allowed.
    pub insecure: bool,
    /// Milliseconds, more than `heartbeat_ms`.
    pub election_timeout_ms: u64,
    /// Milliseconds, at least 1.
    pub heartbeat_ms: u64,
    /// Bytes, 1 MiB..=1 GiB.
    pub log_segment_bytes: u64,
    /// Bytes, at least two segments.
    pub log_budget_bytes: u64,
    /// Bytes, at least 1 MiB.
    pub recent_budget_bytes: u64,
    /// Bytes, at least 1.
    pub seal_bytes: u64,
    /// Milliseconds; 0: what is not written to stays unsealed.
    pub seal_quiet_ms: u64,
    /// 0: no merges.
    pub merge_threads: usize,
    /// Bytes, at least 1 MiB; 0: any.
    pub merge_bytes_per_second: u64,
    /// 0: no checks.
    pub recall_check_every: u64,
    /// 0: one a processor.
    pub worker_threads: usize,
    /// At least 1.
    pub service_threads: usize,
    /// At least 1.
    pub raft_threads: usize,
    /// At least 1.
    pub requests_max: usize,
    /// Bytes.
    pub free_space_min_bytes: u64,
    /// Milliseconds.
    pub drain_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: "granum-data".into(),
            listen_data: "127.0.0.1:6335".into(),
            listen_raft: "127.0.0.1:6337".into(),
            listen_metrics: "127.0.0.1:6336".into(),
            advertise: String::new(),
            bootstrap: Vec::new(),
            join: Vec::new(),
            insecure: false,
            election_timeout_ms: 1_000,
            heartbeat_ms: 250,
            log_segment_bytes: 64 << 20,
            log_budget_bytes: 1 << 30,
            recent_budget_bytes: 256 << 20,
            seal_bytes: 16 << 20,
            seal_quiet_ms: 5_000,
            merge_threads: 1,
            merge_bytes_per_second: 64 << 20,
            recall_check_every: 1_000,
            worker_threads: 0,
            service_threads: 2,
            raft_threads: 2,
            requests_max: 1_024,
            free_space_min_bytes: 256 << 20,
            drain_timeout_ms: 10_000,
        }
    }
}

/// A setting that can't be used: which one, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// Its name.
    pub setting: &'static str,
    /// What is wrong, with the value.
    pub problem: String,
}

fn refuse(setting: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        problem: problem.into(),
    }
}

/// The three addresses a node listens at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For coordinators.
    pub data: SocketAddr,
    /// For the other nodes.
    pub raft: SocketAddr,
    /// For metrics and health.
    pub metrics: SocketAddr,
}

impl Config {
    /// Checks everything that can be checked without a disk or a socket.
    pub fn check(&self) -> Result<Listen, ConfigError> {
        let listen = Listen {
            data: self.address("listen_data", &self.listen_data)?,
            raft: self.address("listen_raft", &self.listen_raft)?,
            metrics: self.address("listen_metrics", &self.listen_metrics)?,
        };
        if listen.data.ip().is_unspecified() && self.advertise.is_empty() {
            return Err(refuse(
                "advertise",
                format!("must name this node's host, because listen_data is {}", listen.data),
            ));
        }
        if self.advertise.contains([':', '/', ' ']) && self.advertise.parse::<IpAddr>().is_err() {
            return Err(refuse(
                "advertise",
                format!("{:?} is no host; the port is that of listen_data", self.advertise),
            ));
        }
        for (setting, value, least, most) in [
            (
                "election_timeout_ms",
                self.election_timeout_ms,
                self.heartbeat_ms * 2,
                600_000,
            ),
            ("heartbeat_ms", self.heartbeat_ms, 1, 60_000),
            (
                "log_segment_bytes",
                self.log_segment_bytes,
                SEGMENT_BYTES_MIN as u64,
                1 << 30,
            ),
            (
                "log_budget_bytes",
                self.log_budget_bytes,
                self.log_segment_bytes.saturating_mul(2),
                u64::MAX,
            ),
            ("recent_budget_bytes", self.recent_budget_bytes, 1 << 20, u64::MAX),
            ("seal_bytes", self.seal_bytes, 1, u64::MAX),
            ("seal_quiet_ms", self.seal_quiet_ms, 0, 86_400_000),
            ("merge_threads", self.merge_threads as u64, 0, 1_024),
            (
                "merge_bytes_per_second",
                match self.merge_bytes_per_second {
                    0 => BYTES_PER_SECOND_MIN,
                    bytes => bytes,
                },
                BYTES_PER_SECOND_MIN,
                u64::MAX,
            ),
            ("service_threads", self.service_threads as u64, 1, 1_024),
            ("raft_threads", self.raft_threads as u64, 1, 1_024),
            ("worker_threads", self.worker_threads as u64, 0, 1_024),
            ("requests_max", self.requests_max as u64, 1, 1 << 20),
            ("drain_timeout_ms", self.drain_timeout_ms, 0, 3_600_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(refuse(setting, format!("{value}, must be {least}..={most}")));
            }
        }
        Ok(listen)
    }

    fn address(&self, setting: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
        let address: SocketAddr = value
            .parse()
            .map_err(|_| refuse(setting, format!("{value:?} is no address such as 127.0.0.1:6335")))?;
        if !address.ip().is_loopback() && !self.insecure {
            let problem = format!(
                "{address} can be reached by other machines, and nobody is authenticated: allow it with `insecure`"
            );
            return Err(refuse(setting, problem));
        }
        Ok(address)
    }

    /// `host:port` by which others reach a port of this node.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match self.advertise.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, bound.port()).to_string(),
            Err(_) if self.advertise.is_empty() => bound.to_string(),
            Err(_) => format!("{}:{}", self.advertise, bound.port()),
        }
    }

    /// Threads that search.
    pub fn search_threads(&self) -> usize {
        match self.worker_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

#[cfg(test)]
mod tests;
