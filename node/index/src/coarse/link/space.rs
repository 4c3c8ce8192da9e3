//! Distances between rows while a graph is built: 8-bit codes of all rows, in memory for as long as the build takes.

use granum_model::Distance;

use super::super::codes::encode;
use super::super::quantize::{Factors, Quantizer};
use crate::error::BuildError;
use crate::executor::{Executor, map};
use crate::segment::VectorFile;
use crate::simd;
use crate::simd::codes::{Bits, CodeKernel};

/// Rows summed up by one piece of work.
const PIECE_ROWS: usize = 4096;

/// All rows as codes of 8 bits; `D` bytes and 12 more a row.
pub(in super::super) struct Space {
    codes: Vec<u8>,
    rows: Vec<Row>,
    kernel: CodeKernel,
    middle: f32,
}

/// What is kept of a row beside its code.
struct Row {
    /// The row is `scale * (code - middle)`, about.
    scale: f32,
    squared: f32,
    /// Half the sum of `code - middle`.
    half_sum: f32,
}

/// A row as a query.
pub(super) struct Point {
    /// `code - middle - 1/2`, which is a signed byte.
    query: Vec<i8>,
    /// `-middle` times the sum of `query`.
    shift: f32,
    scale: f32,
    squared: f32,
}

impl Space {
    /// Encodes all rows of a file. Links follow Euclid's distance, whatever the metric: between unit vectors it is that of
    /// the cosine.
    pub fn new(
        vectors: &VectorFile,
        dimension: usize,
        seed: u64,
        executor: &dyn Executor,
    ) -> Result<Space, BuildError> {
        let quantizer = Quantizer::new(dimension, Bits::Eight, Distance::Dot, seed);
        let encoded = encode(vectors, &quantizer, &[], executor)?;
        let (kernel, middle) = (
            CodeKernel::new(Bits::Eight, quantizer.rotation.padded()),
            quantizer.middle(),
        );
        let row = |(factors, code): (&Factors, &[u8])| Row {
            scale: factors.scale,
            squared: factors.norm * factors.norm,
            half_sum: code.iter().map(|code| f32::from(*code) - middle).sum::<f32>() / 2.0,
        };
        let rows = map(executor, encoded.factors.len().div_ceil(PIECE_ROWS), |piece| {
            let factors = encoded.factors.chunks(PIECE_ROWS).nth(piece).unwrap_or_default();
            let codes = encoded.codes[piece * PIECE_ROWS * kernel.row_bytes()..].chunks_exact(kernel.row_bytes());
            factors.iter().zip(codes).map(row).collect::<Vec<Row>>()
        });
        Ok(Space {
            rows: rows?.into_iter().flatten().collect(),
            codes: encoded.codes,
            kernel,
            middle,
        })
    }

    pub fn rows(&self) -> u32 {
        self.rows.len() as u32
    }

    /// The components of a row, rotated, about: for clustering.
    pub fn decoded(&self, row: u32) -> Vec<f32> {
        let scale = self.rows[row as usize].scale;
        self.code(row)
            .iter()
            .map(|code| scale * (f32::from(*code) - self.middle))
            .collect()
    }

    pub(super) fn point(&self, row: u32) -> Point {
        let query: Vec<i8> = self.code(row).iter().map(|code| (*code ^ 0x80) as i8).collect();
        let sum: i32 = query.iter().map(|component| i32::from(*component)).sum();
        Point {
            shift: -self.middle * sum as f32,
            query,
            scale: self.rows[row as usize].scale,
            squared: self.rows[row as usize].squared,
        }
    }

    /// Twice the product less the other's squared length: higher is nearer, `|point|^2 - score` is the squared distance.
    #[inline]
    pub(super) fn scores(&self, point: &Point, rows: &[u32], scores: &mut [f32]) {
        const MOST: usize = 64;
        let mut sums = [0; MOST];
        for (rows, scores) in rows.chunks(MOST).zip(scores.chunks_mut(MOST)) {
            let sums = &mut sums[..rows.len()];
            self.kernel.gather(&point.query, &self.codes, rows, sums);
            for ((row, sum), score) in rows.iter().zip(sums).zip(scores) {
                // With m the middle and y the point: sum of (u - m)(y + 1/2) = sum of u y - m sum of y + half a sum of u - m.
                let other = &self.rows[*row as usize];
                let product = point.scale * other.scale * (*sum as f32 + point.shift + other.half_sum);
                *score = 2.0 * product - other.squared;
            }
        }
    }

    /// The squared distance that a score of [`scores`](Self::scores) means.
    #[inline]
    pub(super) fn distance(&self, point: &Point, score: f32) -> f32 {
        (point.squared - score).max(0.0)
    }

    #[inline]
    pub(super) fn expect(&self, row: u32) {
        simd::prefetch(self.code(row));
    }

    fn code(&self, row: u32) -> &[u8] {
        let width = self.kernel.row_bytes();
        &self.codes[row as usize * width..][..width]
    }
}
