//! What names candidates before rows are read: codes of a segment's dense vectors, and a graph over them.
//!
//! Both are derived: they lie in files of their own that no manifest names, fit exactly one vector file (by fingerprint),
//! and a segment without them, or with damaged ones, is scanned exactly. Reading order:
//!
//! 1. [`centroid`], [`rotate`], [`quantize`], [`estimate`]: RaBitQ. From a vector to a code, from code and query to a score and its bound.
//! 2. [`codes`]: their file, a row a place. [`graph`]: links between places, a file too.
//! 3. [`loaded`]: both in memory, [`factors`] in the order in which they are read. [`seek`]: the search: [`walk`] along the graph
//!    with a [`beam`], or scan the codes; candidates with intervals come out. [`places`] says which may be hits.
//! 4. [`link`]: the builder of graphs; [`cluster`] finds where walks begin; [`build`] is hnsw_rs as another builder.
//! 5. [`origin`]: what a merged segment takes over from its sources.
//! 6. [`recall`]: how wide walks must be. [`mod@derive`]: which files a vector should have, and makes them.

mod beam;
pub(crate) mod build;
pub(crate) mod centroid;
pub(crate) mod chunk;
mod cluster;
mod codes;
pub(crate) mod derive;
#[cfg(feature = "bench")]
pub mod door;
pub(crate) mod estimate;
mod factors;
mod graph;
mod link;
mod loaded;
pub(crate) mod origin;
mod places;
mod quantize;
mod recall;
mod rotate;
pub(crate) mod seek;
mod walk;

use std::path::Path;
use std::sync::OnceLock;

use crate::document::SegmentId;
use crate::segment::VectorFile;
use crate::simd::codes::Bits;
pub(crate) use centroid::Centroid;
pub(crate) use codes::Codes;
pub(crate) use graph::Graph;
use loaded::Loaded;
pub(crate) use places::Places;
pub(crate) use recall::{Widening, permille};

/// What was derived from one vector file. Invariant: both files fit it.
pub(crate) struct Coarse {
    codes: Codes,
    graph: Option<Graph>,
    /// What searches read; `None` of damaged files. Made by whoever asks first.
    loaded: OnceLock<Option<Loaded>>,
}

impl Coarse {
    /// Opens what there is for `vectors`; `None` if there are no codes. Frames are checked now, contents before first use.
    pub fn open(directory: &Path, segment: SegmentId, vectors: &VectorFile) -> Option<Coarse> {
        // What can't be opened is missing to `derive`, which builds it anew.
        let codes = Codes::open(directory, segment, vectors).ok()?;
        Some(Coarse {
            codes,
            graph: Graph::open(directory, segment, vectors).ok(),
            loaded: OnceLock::new(),
        })
    }

    /// Whether it may be searched. Reads all of it the first time.
    pub fn is_sound(&self) -> bool {
        self.loaded().is_some()
    }

    /// Whether somebody has read it and found it damaged.
    pub fn is_known_damaged(&self) -> bool {
        self.loaded.get().is_some_and(Option::is_none)
    }

    fn loaded(&self) -> Option<&Loaded> {
        self.loaded
            .get_or_init(|| Loaded::new(&self.codes, self.graph.as_ref()).ok())
            .as_ref()
    }

    /// The graph, if there is one.
    fn graph(&self) -> Option<&Graph> {
        self.graph.as_ref()
    }

    /// The width of walks that find `recall` of the `k` best, as measured; `None`: none does, or it was not measured.
    pub fn width(&self, recall: f32, k: usize) -> Option<usize> {
        self.graph()?.recall().width(recall, k)
    }

    /// What its codes are about.
    pub fn centroid(&self) -> &Centroid {
        &self.codes.quantizer().centroid
    }

    /// Bits a dimension.
    pub fn bits(&self) -> Bits {
        self.codes.quantizer().bits
    }

    /// Whether there is a graph.
    pub fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// Bytes in memory for searches; 0 before the first.
    pub fn resident_bytes(&self) -> u64 {
        self.loaded.get().and_then(Option::as_ref).map_or(0, Loaded::bytes)
    }
}
