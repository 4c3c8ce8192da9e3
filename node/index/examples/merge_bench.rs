//! What does a merged segment's graph cost, and what does it find: extended from the largest source's, and built anew?
//!
//! `cargo run --release -p granum-index --example merge_bench -- ROWS.npy QUERIES.npy SHARE DEAD [GENERATIONS]`
//! seals SHARE percent of the rows as one segment and the others as three, lets DEAD percent of all rows die, merges, and prints
//! seconds for codes and graph, recall@10 and rows scored of walks of several widths. With GENERATIONS the others
//! come in so many merges, one after another, and the dead die by and by. Files are f16 of unit length, as in shared/data/debian. One thread builds and asks.
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use granum_index::{Document, Found, Index, Inline, MergePlan, Options, Params, Query, SegmentId, SegmentRef, Verify};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};

const K: usize = 10;
const WIDTHS: [u32; 3] = [14, 32, 64];
const OTHERS: usize = 3;

type Failure = Box<dyn Error>;

/// Reads a two-dimensional little-endian f16 array.
fn read(path: &str) -> Result<Vec<Vec<u16>>, Failure> {
    let bytes = fs::read(path)?;
    let header_bytes = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + header_bytes])?;
    if !header.contains("'<f2'") {
        return Err(format!("{path}: not f16: {header}").into());
    }
    let shape = header
        .split_once("'shape': (")
        .and_then(|(_, rest)| rest.split_once(')'));
    let dimension = shape
        .and_then(|(shape, _)| shape.split(',').nth(1))
        .ok_or("not two-dimensional")?;
    let values: Vec<u16> = bytes[10 + header_bytes..]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    Ok(values
        .chunks_exact(dimension.trim().parse()?)
        .map(<[u16]>::to_vec)
        .collect())
}

fn schema(dimension: usize) -> Schema {
    let field = VectorField::new(
        "",
        VectorKind::Dense {
            dimension: dimension as u32,
        },
        Distance::Cosine,
        Fine::F16,
    );
    Schema {
        vectors: vec![field],
        ..Schema::default()
    }
}

/// An index with its manifest.
struct Held {
    index: Index,
    manifest: Vec<SegmentRef>,
    next: u64,
}

impl Held {
    fn open(directory: &Path, dimension: usize, manifest: Vec<SegmentRef>) -> Result<Held, Failure> {
        Ok(Held {
            index: Index::open(directory, schema(dimension), Options::default(), &manifest)?,
            next: manifest.iter().map(|segment| segment.id.0 + 1).max().unwrap_or(1),
            manifest,
        })
    }

    fn put(&self, rows: &[Vec<u16>], first: usize) -> Result<(), Failure> {
        for (number, row) in (first as u64..).zip(rows) {
            let document = Document {
                id: DocId::Number(number),
                version: 1,
                payload: Arc::from(&b"{}"[..]),
                vectors: vec![(String::new(), Vector::Dense(Dense::F16(row.clone())))],
            };
            self.index.insert(document, None)?;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Failure> {
        let built = self.index.build(&self.index.freeze(SegmentId(self.next)))?;
        self.next += 1;
        self.manifest = built.segments().to_vec();
        self.index.publish(built);
        Ok(())
    }

    /// Lets those of the first `rows` rows die that fall, by chance, among these of 100.
    fn delete(&self, rows: usize, percents: Range<u64>) -> Result<(), Failure> {
        for number in 0..rows {
            let hash = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let chance = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) % 100;
            if percents.contains(&chance) {
                let id = DocId::Number(number as u64);
                self.index.delete(&id, self.index.view().find(&id)?);
            }
        }
        Ok(())
    }

    /// Merges everything; returns the seconds that codes and graph took.
    fn merge(&mut self) -> Result<f64, Failure> {
        let plan = MergePlan {
            segments: self.manifest.iter().map(|segment| segment.id).collect(),
            bytes: 0,
        };
        let mut merged = self.index.merge(&plan, SegmentId(self.next), &|_| false)?;
        self.next += 1;
        let started = Instant::now();
        self.index.derive_merged(&merged, &Inline)?;
        let seconds = started.elapsed().as_secs_f64();
        self.manifest = self.index.settle(&mut merged)?;
        let moved = self.index.publish_merged(merged);
        self.index.remove_unreferenced(&self.manifest)?;
        self.index.forget_moved(moved);
        Ok(seconds)
    }

    fn ask(&self, query: &[u16], params: Params) -> Result<Found, Failure> {
        let query = Query {
            using: String::new(),
            vector: Vector::Dense(Dense::F16(query.to_vec())),
            filter: Filter::default(),
            k: K,
            threshold: None,
            exclude: None,
            params,
        };
        Ok(self.index.view().search(&[query], &|| false)?.remove(0))
    }

    /// Prints recall and rows scored at each width. A hit counts when its score reaches the k-th best.
    fn report(&self, what: &str, seconds: f64, queries: &[Vec<u16>]) -> Result<(), Failure> {
        let exact = Params {
            exact: true,
            ..Params::default()
        };
        let score = |found: &Found, at: usize| found.hits.get(at).map_or(f32::INFINITY, |hit| hit.hit.score);
        let mut bars = Vec::with_capacity(queries.len());
        for query in queries {
            bars.push(score(&self.ask(query, exact)?, K - 1));
        }
        let mut line = format!("{what:<10} {seconds:6.2} s");
        for width in WIDTHS {
            let params = Params {
                ef: Some(width),
                verify: Verify::All,
                ..Params::default()
            };
            let (mut hits, mut scored) = (0, 0);
            for (query, bar) in queries.iter().zip(&bars) {
                let found = self.ask(query, params)?;
                hits += (0..found.hits.len()).filter(|at| score(&found, *at) >= *bar).count();
                scored += found.usage.rows_scored;
            }
            let count = queries.len() as f64;
            line += &format!(
                "  ef {width} {:.4} {:.0}",
                hits as f64 / count / K as f64,
                scored as f64 / count
            );
        }
        println!("{line}");
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rows, queries, share, dead, rest @ ..] = &arguments[..] else {
        return Err("usage: merge_bench ROWS.npy QUERIES.npy SHARE DEAD [GENERATIONS]".into());
    };
    let (rows, queries) = (read(rows)?, read(queries)?);
    let (share, dead): (usize, u64) = (share.parse()?, dead.parse()?);
    let generations: usize = rest.first().map_or(Ok(1), |text| text.parse())?;
    let folder = std::env::temp_dir().join(format!("granum-merge-bench-{}", std::process::id()));
    let sources = folder.join("sources");
    let dimension = rows[0].len();
    let mut held = Held::open(&sources, dimension, Vec::new())?;
    let first = rows.len() * share / 100;
    held.put(&rows[..first], 0)?;
    held.seal()?;
    let started = Instant::now();
    held.index.derive(&Inline)?;
    println!(
        "{first} of {} rows, {dead} % die; the first in {:.2} s",
        rows.len(),
        started.elapsed().as_secs_f64()
    );
    let a_generation = (rows.len() - first).div_ceil(generations);
    let mut extending = 0.0;
    let mut from = first;
    for generation in 0..generations {
        let end = (from + a_generation).min(rows.len());
        for others in rows[from..end].chunks((end - from).div_ceil(OTHERS).max(1)) {
            held.put(others, from)?;
            held.seal()?;
            from += others.len();
        }
        let share = |generation: usize| dead * generation as u64 / generations as u64;
        held.delete(end, share(generation)..share(generation + 1))?;
        held.seal()?;
        held.index.derive(&Inline)?;
        extending += held.merge()?;
    }
    held.report("extended", extending, &queries)?;
    for entry in fs::read_dir(&sources)? {
        let path = entry?.path();
        if path.to_string_lossy().contains(".graph.") || path.to_string_lossy().contains(".codes.") {
            fs::remove_file(path)?;
        }
    }
    let held = Held::open(&sources, dimension, held.manifest)?;
    let started = Instant::now();
    held.index.derive(&Inline)?;
    held.report("rebuilt", started.elapsed().as_secs_f64(), &queries)?;
    fs::remove_dir_all(folder)?;
    Ok(())
}
