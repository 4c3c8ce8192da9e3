//! Kernels in AVX-512F: 16 components a step, four accumulators, the rest under a mask.

use std::arch::x86_64::*;

use granum_model::Fine;

use super::Sum;

macro_rules! kernel {
    ($name:ident, $load:ident, $bytes:literal, $step:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn $name(query: &[f32], row: &[u8], scale: f32) -> f32 {
            let scales = _mm512_set1_ps(scale);
            let length = query.len();
            let mut sums = [_mm512_setzero_ps(); 4];
            let mut at = 0;
            while at + 64 <= length {
                for (part, sum) in sums.iter_mut().enumerate() {
                    let from = at + part * 16;
                    // SAFETY: components at..at + 64 lie within both slices, whose lengths agree.
                    let (left, right) = unsafe {
                        (
                            _mm512_loadu_ps(query.as_ptr().add(from)),
                            $load(row.as_ptr().add(from * $bytes), !0, scales),
                        )
                    };
                    *sum = $step(*sum, left, right);
                }
                at += 64;
            }
            while at < length {
                let mask = (1u32 << (length - at).min(16)).wrapping_sub(1) as u16;
                // SAFETY: masked loads touch the components below `length` only.
                let (left, right) = unsafe {
                    (
                        _mm512_maskz_loadu_ps(mask, query.as_ptr().add(at)),
                        $load(row.as_ptr().add(at * $bytes), mask, scales),
                    )
                };
                sums[0] = $step(sums[0], left, right);
                at += 16;
            }
            let (left, right) = (_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
            _mm512_reduce_add_ps(_mm512_add_ps(left, right))
        }
    };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn halves(from: *const u8, mask: __mmask16, _: __m512) -> __m512 {
    // SAFETY: the caller has as many f16 components at `from` as the mask has bits.
    _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn floats(from: *const u8, mask: __mmask16, _: __m512) -> __m512 {
    // SAFETY: the caller has as many f32 components at `from` as the mask has bits.
    unsafe { _mm512_maskz_loadu_ps(mask, from.cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn bytes(from: *const u8, mask: __mmask16, scales: __m512) -> __m512 {
    // SAFETY: the caller has as many i8 numbers at `from` as the mask has bits.
    let numbers = unsafe { _mm_maskz_loadu_epi8(mask, from.cast()) };
    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(numbers)), scales)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn product(sum: __m512, left: __m512, right: __m512) -> __m512 {
    _mm512_fmadd_ps(left, right, sum)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn square(sum: __m512, left: __m512, right: __m512) -> __m512 {
    let difference = _mm512_sub_ps(left, right);
    _mm512_fmadd_ps(difference, difference, sum)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn absolute(sum: __m512, left: __m512, right: __m512) -> __m512 {
    _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(left, right)))
}

kernel!(dot_halves, halves, 2, product);
kernel!(dot_floats, floats, 4, product);
kernel!(dot_bytes, bytes, 1, product);
kernel!(squares_halves, halves, 2, square);
kernel!(squares_floats, floats, 4, square);
kernel!(squares_bytes, bytes, 1, square);
kernel!(absolutes_halves, halves, 2, absolute);
kernel!(absolutes_floats, floats, 4, absolute);
kernel!(absolutes_bytes, bytes, 1, absolute);

/// The machine must have AVX-512 F, BW and VL; `row` must have as many components as `query`, each `scale` of its number.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn sum(sum: Sum, fine: Fine, query: &[f32], row: &[u8], scale: f32) -> f32 {
    by_kind!(sum, fine, (query, row, scale))
}
