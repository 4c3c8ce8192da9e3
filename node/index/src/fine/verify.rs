//! Which rows must be read to know the k best? Interval algebra: a claim says where a score lies, a proof reads the row.
//!
//! [`members`] reads as few rows as settle *which* k are best: of two claims that overlap at the boundary the one already
//! among the k is proved first, then the challenger (index.md, section 4.3). [`in_order`] settles scores and order too: it
//! proves claims from the highest upper end down, until the k-th best proved score is above what is left. No rule can read
//! fewer: every claim that reaches above the k-th score must be proved.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use granum_model::ScoreInterval;

use crate::top_k::Ordered;

/// An item, and where its score lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<T> {
    pub item: T,
    pub interval: ScoreInterval,
    /// The score is known: an estimate's error may be 0 too.
    is_proved: bool,
}

impl<T> Claim<T> {
    /// An item with an estimated score.
    pub fn estimated(item: T, interval: ScoreInterval) -> Claim<T> {
        Claim {
            item,
            interval,
            is_proved: false,
        }
    }

    /// An item whose score is known.
    pub fn proved(item: T, score: f32) -> Claim<T> {
        Claim {
            item,
            interval: ScoreInterval::exact(score),
            is_proved: true,
        }
    }

    /// Scores and order are not settled without a look at it, if `boundary` is the k-th score.
    pub fn reaches(&self, boundary: f32) -> bool {
        !self.is_proved && self.interval.upper() >= boundary
    }

    /// It may be among the k or not, if `boundary` is the k-th score.
    pub fn crosses(&self, boundary: f32) -> bool {
        self.reaches(boundary) && self.interval.lower() < boundary
    }

    fn prove<E>(&mut self, proof: &mut impl FnMut(&T) -> Result<f32, E>) -> Result<(), E> {
        if !self.is_proved {
            self.interval = ScoreInterval::exact(proof(&self.item)?);
            self.is_proved = true;
        }
        Ok(())
    }
}

/// The order of claims by estimate, best first, then as given.
fn by_estimate<T>(claims: &mut [Claim<T>]) {
    claims.sort_by(|left, right| right.interval.estimate.total_cmp(&left.interval.estimate));
}

/// Where the k-th score will most likely be: at the k-th best estimate, or at `floor` where that is higher. So which rows will
/// be read is known before the first is, and all can be asked for at once; few others turn out to be needed.
pub(crate) fn boundary<T>(claims: &[Claim<T>], k: usize, floor: f32) -> f32 {
    if k == 0 || claims.len() < k {
        return floor;
    }
    let mut estimates: Vec<f32> = claims.iter().map(|claim| claim.interval.estimate).collect();
    let (_, kth, _) = estimates.select_nth_unstable_by(k - 1, |left, right| right.total_cmp(left));
    kth.max(floor)
}

/// Leaves in `claims` the `k` best at or above `floor`, by best estimate first, having proved what it takes.
pub(crate) fn members<T, E>(
    claims: &mut Vec<Claim<T>>,
    k: usize,
    floor: f32,
    mut proof: impl FnMut(&T) -> Result<f32, E>,
) -> Result<(), E> {
    claims.retain(|claim| claim.interval.upper() >= floor);
    by_estimate(claims);
    let within = k.min(claims.len());
    let (best, rest) = claims.split_at_mut(within);
    let lower = |claim: &Claim<T>| Reverse(Ordered(claim.interval.lower()));
    let mut boundary: BinaryHeap<(Reverse<Ordered>, usize)> =
        best.iter().enumerate().map(|(at, claim)| (lower(claim), at)).collect();
    for challenger in rest {
        while let Some((Reverse(Ordered(least)), at)) = boundary.peek().copied() {
            // In the order of the heap, which knows where NaN stands: scores of damaged rows are exchanged once at most.
            if Ordered(challenger.interval.upper()) <= Ordered(least) {
                break;
            }
            if !best[at].is_proved {
                best[at].prove(&mut proof)?;
            } else if !challenger.is_proved {
                challenger.prove(&mut proof)?;
                continue;
            } else {
                std::mem::swap(&mut best[at], challenger);
            }
            boundary.pop();
            boundary.push((lower(&best[at]), at));
        }
    }
    for claim in best.iter_mut().filter(|claim| claim.interval.lower() < floor) {
        claim.prove(&mut proof)?;
    }
    claims.truncate(within);
    claims.retain(|claim| claim.interval.estimate >= floor);
    by_estimate(claims);
    Ok(())
}

/// Proves claims from the highest upper end down, each given to `take` with its score, which returns the k-th best score so
/// far: what lies below it is left unread.
pub(crate) fn in_order<T, E>(
    claims: &mut [Claim<T>],
    mut floor: f32,
    mut proof: impl FnMut(&T) -> Result<f32, E>,
    mut take: impl FnMut(&T, f32) -> Result<f32, E>,
) -> Result<(), E> {
    claims.sort_by(|left, right| right.interval.upper().total_cmp(&left.interval.upper()));
    for claim in claims {
        if claim.interval.upper() < floor {
            break;
        }
        claim.prove(&mut proof)?;
        floor = take(&claim.item, claim.interval.estimate)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// Claims whose intervals hold the true score of each item.
    fn claims(scores: &[(i32, i32, u32)]) -> (Vec<f32>, Vec<Claim<usize>>) {
        let truth: Vec<f32> = scores.iter().map(|(score, _, _)| *score as f32).collect();
        let claim = |(item, (score, off, slack)): (usize, &(i32, i32, u32))| {
            let (estimate, error) = ((score + off) as f32, off.unsigned_abs() as f32 + *slack as f32);
            Claim::estimated(item, ScoreInterval { estimate, error })
        };
        let claims = scores.iter().enumerate().map(claim).collect();
        (truth, claims)
    }

    proptest! {
        #[test]
        fn the_k_best_are_found_whatever_the_estimates_say(
            scores in prop::collection::vec((-50i32..50, -10i32..10, 0u32..5), 0..60),
            k in 0usize..20,
            floor in -60i32..40,
        ) {
            let (truth, unproved) = claims(&scores);
            let mut expected: Vec<f32> = truth.iter().copied().filter(|score| *score >= floor as f32).collect();
            expected.sort_by(|left, right| right.total_cmp(left));
            expected.truncate(k);

            let mut found = unproved.clone();
            let mut reads = 0;
            members(&mut found, k, floor as f32, |item| {
                reads += 1;
                Ok::<_, Infallible>(truth[*item])
            }).unwrap();
            let mut scores: Vec<f32> = found.iter().map(|claim| truth[claim.item]).collect();
            scores.sort_by(|left, right| right.total_cmp(left));
            prop_assert_eq!(&scores, &expected);

            let mut ranked: Vec<f32> = Vec::new();
            let mut all = unproved;
            let mut reads_in_order = 0;
            in_order(&mut all, floor as f32, |item| {
                reads_in_order += 1;
                Ok::<_, Infallible>(truth[*item])
            }, |_, score| {
                ranked.push(score);
                ranked.sort_by(|left, right| right.total_cmp(left));
                ranked.truncate(k);
                Ok(if ranked.len() < k { floor as f32 } else { ranked.last().map_or(f32::INFINITY, |last| last.max(floor as f32)) })
            }).unwrap();
            ranked.retain(|score| *score >= floor as f32);
            prop_assert_eq!(&ranked, &expected);
            prop_assert!(reads <= truth.len() && reads_in_order <= truth.len());
        }
    }

    #[test]
    fn what_will_be_read_is_told_by_the_kth_estimate() {
        let claim = |estimate: f32| Claim::estimated((), ScoreInterval { estimate, error: 1.0 });
        let claims: Vec<_> = [9.0, 2.0, 7.0, 6.5, 5.5].map(claim).into();
        assert_eq!(boundary(&claims, 2, f32::NEG_INFINITY), 7.0);
        assert_eq!(boundary(&claims, 2, 8.0), 8.0);
        assert_eq!(boundary(&claims, 6, 3.0), 3.0);
        let told = |rule: fn(&Claim<()>, f32) -> bool| claims.iter().filter(|claim| rule(claim, 7.0)).count();
        assert_eq!((told(Claim::reaches), told(Claim::crosses)), (3, 2));
        assert!(!Claim::proved((), 7.0).reaches(7.0), "a known score is not read");
    }

    #[test]
    fn rows_that_are_no_numbers_end_the_proofs() {
        let interval = ScoreInterval {
            estimate: 1.0,
            error: 2.0,
        };
        let mut all: Vec<_> = (0..9).map(|item| Claim::estimated(item, interval)).collect();
        members(&mut all, 3, f32::NEG_INFINITY, |_| Ok::<_, Infallible>(f32::NAN)).unwrap();
        assert!(all.is_empty(), "{all:?}");
    }

    #[test]
    fn what_is_certain_is_not_read() {
        let interval = |estimate, error| ScoreInterval { estimate, error };
        let claim = Claim::estimated;
        let mut all = vec![
            claim(0, interval(10.0, 1.0)),
            claim(1, interval(8.0, 0.5)),
            claim(2, interval(5.0, 1.0)),
        ];
        let read = |_: &usize| -> Result<f32, Infallible> { panic!("nothing needs to be read") };
        members(&mut all, 2, f32::NEG_INFINITY, read).unwrap();
        assert_eq!(all.iter().map(|claim| claim.item).collect::<Vec<_>>(), [0, 1]);
    }
}
