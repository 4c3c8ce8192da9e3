//! What a code says of a score: an estimate, and how far it may be off.
//!
//! The query, less the centroid as the rows are, is rotated like those and rounded to signed bytes, so that the sum over a row
//! is one of integers. The bound of an estimate is `deviations` standard deviations: the row's own (see [`super::quantize`]),
//! smaller near the query by `sqrt(1 - cos^2)`, because a code's error is at right angles to the row
//! (shared/research/index.md, section 12: without it bounds of neighbours are a fifth too wide), and the rounding of the query,
//! which is independent of it. What sums in f32 may lose beside is added.

use super::quantize::{Factors, Maker, Quantizer};
use crate::metric::squared_euclid_to_score;
use crate::simd::{self, Beside, Terms};
use granum_model::{Distance, ScoreInterval};

/// Largest component of a rounded query.
const LEVELS: f32 = 127.0;
/// Standard deviation of rounding to the nearest step.
const ROUNDING: f32 = 0.288_675;
/// What a sum in f32 may lose, relative to its terms.
const SUMS: f32 = 4.0 * f32::EPSILON;
/// Standard deviations that an interval reaches to each side, unless asked otherwise: 98.9 % of scores lie within.
pub(crate) const DEVIATIONS: f32 = 2.5;

/// A query, ready for codes of one quantizer. Reused from query to query.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    /// Rotated and rounded, as many as padded dimensions.
    pub query: Vec<i8>,
    /// Score = `constant + scale * (step * sum + shift)`, less the row's squared length or with its offset.
    constant: f32,
    step: f32,
    shift: f32,
    /// `|q - c|`.
    norm: f32,
    /// `|q|`.
    length: f32,
    /// `|c|`.
    middle: f32,
    /// Scores hold squared lengths: those of distances.
    has_lengths: bool,
    per_product: f32,
    distance: Option<Distance>,
    rotated: Vec<f32>,
    /// What it is ready for: parts of a collection, which share a quantizer, are asked one after the other.
    ready: Option<Maker>,
    asked: Vec<f32>,
    residual: Vec<f32>,
}

impl Estimator {
    /// Makes it ready for `query`, of the quantizer's dimension.
    pub fn prepare(&mut self, quantizer: &Quantizer, query: &[f32]) {
        if self.ready == Some(quantizer.maker()) && self.asked == query {
            return;
        }
        self.ready = Some(quantizer.maker());
        self.asked.clear();
        self.asked.extend_from_slice(query);
        let residual = quantizer.centroid.residual(query, &mut self.residual);
        quantizer.rotation.rotate(residual, &mut self.rotated);
        let rotated = &self.rotated;
        let (squared, largest) = simd::squares_and_largest(rotated);
        self.step = if largest > 0.0 { largest / LEVELS } else { 1.0 };
        self.query.resize(rotated.len(), 0);
        simd::round_to_bytes(rotated, self.step.recip(), &mut self.query);
        let sum: i32 = self.query.iter().map(|component| i32::from(*component)).sum();
        self.shift = -self.step * quantizer.middle() * sum as f32;
        self.norm = squared.sqrt();
        self.per_product = quantizer.per_product();
        self.length = simd::dot(query, query).sqrt();
        self.middle = quantizer.centroid.length();
        self.has_lengths = quantizer.has_lengths();
        self.distance = Some(quantizer.distance);
        self.constant = match quantizer.centroid.components() {
            _ if quantizer.has_lengths() => -squared,
            Some(centroid) => simd::dot(query, centroid),
            None => 0.0,
        };
    }

    /// What turns rows' sums into their estimated scores; for Euclid the score is minus the *squared* distance.
    #[inline]
    pub fn terms<'a>(&self, table: &'a [f32], beside: Beside) -> Terms<'a> {
        Terms {
            table,
            beside,
            line: (self.constant, self.step, self.shift),
        }
    }

    /// Where the score lies, in the units of exact scores.
    pub fn interval(&self, factors: Factors, score: f32, deviations: f32) -> ScoreInterval {
        // A bound that is to hold of all rows must not trust the cosine more than it trusts the score.
        let doubt = if deviations > DEVIATIONS { deviations } else { 1.0 };
        let error = deviations * self.deviation(factors, score, doubt);
        match self.distance {
            _ if !error.is_finite() || !score.is_finite() => ScoreInterval {
                estimate: 0.0,
                error: f32::INFINITY,
            },
            Some(Distance::Euclid) => {
                let (lower, upper) = (
                    squared_euclid_to_score(score - error),
                    squared_euclid_to_score(score + error),
                );
                ScoreInterval {
                    estimate: (lower + upper) / 2.0,
                    error: (upper - lower) / 2.0,
                }
            }
            Some(Distance::Manhattan) => ScoreInterval {
                estimate: squared_euclid_to_score(score),
                error: f32::INFINITY,
            },
            _ => ScoreInterval { estimate: score, error },
        }
    }

    /// No row whose error and norm are not larger has a larger deviation.
    pub fn widest(&self, largest: Factors) -> f32 {
        if largest.error == f32::MAX {
            return f32::INFINITY;
        }
        let (code, rounding) = (
            largest.error * self.norm,
            self.per_product * self.step * ROUNDING * largest.norm,
        );
        (code * code + rounding * rounding).sqrt() + self.rounded_away(largest.norm)
    }

    /// What sums in f32 may lose of a score beside what its code says: the product with the centroid, the row's offset or squared
    /// norm.
    fn rounded_away(&self, norm: f32) -> f32 {
        let beside = self.middle + if self.has_lengths { norm } else { 0.0 };
        self.per_product * SUMS * (self.middle * self.length + norm * beside)
    }

    /// An exact score in the units of estimated ones.
    pub fn inward(&self, score: f32) -> f32 {
        match self.distance {
            Some(Distance::Euclid | Distance::Manhattan) if score < 0.0 => -(score * score),
            _ => score,
        }
    }

    /// One standard deviation of an estimate, in the units of an estimated score; the cosine is taken `doubt` of its own
    /// deviations nearer to 0 than the estimate says.
    pub fn deviation(&self, factors: Factors, score: f32, doubt: f32) -> f32 {
        if factors.error == f32::MAX {
            return f32::INFINITY;
        }
        let lengths = factors.norm * self.norm;
        if lengths <= 0.0 {
            return self.rounded_away(factors.norm);
        }
        let length = if self.has_lengths {
            factors.norm * factors.norm
        } else {
            0.0
        };
        let product = (score - self.constant - factors.offset + length) / self.per_product;
        // The cosine is an estimate too: the bound must not shrink because this one happens to be large.
        let sigma = factors.error / (self.per_product * factors.norm);
        let cosine = ((product / lengths).abs().min(1.0) - doubt * sigma).max(0.0);
        let code = factors.error * self.norm * (1.0 - cosine * cosine).sqrt();
        let rounding = self.per_product * self.step * ROUNDING * factors.norm;
        (code * code + rounding * rounding).sqrt() + self.rounded_away(factors.norm)
    }
}
