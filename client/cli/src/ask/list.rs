//! `granum get`, `granum scroll`, `granum count` and `granum facet`: documents by id, in order, how many, and how many of
//! each value.

use anyhow::bail;
use clap::Args;
use granum_client::{DocId, StoredDocument};
use serde_json::{Value, json};

use super::{cell, read_filter, read_id, shown};
use crate::connect::Connect;
use crate::json;
use crate::output::{Output, grouped, note};
use crate::table::Table;

/// Show documents by id
#[derive(Args, Debug)]
pub struct Get {
    /// Where to look
    collection: String,
    /// Which: digits are a number id, '"42"' is the text 42
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// With --json: the vectors too
    #[arg(long)]
    with_vectors: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Count documents, exactly
#[derive(Args, Debug)]
pub struct Count {
    /// Where to look
    collection: String,
    /// Only documents that this lets through
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Count documents by the values of a field, the most frequent first
#[derive(Args, Debug)]
pub struct Facet {
    /// Where to look
    collection: String,
    /// Path of a field with a payload index of kind keyword, uuid, integer or bool
    key: String,
    /// Only documents that this lets through
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// How many values
    #[arg(long, short = 'n', value_name = "VALUES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    connect: Connect,
}

/// List documents by id; with --json a line each, ready for `granum import`
#[derive(Args, Debug)]
pub struct Scroll {
    /// Where to look
    collection: String,
    /// Only documents that this lets through
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Begin at this id
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// How many at most [default: all with --json, else 20]
    #[arg(long, short = 'n', value_name = "DOCUMENTS")]
    limit: Option<u64>,
    /// Fields of the payload to show, comma separated
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    fields: Vec<String>,
    /// With --json: the vectors too
    #[arg(long)]
    with_vectors: bool,
    #[command(flatten)]
    connect: Connect,
}

/// `granum get`
pub async fn get(command: Get) -> anyhow::Result<()> {
    let output = command.connect.output();
    let ids = command
        .ids
        .iter()
        .map(|id| read_id(id))
        .collect::<Result<Vec<_>, _>>()?;
    let client = command.connect.client()?;
    let found = client.get(&command.collection, &ids, command.with_vectors).await?;
    if output.json {
        for document in &found {
            output.json(&json::document(document))?;
        }
    } else {
        for document in &found {
            show(&output, document)?;
        }
    }
    let missing: Vec<String> = ids
        .iter()
        .filter(|id| !found.iter().any(|document| document.id == **id))
        .map(DocId::to_string)
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => bail!("not in {}: {}", command.collection, missing.join(", ")),
    }
}

/// A document, a field a line.
fn show(output: &Output, document: &StoredDocument) -> anyhow::Result<()> {
    let mut table = Table::new([document.id.to_string(), format!("version {}", document.version)]);
    if let Value::Object(fields) = json::payload(&document.payload_json) {
        for name in fields.keys() {
            table.row([name.clone(), cell(&Value::Object(fields.clone()), name)]);
        }
    }
    output.table(&table)?;
    Ok(output.line("")?)
}

/// `granum count`
pub async fn count(command: Count) -> anyhow::Result<()> {
    let output = command.connect.output();
    let filter = read_filter(command.filter.as_deref())?;
    let count = command.connect.client()?.count(&command.collection, &filter).await?;
    match output.json {
        true => output.json(&json!({"count": count}))?,
        false => output.line(&grouped(count))?,
    }
    Ok(())
}

/// `granum facet`
pub async fn facet(command: Facet) -> anyhow::Result<()> {
    let output = command.connect.output();
    let filter = read_filter(command.filter.as_deref())?;
    let client = command.connect.client()?;
    let found = client
        .facet(&command.collection, &command.key, &filter, command.limit)
        .await?;
    if output.json {
        return Ok(output.json(&json::facet(&found))?);
    }
    let mut table = Table::new([command.key.as_str(), ">documents"]);
    for hit in &found.hits {
        let count = match hit.error {
            0 => grouped(hit.count),
            error => format!("{} to {}", grouped(hit.count), grouped(hit.count.saturating_add(error))),
        };
        table.row([hit.value.to_string(), count]);
    }
    if found.hits.is_empty() {
        note("nothing found");
        return Ok(());
    }
    output.table(&table)?;
    if !found.is_exact {
        note("not certain: shards may not name more values, or failed when they were asked for more");
    }
    Ok(())
}

/// `granum scroll`
pub async fn scroll(command: Scroll) -> anyhow::Result<()> {
    const PAGE: u64 = 1000;
    const LIMIT_FOR_PEOPLE: u64 = 20;
    let output = command.connect.output();
    let limit = command
        .limit
        .unwrap_or(if output.json { u64::MAX } else { LIMIT_FOR_PEOPLE });
    let filter = read_filter(command.filter.as_deref())?;
    let page = limit.clamp(1, PAGE) as u32;
    let mut scroll = command
        .connect
        .client()?
        .scroll(&command.collection)
        .only(&filter)
        .page_documents(page);
    if let Some(from) = &command.from {
        scroll = scroll.from(read_id(from)?);
    }
    if command.with_vectors {
        scroll = scroll.with_vectors();
    }
    let mut left = limit;
    let mut listed: Vec<StoredDocument> = Vec::new();
    while left > 0 {
        let Some(mut documents) = scroll.next_page().await? else {
            break;
        };
        documents.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= documents.len() as u64;
        match output.json {
            true => documents
                .iter()
                .try_for_each(|document| output.json(&json::document(document)))?,
            false => listed.extend(documents),
        }
    }
    if output.json {
        return Ok(());
    }
    let payloads: Vec<Value> = listed
        .iter()
        .map(|document| json::payload(&document.payload_json))
        .collect();
    let fields = shown(&command.fields, &payloads);
    let mut table = Table::new(["id", ">version"].into_iter().chain(fields.iter().map(String::as_str)));
    for (document, payload) in listed.iter().zip(&payloads) {
        let head = [document.id.to_string(), document.version.to_string()];
        table.row(head.into_iter().chain(fields.iter().map(|field| cell(payload, field))));
    }
    match listed.is_empty() {
        true => note("nothing found"),
        false => output.table(&table)?,
    }
    if let (0, Some(next)) = (left, scroll.next_id()) {
        note(&format!("there are more: --from '{next}'"));
    }
    Ok(())
}
