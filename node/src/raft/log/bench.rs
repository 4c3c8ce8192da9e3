//! What does one durable append cost, for one group and for many at once?
//!
//! `cargo run --release -p granum-node --example log_bench -- [DIR] [SECONDS]`: entries of 1.6 KB (as in
//! shared/research/rust-deps.md, so that figures compare) through the node's log on the real disk. First one group,
//! batches of 1, 16 and 256 entries, each awaited; then 1, 4, 16 and 64 groups, each with one append of one entry under way.
//! Beside each the bare cost: the same bytes written to a pre-zeroed file and synced. Figures of one run compare with
//! each other, not with other machines.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use granum_node::disk::{RealDisk, SharedDisk};
use granum_node::raft::log::{GroupLog, Log, LogOptions};
use granum_node::raft::type_config::{Command, Entry, Payload, log_id};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

const ENTRY_BYTES: usize = 1600;
const BATCHES: [u64; 3] = [1, 16, 256];
const GROUPS: [u64; 4] = [1, 4, 16, 64];
/// So many entries are kept of each group; the rest is purged, so that segments are freed while the clock runs.
const KEPT: u64 = 4096;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "log-bench.tmp".to_owned());
    let patience = Duration::from_secs(arguments.next().map_or(Ok(2), |text| text.parse()).context("SECONDS")?);
    let dir = Path::new(&dir);
    let disk: SharedDisk = Arc::new(RealDisk);
    disk.create_dir_all(dir)?;

    println!(
        "{:<12} {:>10} {:>12} {:>12} {:>12} {:>14}",
        "", "batch", "median us", "p99 us", "entries/s", "entries/sync"
    );
    for batch in BATCHES {
        bare(&disk, dir, batch, patience)?;
        one_group(&disk, dir, batch, patience).await?;
    }
    for groups in GROUPS {
        many_groups(&disk, dir, groups, patience).await?;
    }
    disk.remove_dir_all(dir)?;
    Ok(())
}

/// The bytes of a batch, written and synced, and nothing else.
fn bare(disk: &SharedDisk, dir: &Path, batch: u64, patience: Duration) -> Result<()> {
    let file = disk.create(&dir.join("bare"))?;
    file.preallocate(64 << 20)?;
    file.sync_data()?;
    let bytes = vec![7; ENTRY_BYTES * batch as usize];
    let mut times = Vec::new();
    let (begun, mut offset) = (Instant::now(), 0);
    while begun.elapsed() < patience {
        if offset + bytes.len() as u64 > 64 << 20 {
            offset = 0;
        }
        let started = Instant::now();
        file.write_at(offset, &bytes)?;
        file.sync_data()?;
        offset += bytes.len() as u64;
        times.push(started.elapsed());
    }
    disk.remove(&dir.join("bare"))?;
    report("bare file", batch, &mut times, begun.elapsed(), batch as f64);
    Ok(())
}

async fn one_group(disk: &SharedDisk, dir: &Path, batch: u64, patience: Duration) -> Result<()> {
    let log = open(disk, dir)?;
    let syncs = log.stats().syncs;
    let begun = Instant::now();
    let mut times = append_for(log.group(1)?, batch, patience).await?;
    let per_sync = (times.len() as u64 * batch) as f64 / (log.stats().syncs - syncs) as f64;
    report("one group", batch, &mut times, begun.elapsed(), per_sync);
    close(disk, dir, log)
}

async fn many_groups(disk: &SharedDisk, dir: &Path, groups: u64, patience: Duration) -> Result<()> {
    let log = open(disk, dir)?;
    let syncs = log.stats().syncs;
    let begun = Instant::now();
    let mut writers = Vec::new();
    for id in 0..groups {
        writers.push(tokio::spawn(append_for(log.group(id)?, 1, patience)));
    }
    let mut times = Vec::new();
    for writer in writers {
        times.extend(writer.await??);
    }
    let per_sync = times.len() as f64 / (log.stats().syncs - syncs) as f64;
    report(&format!("{groups} groups"), 1, &mut times, begun.elapsed(), per_sync);
    close(disk, dir, log)
}

async fn append_for(mut group: GroupLog, batch: u64, patience: Duration) -> Result<Vec<Duration>> {
    let command = Command(vec![7; ENTRY_BYTES].into());
    let (begun, mut next) = (Instant::now(), 0);
    let mut times = Vec::new();
    while begun.elapsed() < patience {
        let entry = |index| Entry {
            log_id: log_id(1, index),
            payload: Payload::Normal(command.clone()),
        };
        let started = Instant::now();
        group.blocking_append((next..next + batch).map(entry)).await?;
        times.push(started.elapsed());
        next += batch;
        if next % KEPT < batch && next > 2 * KEPT {
            group.purge(log_id(1, next - KEPT)).await?;
        }
    }
    Ok(times)
}

fn open(disk: &SharedDisk, dir: &Path) -> Result<Log> {
    let dir = dir.join("log");
    disk.create_dir_all(&dir)?;
    Ok(Log::open(
        disk.clone(),
        &dir,
        LogOptions {
            create: true,
            ..LogOptions::default()
        },
    )?)
}

fn close(disk: &SharedDisk, dir: &Path, log: Log) -> Result<()> {
    log.shutdown();
    let begun = Instant::now();
    let bytes = log.stats().disk_bytes;
    drop(open(disk, dir)?);
    println!(
        "{:<12} {:>10} MiB read and checked in {:.0} ms",
        "  reopened",
        bytes >> 20,
        begun.elapsed().as_secs_f64() * 1e3
    );
    disk.remove_dir_all(&dir.join("log"))?;
    Ok(())
}

fn report(what: &str, batch: u64, times: &mut [Duration], took: Duration, per_sync: f64) {
    times.sort_unstable();
    let micros = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let rate = (times.len() as u64 * batch) as f64 / took.as_secs_f64();
    println!(
        "{what:<12} {batch:>10} {:>12.0} {:>12.0} {rate:>12.0} {per_sync:>14.1}",
        micros(0.5),
        micros(0.99)
    );
}
