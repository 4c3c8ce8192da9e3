//! What do payload indexes save? Times of filters over documents, one field indexed at a time and none.
//!
//! `cargo run --release -p granum-index --example filter_bench -- DOCUMENTS.jsonl.zst`
//! prints, for each filter, how many rows pass, milliseconds without indexes, and microseconds with them, the first time
//! and once the bitmaps are remembered; and what the indexes take to build, in time and bytes. Documents are those of
//! shared/data/debian: a field that they lack is empty everywhere.
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use granum_index::{Document, Index, Inline, Options, SegmentId, SegmentRef};
use granum_model::filter::Bounds;
use granum_model::{Condition, DocId, Filter, PayloadField, PayloadKind, Scalar, Schema};

/// Fields with an index.
const FIELDS: [(&str, PayloadKind); 6] = [
    ("section", PayloadKind::Keyword),
    ("tags", PayloadKind::Keyword),
    ("maintainer", PayloadKind::Keyword),
    ("installed_size", PayloadKind::Integer),
    ("title", PayloadKind::Text),
    ("text", PayloadKind::Text),
];
/// Times that a filter is asked on a newly opened index.
const ROUNDS: usize = 5;

fn schema() -> Schema {
    let field = |(key, kind): (&str, PayloadKind)| PayloadField { key: key.into(), kind };
    Schema {
        payload: FIELDS.map(field).to_vec(),
        ..Schema::default()
    }
}

fn filters() -> Vec<(&'static str, Filter)> {
    let any = |key: &str, text: &str| Condition::MatchAny {
        key: key.into(),
        any: vec![Scalar::Text(text.into())],
    };
    let size = |gte, lt| Condition::Range {
        key: "installed_size".into(),
        bounds: Bounds {
            gte: Some(gte),
            lt: Some(lt),
            ..Bounds::default()
        },
    };
    let words = |key: &str, text: &str| Condition::MatchText {
        key: key.into(),
        text: text.into(),
    };
    let must = |conditions: &[Condition]| Filter {
        must: conditions.to_vec(),
        ..Filter::default()
    };
    let not_games = Filter {
        must_not: vec![any("section", "games")],
        ..Filter::default()
    };
    vec![
        ("section = games", must(&[any("section", "games")])),
        ("tags = role::program", must(&[any("tags", "role::program")])),
        ("not section = games", not_games),
        ("1000 <= installed_size < 1100", must(&[size(1000.0, 1100.0)])),
        ("100 <= installed_size < 100000", must(&[size(100.0, 100_000.0)])),
        ("title ~ game", must(&[words("title", "game")])),
        ("text ~ \"library for\"", must(&[words("text", "library for")])),
        (
            "tags = role::program and 100 <= installed_size < 100000 and text ~ library",
            must(&[
                any("tags", "role::program"),
                size(100.0, 100_000.0),
                words("text", "library"),
            ]),
        ),
        (
            "section = games and priority = optional (priority has no index)",
            must(&[any("section", "games"), any("priority", "optional")]),
        ),
    ]
}

/// Asks once; rows and microseconds.
fn ask(index: &Index, filter: &Filter) -> Result<(u64, f64), Box<dyn Error>> {
    let view = index.view();
    let started = Instant::now();
    let rows = view.count(filter, &|| false)?;
    Ok((rows, started.elapsed().as_secs_f64() * 1e6))
}

/// The least of several first answers, each of a newly opened index; and of one whose bitmaps are remembered, but not the
/// filter itself: another filter of the same conditions asks for them.
fn times(
    directory: &Path,
    schema: &Schema,
    manifest: &[SegmentRef],
    filter: &Filter,
) -> Result<(u64, f64, f64), Box<dyn Error>> {
    let (mut rows, mut first, mut again) = (0, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let index = Index::open(directory, schema.clone(), Options::default(), manifest)?;
        let (found, micros) = ask(&index, filter)?;
        (rows, first) = (found, first.min(micros));
        let mut another = filter.clone();
        another.must.push(Condition::Filter(Filter::default()));
        again = again.min(ask(&index, &another)?.1);
    }
    Ok((rows, first, again))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: filter_bench DOCUMENTS.jsonl.zst")?;
    let lines = BufReader::new(zstd::Decoder::new(std::fs::File::open(path)?)?).lines();
    let directory = std::env::temp_dir().join(format!("granum-filter-bench-{}", std::process::id()));
    let index = Index::open(&directory, schema(), Options::default(), &[])?;
    let mut rows = 0;
    for line in lines {
        let document = Document {
            id: DocId::Number(rows),
            version: rows,
            payload: Arc::from(line?.as_bytes()),
            vectors: Vec::new(),
        };
        index.insert(document, None)?;
        rows += 1;
    }
    let built = index.build(&index.freeze(SegmentId(1)))?;
    let manifest = built.segments().to_vec();
    let sealed_bytes: u64 = manifest[0].files.iter().map(|file| file.bytes).sum();
    index.publish(built);
    let started = Instant::now();
    index.derive(&Inline)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut column_bytes = 0;
    for entry in std::fs::read_dir(&directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(".column.") {
            column_bytes += entry.metadata()?.len();
        }
    }
    println!(
        "{rows} documents, {sealed_bytes} bytes sealed; {} indexes: {seconds:.2} s, {column_bytes} bytes",
        FIELDS.len()
    );
    println!(
        "{:>7}  {:>12}  {:>10}  {:>10}  filter",
        "rows", "without, ms", "first, us", "again, us"
    );
    for (name, filter) in filters() {
        let (expected, without, _) = times(&directory, &Schema::default(), &manifest, &filter)?;
        let (found, first, again) = times(&directory, &schema(), &manifest, &filter)?;
        assert_eq!(found, expected, "{name}");
        println!(
            "{found:>7}  {:>12.1}  {first:>10.0}  {again:>10.0}  {name}",
            without / 1e3
        );
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
