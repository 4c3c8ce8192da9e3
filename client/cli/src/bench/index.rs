//! `granum bench index`: how fast and how right is one replica's index, alone, without a network or a cluster?
//!
//! Rows are sealed into segments, codes and graphs are built, then all queries are asked with each setting and the answers are
//! compared with exact ones. A hit counts when its exact score reaches the k-th best one, so ties count, as in
//! shared/bench/peers.py. Times are of `View::search`, one query a call, as a node's worker calls it: ids, versions and exact
//! scores included.

mod cold;
mod measure;
mod report;
mod rows;
mod setting;
mod writing;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::{Args, ValueEnum};
use granum_index::{Bits, Builder, Index, Options, Params, Query, SegmentId, SegmentRef, Verify};
use granum_model::{Dense, Distance, Filter, Schema, Vector, VectorField, VectorKind};
use granum_node::threads::Threads;

use crate::failure::Usage;
use crate::output::{Output, grouped, note};
use measure::{Bench, Questions};
use report::Line;
use setting::Setting;

/// Measure the index alone: recall, speed and memory of each setting
#[derive(Args, Debug)]
pub struct Command {
    /// Rows to index: a vector a row, float16 or float32
    #[arg(long, value_name = "FILE.npy")]
    base: PathBuf,
    /// What to ask, of the same dimension
    #[arg(long, value_name = "FILE.npy")]
    queries: PathBuf,
    /// Row numbers of the nearest, best first, int32 or int64; without it, or with a filter, an exact scan finds them
    #[arg(long, value_name = "FILE.npy")]
    truth: Option<PathBuf>,
    /// How vectors are compared; rows and queries are brought to unit length for cosine
    #[arg(long, value_enum, default_value_t = Metric::Cosine)]
    metric: Metric,
    /// Bits a dimension of the codes: 1, 2, 4 or 8
    #[arg(long, default_value_t = 4)]
    bits: u32,
    /// How rows are kept on disk; as the file has them where it is not given
    #[arg(long, value_enum)]
    fine: Option<Format>,
    /// What names candidates
    #[arg(long, value_enum, default_value_t = Kind::Granum)]
    builder: Kind,
    /// Hits a query
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Candidates that walks keep: a line for each
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "12,16,24,32,48,64,96,128"
    )]
    ef: Vec<u32>,
    /// Recall that walks are to be as wide as it takes for, as each graph's was measured when it was built: a line for each
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "ef")]
    target_recall: Vec<f32>,
    /// Before each line of --target-recall, so many answers are asked again exactly and learned from, as nodes do when they are idle
    #[arg(long, value_name = "ANSWERS", default_value_t = 0, requires = "target_recall", conflicts_with_all = ["cold", "writing"])]
    checks: u32,
    /// Which candidates are read from disk
    #[arg(long, value_enum, default_value_t = Proof::All)]
    verify: Proof,
    /// Threads that search; the index is built by as many as there are cores
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Queries asked in one call; latencies are then of calls
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), conflicts_with_all = ["cold", "writing"])]
    batch: u32,
    /// Share of the rows that a filter lets through, 0..1
    #[arg(long, value_name = "SHARE")]
    filter_selectivity: Option<f64>,
    /// Which rows the filter lets through
    #[arg(long, value_enum, default_value_t = Let::Random, requires = "filter_selectivity")]
    filter_rows: Let,
    /// Rows of each segment, the last number for all that follow; all rows in one where it is not given
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    segment_rows: Vec<u64>,
    /// Ask with an empty page cache, beside a probe that reads as many random pages
    #[arg(long)]
    cold: bool,
    /// Ask once more beside a thread that inserts, seals and merges
    #[arg(long)]
    writing: bool,
    /// Only the first rows of the file
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// Where the index is kept and used again; a temporary directory where it is not given
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Passes over all queries; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    passes: u32,
    /// One JSON document a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Metric {
    Cosine,
    Dot,
    Euclid,
    Manhattan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// 2 bytes a component
    F16,
    /// 4 bytes a component
    F32,
    /// A byte a component and a scale a row
    I8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Codes and our own graph
    Granum,
    /// Codes and a graph built by hnsw_rs
    HnswRs,
    /// Codes, scanned
    Codes,
    /// Rows, scanned
    Scan,
}

/// Near and far are told by a row of the base that the query lies near: eight such rows make eight filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Let {
    /// Drawn without regard to the query
    Random,
    /// Those about the query
    Near,
    /// Those farthest from it
    Far,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Proof {
    All,
    Bound,
    None,
}

impl Command {
    fn distance(&self) -> Distance {
        match self.metric {
            Metric::Cosine => Distance::Cosine,
            Metric::Dot => Distance::Dot,
            Metric::Euclid => Distance::Euclid,
            Metric::Manhattan => Distance::Manhattan,
        }
    }

    fn options(&self) -> anyhow::Result<Options> {
        let Some(bits) = Bits::from_count(self.bits) else {
            bail!(Usage(format!("--bits: {}, must be 1, 2, 4 or 8", self.bits)));
        };
        let builder = match self.builder {
            Kind::Granum => Builder::Granum,
            Kind::HnswRs => Builder::HnswRs,
            Kind::Codes => Builder::Codes,
            Kind::Scan => Builder::Scan,
        };
        Ok(Options {
            builder,
            bits,
            seed: 1,
            ..Options::default()
        })
    }

    /// What is measured, one after the other.
    fn settings(&self) -> Vec<Setting> {
        let settings: Vec<Setting> = match &*self.target_recall {
            [] => self.ef.iter().copied().map(Setting::Width).collect(),
            targets => targets.iter().copied().map(Setting::Recall).collect(),
        };
        // Without a graph there is nothing that a walk's width could change.
        let has_graph = matches!(self.builder, Kind::Granum | Kind::HnswRs);
        settings[..if has_graph { settings.len() } else { 1 }].to_vec()
    }

    fn params(&self, setting: Setting) -> Params {
        Params {
            exact: self.builder == Kind::Scan,
            ef: setting.width(),
            target_recall: setting.recall(),
            verify: match self.verify {
                Proof::All => Verify::All,
                Proof::Bound => Verify::Bound,
                Proof::None => Verify::None,
            },
            certified: false,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.k == 0 || self.k > 10_000 {
            bail!(Usage(format!("--k: {}, must be 1..=10000", self.k)));
        }
        if let Some(ef) = self.ef.iter().find(|ef| !(1..=100_000).contains(*ef)) {
            bail!(Usage(format!("--ef: {ef}, must be 1..=100000")));
        }
        if let Some(target) = self.target_recall.iter().find(|own| !(**own > 0.0 && **own <= 1.0)) {
            bail!(Usage(format!(
                "--target-recall: {target}, must be above 0 and at most 1"
            )));
        }
        if let Some(share) = self.filter_selectivity.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            bail!(Usage(format!(
                "--filter-selectivity: {share}, must be above 0 and at most 1"
            )));
        }
        if self.segment_rows.contains(&0) || self.limit == Some(0) {
            bail!(Usage("--segment-rows, --limit: at least 1".into()));
        }
        Ok(())
    }
}

/// `granum bench index`
pub fn run(command: &Command) -> anyhow::Result<()> {
    command.check()?;
    let output = Output::new(command.json);
    let temporary = tempfile::tempdir()?;
    let directory = command.keep.clone().unwrap_or_else(|| temporary.path().join("index"));
    let queries = rows::queries(&command.queries, command.distance())?;
    let built = build(command, &directory)?;
    if queries[0].len() != built.dimension {
        let (found, wanted) = (queries[0].len(), built.dimension);
        bail!(Usage(format!(
            "--queries: rows of {found} components, --base has {wanted}"
        )));
    }
    let settings = command.settings();
    let questions = Questions::new(command, queries)?;
    let mut cold = vec![None; settings.len()];
    if command.cold {
        // Before the index is opened to stay: pages that somebody maps don't leave the cache.
        for (cold, setting) in cold.iter_mut().zip(&settings) {
            *cold = Some(cold::measure(&questions, &built, &directory, *setting)?);
        }
    }
    let bench = Bench::new(&questions, &built, &directory)?;
    let mut lines = Vec::new();
    for (cold, setting) in cold.into_iter().zip(settings) {
        let beside = || writing::measure(&questions, &built, &directory, setting);
        let done = Line {
            setting,
            measured: bench.measure(setting)?,
            cold,
            beside: command.writing.then(beside).transpose()?,
        };
        if output.json {
            output.json(&report::json(command, &built, &done))?;
        }
        lines.push(done);
    }
    if !output.json {
        note(&format!(
            "{} rows of {} in {} segments, built in {:.1} s; {:.0} bytes of memory a row ({:.0} measured)",
            grouped(built.rows),
            built.dimension,
            built.manifest.len(),
            built.seconds,
            bench.resident_bytes as f64 / built.rows as f64,
            bench.anonymous_bytes as f64 / built.rows as f64,
        ));
        output.table(&report::table(&lines))?;
    }
    Ok(())
}

/// A sealed index on disk.
struct Built {
    manifest: Vec<SegmentRef>,
    rows: u64,
    dimension: usize,
    schema: Schema,
    options: Options,
    /// Of building codes and graphs; 0 where they were there.
    seconds: f64,
}

fn build(command: &Command, directory: &std::path::Path) -> anyhow::Result<Built> {
    let options = command.options()?;
    let mut base = rows::Base::open(command)?;
    let field = VectorField::new(
        "",
        VectorKind::Dense {
            dimension: base.dimension() as u32,
        },
        command.distance(),
        base.fine(),
    );
    let schema = Schema {
        vectors: vec![field],
        ..Schema::default()
    };
    let known = directory.join("bench-manifest.json");
    let (rows, dimension) = (base.rows(), base.dimension());
    let manifest = match command.keep.as_ref().map(|_| rows::read_manifest(&known)) {
        Some(Ok(manifest)) => manifest,
        _ => {
            let manifest = seal(command, directory, &schema, options, &mut base)?;
            rows::write_manifest(&known, &manifest)?;
            manifest
        }
    };
    let index = Index::open(directory, schema.clone(), options, &manifest)?;
    let found: u64 = manifest.iter().map(|segment| u64::from(segment.rows)).sum();
    if found != rows {
        bail!(Usage(format!("--keep: {found} rows there, --base has {rows}")));
    }
    if !has_vectors(&index, dimension)? {
        bail!(Usage(
            "--keep: rows there were kept with another --fine or --metric".into()
        ));
    }
    let started = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let files = index.derive(&Threads::new(cores))?;
    let seconds = if files == 0 {
        0.0
    } else {
        started.elapsed().as_secs_f64()
    };
    Ok(Built {
        manifest,
        rows,
        dimension,
        schema,
        options,
        seconds,
    })
}

/// Whether rows of the index are of the schema that it was opened with.
fn has_vectors(index: &Index, dimension: usize) -> anyhow::Result<bool> {
    let any = Query {
        using: String::new(),
        vector: Vector::Dense(Dense::F32(vec![0.0; dimension])),
        filter: Filter::default(),
        k: 1,
        threshold: None,
        exclude: None,
        params: Params {
            exact: true,
            ..Params::default()
        },
    };
    let found = index.view().search(&[any], &|| false)?;
    Ok(!found[0].hits.is_empty())
}

fn seal(
    command: &Command,
    directory: &std::path::Path,
    schema: &Schema,
    options: Options,
    base: &mut rows::Base,
) -> anyhow::Result<Vec<SegmentRef>> {
    let index = Index::open(directory, schema.clone(), options, &[])?;
    let last = command.segment_rows.last().copied().unwrap_or(u64::MAX);
    let mut sizes = command.segment_rows.iter().copied();
    let mut manifest = Vec::new();
    let (mut next, mut number) = (1, 0);
    loop {
        let most = sizes.next().unwrap_or(last);
        let mut count = 0;
        while count < most
            && let Some(document) = base.next(number)?
        {
            index.insert(document, None)?;
            number += 1;
            count += 1;
        }
        if count == 0 {
            return Ok(manifest);
        }
        let built = index.build(&index.freeze(SegmentId(next)))?;
        manifest = built.segments().to_vec();
        index.publish(built);
        next += 1;
    }
}
