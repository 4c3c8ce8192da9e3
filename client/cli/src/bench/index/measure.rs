//! One setting, measured: all queries, pass after pass, their answers compared with the exact ones.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use granum_index::{Found, Index, Params, Query, Usage, Verify, View};
use granum_model::filter::Bounds;
use granum_model::{Condition, Dense, DocId, Filter, Vector};

use super::setting::Setting;
use super::{Built, Command, Let, rows};
use crate::npy::Npy;

/// A hit within this of the k-th exact score is one of the k nearest.
const TIE: f32 = 1e-6;

/// What one setting did. Means are per query.
#[derive(Debug, Default)]
pub struct Measured {
    pub recall: f64,
    /// Recall of the k best by codes alone.
    pub candidate_recall: f64,
    pub qps: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub rows_scored: f64,
    pub rows_read: f64,
    /// Rows that share a page read it once.
    pub pages_read: f64,
    pub ram_bytes_row: f64,
    pub anonymous_bytes_row: f64,
}

/// What is asked, in the words of the command.
pub struct Questions<'a> {
    pub command: &'a Command,
    vectors: Vec<Vec<f32>>,
    filters: Vec<Filter>,
    /// The filter of each query.
    filter_of: Vec<usize>,
}

impl<'a> Questions<'a> {
    pub fn new(command: &'a Command, vectors: Vec<Vec<f32>>) -> anyhow::Result<Questions<'a>> {
        let (filters, filter_of) = filters(command, &vectors)?;
        Ok(Questions {
            command,
            vectors,
            filters,
            filter_of,
        })
    }

    pub fn query(&self, number: usize, params: Params) -> Query {
        Query {
            using: String::new(),
            vector: Vector::Dense(Dense::F32(self.vectors[number].clone())),
            filter: self.filters[self.filter_of[number]].clone(),
            k: self.command.k,
            threshold: None,
            exclude: None,
            params,
        }
    }

    /// All of them with these settings.
    pub fn all(&self, params: Params) -> Vec<Query> {
        (0..self.vectors.len())
            .map(|number| self.query(number, params))
            .collect()
    }
}

/// An open index and what is asked of it.
pub struct Bench<'a> {
    questions: &'a Questions<'a>,
    command: &'a Command,
    built: &'a Built,
    /// The k-th best exact score of each query.
    bars: Vec<f32>,
    index: Index,
    /// Codes and links.
    pub resident_bytes: u64,
    /// What opening and a first search added to the process's anonymous memory.
    pub anonymous_bytes: u64,
}

impl<'a> Bench<'a> {
    pub fn new(questions: &'a Questions<'a>, built: &'a Built, directory: &Path) -> anyhow::Result<Bench<'a>> {
        let before = anonymous_bytes();
        let index = Index::open(directory, built.schema.clone(), built.options, &built.manifest)?;
        let command = questions.command;
        let mut bench = Bench {
            questions,
            command,
            built,
            bars: Vec::new(),
            index,
            resident_bytes: 0,
            anonymous_bytes: 0,
        };
        bench
            .index
            .view()
            .search(&[questions.query(0, command.params(Setting::Width(16)))], &|| false)?;
        bench.anonymous_bytes = anonymous_bytes().saturating_sub(before);
        bench.resident_bytes = bench.index.stats().resident_bytes;
        // So that the filters' rows are known, as they are after their first use.
        for filter in &questions.filters {
            let passing = bench.index.view().count(filter, &|| false)?;
            let is_sealed = command.filter_rows == Let::Random || passing > 0;
            ensure!(
                is_sealed,
                "no row passes: the index of --keep is older than --filter-rows"
            );
        }
        bench.bars = bench.exact()?;
        Ok(bench)
    }

    /// The k-th best exact score of each query: of the rows that are known to be nearest, or by an exact scan.
    fn exact(&self) -> anyhow::Result<Vec<f32>> {
        let (command, view) = (self.command, self.index.view());
        if let (Some(path), None) = (&command.truth, command.filter_selectivity) {
            let truth = rows::truth(path, self.questions.vectors.len(), command.k, self.built.rows)?;
            let bars = truth
                .iter()
                .enumerate()
                .map(|(number, nearest)| self.worst(&view, number, nearest));
            return bars.collect();
        }
        let ask = Params {
            exact: true,
            ..Params::default()
        };
        let found = (0..self.questions.vectors.len()).map(|number| -> anyhow::Result<f32> {
            let found = view.search(&[self.questions.query(number, ask)], &|| false)?.remove(0);
            Ok(found.hits.last().map_or(f32::NEG_INFINITY, |hit| hit.hit.score))
        });
        found.collect()
    }

    /// All queries with one setting.
    pub fn measure(&self, setting: Setting) -> anyhow::Result<Measured> {
        let params = self.command.params(setting);
        let asked = self.questions.all(params);
        for query in asked.iter().cycle().take(self.command.checks as usize) {
            self.learn(query)?;
        }
        let view = self.index.view();
        let (mut seconds, mut latencies) = (Vec::new(), Vec::new());
        let mut answers = Vec::new();
        for _ in 0..self.command.passes {
            let started = Instant::now();
            let pass = ask_all(
                &view,
                &asked,
                self.command.threads as usize,
                self.command.batch as usize,
            )?;
            seconds.push(started.elapsed().as_secs_f64());
            latencies.extend(pass.iter().map(|(_, micros)| *micros));
            answers = pass.into_iter().map(|(found, _)| found).collect();
        }
        seconds.sort_by(f64::total_cmp);
        latencies.sort_by(f64::total_cmp);
        let by_codes = Params {
            verify: Verify::None,
            ..params
        };
        let by_codes = ask_all(&view, &self.questions.all(by_codes), 1, 1)?
            .into_iter()
            .map(|(found, _)| found)
            .collect::<Vec<_>>();
        let queries = asked.len() as f64;
        let mut usage = Usage::default();
        for found in &answers {
            usage.rows_scored += found.usage.rows_scored;
            usage.rows_read += found.usage.rows_read;
            usage.pages_read += found.usage.pages_read;
        }
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        let rows = self.built.rows as f64;
        Ok(Measured {
            recall: self.recall(&view, &answers)?,
            candidate_recall: self.recall(&view, &by_codes)?,
            qps: queries / seconds[seconds.len() / 2],
            p50_us: at(0.5),
            p99_us: at(0.99),
            rows_scored: usage.rows_scored as f64 / queries,
            rows_read: usage.rows_read as f64 / queries,
            pages_read: usage.pages_read as f64 / queries,
            ram_bytes_row: self.resident_bytes as f64 / rows,
            anonymous_bytes_row: self.anonymous_bytes as f64 / rows,
        })
    }

    /// Lets the index see what it missed.
    fn learn(&self, query: &Query) -> anyhow::Result<()> {
        let view = self.index.view();
        let found = view.search(std::slice::from_ref(query), &|| false)?.remove(0);
        self.index
            .learn(query, found.walked, &view.check(query, &found.hits, &|| false)?);
        Ok(())
    }

    /// Share of the k nearest that were found, by the exact scores of what was found; where fewer than k rows pass the filter,
    /// those that are missing to k count as missed.
    fn recall(&self, view: &View, answers: &[Found]) -> anyhow::Result<f64> {
        let (mut hits, mut wanted) = (0, 0);
        for (number, (found, bar)) in answers.iter().zip(&self.bars).enumerate() {
            for hit in &found.hits {
                let score = if hit.interval.error == 0.0 {
                    hit.hit.score
                } else {
                    let vector = view.vector(hit.row, "")?.context("a hit without vector")?;
                    self.score(number, &vector)?
                };
                hits += u64::from(score >= bar - TIE);
            }
            wanted += self.command.k as u64;
        }
        Ok(hits as f64 / wanted.max(1) as f64)
    }

    /// The exact score of a vector.
    fn score(&self, number: usize, vector: &Vector) -> anyhow::Result<f32> {
        let query = Vector::Dense(Dense::F32(self.questions.vectors[number].clone()));
        let score = granum_index::score(&self.built.schema.vectors[0], &query, vector)?;
        score.context("rows and queries are of one shape")
    }

    /// The worst exact score of rows by their numbers.
    fn worst(&self, view: &View, number: usize, rows: &[u64]) -> anyhow::Result<f32> {
        let mut worst = f32::INFINITY;
        for row in rows {
            let place = view
                .find(&DocId::Number(*row))?
                .context("a row of the base is missing")?;
            let document = view.sealed(place)?.context("a row of the base is missing")?;
            worst = worst.min(self.score(number, document.vector("").context("a row without vector")?)?);
        }
        Ok(worst)
    }
}

/// An answer, and the microseconds of its call.
type Timed = (Found, f64);

/// Asks each query once, `batch` in a call, on so many threads; answers in the order of the queries.
pub fn ask_all(view: &View, asked: &[Query], threads: usize, batch: usize) -> anyhow::Result<Vec<Timed>> {
    /// Queries that a thread takes at a time, at least.
    const TAKEN: usize = 16;
    let ask = |queries: &[Query]| -> anyhow::Result<Vec<Timed>> {
        let mut answers = Vec::with_capacity(queries.len());
        for together in queries.chunks(batch) {
            let started = Instant::now();
            let found = view.search(together, &|| false)?;
            let micros = started.elapsed().as_secs_f64() * 1e6;
            answers.extend(found.into_iter().map(|found| (found, micros)));
        }
        Ok(answers)
    };
    if threads == 1 {
        return ask(asked);
    }
    let pieces: Vec<&[Query]> = asked.chunks(TAKEN.next_multiple_of(batch)).collect();
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<Vec<(usize, Vec<Timed>)>> {
        let mut answers = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(number) else {
                return Ok(answers);
            };
            answers.push((number, ask(piece)?));
        }
    };
    let mut answers = std::thread::scope(|scope| -> anyhow::Result<Vec<(usize, Vec<Timed>)>> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().expect("a search does not panic")?);
        }
        Ok(all)
    })?;
    answers.sort_by_key(|(number, _)| *number);
    Ok(answers.into_iter().flat_map(|(_, answers)| answers).collect())
}

/// Filters that let so large a share of the rows through, and which of them each query asks with.
fn filters(command: &Command, queries: &[Vec<f32>]) -> anyhow::Result<(Vec<Filter>, Vec<usize>)> {
    let Some(share) = command.filter_selectivity else {
        return Ok((vec![Filter::default()], vec![0; queries.len()]));
    };
    let range = |key: String, (gte, lt): (Option<f64>, Option<f64>)| {
        let bounds = Bounds {
            gte,
            lt,
            ..Bounds::default()
        };
        Filter {
            must: vec![Condition::Range { key, bounds }],
            ..Filter::default()
        }
    };
    if command.filter_rows == Let::Random {
        return Ok((vec![range("draw".into(), (None, Some(share)))], vec![0; queries.len()]));
    }
    let anchors = rows::Anchors::of(&command.base)?;
    let mut nearness: Vec<Vec<i64>> = Vec::new();
    let mut base = Npy::open(&command.base)?;
    while let Some(row) = base.next_f32()? {
        nearness.push(anchors.nearness(&row));
        if nearness.len() as u64 == command.limit.unwrap_or(u64::MAX) {
            break;
        }
    }
    let passing = (share * nearness.len() as f64) as usize;
    let filter = |anchor: usize| {
        let mut near: Vec<i64> = nearness.iter().map(|near| near[anchor]).collect();
        near.sort_unstable();
        let bounds = match command.filter_rows {
            Let::Near => (Some(near[near.len() - passing.max(1)] as f64), None),
            _ => (None, Some(near[passing.min(near.len() - 1)] as f64)),
        };
        range(rows::Anchors::key(anchor), bounds)
    };
    let nearest = |query: &Vec<f32>| {
        let near = anchors.nearness(query).into_iter().enumerate();
        near.max_by_key(|(_, near)| *near).map_or(0, |(anchor, _)| anchor)
    };
    let filters = (0..nearness[0].len()).map(filter).collect();
    Ok((filters, queries.iter().map(nearest).collect()))
}

/// Anonymous resident memory of this process; 0 where the system does not tell.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
