//! What may be set about a coordinator, under which name, and what holds where nothing is set.

use granum_model::Setting;
use granum_proto::limits;
use serde::{Deserialize, Serialize};

/// All settings; the fields of [`Config`] in their order.
pub const SETTINGS: &[Setting] = &[
    setting(
        "nodes",
        "HOST:PORT,...",
        "127.0.0.1:6335",
        "Data addresses of some nodes of the cluster; the others are found through them",
    ),
    setting(
        "listen_http",
        "ADDRESS",
        "127.0.0.1:6333",
        "Where HTTP is served; port 0 takes a free one",
    ),
    setting(
        "listen_grpc",
        "ADDRESS",
        "127.0.0.1:6334",
        "Where gRPC is served; port 0 takes a free one",
    ),
    setting(
        "listen_metrics",
        "ADDRESS",
        "127.0.0.1:6336",
        "Where /metrics, /livez and /readyz are served",
    ),
    setting(
        "insecure",
        "",
        "false",
        "Allow addresses that other machines can reach, without authentication or TLS",
    ),
    setting(
        "embed_threads",
        "COUNT",
        "0",
        "Threads that turn text into vectors; 0: half of the processors",
    ),
    setting(
        "default_shards",
        "COUNT",
        "4",
        "Shards of a collection that names no number",
    ),
    setting(
        "default_timeout_ms",
        "MS",
        "30000",
        "Time a request may take where it names none",
    ),
    setting(
        "attempt_timeout_ms",
        "MS",
        "5000",
        "Time one node has to answer before another replica is asked",
    ),
    setting(
        "drain_timeout_ms",
        "MS",
        "10000",
        "Time that requests have to finish when the coordinator stops",
    ),
    setting(
        "requests_max",
        "COUNT",
        "1024",
        "Requests served at once; more are refused as busy",
    ),
    setting(
        "control_interval_ms",
        "MS",
        "1000",
        "How often the cluster is compared with the map",
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

/// A coordinator's settings; [`SETTINGS`] says what each means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Data addresses of some nodes, `host:port`.
    pub nodes: Vec<String>,
    /// Where HTTP is served.
    pub listen_http: String,
    /// Where gRPC is served.
    pub listen_grpc: String,
    /// Where metrics and health are served.
    pub listen_metrics: String,
    /// Whether addresses other than loopback are allowed.
    pub insecure: bool,
    /// Threads that embed; 0: half of the processors.
    pub embed_threads: usize,
    /// Shards of a collection that names no number, 1..=256.
    pub default_shards: u32,
    /// Milliseconds, 1..=600,000.
    pub default_timeout_ms: u64,
    /// Milliseconds, at least 1.
    pub attempt_timeout_ms: u64,
    /// Milliseconds.
    pub drain_timeout_ms: u64,
    /// At least 1.
    pub requests_max: usize,
    /// Milliseconds, at least 1.
    pub control_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            nodes: vec!["127.0.0.1:6335".into()],
            listen_http: "127.0.0.1:6333".into(),
            listen_grpc: "127.0.0.1:6334".into(),
            listen_metrics: "127.0.0.1:6336".into(),
            insecure: false,
            embed_threads: 0,
            default_shards: 4,
            default_timeout_ms: limits::TIMEOUT_MS_DEFAULT,
            attempt_timeout_ms: 5_000,
            drain_timeout_ms: 10_000,
            requests_max: 1_024,
            control_interval_ms: 1_000,
        }
    }
}

impl Config {
    /// Refuses values out of bounds, naming setting, value and bound.
    pub fn check(&self) -> Result<(), limits::Invalid> {
        if self.nodes.is_empty() {
            return Err(limits::Invalid::new("nodes", "none given, at least one is needed"));
        }
        within(
            "default_shards",
            self.default_shards.into(),
            1,
            limits::SHARDS_MAX.into(),
        )?;
        within("default_timeout_ms", self.default_timeout_ms, 1, limits::TIMEOUT_MS_MAX)?;
        within("attempt_timeout_ms", self.attempt_timeout_ms, 1, limits::TIMEOUT_MS_MAX)?;
        within("drain_timeout_ms", self.drain_timeout_ms, 0, limits::TIMEOUT_MS_MAX)?;
        within("requests_max", self.requests_max as u64, 1, 1 << 20)?;
        within("control_interval_ms", self.control_interval_ms, 1, 60_000)?;
        within("embed_threads", self.embed_threads as u64, 0, 1_024)
    }
}

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<(), limits::Invalid> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(limits::Invalid::new(name, format!("{value}, must be {least}..={most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_fields_agree_with_their_defaults() {
        let table = toml::Table::try_from(Config::default()).unwrap();
        assert_eq!(table.len(), SETTINGS.len());
        for setting in SETTINGS {
            let default = match &table[setting.name] {
                toml::Value::Array(list) => list
                    .iter()
                    .map(|item| item.as_str().unwrap())
                    .collect::<Vec<_>>()
                    .join(","),
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(setting.default, default, "{}", setting.name);
        }
    }

    #[test]
    fn an_unknown_setting_and_a_value_out_of_bounds_are_refused_by_name() {
        let error = toml::from_str::<Config>("listen_htpp = \"x\"").unwrap_err().to_string();
        assert!(error.contains("listen_htpp"), "{error}");
        let config = Config {
            default_shards: 257,
            ..Config::default()
        };
        let error = config.check().unwrap_err().to_string();
        assert_eq!(error, "default_shards: 257, must be 1..=256");
    }
}
