//! `granum bench`: how fast is the cluster that runs, seen by a client? Figures count whole requests, network and all.
//!
//! It drives a fixed number of requests at once, each worker sending its next when its last is answered (a closed loop): latencies
//! are those under that load, not those of an arrival rate.

mod index;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use granum_client::{Client, Document, Filter, filter};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::collection::{SchemaOptions, VectorOption};
use crate::connect::Connect;
use crate::failure::Usage;
use crate::npy::Npy;
use crate::output::{Output, grouped, note};
use crate::table::Table;

/// Queries held in memory.
const QUERIES_MAX: u64 = 100_000;

/// Measure a running cluster, or the index alone
#[derive(Args, Debug)]
pub struct Bench {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand, Debug)]
enum Commands {
    Search(Search),
    Import(Import),
    Index(Box<index::Command>),
}

/// Ask the vectors of a file, over and over, and print rate and latencies
#[derive(Args, Debug)]
struct Search {
    /// Where to ask
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// What to ask: a vector a row, float16 or float32
    #[arg(long, value_name = "FILE.npy")]
    queries: PathBuf,
    /// Hits a question
    #[arg(long, default_value_t = 10)]
    k: u32,
    /// Which vector field, where there are several
    #[arg(long, value_name = "FIELD")]
    using: Option<String>,
    /// Only documents that this lets through
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// No approximation
    #[arg(long)]
    exact: bool,
    /// Questions under way at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: u32,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 10, conflicts_with = "count")]
    duration: u64,
    /// Questions to measure, instead of a time
    #[arg(long)]
    count: Option<u64>,
    /// Seconds of questions that don't count, before
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warm_up: u64,
    #[command(flatten)]
    connect: Connect,
}

/// Write made-up documents with random vectors into a collection of its own, and print the rate
#[derive(Args, Debug)]
struct Import {
    /// How many
    #[arg(long, default_value_t = 20_000)]
    documents: u64,
    /// Components a vector
    #[arg(long, default_value_t = 384, value_parser = clap::value_parser!(u32).range(1..=8192))]
    dimension: u32,
    /// Shards of the collection
    #[arg(long)]
    shards: Option<u32>,
    /// Replicas of each shard
    #[arg(long)]
    replication_factor: Option<u32>,
    /// Documents a request
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Requests under way at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    /// Name of the collection; one that exists is refused
    #[arg(long, value_name = "NAME", default_value = "granum-bench")]
    collection: String,
    /// Leave the collection there
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Until when a measurement goes on.
#[derive(Clone, Copy)]
enum Until {
    Time(Instant),
    Count(u64),
}

/// What was measured.
#[derive(Debug, Default)]
struct Measured {
    /// Microseconds of each request that was answered.
    latencies: Vec<u32>,
    errors: u64,
    first_error: Option<String>,
    seconds: f64,
}

/// `granum bench`
pub async fn run(command: Bench) -> anyhow::Result<()> {
    match command.command {
        Commands::Search(command) => search(command).await,
        Commands::Import(command) => import(command).await,
        Commands::Index(command) => tokio::task::block_in_place(|| index::run(&command)),
    }
}

async fn search(command: Search) -> anyhow::Result<()> {
    let output = command.connect.output();
    let queries = Arc::new(read_queries(&command.queries)?);
    let only = filter::parse(command.filter.as_deref().unwrap_or_default())?;
    let client = command.connect.client()?;
    let ask = {
        let command = Arc::new((
            command.collection.clone(),
            command.using.clone(),
            command.k,
            command.exact,
        ));
        move |client: Client, at: u64| {
            let (queries, only, command) = (queries.clone(), only.clone(), command.clone());
            async move {
                let vector = queries[at as usize % queries.len()].clone();
                one_query(&client, &command, &only, vector).await
            }
        }
    };
    // One question first: what is wrong with all of them is told once, in its own words.
    ask(client.clone(), 0).await?;
    let warm_up = Until::Time(Instant::now() + Duration::from_secs(command.warm_up));
    drive(&client, command.concurrency, warm_up, &ask).await;
    let until = match command.count {
        Some(count) => Until::Count(count),
        None => Until::Time(Instant::now() + Duration::from_secs(command.duration)),
    };
    let measured = drive(&client, command.concurrency, until, &ask).await;
    tell(&output, "questions", 1, &measured, command.concurrency)
}

async fn one_query(
    client: &Client,
    (collection, using, k, exact): &(String, Option<String>, u32, bool),
    only: &Filter,
    vector: Vec<f32>,
) -> anyhow::Result<()> {
    let mut query = client.query(collection).vector(vector).only(only).limit(*k);
    if let Some(name) = using {
        query = query.using(name);
    }
    if *exact {
        query = query.exact();
    }
    query.send().await?;
    Ok(())
}

fn read_queries(path: &std::path::Path) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut npy = Npy::open(path).context("--queries")?;
    let mut queries = Vec::new();
    while let Some(row) = npy.next_f32()? {
        if queries.len() as u64 == QUERIES_MAX {
            note(&format!(
                "only the first {} of {} questions are asked",
                grouped(QUERIES_MAX),
                grouped(npy.rows())
            ));
            break;
        }
        queries.push(row);
    }
    if queries.is_empty() {
        bail!(Usage(format!("--queries: {} has no rows", path.display())));
    }
    Ok(queries)
}

async fn import(command: Import) -> anyhow::Result<()> {
    let output = command.connect.output();
    let client = command.connect.client()?;
    let schema = SchemaOptions {
        fields: vec![VectorOption::dense("", command.dimension)],
        shards: command.shards,
        replication_factor: command.replication_factor,
        ..Default::default()
    };
    schema.create(&client, &command.collection)?.send().await?;
    let (batch, dimension, documents) = (u64::from(command.batch), command.dimension as usize, command.documents);
    let collection = Arc::new(command.collection.clone());
    let write = move |client: Client, at: u64| {
        let collection = collection.clone();
        async move {
            let first = at * batch;
            let made = (first..(first + batch).min(documents))
                .map(|id| made_up(id, dimension))
                .collect();
            client.upsert(collection.as_str(), made).await?;
            anyhow::Ok(())
        }
    };
    let count = Until::Count(command.documents.div_ceil(batch));
    let measured = drive(&client, command.concurrency, count, &write).await;
    if !command.keep {
        client.delete_collection(&command.collection).await?;
    }
    tell(&output, "documents", batch, &measured, command.concurrency)
}

/// The same document for the same id: random components in -1..1.
fn made_up(id: u64, dimension: usize) -> Document {
    let mut random = SmallRng::seed_from_u64(id);
    let vector: Vec<f32> = (0..dimension).map(|_| random.random_range(-1.0..1.0)).collect();
    let payload = format!("{{\"number\":{id},\"tenth\":{}}}", id % 10);
    Document::new(id).payload_json(payload).vector("", vector)
}

/// Sends requests 0, 1, 2, ... with so many under way at once.
async fn drive<F>(
    client: &Client,
    concurrency: u32,
    until: Until,
    request: &(impl Fn(Client, u64) -> F + Clone + Send + Sync + 'static),
) -> Measured
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (client, next, request) = (client.clone(), next.clone(), request.clone());
        workers.spawn(async move {
            let mut measured = Measured::default();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Time(end) => Instant::now() >= end,
                    Until::Count(count) => at >= count,
                };
                if over {
                    return measured;
                }
                let sent = Instant::now();
                match request(client.clone(), at).await {
                    Ok(()) => measured
                        .latencies
                        .push(sent.elapsed().as_micros().try_into().unwrap_or(u32::MAX)),
                    Err(error) => {
                        measured.errors += 1;
                        measured.first_error.get_or_insert(format!("{error:#}"));
                    }
                }
            }
        });
    }
    let mut all = Measured::default();
    while let Some(measured) = workers.join_next().await {
        let measured = measured.expect("a worker does not panic and is not aborted");
        all.latencies.extend(measured.latencies);
        all.errors += measured.errors;
        all.first_error = all.first_error.or(measured.first_error);
    }
    all.seconds = started.elapsed().as_secs_f64();
    all.latencies.sort_unstable();
    all
}

/// The latency that so large a share of the requests did not exceed, in milliseconds; `sorted` in microseconds.
fn percentile(sorted: &[u32], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .map_or(0.0, |&micros| f64::from(micros) / 1000.0)
}

fn tell(output: &Output, what: &str, each: u64, measured: &Measured, concurrency: u32) -> anyhow::Result<()> {
    let requests = measured.latencies.len() as u64;
    let rate = (requests * each) as f64 / measured.seconds.max(1e-9);
    let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];
    let latencies = shares.map(|(name, share)| (name, percentile(&measured.latencies, share)));
    if output.json {
        let mut object = json!({
            "requests": requests, "errors": measured.errors, "seconds": measured.seconds, "concurrency": concurrency,
        });
        object[format!("{what}_per_second")] = json!(rate);
        for (name, millis) in latencies {
            object[format!("{name}_ms")] = Value::from(millis);
        }
        output.json(&object)?;
    } else {
        let mut table = Table::new(
            [format!(">{what}/s"), ">requests".into(), ">errors".into()]
                .into_iter()
                .chain(latencies.iter().map(|(name, _)| format!(">{name}"))),
        );
        let head = [grouped(rate as u64), grouped(requests), grouped(measured.errors)];
        table.row(
            head.into_iter()
                .chain(latencies.iter().map(|(_, millis)| format!("{millis:.2} ms"))),
        );
        output.table(&table)?;
    }
    match &measured.first_error {
        None => Ok(()),
        Some(error) => bail!("{} requests failed, the first with: {error}", grouped(measured.errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_latencies() {
        let sorted: Vec<u32> = (1..=100).map(|millis| millis * 1000).collect();
        assert_eq!(percentile(&sorted, 0.5), 50.0);
        assert_eq!(percentile(&sorted, 0.99), 99.0);
        assert_eq!(percentile(&sorted, 1.0), 100.0);
        assert_eq!(percentile(&sorted[..1], 0.5), 1.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
