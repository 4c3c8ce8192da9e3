//! What tests of real nodes have in common: how a node is configured, and how one waits for it.

use std::path::Path;
use std::time::{Duration, Instant};

use granum_node::Config;

/// Patience of every wait; none should need it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A node with its data in `folder`, on free ports: quick elections, a small log, one worker.
pub fn config(folder: &Path) -> Config {
    Config {
        data_dir: folder.display().to_string(),
        listen_data: "127.0.0.1:0".into(),
        listen_raft: "127.0.0.1:0".into(),
        listen_metrics: "127.0.0.1:0".into(),
        election_timeout_ms: 500,
        heartbeat_ms: 100,
        log_segment_bytes: 5 << 20,
        log_budget_bytes: 10 << 20,
        free_space_min_bytes: 1 << 20,
        worker_threads: 1,
        ..Config::default()
    }
}

/// Asks again and again until there is an answer.
pub async fn wait<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
