//! What names candidates before rows are scored in full: a graph over a segment's dense vector, where one was built.
//!
//! A graph is derived: it lies in a file of its own that no manifest names, fits exactly one vector file (by fingerprint),
//! and a segment without one, or with a damaged one, is scanned. [`build`] makes one with hnsw_rs when the options ask for
//! it, [`graph`] is its flat form on disk, [`walk`] searches it. Without that option every search is the exact scan.

pub(crate) mod build;
pub(crate) mod graph;
pub(crate) mod walk;

pub(crate) use graph::Graph;

/// Fewer rows are scanned: that is as fast, and exact.
pub(crate) const GRAPH_ROWS_MIN: u64 = 1000;
/// More rows get no graph of hnsw_rs: it takes 3 to 4 KB of memory and 1 to 2 ms a row while it builds.
pub(crate) const GRAPH_ROWS_MAX: u64 = 200_000;
