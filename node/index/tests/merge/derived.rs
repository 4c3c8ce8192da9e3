//! What is derived of a merged segment: is it there in time, the same as made anew where it must be, and gone when it is given up?

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use granum_index::{BuildError, Builder, Document, Executor, Index, Inline, Options, SegmentId};
use granum_model::{Distance, Schema, VectorField};

use super::held::{Held, dense, document, names};

/// Vectors of 16 components only, compared by Euclid's distance.
fn euclid() -> Schema {
    let field = VectorField {
        distance: Distance::Euclid,
        ..dense("dense", 16)
    };
    Schema {
        vectors: vec![field],
        ..Schema::default()
    }
}

/// Documents of [`euclid`] sealed in segments of these sizes, with codes and graphs.
fn sealed_with_graphs(directory: &Path, sizes: &[u64]) -> Held {
    let mut held = Held::new(directory, euclid());
    let mut number = 0;
    for size in sizes {
        for _ in 0..*size {
            let vectors = document(number, 1).vectors.drain(..1).collect();
            held.put(Document {
                vectors,
                ..document(number, 1)
            });
            number += 1;
        }
        held.seal();
    }
    held.index.derive(&Inline).unwrap();
    held
}

#[test]
fn a_graph_is_built_before_the_merged_segment_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        builder: Builder::HnswRs,
        ..Options::default()
    };
    let mut held = Held::new(directory.path(), euclid());
    held.index = Arc::new(Index::open(directory.path(), euclid(), options, &[]).unwrap());
    for number in 0..1_200 {
        let vectors = document(number, 1).vectors.drain(..1).collect();
        held.put(Document {
            vectors,
            ..document(number, 1)
        });
        if number % 600 == 599 {
            held.seal();
        }
    }
    let (plan, next) = (held.all(), held.id());
    let merged = held.index.merge(&plan, next, &|_| false).unwrap();
    assert_eq!(held.index.derive_merged(&merged, &Inline).unwrap(), 2);
    held.index.remove_unreferenced(&held.manifest).unwrap();
    held.publish(merged);
    assert_eq!(held.index.derive(&Inline).unwrap(), 0);
    assert!(names(directory.path()).iter().any(|name| name.contains(".graph.")));
}

#[test]
fn codes_of_a_merged_segment_are_byte_for_byte_those_built_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = sealed_with_graphs(directory.path(), &[1200, 300, 40]);
    (0..1540).step_by(7).for_each(|number| held.delete(number));
    held.seal();
    let (plan, next) = (held.all(), held.id());
    let merged = held.index.merge(&plan, next, &|_| false).unwrap();
    assert_eq!(held.index.derive_merged(&merged, &Inline).unwrap(), 2);
    held.publish(merged);
    let codes = directory.path().join(format!("{:016x}.codes.00", next.0));
    let copied = std::fs::read(&codes).unwrap();
    std::fs::remove_file(&codes).unwrap();
    let reopened = Index::open(directory.path(), euclid(), Options::default(), &held.manifest).unwrap();
    assert!(reopened.derive(&Inline).unwrap() > 0);
    assert!(std::fs::read(&codes).unwrap() == copied);
}

/// Says stop once it was asked so often, or does something then.
struct At<F> {
    asks: u64,
    asked: AtomicU64,
    then: F,
}

impl<F: Fn() -> bool + Sync> Executor for At<F> {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        Inline.run(tasks, task);
    }

    fn pace(&self, _: u64) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.asks && (self.then)()
    }
}

#[test]
fn a_build_of_codes_and_graph_stops_when_it_is_told_to_and_leaves_no_half_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = sealed_with_graphs(directory.path(), &[1200, 300]);
    let before = names(directory.path());
    let mut stopped = 0;
    for asks in (0..8).map(|power| (1 << (2 * power)) - 1) {
        let (plan, next) = (held.all(), held.id());
        let merged = held.index.merge(&plan, next, &|_| false).unwrap();
        let executor = At {
            asks,
            asked: AtomicU64::new(0),
            then: || true,
        };
        match held.index.derive_merged(&merged, &executor) {
            Err(BuildError::Stopped) => stopped += 1,
            derived => assert_eq!(derived.unwrap(), 2),
        }
        let asked = executor.asked.into_inner();
        assert!(asked <= asks + 1, "asked {asked} times, told to stop at {asks}");
        assert!(!names(directory.path()).iter().any(|name| name.ends_with(".tmp")));
        drop(merged);
        assert_eq!(names(directory.path()), before);
    }
    assert!(stopped >= 3, "stopped {stopped} times");
}

#[test]
fn what_is_built_for_a_segment_that_goes_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = sealed_with_graphs(directory.path(), &[1200]);
    for name in names(directory.path()) {
        if name.contains(".graph.") {
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
    }
    let index = Index::open(directory.path(), euclid(), Options::default(), &held.manifest).unwrap();
    held.index = Arc::new(index);
    let index = held.index.clone();
    let held = Mutex::new(held);
    let executor = At {
        asks: 20,
        asked: AtomicU64::new(0),
        then: || {
            let mut held = held.lock().unwrap();
            if held.manifest[0].id == SegmentId(1) {
                held.merge(&|_| false).unwrap();
            }
            false
        },
    };
    assert_eq!(index.derive(&executor).unwrap(), 0, "what is gone needs nothing");
    assert_ne!(held.into_inner().unwrap().manifest[0].id, SegmentId(1));
    assert!(
        !names(directory.path())
            .iter()
            .any(|name| name.starts_with("0000000000000001"))
    );
}
