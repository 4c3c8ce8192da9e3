//! The code kernel in AVX-512 VNNI: 64 bytes of codes a load, four rows at a time so that their sums overlap.

use std::arch::x86_64::*;

use super::Bits;

/// Groups of bits in a byte, each under its mask: the product with a masked byte is `1 << shift` times too large, which
/// the sum is divided by at the end, exactly.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn step<const PLANES: usize>(sums: &mut [__m512i; PLANES], codes: __m512i, query: &[__m512i; PLANES]) {
    let bits = 8 / PLANES as u32;
    for plane in 0..PLANES {
        let mask = ((1u32 << bits) - 1) << (plane as u32 * bits);
        let group = if PLANES == 1 {
            codes
        } else {
            _mm512_and_si512(codes, _mm512_set1_epi8(mask as i8))
        };
        sums[plane] = _mm512_dpbusd_epi32(sums[plane], group, query[plane]);
    }
}

/// Adds the planes' sums, each divided by what its place in the byte multiplied it by.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn joined<const PLANES: usize>(sums: &[__m512i; PLANES]) -> __m256i {
    let bits = 8 / PLANES as i32;
    let mut total = sums[0];
    for (plane, sum) in sums.iter().enumerate().skip(1) {
        let shift = _mm_cvtsi32_si128(plane as i32 * bits);
        total = _mm512_add_epi32(total, _mm512_sra_epi32(*sum, shift));
    }
    _mm256_add_epi32(_mm512_castsi512_si256(total), _mm512_extracti64x4_epi64::<1>(total))
}

/// Sums of `ROWS` rows, 1, 2 or 4 of them, in the low places. `LOADS` of 64 bytes a row where that is known, so that all
/// loops unroll; 0 where it is not.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn rows_sums<const PLANES: usize, const ROWS: usize, const LOADS: usize>(
    query: *const i8,
    rows: [*const u8; ROWS],
    width: usize,
) -> __m128i {
    let width = if LOADS == 0 { width } else { LOADS * 64 };
    let mut sums = [[_mm512_setzero_si512(); PLANES]; ROWS];
    for load in 0..width / 64 {
        let at = load * 64;
        let mut components = [_mm512_setzero_si512(); PLANES];
        for (plane, components) in components.iter_mut().enumerate() {
            // SAFETY: the caller has `PLANES * width` components; `at + 64 <= width`.
            *components = unsafe { _mm512_loadu_si512(query.add(plane * width + at).cast()) };
        }
        for row in 0..ROWS {
            // SAFETY: the caller has `width` bytes in each row; `at + 64 <= width`.
            let codes = unsafe { _mm512_loadu_si512(rows[row].add(at).cast()) };
            step(&mut sums[row], codes, &components);
        }
    }
    let at = width / 64 * 64;
    if at < width {
        let mask = (1u64 << (width - at)) - 1;
        let mut components = [_mm512_setzero_si512(); PLANES];
        for (plane, components) in components.iter_mut().enumerate() {
            // SAFETY: the mask ends at `width` of the plane.
            *components = unsafe { _mm512_maskz_loadu_epi8(mask, query.add(plane * width + at)) };
        }
        for row in 0..ROWS {
            // SAFETY: the mask ends at `width` of the row.
            let codes = unsafe { _mm512_maskz_loadu_epi8(mask, rows[row].add(at).cast()) };
            step(&mut sums[row], codes, &components);
        }
    }
    let zero = _mm256_setzero_si256();
    let mut halves = [zero; 4];
    for row in 0..ROWS {
        halves[row] = joined(&sums[row]);
    }
    let pairs = (
        _mm256_hadd_epi32(halves[0], halves[1]),
        _mm256_hadd_epi32(halves[2], halves[3]),
    );
    let quads = _mm256_hadd_epi32(pairs.0, pairs.1);
    _mm_add_epi32(_mm256_castsi256_si128(quads), _mm256_extracti128_si256::<1>(quads))
}

/// As many rows at once as leave their sums in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn all<const PLANES: usize, const ROWS: usize, const LOADS: usize>(
    query: &[i8],
    codes: &[u8],
    width: usize,
    rows: &[u32],
    sums: &mut [i32],
) {
    let start = |row: u32| codes.as_ptr().wrapping_add(row as usize * width);
    let groups = rows.chunks_exact(ROWS);
    let rest = groups.remainder();
    let whole = rows.len() - rest.len();
    for (group, sums) in groups.zip(sums[..whole].chunks_exact_mut(ROWS)) {
        let mut starts = [codes.as_ptr(); ROWS];
        for (start_at, row) in starts.iter_mut().zip(group) {
            *start_at = start(*row);
        }
        // SAFETY: the caller checked that query and rows have the lengths that `width` asks for.
        let found = unsafe { rows_sums::<PLANES, ROWS, LOADS>(query.as_ptr(), starts, width) };
        let mask = (1u8 << ROWS) - 1;
        // SAFETY: the mask has a bit for each of the `ROWS` places of `sums`.
        unsafe { _mm_mask_storeu_epi32(sums.as_mut_ptr(), mask, found) };
    }
    for (row, sum) in rest.iter().zip(&mut sums[whole..]) {
        // SAFETY: as above, one row.
        *sum = unsafe { _mm_cvtsi128_si32(rows_sums::<PLANES, 1, LOADS>(query.as_ptr(), [start(*row)], width)) };
    }
}

/// As [`all`], for rows of `LOADS` x 64 bytes: the query stays in registers from row to row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn all_short<const PLANES: usize, const LOADS: usize>(
    query: &[i8],
    codes: &[u8],
    rows: &[u32],
    sums: &mut [i32],
) {
    let width = LOADS * 64;
    let mut components = [[_mm512_setzero_si512(); PLANES]; LOADS];
    for (load, components) in components.iter_mut().enumerate() {
        for (plane, components) in components.iter_mut().enumerate() {
            // SAFETY: the caller has `PLANES * width` components.
            *components = unsafe { _mm512_loadu_si512(query.as_ptr().add(plane * width + load * 64).cast()) };
        }
    }
    let one = |row: u32| {
        let mut sums = [_mm512_setzero_si512(); PLANES];
        for (load, components) in components.iter().enumerate() {
            // SAFETY: the caller checked that `row` is a row of `codes`, `width` bytes long.
            let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().add(row as usize * width + load * 64).cast()) };
            step(&mut sums, codes, components);
        }
        joined(&sums)
    };
    let (groups, rest) = rows.as_chunks::<4>();
    let (places, rest_places) = sums.as_chunks_mut::<4>();
    for (group, places) in groups.iter().zip(places) {
        let pairs = (
            _mm256_hadd_epi32(one(group[0]), one(group[1])),
            _mm256_hadd_epi32(one(group[2]), one(group[3])),
        );
        let quads = _mm256_hadd_epi32(pairs.0, pairs.1);
        let quads = _mm_add_epi32(_mm256_castsi256_si128(quads), _mm256_extracti128_si256::<1>(quads));
        // SAFETY: four places of 32 bits.
        unsafe { _mm_storeu_si128(places.as_mut_ptr().cast(), quads) };
    }
    for (row, place) in rest.iter().zip(rest_places) {
        let halves = one(*row);
        let halves = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
        let pairs = _mm_hadd_epi32(halves, halves);
        *place = _mm_cvtsi128_si32(_mm_hadd_epi32(pairs, pairs));
    }
}

/// The machine must have AVX-512 F, BW, VL and VNNI; `query` has `8 / bits * width` components, and each of `rows` is a row
/// of `codes`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn gather(bits: Bits, query: &[i8], codes: &[u8], width: usize, rows: &[u32], sums: &mut [i32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match (bits, width) {
            (Bits::One, _) => all::<8, 2, 0>(query, codes, width, rows, sums),
            (Bits::Two, _) => all::<4, 4, 0>(query, codes, width, rows, sums),
            // 384, 512, 768, 1024 and 1536 dimensions: those of the models in use.
            (Bits::Four, 192) => all_short::<2, 3>(query, codes, rows, sums),
            (Bits::Four, 256) => all_short::<2, 4>(query, codes, rows, sums),
            (Bits::Four, 384) => all_short::<2, 6>(query, codes, rows, sums),
            (Bits::Four, 512) => all_short::<2, 8>(query, codes, rows, sums),
            (Bits::Four, 768) => all::<2, 4, 12>(query, codes, width, rows, sums),
            (Bits::Four, _) => all::<2, 4, 0>(query, codes, width, rows, sums),
            (Bits::Eight, 384) => all_short::<1, 6>(query, codes, rows, sums),
            (Bits::Eight, 512) => all_short::<1, 8>(query, codes, rows, sums),
            (Bits::Eight, 768) => all_short::<1, 12>(query, codes, rows, sums),
            (Bits::Eight, _) => all::<1, 4, 0>(query, codes, width, rows, sums),
        }
    }
}
