//! How good is a hit, and which of two comes first? One total order, asserted wherever a list of hits crosses a boundary.

use std::cmp::Ordering;

use crate::ids::DocId;

/// A document found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Which document.
    pub id: DocId,
    /// Internal score: finite, higher is better (see [`Distance::outward`](crate::Distance::outward)).
    pub score: f32,
    /// The shard's sequence at which this document was written.
    pub version: u64,
}

impl Hit {
    /// `Less` if `self` comes before `other`: higher score first, equal scores by id.
    pub fn rank(&self, other: &Hit) -> Ordering {
        rank((self.score, &self.id), (other.score, &other.id))
    }
}

/// The promised order of hits on (score, id): higher score first, equal scores by encoded id. Total for all floats.
pub fn rank(left: (f32, &DocId), right: (f32, &DocId)) -> Ordering {
    right.0.total_cmp(&left.0).then_with(|| left.1.cmp(right.1))
}

/// Whether a list is in the promised order.
pub fn is_ranked(hits: &[Hit]) -> bool {
    hits.windows(2).all(|pair| pair[0].rank(&pair[1]) != Ordering::Greater)
}

/// Where a score lies: `estimate - error ..= estimate + error`. An exact score has error 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreInterval {
    /// Middle, in score units.
    pub estimate: f32,
    /// Half-width, in score units, >= 0.
    pub error: f32,
}

impl ScoreInterval {
    /// A score that is known.
    pub fn exact(score: f32) -> Self {
        ScoreInterval {
            estimate: score,
            error: 0.0,
        }
    }

    /// Best score it may be.
    pub fn upper(self) -> f32 {
        self.estimate + self.error
    }

    /// Worst score it may be.
    pub fn lower(self) -> f32 {
        self.estimate - self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_come_by_id() {
        let hit = |id, score| Hit {
            id: DocId::Number(id),
            score,
            version: 1,
        };
        assert!(is_ranked(&[hit(9, 0.5), hit(1, 0.25), hit(2, 0.25), hit(0, -1.0)]));
        assert!(!is_ranked(&[hit(2, 0.25), hit(1, 0.25)]));
        assert!(!is_ranked(&[hit(1, 0.25), hit(2, 0.5)]));
    }
}
