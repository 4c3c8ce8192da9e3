//! Kernels in AVX2 with FMA and F16C: 8 components an instruction, four sums side by side, because each addition waits four
//! cycles for the one before; the rest goes to the scalar twin.

use std::arch::x86_64::*;

use granum_model::Fine;

use super::{Sum, scalar};

/// Components of a register.
const LANES: usize = 8;
/// Sums that are under way at a time.
const SUMS: usize = 4;
const STEP: usize = LANES * SUMS;

macro_rules! kernel {
    ($name:ident, $load:ident, $bytes:literal, $step:ident, $rest:path, $rest_load:path) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(query: &[f32], row: &[u8], scale: f32) -> f32 {
            let scales = _mm256_set1_ps(scale);
            let whole = query.len() / STEP * STEP;
            let mut sums = [_mm256_setzero_ps(); SUMS];
            for at in (0..whole).step_by(STEP) {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let at = at + lane * LANES;
                    // SAFETY: components at..at + LANES lie within both slices, whose lengths agree.
                    let (left, right) = unsafe {
                        (
                            _mm256_loadu_ps(query.as_ptr().add(at)),
                            $load(row.as_ptr().add(at * $bytes), scales),
                        )
                    };
                    *sum = $step(*sum, left, right);
                }
            }
            let [first, second, third, fourth] = sums;
            let sum = _mm256_add_ps(_mm256_add_ps(first, second), _mm256_add_ps(third, fourth));
            total(sum) + $rest(&query[whole..], $rest_load(&row[whole * $bytes..], scale))
        }
    };
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn halves(from: *const u8, _: __m256) -> __m256 {
    // SAFETY: the caller has 8 f16 components at `from`.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn floats(from: *const u8, _: __m256) -> __m256 {
    // SAFETY: the caller has 8 f32 components at `from`.
    unsafe { _mm256_loadu_ps(from.cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bytes(from: *const u8, scales: __m256) -> __m256 {
    // SAFETY: the caller has 8 i8 numbers at `from`.
    let numbers = unsafe { _mm_loadl_epi64(from.cast()) };
    _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(numbers)), scales)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn product(sum: __m256, left: __m256, right: __m256) -> __m256 {
    _mm256_fmadd_ps(left, right, sum)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn square(sum: __m256, left: __m256, right: __m256) -> __m256 {
    let difference = _mm256_sub_ps(left, right);
    _mm256_fmadd_ps(difference, difference, sum)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn absolute(sum: __m256, left: __m256, right: __m256) -> __m256 {
    let sign = _mm256_set1_ps(-0.0);
    _mm256_add_ps(sum, _mm256_andnot_ps(sign, _mm256_sub_ps(left, right)))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn total(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

kernel!(dot_halves, halves, 2, product, scalar::dot, scalar::widen);
kernel!(dot_floats, floats, 4, product, scalar::dot, scalar::floats);
kernel!(dot_bytes, bytes, 1, product, scalar::dot, scalar::scaled);
kernel!(squares_halves, halves, 2, square, scalar::squares, scalar::widen);
kernel!(squares_floats, floats, 4, square, scalar::squares, scalar::floats);
kernel!(squares_bytes, bytes, 1, square, scalar::squares, scalar::scaled);
kernel!(absolutes_halves, halves, 2, absolute, scalar::absolutes, scalar::widen);
kernel!(absolutes_floats, floats, 4, absolute, scalar::absolutes, scalar::floats);
kernel!(absolutes_bytes, bytes, 1, absolute, scalar::absolutes, scalar::scaled);

/// The machine must have AVX2, FMA and F16C; `row` must have as many components as `query`, each `scale` of its number.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum(sum: Sum, fine: Fine, query: &[f32], row: &[u8], scale: f32) -> f32 {
    by_kind!(sum, fine, (query, row, scale))
}
