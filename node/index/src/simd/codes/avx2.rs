//! The code kernel in AVX2: 32 bytes of codes a load, products by MADDUBS; the rest of a row goes to the scalar twin.

use std::arch::x86_64::*;

use super::{Bits, scalar};

/// Products of 32 unsigned bytes with 32 signed ones, added in fours. `codes` are below 128, so that a pair of products
/// (at most 2 x 127 x 127) fits in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn products(codes: __m256i, query: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(codes, query), _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn total(sums: __m256i) -> i32 {
    let halves = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
    _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b10_11_00_01>(pairs)))
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn row_sum<const PLANES: usize>(query: &[i8], row: &[u8]) -> i32 {
    let (bits, width) = (8 / PLANES as u32, row.len());
    let whole = width / 32 * 32;
    let mut sums = _mm256_setzero_si256();
    for at in (0..whole).step_by(32) {
        // SAFETY: `at + 32 <= width`, the length of the row.
        let codes = unsafe { _mm256_loadu_si256(row.as_ptr().add(at).cast()) };
        for plane in 0..PLANES {
            // SAFETY: a plane of the query has `width` components.
            let components = unsafe { _mm256_loadu_si256(query.as_ptr().add(plane * width + at).cast()) };
            if PLANES == 1 {
                // The highest bit by itself, so that no pair of products leaves 16 bits.
                let low = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
                let high = _mm256_and_si256(_mm256_srli_epi16::<7>(codes), _mm256_set1_epi8(1));
                sums = _mm256_add_epi32(sums, products(low, components));
                sums = _mm256_add_epi32(sums, _mm256_slli_epi32::<7>(products(high, components)));
            } else {
                let shift = _mm_cvtsi32_si128((plane as u32 * bits) as i32);
                let mask = _mm256_set1_epi8(((1u32 << bits) - 1) as i8);
                let group = _mm256_and_si256(_mm256_srl_epi16(codes, shift), mask);
                sums = _mm256_add_epi32(sums, products(group, components));
            }
        }
    }
    let mut sum = total(sums);
    if whole < width {
        for plane in 0..PLANES {
            let components = &query[plane * width + whole..(plane + 1) * width];
            for (byte, component) in row[whole..].iter().zip(components) {
                let code = (u32::from(*byte) >> (plane as u32 * bits)) & ((1 << bits) - 1);
                sum += code as i32 * i32::from(*component);
            }
        }
    }
    sum
}

/// The machine must have AVX2; `query` has `8 / bits * width` components, and each of `rows` is a row of `codes`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn gather(bits: Bits, query: &[i8], codes: &[u8], width: usize, rows: &[u32], sums: &mut [i32]) {
    for (row, sum) in rows.iter().zip(sums) {
        let row = &codes[*row as usize * width..][..width];
        // SAFETY: `row_sum` reads the row and as many components of each plane as the row has bytes.
        *sum = unsafe {
            match bits {
                Bits::One if width < 32 => scalar::one(bits, query, row),
                Bits::One => row_sum::<8>(query, row),
                Bits::Two => row_sum::<4>(query, row),
                Bits::Four => row_sum::<2>(query, row),
                Bits::Eight => row_sum::<1>(query, row),
            }
        };
    }
}
