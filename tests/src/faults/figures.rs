//! What one repeat of a row has shown, as one line of JSON, and how lines of one row add up.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A fault's times, in microseconds since the run began.
#[derive(Clone, Debug)]
pub struct Window {
    /// The shard whose leader it hit.
    pub shard: Option<u64>,
    /// Before anything was done.
    pub from_us: i64,
    /// The fault is there.
    pub struck_us: i64,
    /// It is over.
    pub lifted_us: i64,
    /// Every replica has caught up.
    pub healed_us: i64,
}

/// One repeat of a row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Repeat {
    /// Name of the row.
    pub row: String,
    /// Seconds since 1970.
    pub at_unix: u64,
    /// What the load's random choices followed from.
    pub seed: u64,
    /// Milliseconds between two searches; 0: of a run before it was noted.
    #[serde(default)]
    pub search_ms: u64,
    /// Of the binary: `debug` or `release`.
    pub profile: String,
    /// Processors of the machine.
    pub processors: usize,
    /// How often the fault happened.
    pub faults: u32,
    /// Why the run says nothing, if so.
    pub void: Option<String>,
    /// All reads and writes.
    pub operations: u64,
    /// Of these, on documents whose history was checked.
    pub hot_operations: u64,
    /// Of these, those whose outcome stayed unknown.
    pub hot_unknown: u64,
    /// Documents acknowledged and absent after healing.
    pub lost: Vec<u64>,
    /// What must not be, a sentence each.
    pub anomalies: Vec<String>,
    /// From each fault to the first acknowledged write of the shard, sent afterwards.
    pub failover_ms: Vec<f64>,
    /// From the end of each fault until all replicas had caught up.
    pub healing_ms: Vec<f64>,
    /// Searches while a fault lasted or healed.
    pub queries_fault: u64,
    /// Of these, those without an answer in time.
    pub queries_fault_failed: u64,
    /// Slowest of them.
    pub query_worst_ms: f64,
    /// Searches else.
    pub queries_calm: u64,
    /// Of these, those without an answer in time.
    pub queries_calm_failed: u64,
    /// Times of acknowledged writes sent while a fault lasted or healed, ascending.
    pub write_fault_ms: Vec<f64>,
    /// Times of others, ascending.
    pub write_calm_ms: Vec<f64>,
    /// Writes without an acknowledgement in 30 s, or refused.
    pub writes_failed: u64,
    /// How late 99 of 100 naps of 10 ms ended: how busy the machine was.
    pub wake_p99_ms: f64,
    /// First failures of searches and writes.
    pub errors: Vec<String>,
    /// What else was seen.
    pub notes: Vec<String>,
}

impl Repeat {
    /// An empty one, of now and here.
    pub fn new(row: &str, faults: u32) -> Repeat {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let binary = crate::processes::binary();
        let release = binary.components().any(|part| part.as_os_str() == "release");
        Repeat {
            row: row.to_owned(),
            at_unix: now.map_or(0, |since| since.as_secs()),
            profile: if release { "release" } else { "debug" }.to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            faults,
            ..Repeat::default()
        }
    }

    /// Whether nothing was lost and nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.anomalies.is_empty()
    }

    /// Adds it to a file of results.
    pub fn append(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = std::fs::File::options().create(true).append(true).open(path)?;
        let line = serde_json::to_string(self)?;
        Ok(writeln!(file, "{line}")?)
    }
}

/// All repeats in a file of results; none where there is no such file.
pub fn read(path: &Path) -> Result<Vec<Repeat>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().enumerate();
    let read = |(at, line)| serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), at + 1));
    lines.map(read).collect()
}

/// The value below which this share of all lies; `sorted` ascends.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        assert_eq!(quantile::<u32>(&[], 0.5), None);
        assert_eq!(quantile(&[1, 2, 3, 4], 0.5), Some(2));
        assert_eq!(quantile(&[1, 2, 3, 4], 0.99), Some(4));
        assert_eq!(quantile(&[7], 0.5), Some(7));
    }

    #[test]
    fn results_add_up_over_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results/of.jsonl");
        assert!(read(&path).unwrap().is_empty());
        let repeat = Repeat {
            row: "kill-leader".to_owned(),
            failover_ms: vec![1.5],
            ..Repeat::default()
        };
        repeat.append(&path).unwrap();
        repeat.append(&path).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].failover_ms, [1.5]);
    }
}
