//! Does a reader ever see half a batch, a document twice or none of it, while others write and seal?
//!
//! A writer replaces all documents again and again, each time in one batch with one version; a sealer freezes, builds,
//! brings the table id -> place up to date and only then publishes, without stopping the writer; readers check that every
//! view has each document once, all of one version.
//!
//! And while segments are merged: a writer overwrites one document at a time, so that segments hold many live rows and
//! rows die in the middle of a merge; readers check that each is there once, and never older than it was.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use granum_index::{
    Document, Index, MergeError, MergePlan, OpenError, Options, Params, Place, Query, SegmentId, SegmentRef, verify,
};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};

const DOCUMENTS: u64 = 100;
const SEALS: u64 = 25;

fn document(number: u64, version: u64) -> Document {
    let vectors = vec![(
        "v".into(),
        Vector::Dense(Dense::F32(vec![number as f32, version as f32])),
    )];
    Document {
        id: DocId::Number(number),
        version,
        payload: [].into(),
        vectors,
    }
}

fn schema() -> Schema {
    let kind = VectorKind::Dense { dimension: 2 };
    let field = VectorField::new("v", kind, Distance::Dot, Fine::F32);
    Schema {
        vectors: vec![field],
        ..Schema::default()
    }
}

fn check(index: &Index) -> u64 {
    let view = index.view();
    let query = Query {
        using: "v".into(),
        vector: Vector::Dense(Dense::F32(vec![0.0, 1.0])),
        filter: Filter::default(),
        k: 2 * DOCUMENTS as usize,
        threshold: None,
        exclude: None,
        params: Params::default(),
    };
    let found = view.search(&[query], &|| false).unwrap().remove(0);
    let mut versions: Vec<u64> = found.hits.iter().map(|row| row.hit.version).collect();
    let mut ids: Vec<&DocId> = found.hits.iter().map(|row| &row.hit.id).collect();
    ids.sort();
    assert!(
        ids.iter()
            .copied()
            .eq((0..DOCUMENTS).map(DocId::Number).collect::<Vec<_>>().iter()),
        "{ids:?}"
    );
    versions.dedup();
    assert_eq!(versions.len(), 1, "half a batch");
    for number in [0, DOCUMENTS / 2, DOCUMENTS - 1] {
        let stored = view.get(&DocId::Number(number), None).unwrap().expect("always there");
        assert_eq!(stored, document(number, versions[0]));
    }
    versions[0]
}

#[test]
fn views_are_whole_while_others_write_and_seal() {
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), schema(), Options::default(), &[]).unwrap();
    let places: Mutex<BTreeMap<DocId, Place>> = Mutex::default();
    let (is_sealed, version) = (AtomicBool::new(false), AtomicU64::new(0));
    let write = || {
        let version = version.fetch_add(1, Ordering::SeqCst) + 1;
        let mut writer = index.write();
        for number in 0..DOCUMENTS {
            let place = places.lock().unwrap().remove(&DocId::Number(number));
            writer.insert(document(number, version), place).unwrap();
        }
    };
    write();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_sealed.load(Ordering::SeqCst) {
                write();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !is_sealed.load(Ordering::SeqCst) {
                    let seen = check(&index);
                    assert!(seen >= last, "version {seen} after {last}");
                    last = seen;
                }
            });
        }
        for segment in 1..=SEALS {
            let built = index.build(&index.freeze(SegmentId(segment))).unwrap();
            for (id, place) in built.ids() {
                places.lock().unwrap().insert(id.clone(), place);
            }
            let manifest = built.segments().to_vec();
            index.publish(built);
            index.remove_unreferenced(&manifest).unwrap();
        }
        is_sealed.store(true, Ordering::SeqCst);
    });
    assert_eq!(check(&index), version.load(Ordering::SeqCst));
    assert_eq!(index.stats().documents, DOCUMENTS);
}

/// Lets the others end, also when a check fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

const MERGES: u64 = 12;
/// Seals for each merge: they go on while it runs.
const SEALS_PER_MERGE: u64 = 5;

#[test]
fn views_are_whole_while_others_write_seal_and_merge() {
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), schema(), Options::default(), &[]).unwrap();
    let places: Mutex<BTreeMap<DocId, Place>> = Mutex::default();
    let (is_done, seals_due) = (AtomicBool::new(false), AtomicU64::new(0));
    // What a node's lock around seals guards: who writes a manifest, and the next id.
    let manifest: Mutex<(Vec<SegmentRef>, u64)> = Mutex::new((Vec::new(), 1));
    (0..DOCUMENTS).for_each(|number| assert!(!index.insert(document(number, 0), None).unwrap()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1.. {
                if is_done.load(Ordering::SeqCst) {
                    return;
                }
                let number = version * 37 % DOCUMENTS;
                let mut writer = index.write();
                let place = places.lock().unwrap().remove(&DocId::Number(number));
                assert!(
                    writer.insert(document(number, version), place).unwrap(),
                    "document {number} was lost"
                );
            }
        });
        scope.spawn(|| {
            let mut seen = vec![0; DOCUMENTS as usize];
            while !is_done.load(Ordering::SeqCst) {
                let view = index.view();
                let rows = view.scan(&Filter::default(), None, usize::MAX, &|| false).unwrap();
                assert_eq!(rows.len() as u64, DOCUMENTS);
                for ((number, (id, row)), last) in (0..).zip(rows).zip(&mut seen) {
                    assert_eq!(id, DocId::Number(number));
                    let (_, version) = view.id(row).unwrap();
                    assert!(version >= *last, "document {number}: version {version} after {last}");
                    *last = version;
                    assert_eq!(view.document(row).unwrap(), document(number, version));
                }
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let due = seals_due.load(Ordering::SeqCst);
                if due == 0 {
                    std::thread::yield_now();
                    continue;
                }
                let mut manifest = manifest.lock().unwrap();
                let frozen = index.freeze(SegmentId(manifest.1));
                manifest.1 += 1;
                let built = index.build(&frozen).unwrap();
                for (id, place) in built.ids() {
                    places.lock().unwrap().insert(id.clone(), place);
                }
                manifest.0 = built.segments().to_vec();
                index.publish(built);
                index.remove_unreferenced(&manifest.0).unwrap();
                seals_due.fetch_sub(1, Ordering::SeqCst);
            }
        });
        let _done = Done(&is_done);
        for _ in 0..MERGES {
            seals_due.fetch_max(SEALS_PER_MERGE, Ordering::SeqCst);
            let (plan, next) = loop {
                let mut manifest = manifest.lock().unwrap();
                if manifest.0.len() < 2 {
                    // A seal that nothing was written before makes no segment.
                    seals_due.fetch_max(1, Ordering::SeqCst);
                    drop(manifest);
                    std::thread::yield_now();
                    continue;
                }
                manifest.1 += 1;
                let segments = manifest.0.iter().map(|segment| segment.id).collect();
                break (MergePlan { segments, bytes: 0 }, SegmentId(manifest.1 - 1));
            };
            let mut merged = match index.merge(&plan, next, &|_| false) {
                // A seal dropped a source: all its rows have died.
                Err(MergeError::Gone { .. } | MergeError::Source(OpenError::Io { .. })) => continue,
                merged => merged.unwrap(),
            };
            let moved = {
                let mut manifest = manifest.lock().unwrap();
                manifest.0 = index.settle(&mut merged).unwrap();
                let moved = index.publish_merged(merged);
                index.remove_unreferenced(&manifest.0).unwrap();
                moved
            };
            for entry in moved.places() {
                let (id, old, new) = entry.unwrap();
                if let Some(place) = places.lock().unwrap().get_mut(&id).filter(|place| **place == old) {
                    *place = new;
                }
            }
            index.forget_moved(moved);
        }
    });
    assert_eq!(index.stats().documents, DOCUMENTS);
    let manifest = manifest.into_inner().unwrap().0;
    assert_eq!(verify(directory.path(), &manifest).problems, Vec::<String>::new());
}
