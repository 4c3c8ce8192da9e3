//! The sample: 5,000 software packages and their vectors, in the binary itself, so that the first question needs no network and
//! no time to embed. Loaded through the client as any other data, and again only where some of it is missing.

use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use granum_client::{Client, Filter, VectorField};

use crate::collection::BUILTIN_DIMENSION;
use crate::import::OnError;
use crate::import::progress::Progress;
use crate::import::send::{Pipeline, Report};
use crate::import::source::{IdFrom, Source, Vectors};
use crate::import::state::State;
use crate::npy::Npy;

/// Where it goes.
pub const COLLECTION: &str = "packages";
/// How many documents it has.
const DOCUMENTS: u64 = 5000;
const SHARDS: u32 = 2;
/// More copies than this help nobody who tries.
const REPLICATION_FACTOR_MAX: usize = 3;
/// JSON lines, zstd.
const LINES: &[u8] = include_bytes!("../../sample/sample-5k.jsonl.zst");
/// 5,000 x 384, f16: embeddings of title and text.
const VECTORS: &[u8] = include_bytes!("../../sample/sample-5k.f16.npy");

/// Loads it where it is not there; `None` where it is.
pub async fn load(client: &Client, nodes: usize) -> anyhow::Result<Option<Report>> {
    let doing = || format!("the sample (collection {COLLECTION})");
    let create = client
        .create_collection(COLLECTION)
        .vector(VectorField::dense("", BUILTIN_DIMENSION).embedder("builtin"))
        .shards(SHARDS)
        .replication_factor(nodes.min(REPLICATION_FACTOR_MAX) as u32)
        .if_not_exists();
    create.send().await.with_context(doing)?;
    if client.count(COLLECTION, &Filter::default()).await.with_context(doing)? >= DOCUMENTS {
        return Ok(None);
    }
    let pipeline = Pipeline {
        client: client.clone(),
        collection: COLLECTION.to_owned(),
        batch_documents: 500,
        concurrency: 4,
        on_error: OnError::Stop,
    };
    let mut progress = Progress::new(LINES.len() as u64);
    let report = pipeline
        .run(source()?, &mut State::unkept(), &mut progress)
        .await
        .with_context(doing);
    progress.finish();
    report.map(Some)
}

fn source() -> anyhow::Result<Source> {
    let path = Path::new("sample-5k.f16.npy");
    let npy = Npy::read(path, Box::new(Cursor::new(VECTORS)), VECTORS.len() as u64)?;
    let vectors = Vectors {
        name: String::new(),
        npy,
    };
    Source::read(
        Cursor::new(LINES),
        true,
        IdFrom::Field("id".into()),
        Vec::new(),
        vec![vectors],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_sample_is_a_document_with_its_vector() {
        let mut source = source().unwrap();
        let mut documents = 0;
        while let Some(line) = source.next().unwrap() {
            line.document.unwrap();
            documents += 1;
        }
        assert_eq!(documents, DOCUMENTS);
    }
}
