//! How wide must a walk be for a wanted recall? Measured when a graph has been built, so that nobody has to tune it.
//!
//! A sample of the segment's own rows is asked, each without itself; the k best by a scan of all codes, proved, are the
//! truth; walks of growing width are compared with it. What comes of it is kept with the graph: pairs of width and recall.
//!
//! Rows are easier questions than those that people ask, which lie farther from any row. So a wanted recall is looked up
//! with half the misses that it allows, and where answers that were asked again exactly still lack it, walks are made wider
//! than the curve says: by a [`Widening`], which is learned.

use super::Coarse;
use super::codes::dense_row;
use super::estimate::DEVIATIONS;
use super::seek::{Aim, Named, Scan};
use crate::error::{BuildError, ReadError};
use crate::executor::{Executor, map};
use crate::fine::verify::{Claim, in_order};
use crate::metric::Scorer;
use crate::segment::VectorFile;
use crate::top_k::TopScores;

/// Widths tried, ascending.
const WIDTHS: [u32; 13] = [12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];
/// Rows asked.
const SAMPLE: u64 = 128;
/// Hits a question.
const K: usize = 10;

/// Widths with the recall of walks so wide, both ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    pub points: Vec<(u32, f32)>,
}

impl Curve {
    /// The width of walks that find `recall` of the `k` best; `None`: no width that was tried does, and none is trusted to
    /// find all.
    pub fn width(&self, recall: f32, k: usize) -> Option<usize> {
        if recall >= 1.0 {
            return None;
        }
        let wanted = 1.0 - (1.0 - recall) / 2.0;
        let (width, _) = self.points.iter().find(|(_, found)| *found >= wanted)?;
        // Measured at K hits; for more of them the beam is as much wider.
        Some(*width as usize + k.saturating_sub(K))
    }

    /// Asks a sample of the rows; the same rows give the same curve. `None`: there is no sound graph.
    pub fn measure(
        coarse: &Coarse,
        vectors: &VectorFile,
        executor: &dyn Executor,
    ) -> Result<Option<Curve>, BuildError> {
        if !coarse.has_graph() || !coarse.is_sound() {
            return Ok(None);
        }
        let count = SAMPLE.min(vectors.places());
        let asked = map(executor, count as usize, |number| {
            let place = number as u64 * vectors.places() / count;
            let query = dense_row(vectors, place)?;
            let truth = ask(coarse, vectors, &query, place as u32, None)?;
            let bar = truth.last().copied().unwrap_or(f32::NEG_INFINITY);
            let hits = |width: u32| -> Result<u64, ReadError> {
                let found = ask(coarse, vectors, &query, place as u32, Some(width))?;
                Ok(found.iter().filter(|score| **score >= bar).count() as u64)
            };
            let hits = WIDTHS
                .iter()
                .map(|width| hits(*width))
                .collect::<Result<Vec<u64>, ReadError>>()?;
            Ok::<_, ReadError>((truth.len() as u64, hits))
        });
        let mut wanted = 0;
        let mut found = [0; WIDTHS.len()];
        for asked in asked? {
            let (truth, hits) = asked?;
            wanted += truth;
            found.iter_mut().zip(hits).for_each(|(sum, hits)| *sum += hits);
        }
        let mut best = 0.0f32;
        let points = WIDTHS.iter().zip(found).map(|(width, found)| {
            best = best.max((found as f64 / wanted.max(1) as f64).min(1.0) as f32);
            (*width, best)
        });
        Ok(Some(Curve {
            points: points.collect(),
        }))
    }
}

/// How many times as wide as a curve says walks are for a wanted recall, because people's queries are harder than rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Widening(f32);

impl Widening {
    /// Nobody shall get less than the curve says for having asked easy questions before.
    const MIN: f32 = 1.0;
    /// Queries that still lack hits in walks so wide are of another kind than the rows.
    const MAX: f32 = 32.0;
    /// How fast it follows: an answer that lacks one more hit in ten than it may makes it a tenth larger. At a wanted recall of 0.98
    /// it takes some hundred answers, and wavers by a quarter.
    const GAIN: f64 = 1.0;

    /// Takes in that an answer of which a recall of `wanted` was asked had `found` of the `of` best. It stands still where that is the
    /// mean; answers of less than ten hits weigh as much less.
    pub fn learn(&mut self, wanted: f64, found: usize, of: usize) {
        let lacking = wanted * of as f64 - found as f64;
        let moved = f64::from(self.0) * (Self::GAIN * lacking / of.max(K) as f64).exp();
        self.0 = (moved as f32).clamp(Self::MIN, Self::MAX);
    }

    /// A width, widened.
    pub fn of(self, width: usize) -> usize {
        (width as f32 * self.0) as usize
    }
}

impl Default for Widening {
    fn default() -> Widening {
        Widening(Self::MIN)
    }
}

/// A recall by which what is learned is told apart: so few that clients can't make them many.
pub(crate) fn permille(recall: f32) -> u16 {
    (recall * 1000.0).round() as u16
}

/// Exact scores of the K best but for the row itself: by a walk so wide, or by a scan.
fn ask(
    coarse: &Coarse,
    vectors: &VectorFile,
    query: &[f32],
    itself: u32,
    width: Option<u32>,
) -> Result<Vec<f32>, ReadError> {
    let mut named: Vec<Named> = Vec::new();
    let is_other = |place: u32| place != itself;
    match width {
        Some(width) => {
            let aim = Aim {
                width: width as usize,
                k: K,
                floor: f32::NEG_INFINITY,
                passing: None,
            };
            coarse.walk(query, aim, is_other, |_| {}, &mut named);
        }
        None => {
            // Of the K + 1 best of all, at least K are others.
            let mut scans = [Scan::new(query, K + 1, DEVIATIONS, f32::NEG_INFINITY)];
            coarse.scan(None, &mut scans, &|| false);
            let [scan] = scans;
            named = scan.into_named();
            named.retain(|named| is_other(named.place));
        }
    }
    let claim = |named: Named| Claim::estimated(named.place, named.interval);
    let mut claims: Vec<Claim<u32>> = named.into_iter().map(claim).collect();
    let scorer = Scorer::new(vectors.distance(), vectors.fine());
    let mut best = TopScores::new(K, f32::NEG_INFINITY);
    in_order(
        &mut claims,
        f32::NEG_INFINITY,
        |place| Ok(scorer.score(query, vectors.dense(u64::from(*place))?)),
        |_, score| -> Result<f32, ReadError> {
            best.push(score, crate::query::RowRef { part: 0, row: 0 });
            Ok(best.worst())
        },
    )?;
    Ok(best.into_found().into_iter().map(|(score, _)| score).take(K).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_recall_leads_to_the_narrowest_width_that_has_it() {
        let curve = Curve {
            points: vec![(12, 0.95), (24, 0.985), (48, 0.996)],
        };
        assert_eq!(curve.width(0.9, 10), Some(12));
        assert_eq!(curve.width(0.97, 10), Some(24));
        assert_eq!(curve.width(0.99, 30), Some(68));
        assert_eq!(curve.width(0.995, 10), None);
        assert_eq!(curve.width(1.0, 10), None);
        assert_eq!(Curve::default().width(0.5, 10), None);
    }

    /// Walks that miss four hits in a hundred, and of twice the width half of that; ten hits an answer.
    #[test]
    fn walks_widen_until_the_wanted_recall_is_found_and_no_further() {
        const ANSWERS: usize = 4000;
        let (mut widening, mut draws, mut mean) = (Widening::default(), 0u64, 0.0);
        let mut draw = || {
            draws += 1;
            (xxhash_rust::xxh3::xxh3_64(&draws.to_le_bytes()) >> 11) as f64 / (1u64 << 53) as f64
        };
        for answer in 0..2 * ANSWERS {
            let missing = 0.04 / f64::from(widening.0);
            let found = K - (0..K).filter(|_| draw() < missing).count();
            widening.learn(0.98, found, K);
            mean += if answer < ANSWERS {
                0.0
            } else {
                found as f64 / (K * ANSWERS) as f64
            };
        }
        assert!((mean - 0.98).abs() < 0.002, "{mean}");
        assert!((24..44).contains(&widening.of(16)), "{widening:?}");
        (0..200).for_each(|_| widening.learn(0.98, 0, K));
        assert_eq!(widening, Widening(Widening::MAX));
        (0..200).for_each(|_| widening.learn(0.98, K, K));
        assert_eq!(widening.of(16), 16);
        widening.learn(0.98, 0, 1);
        assert_eq!(widening.of(16), 17, "one hit, a tenth of the weight");
        widening.learn(0.98, 0, 0);
        assert_eq!(widening.of(16), 17);
    }
}
