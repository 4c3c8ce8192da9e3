//! Does a reader ever see half a batch, a document twice or none of it, while others write and seal?
//!
//! A writer replaces all documents again and again, each time in one batch with one version; a sealer freezes, builds,
//! brings the table id -> place up to date and only then publishes, without stopping the writer; readers check that every
//! view has each document once, all of one version.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use granum_index::{Document, Index, Options, Params, Place, Query, SegmentId};
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
    let kind = VectorKind::Dense { dimension: 2 };
    let field = VectorField {
        name: "v".into(),
        kind,
        distance: Distance::Dot,
        fine: Fine::F32,
        embedder: None,
    };
    let index = Index::open(
        directory.path(),
        Schema {
            vectors: vec![field],
            ..Schema::default()
        },
        Options::default(),
        &[],
    )
    .unwrap();
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
