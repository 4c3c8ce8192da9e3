//! The k best of a stream, in the promised order of hits (score, then id), with ids looked up only where they matter.
//!
//! Most rows of a scan are worse than the k-th best so far: [`TopK::admits`] says so from the score alone, and only what
//! passes pays for reading its id.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use granum_model::DocId;
use granum_model::hit::rank;

use crate::query::RowRef;

/// A row that may be a hit.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub score: f32,
    pub id: DocId,
    pub row: RowRef,
}

/// The heap's greatest element is the worst candidate.
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        rank((self.score, &self.id), (other.score, &other.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Keeps the k best. Invariant: `heap.len() <= k`, `worst` is the score below which nothing can enter.
pub(crate) struct TopK {
    k: usize,
    worst: f32,
    heap: BinaryHeap<Candidate>,
}

impl TopK {
    /// `threshold`: the worst score taken at all.
    pub fn new(k: usize, threshold: Option<f32>) -> TopK {
        let worst = if k == 0 {
            f32::INFINITY
        } else {
            threshold.unwrap_or(f32::NEG_INFINITY)
        };
        TopK {
            k,
            worst,
            heap: BinaryHeap::new(),
        }
    }

    /// Whether a row of this score may enter; of equal scores the id decides, in [`push`](Self::push).
    #[inline]
    pub fn admits(&self, score: f32) -> bool {
        score >= self.worst
    }

    pub fn push(&mut self, candidate: Candidate) {
        if self.k == 0 || !self.admits(candidate.score) {
            return;
        }
        if self.heap.len() == self.k {
            match self.heap.peek_mut() {
                Some(mut worst) if candidate < *worst => *worst = candidate,
                _ => return,
            }
        } else {
            self.heap.push(candidate);
        }
        if let (true, Some(worst)) = (self.heap.len() == self.k, self.heap.peek()) {
            self.worst = self.worst.max(worst.score);
        }
    }

    /// Best first.
    pub fn into_ranked(self) -> Vec<Candidate> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(score: f32, id: u64) -> Candidate {
        Candidate {
            score,
            id: DocId::Number(id),
            row: RowRef {
                part: 0,
                row: id as u32,
            },
        }
    }

    #[test]
    fn the_best_stay_and_ties_go_to_the_smaller_id() {
        let mut best = TopK::new(3, Some(0.0));
        for (score, id) in [
            (0.5, 9),
            (0.25, 8),
            (-1.0, 1),
            (0.25, 7),
            (0.75, 3),
            (0.25, 2),
            (0.25, 5),
        ] {
            best.push(candidate(score, id));
        }
        let ids: Vec<_> = best.into_ranked().into_iter().map(|found| found.id).collect();
        assert_eq!(ids, [DocId::Number(3), DocId::Number(9), DocId::Number(2)]);
    }

    #[test]
    fn none_wanted_admits_none() {
        let mut best = TopK::new(0, None);
        assert!(!best.admits(f32::MAX));
        best.push(candidate(1.0, 1));
        assert!(best.into_ranked().is_empty());
    }
}
