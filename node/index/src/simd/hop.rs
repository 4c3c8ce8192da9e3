//! The loops of a walk's hop around the sums: which links are new, what are the scores, which are good enough?
//!
//! Each is a few instructions an item, run some hundred times a query, so bounds are checked for all items at once, before,
//! and items are counted instead of branched upon: whether a link is new or a score good is as good as random.

/// Appends to `out` the links whose byte in `seen` is not `mark`, and marks them.
#[inline]
pub(crate) fn sift(links: &[u32], seen: &mut [u8], mark: u8, out: &mut Vec<u32>) {
    let places = seen.len();
    assert!(
        links.iter().all(|link| (*link as usize) < places),
        "a link beyond the {places} places"
    );
    let before = out.len();
    out.resize(before + links.len(), 0);
    let mut end = before;
    for link in links {
        // SAFETY: every link is below the length of `seen`, as was just checked; `end` grows by at most one a link and
        // `out` has a place for each.
        unsafe {
            let byte = seen.get_unchecked_mut(*link as usize);
            *out.get_unchecked_mut(end) = *link;
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

/// Turns integer sums into scores: `constant + scale * (step * sum + shift)`, and what stands `beside` the scale; `terms` are those
/// of all rows, sums and scores those of each of `places`.
#[inline]
pub(crate) fn finish(
    sums: &[i32],
    places: &[u32],
    terms: &[f32],
    beside: Beside,
    line: (f32, f32, f32),
    scores: &mut [f32],
) {
    assert!(
        sums.len() == places.len() && sums.len() == scores.len(),
        "sums, places and scores differ in number"
    );
    match beside {
        Beside::Nothing => finish_each(sums, places, terms, line, scores, |score, [_]| score),
        Beside::Norm => finish_each(sums, places, terms, line, scores, |score, [_, norm]| {
            score - norm * norm
        }),
        Beside::Offset => finish_each(sums, places, terms, line, scores, |score, [_, offset]| score + offset),
    }
}

/// See [`finish`]: `score` makes it of the part that the code tells and of a row's terms.
#[inline]
fn finish_each<const TERMS: usize>(
    sums: &[i32],
    places: &[u32],
    terms: &[f32],
    (constant, step, shift): (f32, f32, f32),
    scores: &mut [f32],
    score: impl Fn(f32, &[f32; TERMS]) -> f32,
) {
    let (rows, rest) = terms.as_chunks::<TERMS>();
    let count = rows.len();
    assert!(rest.is_empty(), "not {TERMS} terms a row");
    assert!(
        places.iter().all(|place| (*place as usize) < count),
        "a place beyond the {count} of the table"
    );
    for ((own, sum), place) in scores.iter_mut().zip(sums).zip(places) {
        // SAFETY: every place is below the number of rows, as was just checked.
        let row = unsafe { rows.get_unchecked(*place as usize) };
        *own = score(constant + row[0] * (step * *sum as f32 + shift), row);
    }
}

/// Puts into `out` the numbers of the scores that are not at or below `worst`; one that is no number is not.
#[inline]
#[expect(
    clippy::neg_cmp_op_on_partial_ord,
    reason = "what is no number is to be looked at, not lost"
)]
pub(crate) fn above(scores: &[f32], worst: f32, out: &mut Vec<u32>) {
    out.resize(scores.len(), 0);
    let mut end = 0;
    for (at, score) in (0u32..).zip(scores) {
        // SAFETY: `end` grows by at most one a score and `out` has a place for each.
        unsafe { *out.get_unchecked_mut(end) = at };
        end += usize::from(!(*score <= worst));
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_is_new_once() {
        let (mut seen, mut out) = (vec![0; 10], vec![99]);
        sift(&[3, 4, 3, 9], &mut seen, 7, &mut out);
        sift(&[4, 5], &mut seen, 7, &mut out);
        assert_eq!(out, [99, 3, 4, 9, 5]);
        assert_eq!(seen, [0, 0, 0, 7, 7, 7, 0, 0, 0, 7]);
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

    #[test]
    #[should_panic = "a link beyond the 3 places"]
    fn a_link_to_nowhere_is_noticed() {
        sift(&[3], &mut [0; 3], 1, &mut Vec::new());
    }

    #[test]
    #[should_panic = "a place beyond the 2 of the table"]
    fn a_place_without_terms_is_noticed() {
        finish(&[0], &[2], &[0.0; 4], Beside::Norm, (0.0, 1.0, 0.0), &mut [0.0]);
    }

    #[test]
    #[should_panic = "not 2 terms a row"]
    fn a_table_of_other_rows_is_noticed() {
        finish(&[0], &[0], &[0.0; 3], Beside::Offset, (0.0, 1.0, 0.0), &mut [0.0]);
    }

    #[test]
    fn scores_are_finished_and_picked() {
        let mut scores = [0.0; 2];
        let line = (100.0, 0.5, 1.0);
        let mut finished = |terms: &[f32], beside| {
            finish(&[10, 20], &[1, 0], terms, beside, line, &mut scores);
            scores
        };
        assert_eq!(finished(&[2.0, 4.0], Beside::Nothing), [124.0, 122.0]);
        assert_eq!(
            finished(&[2.0, 1.0, 4.0, 3.0], Beside::Norm),
            [124.0 - 9.0, 122.0 - 1.0]
        );
        assert_eq!(
            finished(&[2.0, 1.0, 4.0, 3.0], Beside::Offset),
            [124.0 + 3.0, 122.0 + 1.0]
        );
        let mut out = vec![5, 6, 7];
        above(&[1.0, 3.0, 2.0, f32::NAN], 1.5, &mut out);
        assert_eq!(out, [1, 2, 3]);
    }
}
