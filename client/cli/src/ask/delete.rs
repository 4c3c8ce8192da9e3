//! `granum delete`: by id, or by filter after asking.

use anyhow::bail;
use clap::Args;
use granum_client::Outcome;
use serde_json::json;

use super::{read_filter, read_id, sure};
use crate::connect::Connect;
use crate::failure::Usage;
use crate::output::grouped;

/// Delete documents, by id or by filter
#[derive(Args, Debug)]
pub struct Delete {
    /// Where
    collection: String,
    /// Which: digits are a number id, '"42"' is the text 42
    #[arg(value_name = "ID", required_unless_present = "filter", conflicts_with = "filter")]
    ids: Vec<String>,
    /// All documents that this lets through
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Don't ask before deleting by filter
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connect: Connect,
}

/// `granum delete`
pub async fn delete(command: Delete) -> anyhow::Result<()> {
    let output = command.connect.output();
    let client = command.connect.client()?;
    let collection = &command.collection;
    let written = match &command.filter {
        None => {
            let ids = command
                .ids
                .iter()
                .map(|id| read_id(id))
                .collect::<Result<Vec<_>, _>>()?;
            client.delete(collection, &ids).await?
        }
        Some(text) => {
            let filter = read_filter(Some(text))?;
            if filter.is_empty() {
                bail!(Usage(
                    "an empty filter would delete all: `granum collection delete` does that".into()
                ));
            }
            let count = client.count(collection, &filter).await?;
            let question = format!("delete {} documents of {collection}?", grouped(count));
            if !command.yes && count > 0 && !sure(&question)? {
                bail!("nothing was deleted");
            }
            client.delete_where(collection, &filter).await?
        }
    };
    let missing = written
        .outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::NotFound)
        .count();
    match output.json {
        true => output.json(&json!({"deleted": written.changed, "not_found": missing}))?,
        false => output.line(&format!("{} deleted, {} not found", grouped(written.changed), missing))?,
    }
    Ok(())
}
