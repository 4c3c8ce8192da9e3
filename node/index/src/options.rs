//! How an index is built and searched: what a collection's settings say to this crate.

/// How an index is built and searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What [`Index::derive`](crate::Index::derive) builds over the dense vectors of sealed segments.
    pub builder: Builder,
}

/// What names candidates in a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builder {
    /// Nothing: all rows are scored, exactly.
    #[default]
    Scan,
    /// A graph built by hnsw_rs, for segments of 1,000 to 200,000 rows; cosine, Euclid and Manhattan.
    HnswRs,
}
