//! How an index is built and searched: what a collection's settings say to this crate.

pub use crate::simd::codes::Bits;

/// How an index is built and searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What [`Index::derive`](crate::Index::derive) builds over the dense vectors of sealed segments.
    pub builder: Builder,
    /// Bits a dimension of the codes.
    pub bits: Bits,
    /// Seed of the rotations: the same for all segments that codes may be copied between.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            builder: Builder::default(),
            bits: Bits::Four,
            seed: 0,
        }
    }
}

/// What names candidates in a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builder {
    /// Codes and a graph over them, built by this crate.
    #[default]
    Granum,
    /// Codes and a graph built by hnsw_rs, for segments of 1,000 to 200,000 rows; cosine, Euclid and Manhattan.
    HnswRs,
    /// Codes without a graph: they are scanned. Fewest bytes, and every search may be certified.
    Codes,
    /// Nothing: all rows are read and scored, exactly.
    Scan,
}
