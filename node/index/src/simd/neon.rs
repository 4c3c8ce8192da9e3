//! Kernels in NEON: 8 components a step, two accumulators; the rest goes to the scalar twin.
//!
//! Half precision is widened by integer steps (shift exponent and mantissa into place, multiply by 2^112), which is exact
//! for every finite f16, subnormal ones included, and needs no f16 instructions.

use std::arch::aarch64::*;

use granum_model::Fine;

use super::{Sum, scalar};

macro_rules! kernel {
    ($name:ident, $load:ident, $bytes:literal, $step:ident, $rest:path, $rest_load:path) => {
        #[target_feature(enable = "neon")]
        fn $name(query: &[f32], row: &[u8], scale: f32) -> f32 {
            let whole = query.len() / 8 * 8;
            let (mut even, mut odd) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
            for at in (0..whole).step_by(8) {
                // SAFETY: components at..at + 8 lie within both slices, whose lengths agree.
                let (low, high, right) = unsafe {
                    let from = query.as_ptr().add(at);
                    (
                        vld1q_f32(from),
                        vld1q_f32(from.add(4)),
                        $load(row.as_ptr().add(at * $bytes), scale),
                    )
                };
                even = $step(even, low, right.0);
                odd = $step(odd, high, right.1);
            }
            vaddvq_f32(vaddq_f32(even, odd)) + $rest(&query[whole..], $rest_load(&row[whole * $bytes..], scale))
        }
    };
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn halves(from: *const u8, _: f32) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller has 8 f16 components at `from`.
    let bits = vreinterpretq_u16_u8(unsafe { vld1q_u8(from) });
    (widen(vget_low_u16(bits)), widen(vget_high_u16(bits)))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen(bits: uint16x4_t) -> float32x4_t {
    /// 2^112: the difference of the exponents' biases, 127 - 15.
    const BIAS: f32 = f32::from_bits((112 + 127) << 23);
    let bits = vmovl_u16(bits);
    let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
    let scaled = vmulq_n_f32(vreinterpretq_f32_u32(magnitude), BIAS);
    let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
    vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(scaled), sign))
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn floats(from: *const u8, _: f32) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller has 8 f32 components, 32 bytes, at `from`; byte loads need no alignment.
    let (low, high) = unsafe { (vld1q_u8(from), vld1q_u8(from.add(16))) };
    (vreinterpretq_f32_u8(low), vreinterpretq_f32_u8(high))
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn bytes(from: *const u8, scale: f32) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller has 8 i8 numbers at `from`.
    let numbers = vmovl_s8(unsafe { vld1_s8(from.cast()) });
    let (low, high) = (vmovl_s16(vget_low_s16(numbers)), vmovl_s16(vget_high_s16(numbers)));
    (
        vmulq_n_f32(vcvtq_f32_s32(low), scale),
        vmulq_n_f32(vcvtq_f32_s32(high), scale),
    )
}

#[inline]
#[target_feature(enable = "neon")]
fn product(sum: float32x4_t, left: float32x4_t, right: float32x4_t) -> float32x4_t {
    vfmaq_f32(sum, left, right)
}

#[inline]
#[target_feature(enable = "neon")]
fn square(sum: float32x4_t, left: float32x4_t, right: float32x4_t) -> float32x4_t {
    let difference = vsubq_f32(left, right);
    vfmaq_f32(sum, difference, difference)
}

#[inline]
#[target_feature(enable = "neon")]
fn absolute(sum: float32x4_t, left: float32x4_t, right: float32x4_t) -> float32x4_t {
    vaddq_f32(sum, vabdq_f32(left, right))
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

/// The machine must have NEON; `row` must have as many components as `query`, each `scale` of its number.
#[target_feature(enable = "neon")]
pub(super) fn sum(sum: Sum, fine: Fine, query: &[f32], row: &[u8], scale: f32) -> f32 {
    by_kind!(sum, fine, (query, row, scale))
}
