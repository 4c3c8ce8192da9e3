//! The loops of a hop in AVX-512: sixteen links or rows at a time, and no branch that depends on what they are.
//!
//! What is new or good is pressed together in a register and stored whole, so vectors have room for sixteen more than they hold
//! in the end. (Storing it straight to memory is microcode on Zen 4.)

use std::arch::x86_64::*;

use super::{Beside, Terms};

const LANES: usize = 16;

/// The lanes that the next items of a slice fill.
#[inline]
fn lanes(left: usize) -> __mmask16 {
    if left < LANES { (1 << left) - 1 } else { __mmask16::MAX }
}

/// The first items of a slice, a lane each; 0 where there are none.
#[inline]
#[target_feature(enable = "avx512f")]
fn words(from: &[u32]) -> __m512i {
    // SAFETY: the mask has a lane for each item there is, at most.
    unsafe { _mm512_maskz_loadu_epi32(lanes(from.len()), from.as_ptr().cast()) }
}

/// As [`super::sift`].
#[target_feature(enable = "avx512f,popcnt")]
pub(super) fn sift(links: &[u32], seen: &mut [u8], mark: u8, out: &mut Vec<u32>) {
    let places = super::places_of(seen);
    assert!(i32::try_from(places).is_ok(), "{places} places are too many");
    let (none, marks) = (_mm512_set1_epi32(places as i32), _mm512_set1_epi32(mark.into()));
    let mut end = out.len();
    out.reserve(links.len() + LANES);
    for links in links.chunks(LANES) {
        // What leads nowhere, and lanes without a link, are the place that stands for none.
        let (mask, all) = (lanes(links.len()), words(links));
        let there = _mm512_mask_cmplt_epu32_mask(mask, all, none);
        let all = _mm512_mask_mov_epi32(none, there, all);
        // SAFETY: each lane is at most `places`, and four bytes from there on are the last of `seen`.
        let bytes = unsafe { _mm512_i32gather_epi32::<1>(all, seen.as_ptr().cast()) };
        let marked = _mm512_and_si512(bytes, _mm512_set1_epi32(0xff));
        let new = _mm512_mask_cmpneq_epi32_mask(there, marked, marks);
        let mut each = [0u32; LANES];
        // SAFETY: sixteen words.
        unsafe { _mm512_storeu_si512(each.as_mut_ptr().cast(), all) };
        for place in each {
            // SAFETY: as above.
            unsafe { *seen.get_unchecked_mut(place as usize) = mark };
        }
        // SAFETY: of this and what follows no more is new than there are links, and `LANES` more are reserved.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(end).cast(), _mm512_maskz_compress_epi32(new, all)) };
        end += new.count_ones() as usize;
    }
    // SAFETY: so many were written.
    unsafe { out.set_len(end) };
}

/// As [`super::rank`].
#[target_feature(enable = "avx512f,popcnt")]
pub(super) fn rank(sums: &[i32], rows: &[u32], terms: Terms<'_>, worst: f32, out: &mut Vec<u64>) {
    match terms.beside {
        Beside::Nothing => rank_each::<1, 4>(sums, rows, terms, worst, out, |score, _| score),
        Beside::Norm => rank_each::<2, 8>(sums, rows, terms, worst, out, |score, norm| {
            _mm512_sub_ps(score, _mm512_mul_ps(norm, norm))
        }),
        Beside::Offset => rank_each::<2, 8>(sums, rows, terms, worst, out, |score, offset| {
            _mm512_add_ps(score, offset)
        }),
    }
}

/// As [`super::rank_each`], of `TERMS` numbers a row, which are `BYTES` bytes; a row's last one is given to `score`.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
fn rank_each<const TERMS: usize, const BYTES: i32>(
    sums: &[i32],
    rows: &[u32],
    terms: Terms<'_>,
    worst: f32,
    out: &mut Vec<u64>,
    score: impl Fn(__m512, __m512) -> __m512,
) {
    const { assert!(TERMS * size_of::<f32>() == BYTES as usize) };
    assert_eq!(sums.len(), rows.len(), "sums and rows differ in number");
    let count = terms.rows::<TERMS>();
    // A row's number is signed where its terms are gathered.
    let most = _mm512_set1_epi32(count.min(i32::MAX as usize) as i32);
    let (constant, step, shift) = terms.line;
    let (constant, step, shift) = (_mm512_set1_ps(constant), _mm512_set1_ps(step), _mm512_set1_ps(shift));
    let start = terms.table.as_ptr();
    let mut best = Best::new(rows.len(), worst, out);
    for (sums, rows) in sums.chunks(LANES).zip(rows.chunks(LANES)) {
        let (mask, rows) = (lanes(rows.len()), words(rows));
        let beyond = _mm512_mask_cmpge_epu32_mask(mask, rows, most);
        assert!(beyond == 0, "a row beyond the {count} of the table");
        // SAFETY: each row of the mask has a sum and terms; the others are row 0, which is there if any is.
        let (sum, scale, last) = unsafe {
            (
                _mm512_maskz_loadu_epi32(mask, sums.as_ptr()),
                _mm512_i32gather_ps::<BYTES>(rows, start.cast()),
                _mm512_i32gather_ps::<BYTES>(rows, start.add(TERMS - 1).cast()),
            )
        };
        let by_code = _mm512_mul_ps(
            scale,
            _mm512_add_ps(_mm512_mul_ps(step, _mm512_cvtepi32_ps(sum)), shift),
        );
        best.take(mask, score(_mm512_add_ps(constant, by_code), last), rows);
    }
    best.finish();
}

/// As [`super::select`].
#[target_feature(enable = "avx512f,popcnt")]
pub(super) fn select(scores: &[f32], rows: &[u32], worst: f32, out: &mut Vec<u64>) {
    assert_eq!(scores.len(), rows.len(), "scores and rows differ in number");
    let mut best = Best::new(rows.len(), worst, out);
    for (scores, rows) in scores.chunks(LANES).zip(rows.chunks(LANES)) {
        let mask = lanes(rows.len());
        // SAFETY: the mask has a lane for each score.
        let scores = unsafe { _mm512_maskz_loadu_ps(mask, scores.as_ptr()) };
        best.take(mask, scores, words(rows));
    }
    best.finish();
}

/// Keys of rows that score well enough, as they are found. Invariant: there is room for `left` rows and `LANES` more.
struct Best<'a> {
    worst: __m512,
    out: &'a mut Vec<u64>,
    end: usize,
    left: usize,
}

impl<'a> Best<'a> {
    /// Of so many `rows` at most.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(rows: usize, worst: f32, out: &'a mut Vec<u64>) -> Best<'a> {
        out.reserve(rows + LANES);
        Best {
            worst: _mm512_set1_ps(worst),
            end: out.len(),
            left: rows,
            out,
        }
    }

    /// Takes the rows of the mask's lanes that are good.
    #[inline]
    #[target_feature(enable = "avx512f,popcnt")]
    fn take(&mut self, mask: __mmask16, scores: __m512, rows: __m512i) {
        let good = _mm512_mask_cmp_ps_mask::<_CMP_NLE_UQ>(mask, scores, self.worst);
        let count = good.count_ones() as usize;
        assert!(count <= self.left, "more rows than were promised");
        // As `key` has it: what is positive with all bits but the sign's turned over, what is negative as it is.
        let bits = _mm512_castps_si512(scores);
        let turned = _mm512_andnot_si512(_mm512_srai_epi32::<31>(bits), _mm512_set1_epi32(i32::MAX));
        let above = _mm512_maskz_compress_epi32(good, _mm512_xor_si512(bits, turned));
        let below = _mm512_maskz_compress_epi32(good, _mm512_slli_epi32::<1>(rows));
        let keys = [
            joined(_mm512_castsi512_si256(above), _mm512_castsi512_si256(below)),
            joined(
                _mm512_extracti64x4_epi64::<1>(above),
                _mm512_extracti64x4_epi64::<1>(below),
            ),
        ];
        // SAFETY: room for `LANES` is there, by the invariant.
        unsafe {
            self.out
                .as_mut_ptr()
                .add(self.end)
                .cast::<[__m512i; 2]>()
                .write_unaligned(keys)
        };
        self.end += count;
        self.left -= count;
    }

    /// Lets the vector have them.
    #[inline]
    fn finish(self) {
        // SAFETY: all up to there have been written.
        unsafe { self.out.set_len(self.end) };
    }
}

/// Eight numbers of an upper and a lower half each.
#[inline]
#[target_feature(enable = "avx512f")]
fn joined(above: __m256i, below: __m256i) -> __m512i {
    let above = _mm512_slli_epi64::<32>(_mm512_cvtepu32_epi64(above));
    _mm512_or_si512(above, _mm512_cvtepu32_epi64(below))
}
