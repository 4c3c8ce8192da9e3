//! `granum collection`: collections made, listed, shown, indexed and deleted.

mod index;
mod schema;

use anyhow::bail;
use clap::{Args, Subcommand};
use granum_client::v1;
use serde_json::{Value, json};

use crate::ask::sure;
use crate::connect::Connect;
use crate::json;
use crate::output::{Output, grouped, note, sized};
use crate::table::Table;

pub use schema::{BUILTIN_DIMENSION, Named, SchemaOptions, VectorOption};

/// Create, list, show, index and delete collections
#[derive(Args, Debug)]
pub struct Collection {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand, Debug)]
enum Commands {
    Create(Create),
    List(List),
    Info(Info),
    Index(index::Index),
    Delete(Delete),
}

/// Create a collection
#[derive(Args, Debug)]
struct Create {
    /// 1..=255 letters, digits, '_', '-', '.'
    name: String,
    #[command(flatten)]
    schema: SchemaOptions,
    /// An equal collection that stands already is as good
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    connect: Connect,
}

/// List all collections
#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    connect: Connect,
}

/// Show a collection: its vector fields and indexes, its shards and where they live
#[derive(Args, Debug)]
struct Info {
    /// Which
    name: String,
    #[command(flatten)]
    connect: Connect,
}

/// Delete a collection with all that is in it
#[derive(Args, Debug)]
struct Delete {
    /// Which
    name: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connect: Connect,
}

/// `granum collection`
pub async fn run(command: Collection) -> anyhow::Result<()> {
    match command.command {
        Commands::Create(command) => create(command).await,
        Commands::List(command) => list(command).await,
        Commands::Info(command) => info(command).await,
        Commands::Index(command) => index::run(command).await,
        Commands::Delete(command) => delete(command).await,
    }
}

async fn create(command: Create) -> anyhow::Result<()> {
    let output = command.connect.output();
    let create = command.schema.create(&command.connect.client()?, &command.name)?;
    let create = if command.if_not_exists {
        create.if_not_exists()
    } else {
        create
    };
    let info = create.send().await?;
    match output.json {
        true => output.json(&json::collection(&info))?,
        false => {
            let shards = counted(info.shards.len(), "shard");
            output.line(&format!(
                "{}: {shards} x {}",
                info.name,
                counted(info.replication_factor as usize, "replica")
            ))?;
        }
    }
    Ok(())
}

/// `no indexes`, `1 index`, `2 indexes`.
fn counted_indexes(count: usize) -> String {
    match count {
        0 => "no indexes".to_owned(),
        1 => "1 index".to_owned(),
        count => format!("{count} indexes"),
    }
}

/// `1 shard`, `4 shards`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

async fn list(command: List) -> anyhow::Result<()> {
    let output = command.connect.output();
    let collections = command.connect.client()?.collections().await?;
    if output.json {
        output.json(&Value::Array(collections.iter().map(json::collection).collect()))?;
        return Ok(());
    }
    if collections.is_empty() {
        note("no collections: `granum collection create NAME --embedder builtin` makes one");
        return Ok(());
    }
    let mut table = Table::new(["name", ">documents", ">shards", ">replicas", "vectors", "state"]);
    for info in &collections {
        let vectors = info.schema.iter().flat_map(|schema| &schema.vectors).map(field_text);
        table.row([
            info.name.clone(),
            grouped(info.documents),
            info.shards.len().to_string(),
            info.replication_factor.to_string(),
            vectors.collect::<Vec<_>>().join("; "),
            json::state(info).to_owned(),
        ]);
    }
    Ok(output.table(&table)?)
}

/// `title: 384 cosine f16, builtin/all-MiniLM-L6-v2`
fn field_text(field: &v1::VectorField) -> String {
    let name = if field.name.is_empty() {
        String::new()
    } else {
        format!("{}: ", field.name)
    };
    let shape = match json::kind(field) {
        "sparse" => "sparse".to_owned(),
        "multi" => format!(
            "multi {} {} {}",
            field.dimension,
            json::distance(field),
            json::fine(field)
        ),
        _ => format!("{} {} {}", field.dimension, json::distance(field), json::fine(field)),
    };
    let embedder = if field.embedder.is_empty() {
        String::new()
    } else {
        format!(", {}", field.embedder)
    };
    format!("{name}{shape}{embedder}")
}

async fn info(command: Info) -> anyhow::Result<()> {
    let output = command.connect.output();
    let info = command.connect.client()?.collection(&command.name).await?;
    match output.json {
        true => output.json(&json::collection(&info))?,
        false => {
            let documents = grouped(info.documents);
            output.line(&format!("{}: {documents} documents, {}", info.name, json::state(&info)))?;
            for field in info.schema.iter().flat_map(|schema| &schema.vectors) {
                output.line(&format!("  vector {}", field_text(field)))?;
            }
            for line in index::lines(&info) {
                output.line(&line)?;
            }
            output.line("")?;
            shards(&output, [&info])?;
        }
    }
    Ok(())
}

/// Each replica of each shard, a line.
pub fn shards<'c>(
    output: &Output,
    collections: impl IntoIterator<Item = &'c v1::CollectionInfo>,
) -> anyhow::Result<()> {
    let headings = [
        "collection",
        ">shard",
        "node",
        "role",
        ">documents",
        ">recent",
        ">segments",
        ">on disk",
        ">lag",
    ];
    let mut table = Table::new(headings);
    for info in collections {
        for (at, shard) in info.shards.iter().enumerate() {
            for (nth, replica) in shard.replicas.iter().enumerate() {
                let first = |text: String, wanted: bool| if wanted { text } else { String::new() };
                let role = match (replica.reachable, replica.leader) {
                    (false, _) => "unreachable",
                    (true, true) => "leader",
                    (true, false) => "follower",
                };
                table.row([
                    first(info.name.clone(), at == 0 && nth == 0),
                    first(shard.id.to_string(), nth == 0),
                    json::node_id(replica.node),
                    role.to_owned(),
                    grouped(replica.documents),
                    grouped(replica.recent_documents),
                    replica.segments.to_string(),
                    sized(replica.disk_bytes),
                    grouped(replica.lag_entries),
                ]);
            }
        }
    }
    Ok(output.table(&table)?)
}

async fn delete(command: Delete) -> anyhow::Result<()> {
    let output = command.connect.output();
    let client = command.connect.client()?;
    if !command.yes {
        let info = client.collection(&command.name).await?;
        let question = format!(
            "delete the collection {} with {} documents?",
            info.name,
            grouped(info.documents)
        );
        if !sure(&question)? {
            bail!("nothing was deleted");
        }
    }
    let existed = client.delete_collection(&command.name).await?;
    match (output.json, existed) {
        (true, _) => output.json(&json!({"existed": existed}))?,
        (false, true) => output.line(&format!("{} deleted", command.name))?,
        (false, false) => bail!("no collection {:?}", command.name),
    }
    Ok(())
}
