//! The k best of a stream, in the promised order of hits (score, then id), with ids looked up only where they matter.
//!
//! Most rows of a scan are worse than the k-th best so far: [`TopK::admits`] says so from the score alone, and only what
//! passes pays for reading its id.

use std::cmp::{Ordering, Reverse};
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

    /// The score below which nothing can enter.
    pub fn worst(&self) -> f32 {
        self.worst
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

/// A score, ordered; what is no number has its place, too.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Ordered(pub f32);

impl Eq for Ordered {}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The k-th best score of a stream.
pub(crate) struct KthBest {
    k: usize,
    /// The k best, the worst on top.
    best: BinaryHeap<Reverse<Ordered>>,
}

impl KthBest {
    pub fn new(k: usize) -> KthBest {
        KthBest {
            k,
            best: BinaryHeap::new(),
        }
    }

    #[inline]
    pub fn push(&mut self, score: f32) {
        if self.best.len() < self.k {
            self.best.push(Reverse(Ordered(score)));
        } else if let Some(mut worst) = self.best.peek_mut()
            && worst.0.0 < score
        {
            *worst = Reverse(Ordered(score));
        }
    }

    /// The k-th best so far; below all scores where there are fewer.
    #[inline]
    pub fn worst(&self) -> f32 {
        match self.best.peek() {
            Some(Reverse(Ordered(score))) if self.best.len() == self.k => *score,
            _ => f32::NEG_INFINITY,
        }
    }
}

/// The k best scores of a stream and all that equal the k-th, so that ids can decide between those later.
pub(crate) struct TopScores {
    k: usize,
    worst: f32,
    /// Best first.
    found: Vec<(f32, RowRef)>,
}

impl TopScores {
    /// Scores below `floor` are not taken.
    pub fn new(k: usize, floor: f32) -> TopScores {
        TopScores {
            k,
            worst: floor,
            found: Vec::with_capacity(k.min(1024) + 1),
        }
    }

    /// The score below which nothing can enter.
    pub fn worst(&self) -> f32 {
        self.worst
    }

    pub fn push(&mut self, score: f32, row: RowRef) {
        if self.k == 0 || score < self.worst {
            return;
        }
        let at = self.found.partition_point(|(better, _)| *better >= score);
        self.found.insert(at, (score, row));
        if self.found.len() >= self.k {
            self.worst = self.worst.max(self.found[self.k - 1].0);
            let end = self.found.partition_point(|(better, _)| *better >= self.worst);
            self.found.truncate(end);
        }
    }

    /// Best first; more than k where the k-th score occurs again.
    pub fn into_found(self) -> Vec<(f32, RowRef)> {
        self.found
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

    #[test]
    fn the_kth_best_is_known_once_there_are_k() {
        let mut best = KthBest::new(3);
        let worst = [1.0, f32::NEG_INFINITY, 5.0, 0.5, 0.25, 5.0, 2.0].map(|score| {
            best.push(score);
            best.worst()
        });
        let none = f32::NEG_INFINITY;
        assert_eq!(worst, [none, none, none, 0.5, 0.5, 1.0, 2.0]);
        let mut best = KthBest::new(0);
        best.push(1.0);
        assert_eq!(best.worst(), none, "the best of none bounds nothing");
    }

    #[test]
    fn scores_equal_to_the_last_stay() {
        let row = |row| RowRef { part: 0, row };
        let mut best = TopScores::new(2, 0.0);
        for (score, at) in [(0.5, 1), (-1.0, 2), (0.25, 3), (0.25, 4), (0.75, 5), (0.5, 6)] {
            best.push(score, row(at));
        }
        assert_eq!(best.worst(), 0.5);
        assert_eq!(best.into_found(), [(0.75, row(5)), (0.5, row(1)), (0.5, row(6))]);
    }
}
