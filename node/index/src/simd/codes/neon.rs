//! The code kernel in NEON: 16 bytes of codes a load, widening products; the rest of a row goes to the scalar twin.

use std::arch::aarch64::*;

use super::{Bits, scalar};

/// Adds products of 16 codes below 128 with 16 components.
#[inline]
#[target_feature(enable = "neon")]
fn add_products(sums: int32x4_t, codes: uint8x16_t, query: int8x16_t) -> int32x4_t {
    let codes = vreinterpretq_s8_u8(codes);
    let low = vmull_s8(vget_low_s8(codes), vget_low_s8(query));
    let high = vmull_s8(vget_high_s8(codes), vget_high_s8(query));
    vpadalq_s16(vpadalq_s16(sums, low), high)
}

#[inline]
#[target_feature(enable = "neon")]
fn row_sum<const PLANES: usize>(query: &[i8], row: &[u8]) -> i32 {
    let (bits, width) = (8 / PLANES as u32, row.len());
    let mut sums = vdupq_n_s32(0);
    let mut highs = vdupq_n_s32(0);
    for at in (0..width).step_by(16) {
        // SAFETY: the caller sends rows of a multiple of 16 bytes, so 16 of them lie at `at`.
        let codes = unsafe { vld1q_u8(row.as_ptr().add(at)) };
        for plane in 0..PLANES {
            // SAFETY: a plane of the query has as many components as the row has bytes.
            let components = unsafe { vld1q_s8(query.as_ptr().add(plane * width + at)) };
            if PLANES == 1 {
                // The highest bit by itself: codes below 128 are signed bytes too.
                sums = add_products(sums, vandq_u8(codes, vdupq_n_u8(0x7f)), components);
                highs = add_products(highs, vshrq_n_u8::<7>(codes), components);
            } else {
                let shifted = vshlq_u8(codes, vdupq_n_s8(-((plane as u32 * bits) as i8)));
                let group = vandq_u8(shifted, vdupq_n_u8(((1u32 << bits) - 1) as u8));
                sums = add_products(sums, group, components);
            }
        }
    }
    vaddvq_s32(sums) + (vaddvq_s32(highs) << 7)
}

/// The machine must have NEON; `query` has `8 / bits * width` components, and each of `rows` is a row of `codes`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn gather(bits: Bits, query: &[i8], codes: &[u8], width: usize, rows: &[u32], sums: &mut [i32]) {
    for (row, sum) in rows.iter().zip(sums) {
        let row = &codes[*row as usize * width..][..width];
        *sum = match bits {
            _ if width % 16 != 0 => scalar::one(bits, query, row),
            Bits::One => row_sum::<8>(query, row),
            Bits::Two => row_sum::<4>(query, row),
            Bits::Four => row_sum::<2>(query, row),
            Bits::Eight => row_sum::<1>(query, row),
        };
    }
}
