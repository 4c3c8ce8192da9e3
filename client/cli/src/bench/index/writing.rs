//! Searches beside a writer: what do inserts, seals, merges and the building of codes and graphs do to the tail?

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use granum_index::{Index, Inline, MergePolicy, SegmentId};

use super::measure::Questions;
use super::rows::{self, Base};
use super::setting::Setting;
use super::{Built, Command};

/// Rows a seal: several seals and at least one merge fit into a few seconds.
const SEAL_ROWS: u64 = 2000;
/// A measurement without a merge by then says nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Searches beside a writer. Times are in microseconds a query.
#[derive(Debug)]
pub struct Beside {
    pub p50_us: f64,
    pub p99_us: f64,
    /// Rows inserted a second, their seals and merges included.
    pub rows_per_second: f64,
    pub merges: u64,
}

/// Asks all questions, pass after pass, each on the view of its moment, while one thread inserts, seals, builds and merges: as many
/// passes as asked for, and more until a merge was made. Works on a copy of the index in `directory`.
pub fn measure(questions: &Questions<'_>, built: &Built, directory: &Path, setting: Setting) -> anyhow::Result<Beside> {
    let command = questions.command;
    let asked = questions.all(command.params(setting));
    let copy = tempfile::tempdir_in(directory.parent().unwrap_or(directory))?;
    for segment in &built.manifest {
        for file in std::fs::read_dir(directory)? {
            let file = file?;
            if file
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{:016x}.", segment.id.0))
            {
                std::fs::copy(file.path(), copy.path().join(file.file_name()))?;
            }
        }
    }
    let index = Index::open(copy.path(), built.schema.clone(), built.options, &built.manifest)?;
    let (stop, merges) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut writer = Writer {
        command,
        index: &index,
        base: base(command)?,
        next_row: built.rows,
        next_segment: 1 + built.manifest.iter().map(|segment| segment.id.0).max().unwrap_or(0),
        merges: &merges,
        stop: &stop,
    };
    std::thread::scope(|scope| {
        let started = Instant::now();
        let writing = scope.spawn(move || writer.run());
        let mut latencies = Vec::new();
        let mut passes = 0;
        while passes < command.passes || merges.load(Ordering::Relaxed) == 0 {
            if writing.is_finished() || started.elapsed() > PATIENCE {
                break;
            }
            for query in &asked {
                let begun = Instant::now();
                index.view().search(std::slice::from_ref(query), &|| false)?;
                latencies.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            passes += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let rows = writing.join().expect("the writer does not panic")?;
        let seconds = started.elapsed().as_secs_f64();
        if merges.load(Ordering::Relaxed) == 0 || latencies.is_empty() {
            bail!("no merge was due within {} s beside the searches", PATIENCE.as_secs());
        }
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        Ok(Beside {
            p50_us: at(0.5),
            p99_us: at(0.99),
            rows_per_second: rows as f64 / seconds,
            merges: merges.load(Ordering::Relaxed),
        })
    })
}

fn base(command: &Command) -> anyhow::Result<Base> {
    rows::Base::open(command)
}

/// Inserts the rows of the base again and again, as new documents.
struct Writer<'a> {
    command: &'a Command,
    index: &'a Index,
    base: Base,
    next_row: u64,
    next_segment: u64,
    merges: &'a AtomicU64,
    stop: &'a AtomicBool,
}

impl Writer<'_> {
    /// Writes until told to stop; the number of rows.
    fn run(&mut self) -> anyhow::Result<u64> {
        let first = self.next_row;
        while !self.stop.load(Ordering::Relaxed) {
            self.insert()?;
            let built = self.index.build(&self.index.freeze(self.segment()))?;
            self.index.publish(built);
            self.index.derive(&Inline)?;
            while let Some(plan) = self.index.plan_merge(&MergePolicy::default()) {
                let mut merged = self.index.merge(&plan, self.segment(), &|_| false)?;
                self.index.derive_merged(&merged, &Inline)?;
                self.index.settle(&mut merged)?;
                let moved = self.index.publish_merged(merged);
                self.index.forget_moved(moved);
                self.merges.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(self.next_row - first)
    }

    fn insert(&mut self) -> anyhow::Result<()> {
        for _ in 0..SEAL_ROWS {
            let document = match self.base.next(self.next_row)? {
                Some(document) => document,
                None => {
                    self.base = base(self.command)?;
                    self.base.next(self.next_row)?.context("--base has no rows")?
                }
            };
            self.index.insert(document, None)?;
            self.next_row += 1;
        }
        Ok(())
    }

    fn segment(&mut self) -> SegmentId {
        self.next_segment += 1;
        SegmentId(self.next_segment - 1)
    }
}
