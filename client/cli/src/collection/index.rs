//! `granum collection index`: indexes over fields of the documents, added and dropped.

use clap::{Args, Subcommand};
use granum_client::v1;

use super::schema::IndexOption;
use crate::connect::Connect;
use crate::json;

/// Add and drop indexes over fields of the documents
#[derive(Args, Debug)]
pub struct Index {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand, Debug)]
enum Commands {
    Add(Add),
    Drop(Drop),
}

/// Add an index, or replace the one that the field has; it is built behind the answer, and filters are right meanwhile
#[derive(Args, Debug)]
struct Add {
    /// Of which collection
    name: String,
    /// Which field, and what its values are: keyword, integer, float, bool, datetime, uuid, geo or text
    #[arg(value_name = "PATH=KIND")]
    index: IndexOption,
    #[command(flatten)]
    connect: Connect,
}

/// Drop the index over a field, if it has one
#[derive(Args, Debug)]
struct Drop {
    /// Of which collection
    name: String,
    /// Path of the field
    path: String,
    #[command(flatten)]
    connect: Connect,
}

/// `granum collection index`
pub async fn run(command: Index) -> anyhow::Result<()> {
    match command.command {
        Commands::Add(Add { name, index, connect }) => {
            let info = connect.client()?.add_index(name, index.key, index.kind).await?;
            print(&connect, &info)
        }
        Commands::Drop(Drop { name, path, connect }) => {
            let info = connect.client()?.drop_index(name, path).await?;
            print(&connect, &info)
        }
    }
}

/// What the collection has now.
fn print(connect: &Connect, info: &v1::CollectionInfo) -> anyhow::Result<()> {
    let output = connect.output();
    if output.json {
        output.json(&json::collection(info))?;
        return Ok(());
    }
    let count = info.schema.iter().flat_map(|schema| &schema.payload).count();
    output.line(&format!("{}: {}", info.name, super::counted_indexes(count)))?;
    for line in lines(info) {
        output.line(&line)?;
    }
    Ok(())
}

/// `  index section: keyword`, a line each.
pub fn lines(info: &v1::CollectionInfo) -> impl Iterator<Item = String> + '_ {
    let fields = info.schema.iter().flat_map(|schema| &schema.payload);
    fields.map(|field| format!("  index {}: {}", field.key, json::index_kind(field)))
}
