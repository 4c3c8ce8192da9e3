//! What `benches/kernels.rs` calls of the crate's inside: kernels on made-up data. Behind the feature `bench`, no part of the API.
#![allow(missing_docs, reason = "for one program, which says what each is")]

use granum_model::Fine;
use xxhash_rust::xxh3::xxh3_64;

use super::beam::Beam;
use super::rotate::Rotation;
use crate::options::Bits;
use crate::simd;
use crate::simd::codes::CodeKernel;
use crate::simd::{Kernel, Sum, key};

fn byte(at: usize) -> u8 {
    xxh3_64(&(at as u64).to_le_bytes()) as u8
}

/// Rows of codes, and a query.
pub struct Codes {
    kernel: CodeKernel,
    query: Vec<i8>,
    codes: Vec<u8>,
}

impl Codes {
    /// `rows` of them; content beyond the first 64 KiB repeats.
    pub fn new(bits: Bits, dimension: usize, rows: usize) -> Codes {
        let kernel = CodeKernel::new(bits, dimension);
        let some: Vec<u8> = (0..1 << 16).map(byte).collect();
        let codes = some.iter().copied().cycle().take(rows * kernel.row_bytes()).collect();
        let query = some[..dimension].iter().map(|byte| (*byte as i8).max(-127)).collect();
        Codes { kernel, query, codes }
    }

    pub fn expect(&self, rows: &[u32]) {
        simd::prefetch_rows(&self.codes, self.kernel.row_bytes(), rows);
    }

    pub fn sums(&self, rows: &[u32], sums: &mut [i32]) {
        self.kernel.gather(&self.query, &self.codes, rows, sums);
    }
}

/// Rotates a vector of `dimension`.
pub fn rotation(dimension: usize) -> impl FnMut() -> f32 {
    let (rotation, mut rotated) = (Rotation::new(dimension, 1), Vec::new());
    let vector: Vec<f32> = (0..dimension).map(|at| f32::from(byte(at)) - 128.0).collect();
    move || {
        rotation.rotate(&vector, &mut rotated);
        rotated[0]
    }
}

/// Exact products of a vector of `dimension` with 16 rows of f16.
pub fn dots(dimension: usize) -> impl FnMut() -> f32 {
    let kernel = Kernel::new(Sum::Dot, Fine::F16);
    let query: Vec<f32> = (0..dimension).map(|at| f32::from(byte(at)) - 128.0).collect();
    // No exponent of an f16 is full where the second byte is below 0x40.
    let rows: Vec<u8> = (0..16 * dimension * 2).map(|at| byte(at) & 0x3f).collect();
    let mut sums = [0.0; 16];
    move || {
        kernel.sums(&query, &rows, &mut sums);
        sums[0]
    }
}

/// A whole walk's use of a beam: 60 hops of 8 places each, half of them soon too bad to enter.
pub fn beam(width: usize) -> impl FnMut() -> u64 {
    let mut beam = Beam::default();
    let score = |hop: usize, at: usize| hop as f32 + f32::from(byte(hop * 8 + at));
    let hops: Vec<Vec<u64>> = (0..60)
        .map(|hop| (0..8).map(|at| key(score(hop, at), (hop * 8 + at) as u32)).collect())
        .collect();
    let mut fresh = Vec::new();
    move || {
        beam.begin(width);
        let mut places = 0;
        for hop in &hops {
            fresh.clear();
            fresh.extend_from_slice(hop);
            beam.merge(&mut fresh);
            places += u64::from(beam.pop().unwrap_or(0));
        }
        places
    }
}
