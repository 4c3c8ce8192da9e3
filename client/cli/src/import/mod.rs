//! `granum import`: documents from JSON lines, with vectors from .npy files or made of their text, in order and resumably.
//!
//! Reading order: here (the options, what is checked before the first document), [`source`] (lines to documents, in a thread of
//! its own), [`send`] (several batches under way, acknowledged in order), [`state`] (where to go on), [`progress`].

pub mod progress;
pub mod send;
pub mod source;
pub mod state;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use granum_client::{AdminError, Client, v1};
use serde_json::json;

use crate::collection::{Named, SchemaOptions, VectorOption};
use crate::connect::Connect;
use crate::failure::Usage;
use crate::json::kind;
use crate::npy::Npy;
use crate::output::{grouped, note};
use progress::Progress;
use send::{Pipeline, Report};
use source::{IdFrom, Source, Texts, Vectors};
use state::{Identity, Saved, State};

/// How long an import waits for a cluster of which nobody answers.
const PATIENCE: Duration = Duration::from_secs(600);
/// Shortest time that a request has whose texts must be embedded; the longest that a cluster allows.
const EMBEDDING_TIMEOUT: Duration = Duration::from_secs(600);

/// Load documents from a file of JSON lines
#[derive(Args, Debug)]
pub struct Import {
    /// A JSON object a line; .zst is read as it is
    file: PathBuf,
    /// Where to
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// Field that holds the id (a whole number, a UUID or a text); @line numbers the lines from 1
    #[arg(long, value_name = "FIELD", default_value = "id")]
    id: String,
    /// Fields whose texts, joined by a space, the cluster turns into the vector: title,text; may be repeated
    #[arg(long = "text", value_name = "[NAME=]FIELD,...")]
    texts: Vec<Named>,
    /// Vectors, row by row for line by line: a .npy file of float16 or float32; may be repeated
    #[arg(long = "vectors", value_name = "[NAME=]FILE.npy")]
    vectors: Vec<Named>,
    /// Create the collection where there is none; its vector fields follow from --vectors and --text unless given
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    schema: SchemaOptions,
    /// Documents a request
    #[arg(long, value_name = "DOCUMENTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Requests under way at once
    #[arg(long, value_name = "REQUESTS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    /// What to do about a line that can't be taken
    #[arg(long, value_enum, default_value = "stop")]
    on_error: OnError,
    /// Go on where an import of this file was broken off
    #[arg(long, conflicts_with = "restart")]
    resume: bool,
    /// Begin again although an import of this file was broken off
    #[arg(long)]
    restart: bool,
    /// Where to remember how far it got [default: FILE.granum-import]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

/// What to do about a line that can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// End there; what came before is in
    Stop,
    /// Say which and why, and go on
    Skip,
}

/// `granum import`
pub async fn run(command: Import) -> anyhow::Result<()> {
    let output = command.connect.output();
    let bytes = std::fs::metadata(&command.file)
        .with_context(|| command.file.display().to_string())?
        .len();
    let vectors = open_vectors(&command.vectors)?;
    let identity = state::identity(&command.file, &command.collection, &options(&command))?;
    let path = command.state.clone().unwrap_or_else(|| beside(&command.file));
    let saved = begin(&command, &path, &identity)?;
    let resumed_from_line = saved.lines;

    let found = collection(&command, &command.connect.client()?, &vectors).await?;
    let (vectors, texts) = fit(&command, &found, vectors)?;
    let id = match command.id.as_str() {
        "@line" => IdFrom::Line,
        field => IdFrom::Field(field.to_owned()),
    };
    let mut source = Source::open(&command.file, id, texts, vectors)?;
    source.skip(saved.lines, saved.rows)?;
    // All that is under way is embedded one text after the other: on a busy machine the last of a thousand waits for minutes.
    let least_timeout = match command.texts.is_empty() {
        true => Duration::ZERO,
        false => EMBEDDING_TIMEOUT,
    };
    let pipeline = Pipeline {
        // A node or coordinator may be away for a while: each request tries until its own deadline.
        client: command.connect.patient_client(PATIENCE, least_timeout)?,
        collection: command.collection.clone(),
        batch_documents: command.batch as usize,
        concurrency: command.concurrency as usize,
        on_error: command.on_error,
    };
    let mut progress = Progress::new(bytes);
    let mut state = State::new(path, identity, saved);
    let sent = pipeline.run(source, &mut state, &mut progress).await;
    progress.finish();
    let report = sent.inspect_err(|_| {
        if state.is_kept() {
            let lines = grouped(state.saved().lines);
            note(&format!(
                "{lines} lines are done with; the same command with --resume goes on from there"
            ));
        }
    })?;
    state.remove();
    match output.json {
        true => output.json(&json!({
            "documents": report.documents,
            "skipped": report.skipped,
            "seconds": report.seconds,
            "documents_per_second": report.rate(),
            "resumed_from_line": resumed_from_line,
        }))?,
        false => output.line(&summary(&report))?,
    }
    Ok(())
}

fn summary(report: &Report) -> String {
    let skipped = match report.skipped {
        0 => String::new(),
        1 => ", 1 line skipped".to_owned(),
        lines => format!(", {} lines skipped", grouped(lines)),
    };
    let documents = grouped(report.documents);
    format!(
        "{documents} documents in {:.1} s ({}/s){skipped}",
        report.seconds,
        grouped(report.rate() as u64)
    )
}

/// The saved state to go on from, or a fresh one; an import that was broken off is never forgotten silently.
fn begin(command: &Import, path: &Path, identity: &Identity) -> anyhow::Result<Saved> {
    let Some(found) = State::load(path)? else {
        if command.resume {
            note("nothing was broken off: beginning with the first line");
        }
        return Ok(Saved::fresh());
    };
    if command.restart {
        return Ok(Saved::fresh());
    }
    let lines = grouped(found.saved.lines);
    let before = &found.identity;
    if before.collection != identity.collection || before.options != identity.options {
        bail!(Usage(format!(
            "{} remembers an import that was broken off after {lines} lines: into {} with {}. Give the same options with \
             --resume, or --restart",
            path.display(),
            before.collection,
            before.options
        )));
    }
    if !command.resume {
        bail!(Usage(format!(
            "an import of this file was broken off after {lines} lines: --resume goes on, --restart begins again"
        )));
    }
    if before != identity {
        note(&format!(
            "{} has changed since: its first {lines} lines are taken to be the same",
            command.file.display()
        ));
    }
    Ok(found.saved)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".granum-import");
    name.into()
}

/// What an import does to each line, in words: a broken off one goes on only with the same.
fn options(command: &Import) -> String {
    let one = |option: &str, named: &Named| match named.name.as_str() {
        "" => format!(" --{option} {}", named.value),
        name => format!(" --{option} {name}={}", named.value),
    };
    let named = |option: &str, list: &[Named]| list.iter().map(|named| one(option, named)).collect::<String>();
    format!(
        "--id {}{}{}",
        command.id,
        named("text", &command.texts),
        named("vectors", &command.vectors)
    )
}

fn open_vectors(files: &[Named]) -> anyhow::Result<Vec<Vectors>> {
    let open = |file: &Named| -> anyhow::Result<Vectors> {
        let npy = Npy::open(Path::new(&file.value)).context("--vectors")?;
        Ok(Vectors {
            name: file.name.clone(),
            npy,
        })
    };
    files.iter().map(open).collect()
}

/// The collection as it stands, or as `--create` makes it.
async fn collection(command: &Import, client: &Client, vectors: &[Vectors]) -> anyhow::Result<v1::CollectionInfo> {
    match client.collection(&command.collection).await {
        Ok(found) => return Ok(found),
        Err(AdminError::NotFound(_)) if command.create => {}
        Err(AdminError::NotFound(failure)) => bail!("{failure} (--create makes it)"),
        Err(other) => return Err(other.into()),
    }
    let mut schema = command.schema.clone();
    for given in vectors {
        if !schema.fields.iter().any(|field| field.name == given.name) {
            schema
                .fields
                .push(VectorOption::dense(&given.name, given.npy.dimension() as u32));
        }
    }
    for text in &command.texts {
        if !schema.embedders.iter().any(|embedder| embedder.name == text.name) {
            schema.embedders.push(Named {
                name: text.name.clone(),
                value: "builtin".to_owned(),
            });
        }
    }
    let made = schema
        .create(client, &command.collection)?
        .if_not_exists()
        .send()
        .await?;
    Ok(made)
}

/// Vectors and texts under the names of the collection's fields, each checked against its field.
fn fit(
    command: &Import,
    found: &v1::CollectionInfo,
    mut vectors: Vec<Vectors>,
) -> anyhow::Result<(Vec<Vectors>, Vec<Texts>)> {
    for given in &mut vectors {
        let field = field(found, &given.name, "--vectors")?;
        let dimension = given.npy.dimension();
        if kind(field) != "dense" || field.dimension as usize != dimension {
            let wanted = format!("{} of {} components", kind(field), field.dimension);
            bail!(Usage(format!(
                "--vectors: rows of {dimension} components, but field {:?} is {wanted}",
                field.name
            )));
        }
        given.name.clone_from(&field.name);
    }
    let mut texts = Vec::new();
    for text in &command.texts {
        let field = field(found, &text.name, "--text")?;
        if field.embedder.is_empty() {
            bail!(Usage(format!(
                "--text: field {:?} of {} has no embedder",
                field.name, found.name
            )));
        }
        if vectors.iter().any(|given| given.name == field.name) {
            bail!(Usage(format!(
                "field {:?} gets its vectors from --vectors or from --text, not from both",
                field.name
            )));
        }
        texts.push(Texts {
            name: field.name.clone(),
            fields: text.value.split(',').map(|field| field.trim().to_owned()).collect(),
        });
    }
    if vectors.is_empty() && texts.is_empty() {
        note("warning: neither --vectors nor --text: documents without vectors can be got and filtered, not searched");
    }
    Ok((vectors, texts))
}

/// The field of that name; the only one also goes by no name.
fn field<'c>(found: &'c v1::CollectionInfo, name: &str, option: &str) -> Result<&'c v1::VectorField, Usage> {
    let fields = found
        .schema
        .as_ref()
        .map(|schema| &schema.vectors[..])
        .unwrap_or_default();
    let only = fields.first().filter(|_| name.is_empty() && fields.len() == 1);
    let named = fields.iter().find(|field| field.name == name).or(only);
    named.ok_or_else(|| {
        let names: Vec<String> = fields.iter().map(|field| format!("{:?}", field.name)).collect();
        Usage(format!(
            "{option}: {} has no vector field {name:?}, there are {}",
            found.name,
            names.join(", ")
        ))
    })
}
