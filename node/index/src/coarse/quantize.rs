//! From a vector to a code of 1, 2, 4 or 8 bits a dimension, and the numbers that make an estimate of it unbiased.
//!
//! RaBitQ with more than one bit (Gao et al., SIGMOD 2025): the residual `r` to the centroid is rotated; each component
//! becomes a point of a grid of odd halves, `x = +-(m + 1/2)`, stored unsigned as `u = x + (2^(B-1) - 1/2)`. `r` is then
//! estimated along its own code: `<r, q> = |r|^2 / <r, x> * <x, q>`, whose error has, over the choice of the rotation, mean
//! 0 and a standard deviation known for each row: `|r| |q| sqrt((|r|^2 |x|^2 / <r, x>^2 - 1) / (D - 1))`. What is asked is less
//! the centroid too, so `q` stands for `q - c` there.
//!
//! Scores are higher-is-better, so for Euclid the estimated quantity is `-|o - q|^2`. Manhattan has no such estimate: its
//! codes are those of Euclid, good to find candidates, which are then all read.

use granum_model::Distance;

use super::centroid::Centroid;
use super::rotate::Rotation;
use crate::simd;
use crate::simd::codes::Bits;

/// Step of the grid in standard deviations of a component, inverted: the mean best one for Gaussian components.
const SCALES: [(Bits, f32); 3] = [(Bits::Two, 1.007), (Bits::Four, 2.987), (Bits::Eight, 32.4)];
/// Other steps tried, as multiples of that one; the code nearest in angle is kept. More of them gain less than 1 % of error.
const TRIALS: [f32; 4] = [0.85, 0.92, 1.08, 1.17];

/// How rows of one vector field are turned into codes. Codes of two quantizers are compared by score only.
#[derive(Clone, Debug)]
pub(crate) struct Quantizer {
    pub rotation: Rotation,
    pub bits: Bits,
    pub distance: Distance,
    pub seed: u64,
    pub centroid: Centroid,
}

/// What is kept of a row beside its code. Scores of a query `q`: `constant(q) + scale * <x, rotated (q - c)>`, less `norm^2` for
/// Euclid, and `offset` for products: `<o, q> = <c, q> + <r, c> + <r, q - c>`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Factors {
    /// Score units per unit of `<x, q>`.
    pub scale: f32,
    /// `|r|`.
    pub norm: f32,
    /// One standard deviation of a score, per unit of `|q - c|`, for a query that leads from `c` at right angles to `r`.
    pub error: f32,
    /// `<r, c>`: 0 where the centroid is, and for Euclid.
    pub offset: f32,
}

/// Of a row so long that its numbers leave f32: its estimate says nothing, so it is read wherever it is a candidate.
const UNKNOWN: Factors = Factors {
    scale: 0.0,
    norm: 1.0,
    error: f32::MAX,
    offset: 0.0,
};

/// Reused from row to row.
#[derive(Default)]
pub(crate) struct Scratch {
    residual: Vec<f32>,
    rotated: Vec<f32>,
    grid: Vec<u8>,
    trial: Vec<u8>,
}

/// What codes depend on, beside the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Maker {
    dimension: usize,
    bits: Bits,
    distance: Distance,
    seed: u64,
    /// Its digest.
    centroid: u64,
}

impl Quantizer {
    /// One whose centroid is 0.
    pub fn new(dimension: usize, bits: Bits, distance: Distance, seed: u64) -> Quantizer {
        Quantizer {
            rotation: Rotation::new(dimension, seed),
            bits,
            distance,
            seed,
            centroid: Centroid::default(),
        }
    }

    /// The same with another centroid, of its dimension.
    pub fn about(self, centroid: Centroid) -> Quantizer {
        let is_alike = |components: &[f32]| components.len() == self.rotation.dimension();
        assert!(
            centroid.components().is_none_or(is_alike),
            "a centroid of another dimension"
        );
        Quantizer { centroid, ..self }
    }

    /// What it is made of.
    pub fn maker(&self) -> Maker {
        Maker {
            dimension: self.rotation.dimension(),
            bits: self.bits,
            distance: self.distance,
            seed: self.seed,
            centroid: self.centroid.digest(),
        }
    }

    /// Whether `other` makes the same codes of the same rows.
    pub fn is_same(&self, other: &Quantizer) -> bool {
        self.maker() == other.maker()
    }

    /// Bytes of a row's code.
    pub fn row_bytes(&self) -> usize {
        self.bits.row_bytes(self.rotation.padded())
    }

    /// What is subtracted from a code to get its grid point.
    pub fn middle(&self) -> f32 {
        middle(self.bits)
    }

    /// Score units per unit of inner product: Euclid's `-|o - q|^2` holds it twice.
    pub fn per_product(&self) -> f32 {
        match self.distance {
            Distance::Cosine | Distance::Dot => 1.0,
            Distance::Euclid | Distance::Manhattan => 2.0,
        }
    }

    /// Appends the code of `vector`, `row_bytes` of it.
    pub fn encode(&self, vector: &[f32], scratch: &mut Scratch, codes: &mut Vec<u8>) -> Factors {
        let residual = self.centroid.residual(vector, &mut scratch.residual);
        self.rotation.rotate(residual, &mut scratch.rotated);
        let rotated = &scratch.rotated;
        let (squared, _) = simd::squares_and_largest(rotated);
        let offset = match self.centroid.components() {
            Some(centroid) if self.has_offsets() => simd::dot(residual, centroid),
            _ => 0.0,
        };
        let (product, length) = self.round(squared, rotated, &mut scratch.grid, &mut scratch.trial);
        pack(self.bits, &scratch.grid, codes);
        if squared <= 0.0 || product <= 0.0 {
            return Factors {
                offset,
                ..Factors::default()
            };
        }
        let excess = (squared * length / (product * product) - 1.0).max(0.0);
        let sigma = (squared * excess / (rotated.len() as f32 - 1.0)).sqrt();
        let factors = Factors {
            scale: self.per_product() * squared / product,
            norm: squared.sqrt(),
            error: self.per_product() * sigma,
            offset,
        };
        let is_finite = [factors.scale, factors.norm, factors.error, factors.offset]
            .iter()
            .all(|factor| factor.is_finite());
        if is_finite { factors } else { UNKNOWN }
    }

    /// Whether scores hold the row's squared length.
    pub fn has_lengths(&self) -> bool {
        matches!(self.distance, Distance::Euclid | Distance::Manhattan)
    }

    /// Whether scores hold the row's offset.
    pub fn has_offsets(&self) -> bool {
        !self.has_lengths() && self.centroid.components().is_some()
    }

    /// The nearest grid point in angle among a few steps: fills `grid`; returns `<r, x>` and `|x|^2`.
    fn round(&self, squared: f32, rotated: &[f32], grid: &mut Vec<u8>, trial: &mut Vec<u8>) -> (f32, f32) {
        let deviation = (squared / rotated.len() as f32).sqrt();
        let scale = SCALES.iter().find(|(bits, _)| *bits == self.bits);
        let Some((_, scale)) = scale.filter(|_| deviation > 0.0) else {
            return on_grid(self.bits, 0.0, rotated, grid);
        };
        let mut best = on_grid(self.bits, scale / deviation, rotated, grid);
        let trials = if self.bits == Bits::Eight { &[][..] } else { &TRIALS };
        for factor in trials {
            let found = on_grid(self.bits, scale * factor / deviation, rotated, trial);
            let is_nearer = found.0 * best.1.sqrt() > best.0 * found.1.sqrt();
            if is_nearer {
                best = found;
                std::mem::swap(grid, trial);
            }
        }
        best
    }
}

/// What is subtracted from a code to get its grid point.
fn middle(bits: Bits) -> f32 {
    (1u32 << (bits.count() - 1)) as f32 - 0.5
}

/// Grid points at `step` a unit, unsigned; `<r, x>` and `|x|^2`.
fn on_grid(bits: Bits, step: f32, rotated: &[f32], grid: &mut Vec<u8>) -> (f32, f32) {
    grid.resize(rotated.len(), 0);
    let most = (1u32 << (bits.count() - 1)) as f32 - 1.0;
    simd::to_grid(rotated, step, most, middle(bits), grid)
}

/// Packs one code a byte into `8 / bits` codes a byte, in the layout of [`crate::simd::codes`].
fn pack(bits: Bits, grid: &[u8], codes: &mut Vec<u8>) {
    let width = bits.row_bytes(grid.len());
    let start = codes.len();
    codes.resize(start + width, 0);
    for (plane, group) in grid.chunks_exact(width).enumerate() {
        let shift = plane as u32 * bits.count();
        for (byte, code) in codes[start..].iter_mut().zip(group) {
            *byte |= code << shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Estimator;
    use super::*;
    use crate::metric::squared_euclid_to_score;
    use crate::simd::Beside;
    use crate::simd::codes::CodeKernel;

    /// Gaussian components, clustered so that neighbours exist; skewed lengths where the distance allows.
    fn vector(dimension: usize, number: u64, unit: bool) -> Vec<f32> {
        let draw = |at: u64| {
            let word = |salt: u64| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), salt) >> 40;
            let uniform = |salt| (word(salt) as f64 + 0.5) / (1u64 << 24) as f64;
            ((-2.0 * uniform(1).ln()).sqrt() * (std::f64::consts::TAU * uniform(2)).cos()) as f32
        };
        let value = |at: u64| draw((number % 10) * 100_000 + at) + draw((1 << 32) + number * 100_000 + at);
        let values: Vec<f32> = (0..dimension as u64).map(value).collect();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        let size = if unit { 1.0 } else { 0.5 + (number % 7) as f32 };
        values.iter().map(|value| value / length * size).collect()
    }

    fn beside(centroid: &Centroid, mut vector: Vec<f32>) -> Vec<f32> {
        let components = centroid.components().unwrap_or_default();
        vector
            .iter_mut()
            .zip(components)
            .for_each(|(value, middle)| *value += middle);
        vector
    }

    fn exact(distance: Distance, query: &[f32], row: &[f32]) -> f64 {
        let pairs = || {
            query
                .iter()
                .zip(row)
                .map(|(left, right)| (f64::from(*left), f64::from(*right)))
        };
        match distance {
            Distance::Euclid => -pairs()
                .map(|(left, right)| (left - right) * (left - right))
                .sum::<f64>(),
            _ => pairs().map(|(left, right)| left * right).sum(),
        }
    }

    /// Of estimates over many rotations: mean error in units of scores and in standard deviations, root mean square of the
    /// latter, share within 2.5.
    fn errors(
        bits: Bits,
        dimension: usize,
        distance: Distance,
        rotations: u64,
        centroid: &Centroid,
    ) -> (f64, f64, f64, f64) {
        let unit = distance == Distance::Cosine;
        let (mut bias, mut sum, mut squares, mut within, mut count) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut estimator, mut scratch) = (Estimator::default(), Scratch::default());
        for seed in 0..rotations {
            let quantizer = Quantizer::new(dimension, bits, distance, seed).about(centroid.clone());
            let kernel = CodeKernel::new(bits, quantizer.rotation.padded());
            let rows = (0..40).map(|at| beside(centroid, vector(dimension, seed * 1000 + at, unit)));
            let rows: Vec<Vec<f32>> = rows.collect();
            let mut codes = Vec::new();
            let factors: Vec<Factors> = rows
                .iter()
                .map(|row| quantizer.encode(row, &mut scratch, &mut codes))
                .collect();
            for number in 0..10 {
                let query = beside(centroid, vector(dimension, 500_000 + number, unit));
                estimator.prepare(&quantizer, &query);
                let picked: Vec<u32> = (0..rows.len() as u32).collect();
                let mut sums = vec![0; rows.len()];
                kernel.gather(&estimator.query, &codes, &picked, &mut sums);
                for ((row, factors), code_sum) in rows.iter().zip(&factors).zip(sums) {
                    let mut score = [0.0];
                    let (norms, offsets) = ([factors.norm], [factors.offset]);
                    let beside = match quantizer.has_lengths() {
                        true => Beside::Norms(&norms),
                        false => Beside::Offsets(&offsets),
                    };
                    simd::finish(
                        &[code_sum],
                        &[0],
                        &[factors.scale],
                        beside,
                        estimator.line(),
                        &mut score,
                    );
                    let score = score[0];
                    let deviation = f64::from(estimator.deviation(*factors, score, 1.0));
                    let off = f64::from(score) - exact(distance, &query, row);
                    bias += off;
                    let error = off / deviation;
                    sum += error;
                    squares += error * error;
                    within += f64::from(u8::from(error.abs() <= 2.5));
                    count += 1.0;
                }
            }
        }
        (bias / count, sum / count, (squares / count).sqrt(), within / count)
    }

    #[test]
    fn errors_are_as_predicted_and_without_bias() {
        for (bits, dimension) in [
            (Bits::One, 384),
            (Bits::Two, 100),
            (Bits::Four, 384),
            (Bits::Eight, 768),
        ] {
            let far: Vec<f32> = vector(dimension, 3, true).iter().map(|value| 3.0 * value).collect();
            for centroid in [Centroid::default(), Centroid::new(&far).unwrap()] {
                for distance in [Distance::Cosine, Distance::Dot, Distance::Euclid] {
                    let (_, mean, rms, within) = errors(bits, dimension, distance, 20, &centroid);
                    let what = format!("{bits:?} {distance:?} {:?}", centroid.components().map(|_| "about 3"));
                    // 8,000 samples, of which those of a rotation hang together: the mean of means is good to about 0.05.
                    assert!(mean.abs() < 0.1, "{what}: mean error {mean:.3} deviations");
                    assert!((0.9..1.1).contains(&rms), "{what}: rms {rms:.3} deviations");
                    assert!(within > 0.975, "{what}: {within:.4} within 2.5 deviations");
                }
            }
        }
    }

    /// The plan's gate (shared/research/index.md, section 12), at as many rotations as it takes to see so small a bias.
    #[test]
    fn at_768_dimensions_the_bias_is_below_a_ten_thousandth_and_errors_are_as_predicted() {
        for (bits, rotations) in [(Bits::One, 500), (Bits::Two, 200), (Bits::Four, 50)] {
            let (bias, _, rms, _) = errors(bits, 768, Distance::Cosine, rotations, &Centroid::default());
            assert!(bias.abs() < 1e-4, "{bits:?}: bias {bias:e}");
            assert!((0.97..1.03).contains(&rms), "{bits:?}: error / predicted {rms:.4}");
        }
    }

    #[test]
    fn a_row_that_leaves_f32_is_never_ruled_out() {
        let one = Centroid::new(&[1.0; 70]).unwrap();
        for (distance, centroid) in [
            (Distance::Dot, Centroid::default()),
            (Distance::Euclid, Centroid::default()),
            // What is asked is the centroid.
            (Distance::Dot, one.clone()),
            (Distance::Euclid, one),
        ] {
            let quantizer = Quantizer::new(70, Bits::Four, distance, 3).about(centroid);
            let factors = quantizer.encode(&[1e30; 70], &mut Scratch::default(), &mut Vec::new());
            assert_eq!(factors, UNKNOWN);
            let mut estimator = Estimator::default();
            estimator.prepare(&quantizer, &[1.0; 70]);
            let interval = estimator.interval(factors, 0.0, 2.5);
            assert_eq!(interval.upper(), f32::INFINITY, "{interval:?}");
            assert_eq!(estimator.widest(factors), f32::INFINITY);
        }
    }

    /// Nothing is left of the query, so the code tells nothing; what is left is arithmetic.
    #[test]
    fn bounds_hold_where_the_query_is_the_centroid() {
        for distance in [Distance::Dot, Distance::Euclid] {
            for size in [0.01, 1.0, 10.0, 1000.0] {
                let middle: Vec<f32> = vector(96, 3, true);
                let centroid = Centroid::new(&middle).unwrap();
                let quantizer = Quantizer::new(96, Bits::Four, distance, 3).about(centroid.clone());
                let mut estimator = Estimator::default();
                estimator.prepare(&quantizer, &middle);
                for number in 0..100 {
                    let long: Vec<f32> = vector(96, number, true).iter().map(|value| value * size).collect();
                    let row = beside(&centroid, long);
                    let factors = quantizer.encode(&row, &mut Scratch::default(), &mut Vec::new());
                    let (constant, _, _) = estimator.line();
                    let score = match quantizer.has_lengths() {
                        true => constant - factors.norm * factors.norm,
                        false => constant + factors.offset,
                    };
                    let interval = estimator.interval(factors, score, 2.5);
                    let exact = match distance {
                        Distance::Euclid => squared_euclid_to_score(exact(distance, &middle, &row) as f32),
                        _ => exact(distance, &middle, &row) as f32,
                    };
                    assert!(
                        interval.lower() <= exact && exact <= interval.upper(),
                        "{distance:?} {size}: {exact}, {interval:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_estimated_of_zero() {
        for bits in Bits::ALL {
            let quantizer = Quantizer::new(70, bits, Distance::Euclid, 3);
            let mut codes = Vec::new();
            let factors = quantizer.encode(&[0.0; 70], &mut Scratch::default(), &mut codes);
            assert_eq!((factors, codes.len()), (Factors::default(), quantizer.row_bytes()));
            let mut estimator = Estimator::default();
            estimator.prepare(&quantizer, &[0.0; 70]);
            let interval = estimator.interval(factors, 0.0, 2.5);
            assert_eq!((interval.estimate, interval.error), (squared_euclid_to_score(0.0), 0.0));
        }
    }
}
