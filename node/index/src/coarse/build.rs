//! Builds a graph with hnsw_rs: the one home of that package.
//!
//! Points are inserted one after another, which with hnsw_rs's fixed seed of levels repeats link for link; the lowest
//! layer is then frozen through the public API into our flat table, and points of the upper layers become entries (its own
//! entry point is private; any point of the top layer serves). Serving from hnsw_rs itself would cost 3 KB of memory a row
//! and, measured at 100,000 rows of 384 dimensions, three times the time of the frozen table. Two things to know: its
//! distances must not be negative, so plain dot products get no graph; and dropping its index runs on rayon's global pool.

use granum_model::{Distance, Fine};
use hnsw_rs::hnsw::Hnsw;

use super::codes::dense_row;
use super::graph::Links;
use super::recall::Curve;
use super::walk::NO_LINK;
use crate::error::BuildError;
use crate::executor::Executor;
use crate::metric::Scorer;
use crate::pace::go_on;
use crate::segment::VectorFile;
use crate::simd;

/// More rows get no graph of hnsw_rs: it takes 3 to 4 KB of memory and 1 to 2 ms a row while it builds.
const ROWS_MAX: u64 = 200_000;
/// Entries taken from the upper layers.
const ENTRIES: usize = 64;

/// Links a point makes; twice as many at the lowest layer.
const CONNECTIONS: usize = 16;
/// Candidates while building.
const EF_CONSTRUCTION: usize = 200;
/// Layers at most: what hnsw_rs has room for.
const LAYERS: usize = 16;

/// Distance of two f32 rows, by the kernels of the search.
struct Nearness {
    scorer: Scorer,
    distance: Distance,
}

impl hnsw_rs::anndists::dist::distances::Distance<f32> for Nearness {
    fn eval(&self, left: &[f32], right: &[f32]) -> f32 {
        let score = self.scorer.score(left, simd::bytes_of_floats(right));
        match self.distance {
            // Rounding may bring the product of unit vectors above 1.
            Distance::Cosine | Distance::Dot => (1.0 - score).max(0.0),
            Distance::Euclid | Distance::Manhattan => -score,
        }
    }
}

/// Whether hnsw_rs can build for these vectors.
pub(crate) fn is_worthwhile(vectors: &VectorFile) -> bool {
    vectors.distance() != Distance::Dot && vectors.places() <= ROWS_MAX
}

/// Builds the graph of a segment's vectors. Slow: for a worker.
pub(super) fn link(vectors: &VectorFile, executor: &dyn Executor) -> Result<Links, BuildError> {
    Ok(freeze(&index(vectors, executor)?))
}

fn index(vectors: &VectorFile, executor: &dyn Executor) -> Result<Hnsw<'static, f32, Nearness>, BuildError> {
    let distance = vectors.distance();
    let nearness = Nearness {
        scorer: Scorer::new(distance, Fine::F32),
        distance,
    };
    let places = vectors.places() as usize;
    let index = Hnsw::new(CONNECTIONS, places, LAYERS, EF_CONSTRUCTION, nearness);
    for place in 0..places {
        go_on(executor)?;
        let row = dense_row(vectors, place as u64)?;
        index.insert_slice((&row, place));
    }
    Ok(index)
}

/// The lowest layer's links, and entries from the top layers down.
fn freeze(index: &Hnsw<'_, f32, Nearness>) -> Links {
    let points = index.get_point_indexation();
    let degree = 2 * CONNECTIONS;
    let mut table = vec![NO_LINK; index.get_nb_point() * degree];
    let mut tops = Vec::with_capacity(index.get_nb_point());
    for point in points {
        let place = point.get_origin_id();
        let lowest = point.get_neighborhood_id().swap_remove(0);
        let (list, mut count) = (&mut table[place * degree..][..degree], 0);
        for link in lowest.iter().map(|neighbour| neighbour.get_origin_id() as u32) {
            // A list names a place once; the library does not promise it.
            if count < degree && !list[..count].contains(&link) {
                list[count] = link;
                count += 1;
            }
        }
        tops.push((std::cmp::Reverse(point.get_point_id().0), place as u32));
    }
    tops.sort_unstable();
    let entries = tops.iter().take(ENTRIES).map(|(_, place)| *place).collect();
    Links {
        degree,
        table,
        entries,
        recall: Curve::default(),
    }
}
