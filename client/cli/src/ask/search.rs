//! `granum search`: by text, by vector or by example, and what the answer says about itself.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use granum_client::{Query, ReadLevel, v1};
use serde_json::Value;

use super::{cell, read_filter, read_id, shown};
use crate::connect::Connect;
use crate::failure::Usage;
use crate::json;
use crate::npy::Npy;
use crate::output::{Output, grouped, note};
use crate::table::Table;

/// Find the documents that mean what a text means, or that lie nearest to a vector
#[derive(Args, Debug)]
pub struct Search {
    /// Where to look
    collection: String,
    /// What to look for; the collection's embedder reads it
    #[arg(required_unless_present_any = ["vector", "like"], conflicts_with_all = ["vector", "like"])]
    text: Option<String>,
    #[allow(rustdoc::broken_intra_doc_links, reason = "the help shows this text as it stands")]
    /// A JSON array of numbers, or FILE.npy[:ROW]
    #[arg(long, value_name = "VECTOR", conflicts_with = "like")]
    vector: Option<String>,
    /// The documents most like this one
    #[arg(long, value_name = "ID")]
    like: Option<String>,
    /// Only documents that this lets through, such as 'section = games and size < 5e6'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// How many
    #[arg(long, short = 'n', value_name = "HITS", default_value_t = 10)]
    limit: u32,
    /// How many of the best to pass over
    #[arg(long, value_name = "HITS", default_value_t = 0)]
    offset: u32,
    /// Which vector field, where there are several
    #[arg(long, value_name = "FIELD")]
    using: Option<String>,
    /// Fields of the payload to show, comma separated
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    fields: Vec<String>,
    /// With --json: the whole payload
    #[arg(long)]
    with_payload: bool,
    /// With --json: the vectors
    #[arg(long)]
    with_vectors: bool,
    /// No approximation
    #[arg(long)]
    exact: bool,
    /// Exact but with a probability that is stated, by codes; costs less than --exact
    #[arg(long)]
    certified: bool,
    /// How fresh: linearizable, any, or bounded:MS; the collection's default otherwise
    #[arg(long, value_name = "LEVEL", value_parser = read_level)]
    read: Option<ReadLevel>,
    /// An answer that misses shards is welcome too
    #[arg(long)]
    partial: bool,
    /// Say where the time went
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    connect: Connect,
}

/// `granum search`
pub async fn search(command: Search) -> anyhow::Result<()> {
    let output = command.connect.output();
    let query = command.connect.client()?.query(&command.collection);
    let query = asked(&command, query)?.limit(command.limit).offset(command.offset);
    let query = match (output.json, &command.fields[..]) {
        (true, []) if !command.with_payload => query,
        (_, []) => query.with_payload(),
        (_, fields) => query.with_fields(fields),
    };
    let started = Instant::now();
    let answer = query.send().await?;
    let taken = started.elapsed();
    if output.json {
        let mut object = json::reply(&answer.info);
        object["certified"] = answer.delta.is_some().into();
        object["delta"] = answer.delta.into();
        object["hits"] = answer.hits.iter().map(json::hit).collect();
        output.json(&object)?;
        return Ok(());
    }
    let coverage = answer.info.coverage.unwrap_or_default();
    if coverage.answered < coverage.asked {
        note(&format!(
            "warning: only {} of {} shards answered",
            coverage.answered, coverage.asked
        ));
    }
    for warning in &answer.info.warnings {
        note(&format!("warning: {warning}"));
    }
    let payloads: Vec<Value> = answer.hits.iter().map(|hit| json::payload(&hit.payload_json)).collect();
    let fields = shown(&command.fields, &payloads);
    let mut table = Table::new([">score", "id"].into_iter().chain(fields.iter().map(String::as_str)));
    for (hit, payload) in answer.hits.iter().zip(&payloads) {
        let head = [format!("{:.4}", hit.score), hit.id.to_string()];
        table.row(head.into_iter().chain(fields.iter().map(|field| cell(payload, field))));
    }
    match answer.hits.is_empty() {
        true => note("nothing found"),
        false => output.table(&table)?,
    }
    if command.explain {
        explain(&output, &answer.info, taken)?;
    }
    Ok(())
}

/// What to look for, and among which.
fn asked(command: &Search, query: Query) -> anyhow::Result<Query> {
    let mut query = match (&command.text, &command.vector, &command.like) {
        (Some(text), ..) => query.text(text),
        (_, Some(vector), _) => query.vector(read_vector(vector)?),
        (.., Some(id)) => query.like(read_id(id)?),
        (None, None, None) => bail!(Usage("say what to look for: a text, --vector or --like".into())),
    };
    query = query.only(&read_filter(command.filter.as_deref())?);
    if let Some(name) = &command.using {
        query = query.using(name);
    }
    if let Some(level) = &command.read {
        query = query.read(level.clone());
    }
    if command.with_vectors {
        query = query.with_vectors();
    }
    if command.exact {
        query = query.exact();
    }
    if command.certified {
        query = query.certified();
    }
    if command.partial {
        query = query.partial();
    }
    if command.explain {
        query = query.explain();
    }
    Ok(query)
}

fn explain(output: &Output, info: &v1::ReplyInfo, taken: Duration) -> anyhow::Result<()> {
    let mut stages = Table::new(["stage", ">time", ">candidates"]);
    for stage in &info.stages {
        stages.row([stage.name.clone(), micros(stage.micros), grouped(stage.candidates)]);
    }
    stages.row(["coordinator, all".to_owned(), micros(info.micros), String::new()]);
    stages.row([
        "seen from here".to_owned(),
        micros(taken.as_micros() as u64),
        String::new(),
    ]);
    let usage = info.usage.unwrap_or_default();
    let mut work = Table::new(["work", ">amount"]);
    for (name, amount) in [
        ("rows scored", usage.rows_scored),
        ("rows read from disk", usage.rows_read),
        ("bytes read", usage.bytes_read),
        ("documents filtered", usage.rows_filtered),
    ] {
        work.row([name.to_owned(), grouped(amount)]);
    }
    let mut shards = Table::new([">shard", "node", "level", ">applied", ">stale"]);
    for shard in &info.shards {
        let stale = format!("{} ms", grouped(shard.staleness_ms));
        let node = json::node_id(shard.node);
        let level = if shard.complete { &shard.level } else { &shard.error };
        shards.row([
            shard.shard.to_string(),
            node,
            level.clone(),
            grouped(shard.applied_index),
            stale,
        ]);
    }
    for table in [&stages, &work, &shards] {
        output.line("")?;
        output.table(table)?;
    }
    Ok(())
}

fn micros(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1000.0)
}

fn read_level(text: &str) -> Result<ReadLevel, String> {
    match text.split_once(':') {
        None if text == "linearizable" => Ok(ReadLevel::Linearizable),
        None if text == "any" => Ok(ReadLevel::Any),
        Some(("bounded", lag)) => {
            let lag = lag
                .parse()
                .map_err(|_| format!("{lag:?} is no number of milliseconds"))?;
            Ok(ReadLevel::Bounded {
                max_lag: Duration::from_millis(lag),
                max_lag_entries: 0,
            })
        }
        _ => Err("must be linearizable, any or bounded:MS".into()),
    }
}

/// `[0.1, -2]`, or `queries.npy:17` (row 17, from 0; row 0 where none is named).
fn read_vector(text: &str) -> anyhow::Result<Vec<f32>> {
    if text.trim_start().starts_with('[') {
        let vector: Result<Vec<f32>, _> = serde_json::from_str(text);
        return vector.map_err(|error| Usage(format!("--vector: {text:?} is no list of numbers: {error}")).into());
    }
    let (path, row) = match text.rsplit_once(':') {
        Some((path, row)) => (
            path,
            row.parse().map_err(|_| Usage(format!("--vector: {row:?} is no row")))?,
        ),
        None => (text, 0),
    };
    let mut npy = Npy::open(Path::new(path)).context("--vector")?;
    npy.seek(row)?;
    let missing = || {
        Usage(format!(
            "--vector: {path} has no row {row}, there are {}",
            npy_rows(path)
        ))
    };
    npy.next_f32()?.ok_or_else(|| missing().into())
}

fn npy_rows(path: &str) -> u64 {
    Npy::open(Path::new(path)).map_or(0, |npy| npy.rows())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_freshness_have_names() {
        assert_eq!(read_level("any"), Ok(ReadLevel::Any));
        assert!(matches!(read_level("bounded:50"), Ok(ReadLevel::Bounded { .. })));
        assert!(read_level("bounded").is_err() && read_level("fresh").is_err());
    }
}
