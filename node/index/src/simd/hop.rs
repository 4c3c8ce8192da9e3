//! The loops of a walk's hop around the sums: which links are new, what are the scores, which are good enough?
//!
//! Each is a few instructions an item, run some hundred times a query, so bounds are checked for all items at once, before,
//! and items are counted instead of branched upon: whether a link is new or a score good is as good as random. Those of every
//! hop are in AVX-512, too, for which these are the oracle.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::key::key;

/// Bytes of `seen` behind that of the last place: four are read at each place at once, and one place more stands for none.
pub(crate) const BEYOND: usize = 4;

/// Whether this machine takes sixteen at a time.
#[cfg(target_arch = "x86_64")]
#[inline]
fn is_wide() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("popcnt")
}

/// How many places `seen` has a byte for.
#[inline]
fn places_of(seen: &[u8]) -> usize {
    seen.len().checked_sub(BEYOND).expect("bytes beyond the last place")
}

/// Appends to `out` the links whose byte in `seen`, which has [`BEYOND`] more, is not `mark`, and marks them. A list names a place
/// once; links that lead to no place are passed over.
#[inline]
pub(crate) fn sift(links: &[u32], seen: &mut [u8], mark: u8, out: &mut Vec<u32>) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        // SAFETY: the machine has the instructions.
        return unsafe { avx512::sift(links, seen, mark, out) };
    }
    sift_each(links, seen, mark, out);
}

/// See [`sift`].
#[inline]
fn sift_each(links: &[u32], seen: &mut [u8], mark: u8, out: &mut Vec<u32>) {
    let places = places_of(seen);
    let mut end = out.len();
    out.resize(end + links.len(), 0);
    let to = &mut out[..];
    for link in links.iter().filter(|link| (**link as usize) < places) {
        // SAFETY: the link is below the length of `seen`; `end` grows by at most one a link and `to` has a place for each.
        unsafe {
            let byte = seen.get_unchecked_mut(*link as usize);
            *to.get_unchecked_mut(end) = *link;
            end += usize::from(*byte != mark);
            *byte = mark;
        }
    }
    out.truncate(end);
}

/// Whether a bit, which there must be, is set: 0 or 1.
///
/// # Safety
/// `place` is below 64 times the length of `bits`.
#[inline]
unsafe fn bit(bits: &[u64], place: u32) -> usize {
    // SAFETY: the caller's promise.
    (unsafe { *bits.get_unchecked(place as usize / 64) } >> (place % 64) & 1) as usize
}

/// As [`sift`], of the links whose bit in `passing` is set only: others are neither taken nor marked.
///
/// In two rounds: few pass, and a round that writes no marks takes a third of the time.
#[inline]
pub(crate) fn sift_passing(links: &[u32], passing: &[u64], seen: &mut [u8], mark: u8, out: &mut Vec<u32>) {
    let places = seen.len().min(passing.len() * 64);
    assert!(
        links.iter().all(|link| (*link as usize) < places),
        "a link beyond the {places} places"
    );
    let before = out.len();
    out.resize(before + links.len(), 0);
    let mut end = before;
    for link in links {
        // SAFETY: every link has a bit, as was just checked; `end` grows by at most one a link and `out` has a place for each.
        unsafe {
            *out.get_unchecked_mut(end) = *link;
            end += bit(passing, *link);
        }
    }
    let mut fresh = before;
    for at in before..end {
        // SAFETY: every link is below the length of `seen`; `fresh` never passes `at`, which is below the length of `out`.
        unsafe {
            let link = *out.get_unchecked(at);
            let byte = seen.get_unchecked_mut(link as usize);
            *out.get_unchecked_mut(fresh) = link;
            fresh += usize::from(*byte != mark);
            *byte = mark;
        }
    }
    out.truncate(fresh);
}

/// Leaves in `places`, from number `first` on, those whose bit in `passing` is set, and appends the others to `out`.
#[inline]
pub(crate) fn divide(places: &mut Vec<u32>, first: usize, passing: &[u64], out: &mut Vec<u32>) {
    let count = passing.len() * 64;
    assert!(
        places[first..].iter().all(|place| (*place as usize) < count),
        "a place beyond the {count} bits"
    );
    let before = out.len();
    out.resize(before + places.len() - first, 0);
    let (mut stay, mut leave) = (first, before);
    for at in first..places.len() {
        // SAFETY: every place has a bit, as was just checked; `stay` and `leave` grow by one together a place, `stay` never
        // passes `at`, and `out` has a place for each.
        unsafe {
            let place = *places.get_unchecked(at);
            let passes = bit(passing, place);
            *places.get_unchecked_mut(stay) = place;
            *out.get_unchecked_mut(leave) = place;
            stay += passes;
            leave += 1 - passes;
        }
    }
    places.truncate(stay);
    out.truncate(leave);
}

/// What stands beside a row's scale, and in its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// Its norm: less the square of that.
    Norm,
    /// Its offset, which is added.
    Offset,
}

impl Beside {
    /// Numbers a row: the scale, and what stands beside it.
    pub const fn terms(self) -> usize {
        match self {
            Beside::Nothing => 1,
            Beside::Norm | Beside::Offset => 2,
        }
    }
}

/// What stands beside the codes of rows, `beside` says what, and turns the sum over a code into a score.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub table: &'a [f32],
    pub beside: Beside,
    /// `(constant, step, shift)`: a score is `constant + scale * (step * sum + shift)`, and what stands beside the scale.
    pub line: (f32, f32, f32),
}

impl Terms<'_> {
    /// How many rows they are of, if `TERMS` of them are a row's.
    fn rows<const TERMS: usize>(&self) -> usize {
        assert!(self.table.len().is_multiple_of(TERMS), "not {TERMS} terms a row");
        self.table.len() / TERMS
    }
}

/// Appends to `out` the keys of the rows whose score is not at or below `worst`; `sums` are those of `rows`. What is no number is to
/// be looked at, not lost: if `worst` is none, all are taken.
#[inline]
pub(crate) fn rank(sums: &[i32], rows: &[u32], terms: Terms<'_>, worst: f32, out: &mut Vec<u64>) {
    assert_eq!(sums.len(), rows.len(), "sums and rows differ in number");
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        // SAFETY: the machine has the instructions.
        return unsafe { avx512::rank(sums, rows, terms, worst, out) };
    }
    rank_all(sums, rows, terms, worst, out);
}

/// See [`rank`].
fn rank_all(sums: &[i32], rows: &[u32], terms: Terms<'_>, worst: f32, out: &mut Vec<u64>) {
    match terms.beside {
        Beside::Nothing => rank_each(sums, rows, terms, worst, out, |score, [_]| score),
        Beside::Norm => rank_each(sums, rows, terms, worst, out, |score, [_, norm]| score - norm * norm),
        Beside::Offset => rank_each(sums, rows, terms, worst, out, |score, [_, offset]| score + offset),
    }
}

/// See [`rank`]: `score` makes it of the part that the code tells and of a row's terms.
#[inline]
fn rank_each<const TERMS: usize>(
    sums: &[i32],
    rows: &[u32],
    terms: Terms<'_>,
    worst: f32,
    out: &mut Vec<u64>,
    score: impl Fn(f32, &[f32; TERMS]) -> f32,
) {
    let (constant, step, shift) = terms.line;
    let count = terms.rows::<TERMS>();
    let (table, _) = terms.table.as_chunks::<TERMS>();
    assert!(
        rows.iter().all(|row| (*row as usize) < count),
        "a row beyond the {count} of the table"
    );
    let scores = sums.iter().zip(rows).map(|(sum, row)| {
        // SAFETY: every row is below the number of rows, as was just checked.
        let own = unsafe { table.get_unchecked(*row as usize) };
        score(constant + own[0] * (step * *sum as f32 + shift), own)
    });
    select_each(scores, rows, worst, out);
}

/// As [`rank`], of rows whose scores are known.
#[inline]
pub(crate) fn select(scores: &[f32], rows: &[u32], worst: f32, out: &mut Vec<u64>) {
    assert_eq!(scores.len(), rows.len(), "scores and rows differ in number");
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        // SAFETY: the machine has the instructions.
        return unsafe { avx512::select(scores, rows, worst, out) };
    }
    select_each(scores.iter().copied(), rows, worst, out);
}

/// See [`select`]; there is a row for each score, at least.
#[inline]
#[expect(
    clippy::neg_cmp_op_on_partial_ord,
    reason = "what is no number is to be looked at, not lost"
)]
fn select_each(scores: impl Iterator<Item = f32>, rows: &[u32], worst: f32, out: &mut Vec<u64>) {
    let mut end = out.len();
    out.resize(end + rows.len(), 0);
    let to = &mut out[..];
    for (score, row) in scores.zip(rows) {
        // SAFETY: `end` grows by at most one a row and `to` has a place for each.
        unsafe { *to.get_unchecked_mut(end) = key(score, *row) };
        end += usize::from(!(score <= worst));
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_link_is_new_once() {
        let (mut seen, mut out) = (vec![0; 10 + BEYOND], vec![99]);
        sift(&[3, 4, 9, u32::MAX], &mut seen, 7, &mut out);
        sift(&[4, 5, 10], &mut seen, 7, &mut out);
        assert_eq!(out, [99, 3, 4, 9, 5]);
        assert_eq!(seen[..10], [0, 0, 0, 7, 7, 7, 0, 0, 0, 7]);
    }

    #[test]
    fn links_that_pass_are_new_once_and_others_are_not_marked() {
        let (mut seen, mut out) = (vec![0; 70], vec![99]);
        let passing = [1 << 3 | 1 << 4, 1 << (69 - 64)];
        sift_passing(&[3, 5, 69, 3], &passing, &mut seen, 7, &mut out);
        sift_passing(&[69, 4, 68], &passing, &mut seen, 7, &mut out);
        assert_eq!(out, [99, 3, 69, 4]);
        let marked: Vec<usize> = (0..70).filter(|place| seen[*place] == 7).collect();
        assert_eq!(marked, [3, 4, 69]);
        let (mut places, mut others) = (vec![5, 69, 5, 3], vec![98]);
        divide(&mut places, 1, &passing, &mut others);
        assert_eq!((places, others), (vec![5, 69, 3], vec![98, 5]));
    }

    /// Of one row and more.
    fn terms(table: &[f32], beside: Beside) -> Terms<'_> {
        let line = (100.0, 0.5, 1.0);
        Terms { table, beside, line }
    }

    #[test]
    #[should_panic = "a row beyond the 2 of the table"]
    fn a_row_without_terms_is_noticed() {
        rank(&[0], &[2], terms(&[0.0; 4], Beside::Norm), 0.0, &mut Vec::new());
    }

    #[test]
    #[should_panic = "not 2 terms a row"]
    fn a_table_of_other_rows_is_noticed() {
        rank(&[0], &[0], terms(&[0.0; 3], Beside::Offset), 0.0, &mut Vec::new());
    }

    #[test]
    fn scores_are_made_of_sums_and_picked() {
        let ranked = |table: &[f32], beside, worst| {
            let mut out = vec![5];
            rank(&[10, 20], &[1, 0], terms(table, beside), worst, &mut out);
            out
        };
        let nothing = [2.0, 4.0];
        assert_eq!(
            ranked(&nothing, Beside::Nothing, 0.0),
            [5, key(124.0, 1), key(122.0, 0)]
        );
        assert_eq!(ranked(&nothing, Beside::Nothing, 122.0), [5, key(124.0, 1)]);
        assert_eq!(ranked(&nothing, Beside::Nothing, f32::NAN).len(), 3);
        let both = [2.0, 1.0, 4.0, 3.0];
        assert_eq!(
            ranked(&both, Beside::Norm, 0.0),
            [5, key(124.0 - 9.0, 1), key(122.0 - 1.0, 0)]
        );
        assert_eq!(
            ranked(&both, Beside::Offset, 0.0),
            [5, key(124.0 + 3.0, 1), key(122.0 + 1.0, 0)]
        );
        let mut out = vec![5];
        select(&[1.0, 3.0, 2.0, f32::NAN], &[8, 7, 6, 9], 1.5, &mut out);
        assert_eq!(out, [5, key(3.0, 7), key(2.0, 6), key(f32::NAN, 9)]);
    }

    proptest! {
        #[test]
        fn sixteen_at_a_time_are_each_alone(
            lists in prop::collection::vec(prop::collection::btree_set(0u32..70, 0..40), 1..6),
            sums in prop::collection::vec(-9_000i32..9_000, 70),
            worst in prop_oneof![Just(f32::NAN), Just(f32::NEG_INFINITY), Just(0.0), 90.0f32..110.0],
        ) {
            const ROWS: usize = 60;
            let table: Vec<f32> = (0..2 * ROWS).map(|at| (at as f32 * 0.37).sin()).collect();
            let (mut seen, mut rows) = ([vec![0; ROWS + BEYOND], vec![0; ROWS + BEYOND]], [vec![], vec![]]);
            for list in lists {
                let links: Vec<u32> = list.into_iter().rev().collect();
                sift(&links, &mut seen[0], 3, &mut rows[0]);
                sift_each(&links, &mut seen[1], 3, &mut rows[1]);
            }
            prop_assert_eq!(&seen[0][..ROWS], &seen[1][..ROWS]);
            prop_assert_eq!(&rows[0], &rows[1]);
            let (rows, sums) = (&rows[0], &sums[..rows[0].len()]);
            for (beside, terms_a_row) in [(Beside::Nothing, 1), (Beside::Norm, 2), (Beside::Offset, 2)] {
                let terms = terms(&table[..ROWS * terms_a_row], beside);
                let (mut keys, mut expected) = (vec![1], vec![1]);
                rank(sums, rows, terms, worst, &mut keys);
                rank_all(sums, rows, terms, worst, &mut expected);
                prop_assert_eq!(&keys, &expected);
                let odd = [f32::NAN, -0.0, f32::INFINITY, f32::NEG_INFINITY, worst];
                let scores = sums.iter().map(|sum| *sum as f32 / 50.0);
                let scores: Vec<f32> = odd.into_iter().chain(scores).take(rows.len()).collect();
                select(&scores, rows, worst, &mut keys);
                select_each(scores.iter().copied(), rows, worst, &mut expected);
                prop_assert_eq!(keys, expected);
            }
        }
    }
}
