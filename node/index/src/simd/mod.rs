//! Sums over the components of a query and a row: dot product, squared and absolute differences. Which instructions?
//!
//! One run-time dispatch ([`Kernel`]) over AVX-512, AVX2 with F16C, NEON and [`scalar`], which is the oracle of the others
//! (property test over all lengths below). Rows are little-endian bytes as they lie in a file, at any alignment: components
//! in f16 or f32, or a scale (f32) and i8 numbers; the query is f32; sums are f32. An i8 row has the sums of the f32 row that it
//! stands for, bit for bit. `unsafe` lives in this folder and in `fine/io` only.
#![allow(unsafe_code, reason = "intrinsics; each block says why it is sound")]

/// Calls the caller's kernel of a sum over rows of a format.
macro_rules! by_kind {
    ($sum:expr, $fine:expr, $arguments:tt) => {
        match ($sum, $fine) {
            (Sum::Dot, Fine::F16) => dot_halves $arguments,
            (Sum::Dot, Fine::F32) => dot_floats $arguments,
            (Sum::Dot, Fine::I8) => dot_bytes $arguments,
            (Sum::Squares, Fine::F16) => squares_halves $arguments,
            (Sum::Squares, Fine::F32) => squares_floats $arguments,
            (Sum::Squares, Fine::I8) => squares_bytes $arguments,
            (Sum::Absolutes, Fine::F16) => absolutes_halves $arguments,
            (Sum::Absolutes, Fine::F32) => absolutes_floats $arguments,
            (Sum::Absolutes, Fine::I8) => absolutes_bytes $arguments,
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod codes;
mod hadamard;
mod hop;
mod key;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod scalar;

use std::borrow::Cow;

pub(crate) use codes::{prefetch, prefetch_rows, prefetch_words};
use granum_model::{Dense, Fine, scaled};
pub(crate) use hadamard::hadamard;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
pub(crate) use hop::{BEYOND, Beside, Terms, divide, rank, select, sift, sift_passing};
pub(crate) use key::{PLACES_MAX, key, of_key};
pub(crate) use plain::{round_to_bytes, scale, squares_and_largest, to_grid, turn};

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// Products.
    Dot,
    /// Squared differences.
    Squares,
    /// Absolute differences.
    Absolutes,
}

/// Which instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

/// A sum over rows of one format, by the best instructions of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    sum: Sum,
    fine: Fine,
    isa: Isa,
}

impl Kernel {
    pub fn new(sum: Sum, fine: Fine) -> Kernel {
        Kernel { sum, fine, isa: best() }
    }

    /// The rows' format.
    pub fn fine(&self) -> Fine {
        self.fine
    }

    /// The same sum over rows of another format.
    pub fn over(self, fine: Fine) -> Kernel {
        Kernel { fine, ..self }
    }

    /// Sums of `query` with each of the rows that lie end to end in `rows`; `out` has one place a row.
    pub fn sums(&self, query: &[f32], rows: &[u8], out: &mut [f32]) {
        let row_bytes = row_bytes(self.fine, query.len());
        assert_eq!(rows.len(), row_bytes * out.len(), "rows and places differ");
        for (row, sum) in rows.chunks_exact(row_bytes.max(1)).zip(out) {
            *sum = self.sum(query, row);
        }
    }

    /// Sum of `query` with one row of as many components.
    #[inline]
    pub fn sum(&self, query: &[f32], row: &[u8]) -> f32 {
        assert_eq!(
            row.len(),
            row_bytes(self.fine, query.len()),
            "query and row differ in length"
        );
        let (scale, row) = match self.fine {
            Fine::I8 => split_scale(row),
            Fine::F16 | Fine::F32 => (1.0, row),
        };
        match self.isa {
            // SAFETY: `best` chose this set because the machine has it; the kernels read exactly the two slices, whose
            // lengths were just compared.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::sum(self.sum, self.fine, query, row, scale) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::sum(self.sum, self.fine, query, row, scale) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { neon::sum(self.sum, self.fine, query, row, scale) },
            Isa::Scalar => match (self.sum, self.fine) {
                (Sum::Dot, Fine::F16) => scalar::dot(query, scalar::widen(row, scale)),
                (Sum::Dot, Fine::F32) => scalar::dot(query, scalar::floats(row, scale)),
                (Sum::Dot, Fine::I8) => scalar::dot(query, scalar::scaled(row, scale)),
                (Sum::Squares, Fine::F16) => scalar::squares(query, scalar::widen(row, scale)),
                (Sum::Squares, Fine::F32) => scalar::squares(query, scalar::floats(row, scale)),
                (Sum::Squares, Fine::I8) => scalar::squares(query, scalar::scaled(row, scale)),
                (Sum::Absolutes, Fine::F16) => scalar::absolutes(query, scalar::widen(row, scale)),
                (Sum::Absolutes, Fine::F32) => scalar::absolutes(query, scalar::floats(row, scale)),
                (Sum::Absolutes, Fine::I8) => scalar::absolutes(query, scalar::scaled(row, scale)),
            },
        }
    }
}

/// The inner product of two vectors of equal length.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    Kernel::new(Sum::Dot, Fine::F32).sum(left, bytes_of_floats(right))
}

/// Bytes of a row's scale, before its numbers.
const SCALE_BYTES: usize = 4;

/// Bytes of a row on disk; 0 where it has no components.
pub(crate) fn row_bytes(fine: Fine, components: usize) -> usize {
    match fine {
        Fine::F16 => 2 * components,
        Fine::F32 => 4 * components,
        Fine::I8 if components == 0 => 0,
        Fine::I8 => SCALE_BYTES + components,
    }
}

/// The scale of an i8 row, and its numbers. An empty row has neither.
fn split_scale(row: &[u8]) -> (f32, &[u8]) {
    match row.split_first_chunk() {
        Some((scale, numbers)) => (f32::from_le_bytes(*scale), numbers),
        None => (0.0, row),
    }
}

/// Rows in memory as they lie on disk: of `components` each, canonical for `fine`.
pub(crate) fn stored(dense: &Dense, fine: Fine, components: usize) -> Cow<'_, [u8]> {
    match (dense, fine) {
        (Dense::F32(values), Fine::I8) => {
            let mut bytes = Vec::with_capacity(values.len() / components * row_bytes(fine, components));
            for row in values.chunks_exact(components) {
                let scale = scaled::scale(row);
                bytes.extend_from_slice(&scale.to_le_bytes());
                bytes.extend(scaled::numbers(row, scale).map(i8::cast_unsigned));
            }
            Cow::Owned(bytes)
        }
        _ => Cow::Borrowed(bytes_of(dense)),
    }
}

/// The little-endian bytes of components, as they lie in memory.
pub(crate) fn bytes_of(dense: &Dense) -> &[u8] {
    match dense {
        // SAFETY: any initialised u16 is two bytes, u8 has no alignment, and the slice borrows `dense`.
        Dense::F16(bits) => unsafe { std::slice::from_raw_parts(bits.as_ptr().cast(), bits.len() * 2) },
        Dense::F32(values) => bytes_of_floats(values),
    }
}

/// The little-endian bytes of f32 components.
pub(crate) fn bytes_of_floats(values: &[f32]) -> &[u8] {
    // SAFETY: any initialised f32 is four bytes, u8 has no alignment, and the slice borrows `values`.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len() * 4) }
}

/// Little-endian u32s where they lie: `bytes` begin on a boundary of four, as sections of mapped files do.
pub(crate) fn words(bytes: &[u8]) -> &[u32] {
    // SAFETY: any four bytes are a u32; the crate builds for little-endian machines only.
    let (before, words, after) = unsafe { bytes.align_to::<u32>() };
    assert!(before.is_empty() && after.is_empty(), "not a table of u32");
    words
}

/// Little-endian f32s where they lie: `bytes` begin on a boundary of four, as sections of mapped files do.
pub(crate) fn numbers(bytes: &[u8]) -> &[f32] {
    // SAFETY: any four bytes are an f32; the crate builds for little-endian machines only.
    let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty() && after.is_empty(), "not a table of f32");
    numbers
}

/// Rows on disk, of `components` each, as they are in memory.
pub(crate) fn loaded(bytes: &[u8], fine: Fine, components: usize) -> Dense {
    match fine {
        Fine::I8 => {
            let rows = bytes.chunks_exact(row_bytes(fine, components).max(1)).map(split_scale);
            Dense::F32(
                rows.flat_map(|(scale, numbers)| scalar::scaled(numbers, scale))
                    .collect(),
            )
        }
        Fine::F16 => Dense::F16(
            bytes
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect(),
        ),
        Fine::F32 => Dense::F32(floats(bytes)),
    }
}

/// f32s out of little-endian bytes.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    scalar::floats(bytes, 1.0).collect()
}

/// Components as f32, which holds every f16 exactly.
pub(crate) fn widened(dense: &Dense) -> Vec<f32> {
    match dense {
        Dense::F16(bits) => {
            let mut values = vec![0.0; bits.len()];
            bits.reinterpret_cast::<f16>().convert_to_f32_slice(&mut values);
            values
        }
        Dense::F32(values) => values.clone(),
    }
}

fn best() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        let wide = [
            std::arch::is_x86_feature_detected!("avx512f"),
            std::arch::is_x86_feature_detected!("avx512bw"),
            std::arch::is_x86_feature_detected!("avx512vl"),
        ];
        if wide == [true; 3] {
            return Isa::Avx512;
        }
        let has = [
            std::arch::is_x86_feature_detected!("avx2"),
            std::arch::is_x86_feature_detected!("fma"),
            std::arch::is_x86_feature_detected!("f16c"),
        ];
        if has == [true; 3] {
            return Isa::Avx2;
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return Isa::Neon;
    }
    Isa::Scalar
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn isas() -> Vec<Isa> {
        #[cfg(target_arch = "x86_64")]
        if best() == Isa::Avx512 {
            return vec![Isa::Scalar, Isa::Avx512, Isa::Avx2];
        }
        vec![Isa::Scalar, best()]
    }

    fn check(query: &[f32], row: &[f32]) {
        let halves: Vec<u16> = row.iter().map(|value| f16::from_f32(*value).to_bits()).collect();
        let mut rounded = row.to_vec();
        scaled::round(&mut rounded, false);
        for (dense, fine) in [
            (Dense::F16(halves), Fine::F16),
            (Dense::F32(row.to_vec()), Fine::F32),
            (Dense::F32(rounded), Fine::I8),
        ] {
            let stored = stored(&dense, fine, row.len().max(1));
            assert_eq!(loaded(&stored, fine, row.len().max(1)), dense);
            let exact: Vec<f64> = widened(&dense).iter().map(|value| f64::from(*value)).collect();
            for sum in [Sum::Dot, Sum::Squares, Sum::Absolutes] {
                let terms = query.iter().zip(&exact).map(|(left, right)| (f64::from(*left), *right));
                let terms: Vec<f64> = match sum {
                    Sum::Dot => terms.map(|(left, right)| left * right).collect(),
                    Sum::Squares => terms.map(|(left, right)| (left - right) * (left - right)).collect(),
                    Sum::Absolutes => terms.map(|(left, right)| (left - right).abs()).collect(),
                };
                let (expected, size): (f64, f64) = (terms.iter().sum(), terms.iter().map(|term| term.abs()).sum());
                for isa in isas() {
                    let kernel = Kernel { sum, fine, isa };
                    let found = kernel.sum(query, &stored);
                    let in_memory = kernel.over(fine.in_memory()).sum(query, bytes_of(&dense));
                    assert_eq!(found.to_bits(), in_memory.to_bits(), "{isa:?} {sum:?} {fine:?}");
                    let error = (f64::from(found) - expected).abs();
                    assert!(
                        error <= 1e-5 * size + 1e-6,
                        "{isa:?} {sum:?} {fine:?}: {found}, expected {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn all_lengths_agree_with_double_precision() {
        for length in (0..130).chain([383, 384, 768, 1023, 8192]) {
            let value = |at: usize| ((at * 7919 + length) % 1009) as f32 / 504.0 - 1.0;
            let query: Vec<f32> = (0..length).map(|at| value(at + 31)).collect();
            let row: Vec<f32> = (0..length).map(value).collect();
            check(&query, &row);
        }
    }

    #[test]
    fn every_finite_half_is_widened_exactly() {
        let finite: Vec<u16> = (0..=u16::MAX)
            .filter(|bits| f16::from_bits(*bits).is_finite())
            .collect();
        for bits in finite.chunks(97) {
            let dense = Dense::F16(bits.to_vec());
            for isa in isas() {
                for (at, bits) in bits.iter().enumerate() {
                    let mut query = vec![0.0; dense.len()];
                    query[at] = 1.0;
                    let found = Kernel {
                        sum: Sum::Dot,
                        fine: Fine::F16,
                        isa,
                    }
                    .sum(&query, bytes_of(&dense));
                    assert_eq!(found, f16::from_bits(*bits).to_f32(), "{isa:?} {bits:#06x}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn kernels_agree(pairs in prop::collection::vec((-4.0f32..4.0, -4.0f32..4.0), 0..200)) {
            let (query, row): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            check(&query, &row);
        }
    }
}
