//! Best-first search over a graph's links, scoring full rows: which places are near, having looked at few?
//!
//! The beam of HNSW's lowest layer (Malkov and Yashunin 2016, algorithm 2), begun at all entries. Dead rows are walked
//! through and not admitted. Nothing is promised of rows it did not see.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Graph;
use crate::error::ReadError;
use crate::metric::Probe;
use crate::segment::VectorFile;

/// A score and a place, ordered by score, then the smaller place.
#[derive(Clone, Copy, PartialEq)]
struct Scored(f32, u32);

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What a walk found.
pub(crate) struct Walked {
    /// Score and place of up to `ef` admitted places, in no order.
    pub found: Vec<(f32, u32)>,
    /// Places scored.
    pub scored: u64,
}

/// One walk's memory.
struct Beam {
    visited: Vec<u64>,
    /// Best on top: where to go on.
    ahead: BinaryHeap<Scored>,
    /// Worst on top: what is kept.
    kept: BinaryHeap<Reverse<Scored>>,
    ef: usize,
    scored: u64,
}

/// Walks until nothing ahead is better than the worst of `ef` kept. `None`: the graph is damaged.
pub(crate) fn walk(
    graph: &Graph,
    vectors: &VectorFile,
    probe: &Probe,
    ef: usize,
    admits: impl Fn(u32) -> bool,
) -> Result<Option<Walked>, ReadError> {
    let mut beam = Beam {
        visited: vec![0; graph.places().div_ceil(64) as usize],
        ahead: BinaryHeap::new(),
        kept: BinaryHeap::with_capacity(ef + 1),
        ef,
        scored: 0,
    };
    for entry in graph.entries() {
        beam.look(*entry, vectors, probe, &admits)?;
    }
    while let Some(Scored(score, place)) = beam.ahead.pop().filter(|next| !beam.is_worse(next.0)) {
        debug_assert!(score.is_finite());
        let Ok(links) = graph.links(place) else {
            graph.give_up();
            return Ok(None);
        };
        for link in links {
            beam.look(link, vectors, probe, &admits)?;
        }
    }
    let found = beam
        .kept
        .into_iter()
        .map(|Reverse(Scored(score, place))| (score, place))
        .collect();
    Ok(Some(Walked {
        found,
        scored: beam.scored,
    }))
}

impl Beam {
    /// Scores a place once, and keeps it where it is good enough.
    fn look(
        &mut self,
        place: u32,
        vectors: &VectorFile,
        probe: &Probe,
        admits: impl Fn(u32) -> bool,
    ) -> Result<(), ReadError> {
        let (word, bit) = (place as usize / 64, 1 << (place % 64));
        if self.visited[word] & bit != 0 {
            return Ok(());
        }
        self.visited[word] |= bit;
        self.scored += 1;
        let score = vectors.score(probe, u64::from(place))?;
        if self.is_worse(score) {
            return Ok(());
        }
        self.ahead.push(Scored(score, place));
        if admits(place) {
            self.kept.push(Reverse(Scored(score, place)));
            if self.kept.len() > self.ef {
                self.kept.pop();
            }
        }
        Ok(())
    }

    /// Whether a score is worse than all of a full beam.
    fn is_worse(&self, score: f32) -> bool {
        self.kept.len() >= self.ef && self.kept.peek().is_some_and(|worst| score < worst.0.0)
    }
}
