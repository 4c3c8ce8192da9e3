//! The code kernel in AVX2: 32 bytes of codes a load, products by MADDUBS, added in 16 bits for as long as they fit.

use std::arch::x86_64::*;

use super::Bits;

/// Bytes of codes a load.
const LOAD: usize = 32;
/// A pair of products of a component with a code of 1.
const LARGEST_PAIR: usize = 2 * 127;

/// Bytes of codes whose products, pairs from all `planes` on top of each other, stay within 16 bits.
const fn run_bytes(planes: usize, largest_code: usize) -> usize {
    let loads = i16::MAX as usize / (LARGEST_PAIR * largest_code * planes);
    assert!(loads > 0, "one load's products leave 16 bits");
    LOAD * loads
}

#[inline]
#[target_feature(enable = "avx2")]
fn total(sums: __m256i) -> i32 {
    let halves = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
    _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b10_11_00_01>(pairs)))
}

/// Pairs in 16 bits to sums in 32.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(pairs: __m256i) -> __m256i {
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// `count` bytes, 8, 16, 24 or 32 of them, then zeros.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const u8, count: usize) -> __m256i {
    debug_assert!(matches!(count, 8 | 16 | 24 | LOAD), "{count} bytes");
    // SAFETY: the caller has `count` bytes at `from`.
    unsafe {
        match count {
            LOAD => _mm256_loadu_si256(from.cast()),
            24 => _mm256_set_m128i(_mm_loadl_epi64(from.add(16).cast()), _mm_loadu_si128(from.cast())),
            16 => _mm256_zextsi128_si256(_mm_loadu_si128(from.cast())),
            _ => _mm256_zextsi128_si256(_mm_loadl_epi64(from.cast())),
        }
    }
}

/// Pairs of products of up to 32 bytes of codes, at `at`, with the components they belong to, all planes added.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn products<const PLANES: usize>(query: &[i8], row: &[u8], at: usize, count: usize) -> __m256i {
    let (bits, width) = (8 / PLANES, row.len());
    let mask = _mm256_set1_epi8(((1u32 << bits) - 1) as i8);
    // SAFETY: `at + count` is at most the width of the row and of each plane of the query.
    let codes = unsafe { load(row.as_ptr().add(at), count) };
    let mut pairs = _mm256_setzero_si256();
    for plane in 0..PLANES {
        // SAFETY: as above.
        let components = unsafe { load(query.as_ptr().add(plane * width + at).cast(), count) };
        let shift = _mm_cvtsi32_si128((plane * bits) as i32);
        let group = _mm256_and_si256(_mm256_srl_epi16(codes, shift), mask);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(group, components));
    }
    pairs
}

/// Sum of a row of 1, 2 or 4 bits.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn row_sum<const PLANES: usize>(query: &[i8], row: &[u8]) -> i32 {
    let whole = row.len() / LOAD * LOAD;
    let mut sums = _mm256_setzero_si256();
    let mut at = 0;
    while at < whole {
        let end = whole.min(at + const { run_bytes(PLANES, (1 << (8 / PLANES)) - 1) });
        let mut pairs = _mm256_setzero_si256();
        while at < end {
            // SAFETY: `at + LOAD` is at most `whole`.
            pairs = _mm256_add_epi16(pairs, unsafe { products::<PLANES>(query, row, at, LOAD) });
            at += LOAD;
        }
        sums = _mm256_add_epi32(sums, widened(pairs));
    }
    if whole < row.len() {
        // SAFETY: the row and each plane of the query end there; a width is a multiple of 8.
        let pairs = unsafe { products::<PLANES>(query, row, whole, row.len() - whole) };
        sums = _mm256_add_epi32(sums, widened(pairs));
    }
    total(sums)
}

/// Sum of a row of 8 bits: the highest by itself, because a pair of products with the whole byte leaves 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn row_sum_of_bytes(query: &[i8], row: &[u8]) -> i32 {
    const HIGHEST: i32 = 7;
    /// For the highest bits, whose pairs are added in 16 bits.
    const RUN: usize = run_bytes(1, 1);
    let (mut low_sums, mut high_sums) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for run in (0..row.len()).step_by(RUN) {
        let end = row.len().min(run + RUN);
        let mut high_pairs = _mm256_setzero_si256();
        for at in (run..end).step_by(LOAD) {
            // SAFETY: a row of 8 bits is a multiple of 64 bytes wide, and the query as long.
            let (codes, components) = unsafe {
                (
                    load(row.as_ptr().add(at), LOAD),
                    load(query.as_ptr().add(at).cast(), LOAD),
                )
            };
            let low = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
            let high = _mm256_and_si256(_mm256_srli_epi16::<HIGHEST>(codes), _mm256_set1_epi8(1));
            low_sums = _mm256_add_epi32(low_sums, widened(_mm256_maddubs_epi16(low, components)));
            high_pairs = _mm256_add_epi16(high_pairs, _mm256_maddubs_epi16(high, components));
        }
        high_sums = _mm256_add_epi32(high_sums, widened(high_pairs));
    }
    total(_mm256_add_epi32(low_sums, _mm256_slli_epi32::<HIGHEST>(high_sums)))
}

/// The machine must have AVX2; `query` has `8 / bits * width` components, and each of `rows` is a row of `codes`. A width is a
/// multiple of 8 bytes, at 8 bits of 64.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn gather(bits: Bits, query: &[i8], codes: &[u8], width: usize, rows: &[u32], sums: &mut [i32]) {
    for (row, sum) in rows.iter().zip(sums) {
        let row = &codes[*row as usize * width..][..width];
        // SAFETY: these read the row and as many components of each plane as the row has bytes.
        *sum = unsafe {
            match bits {
                Bits::One => row_sum::<8>(query, row),
                Bits::Two => row_sum::<4>(query, row),
                Bits::Four => row_sum::<2>(query, row),
                Bits::Eight => row_sum_of_bytes(query, row),
            }
        };
    }
}
