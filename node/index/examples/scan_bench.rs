//! How fast is the exact scan? Rows and queries from .npy files (f16, unit length), payload from a .jsonl.zst if given.
//!
//! `cargo run --release -p granum-index --example scan_bench -- ROWS.npy QUERIES.npy [DOCUMENTS.jsonl.zst]`
//! prints nanoseconds a row in and out of cache, milliseconds a query, filtered and not, how far scores are from brute
//! force in f64, and anonymous memory before and after the rows were sealed.
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Instant;

use granum_index::{Document, Found, Index, Options, Params, Query, SegmentId, verify};
use granum_model::filter::Bounds;
use granum_model::{Condition, Dense, Distance, DocId, Filter, Fine, Scalar, Schema, Vector, VectorField, VectorKind};
use half::f16;

/// Rows that stay in the second-level cache.
const CACHED_ROWS: usize = 1000;
const K: usize = 10;

struct Rows {
    dimension: usize,
    values: Vec<u16>,
}

impl Rows {
    /// Reads a two-dimensional little-endian f16 array.
    fn read(path: &str) -> Result<Rows, Box<dyn Error>> {
        let bytes = std::fs::read(path)?;
        let header_bytes = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = std::str::from_utf8(&bytes[10..10 + header_bytes])?;
        if !header.contains("'<f2'") {
            return Err(format!("{path}: not f16: {header}").into());
        }
        let shape = header
            .split_once("'shape': (")
            .and_then(|(_, rest)| rest.split_once(')'))
            .ok_or("no shape")?
            .0;
        let dimension = shape.split(',').nth(1).ok_or("not two-dimensional")?.trim().parse()?;
        let values = bytes[10 + header_bytes..]
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        Ok(Rows {
            dimension,
            values: values.collect(),
        })
    }

    fn iter(&self) -> impl Iterator<Item = &[u16]> {
        self.values.chunks_exact(self.dimension)
    }
}

fn query(row: &[u16], filter: Filter) -> Query {
    Query {
        using: String::new(),
        vector: Vector::Dense(Dense::F16(row.to_vec())),
        filter,
        k: K,
        threshold: None,
        exclude: None,
        params: Params::default(),
    }
}

/// Seals the first `count` rows as one segment.
fn seal(
    directory: &std::path::Path,
    rows: &Rows,
    payloads: &[Arc<[u8]>],
    count: usize,
) -> Result<Index, Box<dyn Error>> {
    let field = VectorField::new(
        "",
        VectorKind::Dense {
            dimension: rows.dimension as u32,
        },
        Distance::Cosine,
        Fine::F16,
    );
    let index = Index::open(
        directory,
        Schema {
            vectors: vec![field],
            ..Schema::default()
        },
        Options::default(),
        &[],
    )?;
    let started = Instant::now();
    for (number, row) in (0..).zip(rows.iter().take(count)) {
        let vectors = vec![(String::new(), Vector::Dense(Dense::F16(row.to_vec())))];
        let payload = payloads
            .get(number as usize)
            .cloned()
            .unwrap_or_else(|| Arc::from(&b""[..]));
        index.insert(
            Document {
                id: DocId::Number(number),
                version: number,
                payload,
                vectors,
            },
            None,
        )?;
    }
    println!(
        "{count} rows inserted in {:.0} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    print_times("recent, not sealed", &index, rows, 10, |_| Filter::default())?;
    let started = Instant::now();
    let built = index.build(&index.freeze(SegmentId(1)))?;
    let references = built.segments().to_vec();
    index.publish(built);
    println!(
        "sealed in {:.0} ms, {} bytes of files",
        started.elapsed().as_secs_f64() * 1e3,
        index.stats().disk_bytes
    );
    drop(index);
    let started = Instant::now();
    let schema = Schema {
        vectors: vec![VectorField::new(
            "",
            VectorKind::Dense {
                dimension: rows.dimension as u32,
            },
            Distance::Cosine,
            Fine::F16,
        )],
        ..Schema::default()
    };
    let index = Index::open(directory, schema, Options::default(), &references)?;
    println!("opened in {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let verified = verify(directory, &references);
    println!(
        "verified in {:.0} ms, {} problems",
        started.elapsed().as_secs_f64() * 1e3,
        verified.problems_found
    );
    Ok(index)
}

fn print_times(
    what: &str,
    index: &Index,
    queries: &Rows,
    count: usize,
    filter: impl Fn(usize) -> Filter,
) -> Result<Vec<Found>, Box<dyn Error>> {
    let view = index.view();
    let mut times = Vec::new();
    let mut all = Vec::new();
    for (number, row) in queries.iter().take(count).enumerate() {
        let query = query(row, filter(number));
        let started = Instant::now();
        all.extend(view.search(std::slice::from_ref(&query), &|| false)?);
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let documents = index.stats().documents.max(1) as f64;
    let median = times[times.len() / 2];
    println!(
        "{what}: median {:.3} ms, best {:.3} ms, p99 {:.3} ms, {:.1} ns a row at best",
        median * 1e3,
        times[0] * 1e3,
        times[(times.len() * 99 / 100).min(times.len() - 1)] * 1e3,
        times[0] * 1e9 / documents
    );
    Ok(all)
}

/// Largest difference between a score found and the k-th best of brute force in f64.
fn worst_difference(found: &[Found], rows: &Rows, queries: &Rows) -> f64 {
    let wide = |row: &[u16]| {
        row.iter()
            .map(|bits| f16::from_bits(*bits).to_f64())
            .collect::<Vec<f64>>()
    };
    let all: Vec<Vec<f64>> = rows.iter().map(wide).collect();
    let mut worst: f64 = 0.0;
    for (found, query) in found.iter().zip(queries.iter()) {
        let query = wide(query);
        let mut scores: Vec<f64> = all
            .iter()
            .map(|row| row.iter().zip(&query).map(|(left, right)| left * right).sum())
            .collect();
        scores.sort_by(|left, right| right.total_cmp(left));
        for (hit, score) in found.hits.iter().zip(scores) {
            worst = worst.max((f64::from(hit.hit.score) - score).abs());
        }
    }
    worst
}

fn anonymous_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find(|line| line.starts_with("RssAnon"))
        .unwrap_or("RssAnon unknown")
        .to_owned()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rows, queries, rest @ ..] = &arguments[..] else {
        return Err("usage: scan_bench ROWS.npy QUERIES.npy [DOCUMENTS.jsonl.zst]".into());
    };
    let (rows, queries) = (Rows::read(rows)?, Rows::read(queries)?);
    let mut payloads = Vec::new();
    if let Some(path) = rest.first() {
        for line in BufReader::new(zstd::Decoder::new(std::fs::File::open(path)?)?).lines() {
            payloads.push(Arc::from(line?.into_bytes()));
        }
    }
    let count = rows.values.len() / rows.dimension;
    let base = std::env::temp_dir().join(format!("granum-scan-bench-{}", std::process::id()));
    let cached = seal(&base.join("cached"), &rows, &[], CACHED_ROWS.min(count))?;
    print_times("in cache", &cached, &queries, 200, |_| Filter::default())?;
    println!("{}", anonymous_kib());
    let index = seal(&base.join("all"), &rows, &payloads, count)?;
    drop(payloads);
    println!("first pass, checksums too:");
    print_times("sealed", &index, &queries, 1, |_| Filter::default())?;
    let found = print_times("sealed", &index, &queries, 200, |_| Filter::default())?;
    println!(
        "scores differ from brute force in f64 by {:.1e} at most (20 queries)",
        worst_difference(&found[..20], &rows, &queries)
    );
    if !rest.is_empty() {
        let section = |name: &str| Filter {
            must: vec![Condition::MatchAny {
                key: "section".into(),
                any: vec![Scalar::Text(name.into())],
            }],
            ..Filter::default()
        };
        let larger = |number: usize| Filter {
            must: vec![Condition::Range {
                key: "installed_size".into(),
                bounds: Bounds {
                    gt: Some(5e5 + number as f64),
                    ..Bounds::default()
                },
            }],
            ..Filter::default()
        };
        print_times("section = games, new each time at first", &index, &queries, 1, |_| {
            section("games")
        })?;
        print_times("section = games, again", &index, &queries, 100, |_| section("games"))?;
        print_times("installed_size > x, another x each time", &index, &queries, 20, larger)?;
    }
    println!("{}", anonymous_kib());
    std::fs::remove_dir_all(base)?;
    Ok(())
}
