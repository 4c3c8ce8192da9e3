//! Distances between rows while a graph is built: codes of all rows, in memory for as long as the build takes.
//!
//! Of 8 bits where links are picked; walks, which only have to come by, read their upper halves: a row is half as many cache
//! lines then, and a walk's time is that of the lines it asks for.

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

/// What an upper half stands for: the codes from 16 times it on.
const HALF_STEP: f32 = 16.0;
/// The middle of upper halves: `(16 u + 7.5) - 127.5` is `16 (u - 7.5)`.
const HALF_MIDDLE: f32 = 7.5;

/// All rows as codes of 8 bits, and their upper halves; 1.5 `D` bytes and 16 more a row.
pub(in super::super) struct Space {
    codes: Vec<u8>,
    halves: Vec<u8>,
    rows: Vec<Row>,
    kernel: CodeKernel,
    half_kernel: CodeKernel,
    middle: f32,
}

/// What is kept of a row beside its code.
struct Row {
    /// The row is `scale * (code - middle)`, about.
    scale: f32,
    squared: f32,
    /// Half the sum of `code - middle`.
    half_sum: f32,
    /// The same of upper halves.
    half_sum_of_halves: f32,
    /// One component more, see [`lift`].
    lift: f32,
}

/// A row as a query.
#[derive(Default)]
pub(super) struct Point {
    /// `code - middle - 1/2`, which is a signed byte.
    query: Vec<i8>,
    /// The sum of `query`.
    sum: f32,
    scale: f32,
    squared: f32,
    lift: f32,
}

impl Space {
    /// Encodes all rows of a file. Links follow Euclid's distance: between unit vectors it is that of the cosine, and for
    /// products rows are lifted first.
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
            half_sum_of_halves: code.iter().map(|code| f32::from(*code >> 4) - HALF_MIDDLE).sum::<f32>() / 2.0,
            lift: 0.0,
        };
        let rows = map(executor, encoded.factors.len().div_ceil(PIECE_ROWS), |piece| {
            let factors = encoded.factors.chunks(PIECE_ROWS).nth(piece).unwrap_or_default();
            let codes = encoded.codes[piece * PIECE_ROWS * kernel.row_bytes()..].chunks_exact(kernel.row_bytes());
            factors.iter().zip(codes).map(row).collect::<Vec<Row>>()
        });
        let halves = map(executor, encoded.factors.len().div_ceil(PIECE_ROWS), |piece| {
            let codes = encoded.codes[piece * PIECE_ROWS * kernel.row_bytes()..].chunks_exact(kernel.row_bytes());
            codes.take(PIECE_ROWS).flat_map(halves).collect::<Vec<u8>>()
        });
        let mut rows: Vec<Row> = rows?.into_iter().flatten().collect();
        if vectors.distance() == Distance::Dot {
            lift(&mut rows);
        }
        Ok(Space {
            rows,
            halves: halves?.concat(),
            codes: encoded.codes,
            half_kernel: CodeKernel::new(Bits::Four, quantizer.rotation.padded()),
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
        let mut point = Point::default();
        self.take(row, &mut point);
        point
    }

    /// Makes `point` that of a row.
    pub(super) fn take(&self, row: u32, point: &mut Point) {
        let code = self.code(row);
        point.query.clear();
        point.query.extend(code.iter().map(|code| (*code ^ 0x80) as i8));
        let own = &self.rows[row as usize];
        point.sum = 2.0 * own.half_sum - code.len() as f32 / 2.0;
        point.scale = own.scale;
        point.squared = own.squared;
        point.lift = own.lift;
    }

    /// Twice the product less the other's squared length: higher is nearer, `|point|^2 - score` is the squared distance.
    #[inline]
    pub(super) fn scores(&self, point: &Point, rows: &[u32], scores: &mut [f32]) {
        let codes = (&self.kernel, &*self.codes);
        // With m the middle and y the point: sum of (u - m)(y + 1/2) = sum of u y - m sum of y + half a sum of u - m.
        self.each_sum(codes, point, rows, scores, |other, sum| {
            let product = sum - self.middle * point.sum + other.half_sum;
            2.0 * point.scale * other.scale * product - other.squared - squared(point.lift - other.lift)
        });
    }

    /// As [`scores`](Self::scores), from upper halves.
    #[inline]
    pub(super) fn rough_scores(&self, point: &Point, rows: &[u32], scores: &mut [f32]) {
        let halves = (&self.half_kernel, &*self.halves);
        self.each_sum(halves, point, rows, scores, |other, sum| {
            let product = HALF_STEP * (sum - HALF_MIDDLE * point.sum + other.half_sum_of_halves);
            2.0 * point.scale * other.scale * product - other.squared - squared(point.lift - other.lift)
        });
    }

    #[inline]
    fn each_sum(
        &self,
        (kernel, codes): (&CodeKernel, &[u8]),
        point: &Point,
        rows: &[u32],
        scores: &mut [f32],
        score: impl Fn(&Row, f32) -> f32,
    ) {
        const MOST: usize = 64;
        let mut sums = [0; MOST];
        for (rows, scores) in rows.chunks(MOST).zip(scores.chunks_mut(MOST)) {
            let sums = &mut sums[..rows.len()];
            kernel.gather(&point.query, codes, rows, sums);
            for ((row, sum), own) in rows.iter().zip(sums).zip(scores) {
                *own = score(&self.rows[*row as usize], *sum as f32);
            }
        }
    }

    /// The squared distance that a score of [`scores`](Self::scores) means.
    #[inline]
    pub(super) fn distance(&self, point: &Point, score: f32) -> f32 {
        (point.squared - score).max(0.0)
    }

    /// `rows` will be scored soon.
    #[inline]
    pub(super) fn expect(&self, rows: &[u32]) {
        simd::prefetch_rows(&self.codes, self.kernel.row_bytes(), rows);
    }

    /// `rows` will be scored roughly soon.
    #[inline]
    pub(super) fn expect_rough(&self, rows: &[u32]) {
        simd::prefetch_rows(&self.halves, self.half_kernel.row_bytes(), rows);
    }

    fn code(&self, row: u32) -> &[u8] {
        let width = self.kernel.row_bytes();
        &self.codes[row as usize * width..][..width]
    }
}

/// Gives rows of unequal length one component more, so that all are as long as the longest: `sqrt(L^2 - |x|^2)`. For a query,
/// whose own is 0, the nearest row is then the one with the largest product (Bachrach et al., RecSys 2014, section 3).
fn lift(rows: &mut [Row]) {
    let longest = rows.iter().map(|row| row.squared).fold(0.0, f32::max);
    for row in rows {
        row.lift = (longest - row.squared).max(0.0).sqrt();
    }
}

fn squared(number: f32) -> f32 {
    number * number
}

/// The upper half of each code, as codes of 4 bits lie: component `j` below component `j + D / 2`.
fn halves(code: &[u8]) -> impl Iterator<Item = u8> {
    let (front, back) = code.split_at(code.len() / 2);
    front.iter().zip(back).map(|(front, back)| front >> 4 | back & 0xf0)
}
