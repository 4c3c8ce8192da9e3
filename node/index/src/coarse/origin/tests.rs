//! Whatever a merge leaves out and adds: are copied codes those that would be made anew, and is the extended graph sound?

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use granum_model::{Dense, Distance, DocId, Fine, Schema, Vector, VectorField, VectorKind};
use proptest::prelude::*;

use super::*;
use crate::coarse::codes::{Encoded, encode};
use crate::coarse::derive::GRAPH_ROWS_MIN;
use crate::coarse::link::DEGREE;
use crate::coarse::walk::NO_LINK;
use crate::document::{Document, Place, SegmentId};
use crate::executor::Inline;
use crate::index::{Index, Merged};
use crate::options::Options;
use crate::segment::merge::plan::MergePlan;
use crate::segment::names;
use crate::simd::codes::Bits;

const DIMENSION: u64 = 12;

/// So many threads, whose turns are not in order.
struct Threads(usize);

impl Executor for Threads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| {
                    while let Some(left) = tasks.checked_sub(1 + next.fetch_add(1, Ordering::Relaxed)) {
                        task(left);
                    }
                });
            }
        });
    }
}

fn open(directory: &Path) -> Index {
    let field = VectorField::new(
        "v",
        VectorKind::Dense {
            dimension: DIMENSION as u32,
        },
        Distance::Euclid,
        Fine::F32,
    );
    let schema = Schema {
        vectors: vec![field],
        ..Schema::default()
    };
    Index::open(directory, schema, Options::default(), &[]).unwrap()
}

/// Clusters with noise; some rows are equal, and one of eleven has no vector.
fn document(number: u64) -> Document {
    let noise = |at: u64| (xxhash_rust::xxh3::xxh3_64(&at.to_le_bytes()) >> 40) as f32 / (1u64 << 24) as f32;
    let own = number - number % 7 / 6;
    let value = |at: u64| noise(own % 9 * 1000 + at) + 0.3 * noise(1_000_000 + own * 1000 + at);
    let vector = Vector::Dense(Dense::F32((0..DIMENSION).map(value).collect()));
    Document {
        id: DocId::Number(number),
        version: 1,
        payload: b"{}"[..].into(),
        vectors: (!number.is_multiple_of(11))
            .then(|| ("v".into(), vector))
            .into_iter()
            .collect(),
    }
}

/// Seals rows in segments of these sizes with codes and graphs, kills those that `dies` names, and merges all into one.
fn merged(directory: &Path, sizes: &[u64], dies: &dyn Fn(u64) -> bool) -> (Index, Merged) {
    let index = open(directory);
    let (mut ids, mut number) = (Vec::new(), 0);
    let seal = |id: u64| index.publish(index.build(&index.freeze(SegmentId(id))).unwrap());
    for (id, size) in (1..).zip(sizes) {
        for _ in 0..*size {
            index.insert(document(number), None).unwrap();
            number += 1;
        }
        seal(id);
        ids.push(SegmentId(id));
    }
    index.derive(&Inline).unwrap();
    let mut first = 0;
    for (segment, size) in ids.iter().zip(sizes) {
        for row in (0..*size as u32).filter(|row| dies(first + u64::from(*row))) {
            let place = Place { segment: *segment, row };
            index.delete(&DocId::Number(first + u64::from(row)), Some(place));
        }
        first += size;
    }
    let next = ids.len() as u64 + 1;
    seal(next);
    let plan = MergePlan {
        segments: ids,
        bytes: 0,
    };
    let merged = index.merge(&plan, SegmentId(next + 1), &|_| false).unwrap();
    (index, merged)
}

/// What is derived of a merged segment.
#[derive(PartialEq)]
struct Derived {
    codes: Vec<u8>,
    /// [`DEGREE`] a place.
    links: Vec<u32>,
    entries: Vec<u32>,
}

fn derived(sizes: &[u64], dies: &dyn Fn(u64) -> bool, executor: &dyn Executor) -> Derived {
    let directory = tempfile::tempdir().unwrap();
    let (index, merged) = merged(directory.path(), sizes, dies);
    index.derive_merged(&merged, executor).unwrap();
    let segment = merged.opened().expect("rows went on");
    let graph = Graph::open(directory.path(), segment.id, &segment.vectors()[0]).unwrap();
    graph.check().unwrap();
    Derived {
        codes: std::fs::read(directory.path().join(names::codes(segment.id, 0))).unwrap(),
        links: graph.links().unwrap().to_vec(),
        entries: graph.entries().to_vec(),
    }
}

/// Rows of the merged segment whose codes are copied, given that quantizer; all codes, copied ones among them, and all made
/// anew.
fn encoded(directory: &Path, merged: &Merged, quantizer: &Quantizer) -> (usize, Encoded, Encoded) {
    let vectors = &merged.opened().expect("rows went on").vectors()[0];
    let origins = Origin::all(directory, merged.sources(), vectors);
    let mut copied = 0;
    for origin in &origins {
        origin.each_code(quantizer, &Inline, |_, _, _| copied += 1).unwrap();
    }
    let with = encode(vectors, quantizer, &origins, &Inline).unwrap();
    let without = encode(vectors, quantizer, &[], &Inline).unwrap();
    (copied, with, without)
}

/// The quantizer of the first source.
fn quantizer(directory: &Path, merged: &Merged) -> Quantizer {
    let vectors = &merged.opened().expect("rows went on").vectors()[0];
    let origins = Origin::all(directory, merged.sources(), vectors);
    origins[0]
        .codes
        .as_ref()
        .expect("the first has codes")
        .quantizer()
        .clone()
}

#[test]
fn codes_are_copied_where_the_same_quantizer_made_them_and_are_those_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    // The third has too few rows to have codes; those of the fourth are damaged.
    let sizes = [700, 400, 90, 500];
    let (_index, merged) = merged(directory.path(), &sizes, &|number| number % 6 == 1);
    let damaged = directory.path().join(names::codes(SegmentId(4), 0));
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[5000] ^= 4;
    std::fs::write(&damaged, bytes).unwrap();
    let own = quantizer(directory.path(), &merged);
    assert!(own.centroid.components().is_some(), "rows are all on one side of 0");
    let (copied, with, without) = encoded(directory.path(), &merged, &own);
    let with_vector = (0..1100).filter(|number| number % 6 != 1 && number % 11 != 0).count();
    assert_eq!(copied, with_vector, "of the first two");
    assert!(with.codes == without.codes && with.factors == without.factors);
    let other = |bits, seed| Quantizer::new(DIMENSION as usize, bits, Distance::Euclid, seed);
    for other in [
        other(Bits::Eight, own.seed).about(own.centroid.clone()),
        other(Bits::Four, 77).about(own.centroid.clone()),
        other(Bits::Four, own.seed),
    ] {
        let (copied, with, without) = encoded(directory.path(), &merged, &other);
        assert_eq!(copied, 0, "{:?}", other.maker());
        assert!(with.codes == without.codes && with.factors == without.factors);
    }
}

/// Rows that no walk from the entries can reach.
fn unreachable(links: &[u32], entries: &[u32]) -> usize {
    let mut is_reached = vec![false; links.len() / DEGREE];
    let mut waiting = entries.to_vec();
    while let Some(row) = waiting.pop() {
        if !std::mem::replace(&mut is_reached[row as usize], true) {
            let own = &links[row as usize * DEGREE..][..DEGREE];
            waiting.extend(own.iter().filter(|link| **link != NO_LINK));
        }
    }
    is_reached.iter().filter(|is| !**is).count()
}

#[test]
fn an_extended_graph_is_the_same_for_any_number_of_threads() {
    let dies = |number: u64| number % 5 == 2;
    let sizes = [500, 1800, 400];
    assert!(derived(&sizes, &dies, &Inline) == derived(&sizes, &dies, &Threads(4)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_row_is_reachable_and_links_are_distinct(
        largest in GRAPH_ROWS_MIN + 200..2500,
        others in prop::collection::vec(1u64..900, 0..3),
        dead_of_100 in prop::sample::select(vec![0u64, 15, 60]),
    ) {
        let sizes: Vec<u64> = others.iter().copied().chain([largest]).collect();
        let dies = |number: u64| number * 7919 % 100 < dead_of_100;
        prop_assume!((largest * 10 / 11) * (100 - dead_of_100) / 100 > GRAPH_ROWS_MIN + 50);
        let Derived { links, entries, .. } = derived(&sizes, &dies, &Threads(2));
        prop_assert_eq!(unreachable(&links, &entries), 0);
        for (row, own) in (0u32..).zip(links.chunks_exact(DEGREE)) {
            let mut own: Vec<u32> = own.iter().copied().filter(|link| *link != NO_LINK).collect();
            let count = own.len();
            own.sort_unstable();
            own.dedup();
            prop_assert!(own.len() == count && !own.contains(&row), "row {} leads to {:?}", row, own);
        }
    }
}
