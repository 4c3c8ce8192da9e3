//! The search on codes: candidates with the interval that each one's score lies in.
//!
//! Two ways: a walk along the graph names the best it meets; a scan of codes, all or picked ones, names every row that may
//! still be among the k best, given that scores lie in their intervals. The caller proves them ([`crate::fine::verify`]).

use std::cell::RefCell;
use std::cmp::Ordering;

use granum_model::{Distance, ScoreInterval};

use super::Coarse;
use super::estimate::{DEVIATIONS, Estimator};
use super::loaded::Loaded;
use super::places::{Blocks, Places};
use super::quantize::{Factors, Quantizer};
use super::walk::{Terrain, Walker};
use crate::simd::{self, of_key};
use crate::top_k::KthBest;

/// Entries that a walk begins at.
const STARTS: usize = 4;
/// Rows scored at a time, at least, while as many more are on their way from memory.
const TILE: usize = 64;

/// Rows scored between two looks at the deadline.
const STOP_ROWS: u64 = 4096;

/// A place that may be a hit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub place: u32,
    /// In the units of exact scores.
    pub interval: ScoreInterval,
}

/// What a walk is to find.
#[derive(Clone, Copy)]
pub(crate) struct Aim<'a> {
    /// Of the beam.
    pub width: usize,
    /// So many are wanted...
    pub k: usize,
    /// ... and nothing that certainly scores less.
    pub floor: f32,
    /// Where few may be hits: those, and nothing else is scored.
    pub passing: Option<&'a Places>,
}

/// What a walk did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    /// Places scored.
    pub scored: u64,
    /// Places in the beam that are admitted, whatever they score.
    pub met: usize,
}

/// A scan of codes for one query: what it is to find, and what it has named so far.
pub(crate) struct Scan<'a> {
    query: &'a [f32],
    deviations: f32,
    /// What certainly scores less is not wanted.
    floor: f32,
    /// Lower ends of intervals.
    lower: KthBest,
    named: Vec<Named>,
}

impl<'a> Scan<'a> {
    /// Names places that may be among the `k` best, given that scores lie within so many standard deviations of their
    /// estimates, and that score `floor` at least.
    pub fn new(query: &'a [f32], k: usize, deviations: f32, floor: f32) -> Scan<'a> {
        Scan {
            query,
            deviations,
            floor,
            lower: KthBest::new(k),
            named: Vec::new(),
        }
    }

    /// What may be among the best.
    pub fn into_named(mut self) -> Vec<Named> {
        self.named.retain(|named| named.interval.upper() >= self.floor);
        self.named
    }

    fn offer(&mut self, place: u32, interval: ScoreInterval) {
        if interval.upper() < self.floor {
            return;
        }
        self.named.push(Named { place, interval });
        self.lower.push(interval.lower());
        self.floor = self.floor.max(self.lower.worst());
    }
}

/// A thread's memory for searches.
#[derive(Default)]
struct Seeker {
    /// One a query that is under way; walks use the first.
    estimators: Vec<Estimator>,
    walker: Walker,
    candidates: Vec<(f32, u32)>,
    tile: Vec<u32>,
    next_tile: Vec<u32>,
    good: Vec<u64>,
}

thread_local! {
    static SEEKER: RefCell<Seeker> = RefCell::default();
}

/// A graph with codes, seen by one query.
struct Coded<'a> {
    rows: &'a Loaded,
    estimator: &'a Estimator,
    /// `None`: all pass.
    passing: Option<&'a Places>,
}

impl Terrain for Coded<'_> {
    fn places(&self) -> u32 {
        self.rows.places()
    }

    #[inline]
    fn links(&self, place: u32) -> &[u32] {
        self.rows.links(place)
    }

    #[inline]
    fn passing(&self) -> Option<&[u64]> {
        self.passing.map(Places::words)
    }

    #[inline]
    fn rank(&self, places: &[u32], worst: f32, keys: &mut Vec<u64>) {
        self.rows.rank(self.estimator, places, worst, keys);
    }

    #[inline]
    fn expect_links(&self, place: u32) {
        simd::prefetch_words(self.rows.links(place));
    }

    #[inline]
    fn expect_ranks(&self, places: &[u32]) {
        self.rows.expect(places);
    }
}

impl Coarse {
    /// Walks with a beam of `width` over places of `passing`; adds to `named` what `admits` of it and may be among the `k` best
    /// of that, scoring `floor` at least, best estimate first. `expect` is told of each, ahead of use. Returns how many places
    /// were scored, and how many the beam holds that are admitted; `None`: there is no sound graph.
    pub fn walk(
        &self,
        query: &[f32],
        aim: Aim<'_>,
        admits: impl Fn(u32) -> bool,
        expect: impl Fn(u32),
        named: &mut Vec<Named>,
    ) -> Option<Walked> {
        let Aim {
            width,
            k,
            floor,
            passing,
        } = aim;
        let (rows, graph) = (self.loaded()?, self.graph.as_ref()?);
        SEEKER.with_borrow_mut(|seeker| {
            let Seeker {
                estimators,
                walker,
                candidates,
                ..
            } = seeker;
            if estimators.is_empty() {
                estimators.push(Estimator::default());
            }
            let estimator = &mut estimators[0];
            estimator.prepare(self.codes.quantizer(), query);
            let coded = Coded {
                rows,
                estimator,
                passing,
            };
            walker.walk(&coded, graph.entries(), STARTS, width);
            // Manhattan is not bounded by its codes: all candidates are named.
            let reach = match self.codes.quantizer().distance {
                Distance::Manhattan => f32::INFINITY,
                _ => DEVIATIONS * estimator.widest(rows.largest()),
            };
            candidates.clear();
            candidates.extend(walker.best().filter(|(_, place)| admits(*place)));
            let met = candidates.len();
            let mut floor = (estimator.inward(floor) - reach).next_down();
            if let Some((kth, _)) = k.checked_sub(1).and_then(|last| candidates.get(last)) {
                floor = floor.max(kth - 2.0 * reach);
            }
            let end = candidates.partition_point(|(score, _)| score.partial_cmp(&floor) != Some(Ordering::Less));
            candidates.truncate(end);
            for (_, place) in &*candidates {
                rows.expect_factors(*place);
                expect(*place);
            }
            named.extend(candidates.iter().map(|(score, place)| Named {
                place: *place,
                interval: estimator.interval(rows.factors(*place), *score, DEVIATIONS),
            }));
            Some(Walked {
                scored: walker.scored,
                met,
            })
        })
    }

    /// Scores places by their codes, for several queries at once. `among`: `None` is all places. `stop` is asked now and then
    /// whether to give up. Returns how many places were scored, each for all; `None`: the codes are damaged, or `stop` said so.
    pub fn scan(&self, among: Option<&Places>, scans: &mut [Scan<'_>], stop: &dyn Fn() -> bool) -> Option<u64> {
        scan(self.loaded()?, self.codes.quantizer(), among, scans, stop)
    }
}

/// Rows with codes, by place.
pub(super) trait Rows {
    /// How many.
    fn places(&self) -> u32;
    /// The largest error and norm of any place.
    fn largest(&self) -> Factors;
    /// Appends the keys of those of `places` whose estimated scores are above `worst`, see [`simd::rank`].
    fn rank(&self, estimator: &Estimator, places: &[u32], worst: f32, keys: &mut Vec<u64>);
    /// All factors of a place.
    fn factors(&self, place: u32) -> Factors;
    /// These will be ranked soon.
    fn expect(&self, places: &[u32]);
}

/// See [`Coarse::scan`]. A tile of codes comes from memory once and is scored for each query while it is near.
pub(super) fn scan(
    rows: &impl Rows,
    quantizer: &Quantizer,
    among: Option<&Places>,
    scans: &mut [Scan<'_>],
    stop: &dyn Fn() -> bool,
) -> Option<u64> {
    SEEKER.with_borrow_mut(|seeker| {
        let Seeker {
            estimators,
            tile,
            next_tile,
            good,
            ..
        } = seeker;
        estimators.resize_with(estimators.len().max(scans.len()), Estimator::default);
        for (estimator, scan) in estimators.iter_mut().zip(&*scans) {
            estimator.prepare(quantizer, scan.query);
        }
        let largest = rows.largest();
        let (mut scored, mut next_stop) = (0, 0);
        let mut blocks = Blocks::new(rows.places(), among);
        let mut take = |tile: &mut Vec<u32>| {
            blocks.next(TILE, tile);
            rows.expect(tile);
        };
        take(next_tile);
        while !next_tile.is_empty() {
            std::mem::swap(tile, next_tile);
            take(next_tile);
            if scored >= next_stop {
                if stop() {
                    return None;
                }
                next_stop = scored + STOP_ROWS;
            }
            scored += tile.len() as u64;
            for (estimator, scan) in estimators.iter().zip(&mut *scans) {
                // Most rows are far below the floor: what may reach it is picked by estimate before its bound is computed.
                let reach = scan.deviations * estimator.widest(largest);
                let bar = (estimator.inward(scan.floor) - reach).next_down();
                // Numbers beyond f32: nothing is known to be below.
                let bar = if reach.is_finite() { bar } else { f32::NAN };
                good.clear();
                rows.rank(estimator, tile, bar, good);
                for (score, place) in good.iter().map(|key| of_key(*key)) {
                    scan.offer(place, estimator.interval(rows.factors(place), score, scan.deviations));
                }
            }
        }
        Some(scored)
    })
}
