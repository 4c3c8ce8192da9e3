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
mod tests;
