//! The search on codes: candidates with the interval that each one's score lies in.
//!
//! Two ways: a walk along the graph names the best it meets; a scan of codes, all or picked ones, names every row that may
//! still be among the k best, given that scores lie in their intervals. The caller proves them ([`crate::fine::verify`]).

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use granum_model::{Distance, ScoreInterval};

use super::Coarse;
use super::estimate::{DEVIATIONS, Estimator};
use super::loaded::Loaded;
use super::places::{Blocks, Places};
use super::quantize::{Factors, Quantizer};
use super::walk::{Terrain, Walker};
use crate::simd;

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

/// What a scan is to find.
pub(crate) struct Scan<'a> {
    /// What is near, in components.
    pub query: &'a [f32],
    /// `None`: all places.
    pub among: Option<&'a Places>,
    /// Places that may be among so many best.
    pub k: usize,
    /// Scores lie within so many standard deviations of their estimates.
    pub deviations: f32,
    /// What certainly scores less is not wanted.
    pub floor: f32,
    /// Asked now and then whether to give up.
    pub stop: &'a dyn Fn() -> bool,
}

/// A thread's memory for searches.
#[derive(Default)]
struct Seeker {
    estimator: Estimator,
    walker: Walker,
    candidates: Vec<(f32, u32)>,
    tile: Vec<u32>,
    next_tile: Vec<u32>,
    scores: Vec<f32>,
    good: Vec<u32>,
    best: BinaryHeap<Reverse<Ordered>>,
}

thread_local! {
    static SEEKER: RefCell<Seeker> = RefCell::default();
}

/// A finite score, ordered.
#[derive(Clone, Copy, PartialEq)]
struct Ordered(f32);

impl Eq for Ordered {}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
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
    fn score(&self, places: &[u32], scores: &mut [f32]) {
        self.rows.score(self.estimator, places, scores);
    }

    #[inline]
    fn expect_links(&self, place: u32) {
        simd::prefetch_words(self.rows.links(place));
    }

    #[inline]
    fn expect_score(&self, place: u32) {
        self.rows.expect(place);
    }
}

impl Coarse {
    /// Walks with a beam of `width` over places of `passing`; adds to `named` what `admits` of it and may be among the `k` best
    /// of that, best estimate first. `expect` is told of each, ahead of use. Returns how many places were scored; `None`: there
    /// is no sound graph.
    pub fn walk(
        &self,
        query: &[f32],
        (width, k): (usize, usize),
        passing: Option<&Places>,
        admits: impl Fn(u32) -> bool,
        expect: impl Fn(u32),
        named: &mut Vec<Named>,
    ) -> Option<u64> {
        let (rows, graph) = (self.loaded()?, self.graph.as_ref()?);
        SEEKER.with_borrow_mut(|seeker| {
            let Seeker {
                estimator,
                walker,
                candidates,
                ..
            } = seeker;
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
                _ => 2.0 * DEVIATIONS * estimator.widest(rows.largest()),
            };
            let mut floor = f32::NEG_INFINITY;
            candidates.clear();
            for (at, (score, place)) in walker.best().filter(|(_, place)| admits(*place)).enumerate() {
                if at + 1 == k {
                    floor = score - reach;
                }
                if score < floor {
                    break;
                }
                rows.expect_factors(place);
                expect(place);
                candidates.push((score, place));
            }
            named.extend(candidates.iter().map(|(score, place)| Named {
                place: *place,
                interval: estimator.interval(rows.factors(*place), *score, DEVIATIONS),
            }));
            Some(walker.scored)
        })
    }

    /// Scores places by their codes and adds to `named` those that `wanted` may be. Returns how many were scored; `None`: the
    /// codes are damaged, or `stop` said so.
    pub fn scan(&self, wanted: &Scan<'_>, named: &mut Vec<Named>) -> Option<u64> {
        scan(self.loaded()?, self.codes.quantizer(), wanted, named)
    }
}

/// Rows with codes, by place.
pub(super) trait Rows {
    /// How many.
    fn places(&self) -> u32;
    /// The largest error and norm of any place.
    fn largest(&self) -> Factors;
    /// Estimated scores of `places`, see [`Estimator::line`].
    fn score(&self, estimator: &Estimator, places: &[u32], scores: &mut [f32]);
    /// All factors of a place.
    fn factors(&self, place: u32) -> Factors;
    /// A place will be scored soon.
    fn expect(&self, place: u32);
}

/// See [`Coarse::scan`].
pub(super) fn scan(rows: &impl Rows, quantizer: &Quantizer, wanted: &Scan<'_>, named: &mut Vec<Named>) -> Option<u64> {
    let Scan {
        query,
        among,
        k,
        deviations,
        mut floor,
        stop,
    } = *wanted;
    SEEKER.with_borrow_mut(|seeker| {
        let Seeker {
            estimator,
            best,
            tile,
            next_tile,
            scores,
            good,
            ..
        } = seeker;
        estimator.prepare(quantizer, query);
        best.clear();
        let widest = deviations * estimator.widest(rows.largest());
        let (mut scored, first) = (0, named.len());
        let mut next_stop = 0;
        let mut blocks = Blocks::new(rows.places(), among);
        let mut take = |tile: &mut Vec<u32>| {
            blocks.next(TILE, tile);
            tile.iter().for_each(|place| rows.expect(*place));
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
            scores.resize(tile.len(), 0.0);
            rows.score(estimator, tile, scores);
            // Most rows are far below the floor: what may reach it is picked by estimate before its bound is computed.
            simd::above(scores, (estimator.inward(floor) - widest).next_down(), good);
            for (score, place) in good.iter().map(|at| (&scores[*at as usize], &tile[*at as usize])) {
                let interval = estimator.interval(rows.factors(*place), *score, deviations);
                if interval.upper() < floor {
                    continue;
                }
                named.push(Named {
                    place: *place,
                    interval,
                });
                if best.len() < k {
                    best.push(Reverse(Ordered(interval.lower())));
                } else if let Some(mut least) = best.peek_mut()
                    && least.0.0 < interval.lower()
                {
                    *least = Reverse(Ordered(interval.lower()));
                }
                if best.len() == k
                    && let Some(least) = best.peek()
                {
                    floor = floor.max(least.0.0);
                }
            }
        }
        let mut kept = first;
        for at in first..named.len() {
            if named[at].interval.upper() >= floor {
                named.swap(kept, at);
                kept += 1;
            }
        }
        named.truncate(kept);
        Some(scored)
    })
}
