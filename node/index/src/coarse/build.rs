//! Builds a graph with hnsw_rs: the one home of that package.
//!
//! Points are inserted one after another, which with hnsw_rs's fixed seed of levels repeats link for link; the lowest
//! layer is then frozen through the public API into our flat table, and points of the upper layers become entries (its own
//! entry point is private; any point of the top layer serves). Serving from hnsw_rs itself would cost 3 KB of memory a row
//! and, measured at 100,000 rows of 384 dimensions, three times the time of the frozen table. Two things to know: its
//! distances must not be negative, so plain dot products get no graph; and dropping its index runs on rayon's global pool.

use std::path::Path;

use granum_model::{Dense, Distance, Fine, Vector, VectorKind};
use hnsw_rs::hnsw::Hnsw;

use super::graph::{self, ENTRIES_MAX, Links};
use super::{GRAPH_ROWS_MAX, GRAPH_ROWS_MIN};
use crate::document::SegmentId;
use crate::error::{BuildError, ReadError};
use crate::metric::Scorer;
use crate::segment::build::failed;
use crate::segment::{VectorFile, names};
use crate::simd;

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

/// Whether a graph pays and can be built for these vectors.
pub(crate) fn is_worthwhile(vectors: &VectorFile) -> bool {
    matches!(vectors.kind(), VectorKind::Dense { .. })
        && vectors.distance() != Distance::Dot
        && (GRAPH_ROWS_MIN..=GRAPH_ROWS_MAX).contains(&vectors.places())
}

/// Builds and writes the graph of a segment's vector `number`. Slow: for a worker.
pub(crate) fn build(
    directory: &Path,
    segment: SegmentId,
    number: usize,
    vectors: &VectorFile,
) -> Result<(), BuildError> {
    let links = link(vectors)?;
    let written = graph::write(directory, segment, number, vectors, &links);
    written.map_err(failed(names::graph(segment, number)))?;
    Ok(())
}

fn link(vectors: &VectorFile) -> Result<Links, ReadError> {
    Ok(freeze(&index(vectors)?))
}

fn index(vectors: &VectorFile) -> Result<Hnsw<'static, f32, Nearness>, ReadError> {
    let distance = vectors.distance();
    let nearness = Nearness {
        scorer: Scorer::new(distance, Fine::F32),
        distance,
    };
    let places = vectors.places() as usize;
    let index = Hnsw::new(CONNECTIONS, places, LAYERS, EF_CONSTRUCTION, nearness);
    for place in 0..places {
        let row = match vectors.read_place(place as u64)? {
            Vector::Dense(row) => row,
            Vector::Sparse { .. } | Vector::Multi { .. } => Dense::F32(Vec::new()),
        };
        index.insert_slice((&simd::widened(&row), place));
    }
    Ok(index)
}

/// The lowest layer's links, and entries from the top layers down.
fn freeze(index: &Hnsw<'_, f32, Nearness>) -> Links {
    let points = index.get_point_indexation();
    let mut lists = vec![Vec::new(); index.get_nb_point()];
    let mut tops = Vec::with_capacity(lists.len());
    for point in points {
        let place = point.get_origin_id();
        let lowest = point.get_neighborhood_id().swap_remove(0);
        lists[place] = lowest
            .iter()
            .map(|neighbour| neighbour.get_origin_id() as u32)
            .collect();
        tops.push((std::cmp::Reverse(point.get_point_id().0), place as u32));
    }
    tops.sort_unstable();
    let entries = tops.iter().take(ENTRIES_MAX).map(|(_, place)| *place).collect();
    Links {
        degree: 2 * CONNECTIONS,
        lists,
        entries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Document, Index, Options, Params, Query};
    use granum_model::{DocId, Filter, Schema, VectorField};
    use std::collections::HashSet;

    const ROWS: u64 = 1500;
    const DIMENSION: usize = 24;
    const K: usize = 10;

    /// Unit vectors of a mixture of 20 clusters: not hard, not trivial.
    fn unit_vector(number: u64) -> Vec<f32> {
        let noise =
            |seed: u64| (xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes()) >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        let value = |at: u64| noise((number % 20) * 1000 + at) + 0.7 * noise(1_000_000 + number * 1000 + at);
        let values: Vec<f32> = (0..DIMENSION as u64).map(value).collect();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter().map(|value| value / length).collect()
    }

    fn schema() -> Schema {
        let kind = VectorKind::Dense {
            dimension: DIMENSION as u32,
        };
        let field = VectorField {
            name: "v".into(),
            kind,
            distance: Distance::Cosine,
            fine: Fine::F32,
            embedder: None,
        };
        Schema {
            vectors: vec![field],
            ..Schema::default()
        }
    }

    fn sealed(directory: &Path) -> (Index, Vec<crate::SegmentRef>) {
        let options = Options {
            builder: Builder::HnswRs,
        };
        let index = Index::open(directory, schema(), options, &[]).unwrap();
        for number in 0..ROWS {
            let vectors = vec![("v".into(), Vector::Dense(Dense::F32(unit_vector(number))))];
            let document = Document {
                id: DocId::Number(number),
                version: 1,
                payload: [].into(),
                vectors,
            };
            index.insert(document, None).unwrap();
        }
        let built = index.build(&index.freeze(SegmentId(1))).unwrap();
        let manifest = built.segments().to_vec();
        index.publish(built);
        (index, manifest)
    }

    fn found(index: &Index, query: &[f32], exact: bool) -> (HashSet<u64>, u64) {
        let query = Query {
            using: "v".into(),
            vector: Vector::Dense(Dense::F32(query.to_vec())),
            filter: Filter::default(),
            k: K,
            threshold: None,
            exclude: None,
            params: Params {
                exact,
                ..Params::default()
            },
        };
        let found = index.view().search(&[query], &|| false).unwrap().remove(0);
        let ids = found.hits.iter().map(|row| match row.hit.id {
            DocId::Number(number) => number,
            _ => unreachable!("all ids are numbers"),
        });
        (ids.collect(), found.usage.rows_scored)
    }

    #[test]
    fn the_frozen_graph_finds_what_hnsw_rs_finds_and_scores_few_rows() {
        let directory = tempfile::tempdir().unwrap();
        let (sealed_index, manifest) = sealed(directory.path());
        assert_eq!(found(&sealed_index, &unit_vector(0), false).1, ROWS, "no graph yet");
        assert_eq!(sealed_index.derive().unwrap(), 1);
        assert_eq!(sealed_index.derive().unwrap(), 0, "nothing is missing any more");
        let options = sealed_index.options();
        drop(sealed_index);
        let reopened = Index::open(directory.path(), schema(), options, &manifest).unwrap();
        let vectors = VectorFile::open(
            crate::fine::PagedFile::open(directory.path(), &names::vector(SegmentId(1), 0), None).unwrap(),
        );
        let oracle = index(&vectors.unwrap()).unwrap();
        let (mut ours, mut theirs, mut scored) = (0, 0, 0);
        for number in ROWS..ROWS + 50 {
            let query = unit_vector(number);
            let (exact, all) = found(&reopened, &query, true);
            assert_eq!((exact.len(), all), (K, ROWS));
            let (walked, rows) = found(&reopened, &query, false);
            ours += exact.intersection(&walked).count();
            scored += rows;
            let neighbours = oracle.search(&query, K, 64);
            theirs += neighbours
                .iter()
                .filter(|near| exact.contains(&(near.get_origin_id() as u64)))
                .count();
        }
        assert!(theirs >= 490, "the scan and hnsw_rs agree on {theirs} of 500");
        assert!(ours + 5 >= theirs, "{ours} of 500 found, hnsw_rs finds {theirs}");
        assert!(scored < 50 * ROWS * 2 / 3, "{scored} rows scored");
    }

    #[test]
    fn building_repeats_and_a_damaged_graph_is_done_without_until_built_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (index, manifest) = sealed(directory.path());
        index.derive().unwrap();
        let path = directory.path().join(names::graph(SegmentId(1), 0));
        let first = std::fs::read(&path).unwrap();
        let options = index.options();
        let expected = found(&index, &unit_vector(7), true).0;
        // Content: the frame still opens, the walk finds the damage. Footer: the graph does not open.
        for at in [0, first.len() - 100] {
            let mut bytes = first.clone();
            for byte in bytes[at..].iter_mut().step_by(4096) {
                *byte ^= 1;
            }
            std::fs::write(&path, &bytes).unwrap();
            assert!(crate::verify(directory.path(), &manifest).problems_found > 0);
            let index = Index::open(directory.path(), schema(), options, &manifest).unwrap();
            assert_eq!(found(&index, &unit_vector(7), false), (expected.clone(), ROWS));
            assert_eq!(index.derive().unwrap(), 1);
            assert!(std::fs::read(&path).unwrap() == first, "another graph");
            assert_eq!(
                crate::verify(directory.path(), &manifest).problems,
                Vec::<String>::new()
            );
        }
        index.remove_unreferenced(&manifest).unwrap();
        assert!(path.exists(), "a derived file stays while its segment does");
    }
}
