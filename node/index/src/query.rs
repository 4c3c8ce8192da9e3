//! What is asked of a view, and what it answers.

use granum_model::{DocId, Filter, Hit, ScoreInterval, Vector};

/// Nearest neighbours of one vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Name of the vector searched.
    pub using: String,
    /// Canonical; of the kind and dimension of that vector. A dense vector asks a multi-vector as one row.
    pub vector: Vector,
    /// Which documents may be hits.
    pub filter: Filter,
    /// Most hits wanted; 0 finds nothing.
    pub k: usize,
    /// Worst internal score (higher is better) that still is a hit.
    pub threshold: Option<f32>,
    /// This document is no hit: the one that lent its vector.
    pub exclude: Option<DocId>,
    /// How hard to look.
    pub params: Params,
}

/// How hard to look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Params {
    /// Score every row that the filter lets through.
    pub exact: bool,
    /// Candidates that a graph walk keeps; `None`: as many as the recall wanted takes, by each segment's own measure.
    pub ef: Option<u32>,
    /// Recall wanted of a search that is not exact, 0.5..=1; `None`: the index's default.
    pub target_recall: Option<f32>,
    /// Which candidates' rows are read.
    pub verify: Verify,
    /// Walk no graph, and take bounds of codes so wide that the answer is certified ([`Found::delta`]), where the distance
    /// allows it. Stands above `ef`, `target_recall` and `verify`.
    pub certified: bool,
}

/// Which candidates' rows are read from disk to prove their scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Those whose interval crosses the k-th boundary: which the hits are is certain, their scores may be estimates.
    Bound,
    /// Those and all hits: exact order and scores.
    #[default]
    All,
    /// None.
    None,
}

/// A document in a pinned view. Means nothing in another view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRef {
    /// Number of the part within the view.
    pub part: u32,
    /// Row within the part.
    pub row: u32,
}

impl RowRef {
    /// As one number, for the wire.
    pub fn to_u64(self) -> u64 {
        u64::from(self.part) << 32 | u64::from(self.row)
    }

    /// The inverse of [`to_u64`](Self::to_u64).
    pub fn from_u64(bits: u64) -> RowRef {
        RowRef {
            part: (bits >> 32) as u32,
            row: bits as u32,
        }
    }
}

/// A hit, how sure its score is, and where its document lies.
#[derive(Clone, Debug, PartialEq)]
pub struct RowHit {
    /// Id, internal score, version.
    pub hit: Hit,
    /// Where the score lies; error 0 when the score is exact.
    pub interval: ScoreInterval,
    /// For [`View::document`](crate::View::document).
    pub row: RowRef,
}

/// What a query cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Rows scored, by code or in full.
    pub rows_scored: u64,
    /// Rows of segments read in full.
    pub rows_read: u64,
    /// Bytes of those rows.
    pub bytes_read: u64,
    /// Pages of 4 KiB that those rows lie in, each counted once a segment.
    pub pages_read: u64,
    /// Documents that a filter was evaluated on.
    pub rows_filtered: u64,
}

/// Answer to one [`Query`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Best first, in the order of [`granum_model::hit::rank`].
    pub hits: Vec<RowHit>,
    /// What it cost.
    pub usage: Usage,
    /// Hits, scores and order are exact but with this probability, over the choice of the codes' rotation; 0: every row that
    /// may be a hit was scored in full. `None`: that is not certified, as of walks, and of Manhattan, whose codes have no bound.
    pub delta: Option<f64>,
    /// A graph was walked: rows were left out unseen.
    pub walked: bool,
}
