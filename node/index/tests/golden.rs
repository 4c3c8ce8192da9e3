//! Do files of format version 1 mean for ever what they meant? `golden/v1` was written by the first release.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use granum_index::{Document, FileRef, Index, Options, SegmentId, SegmentRef, verify};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};
use half::f16;
use xxhash_rust::xxh3::xxh3_64;

#[allow(dead_code)]
#[path = "../fuzz/mended.rs"]
mod mended;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn schema() -> Schema {
    Schema {
        vectors: vec![
            VectorField::new("", VectorKind::Dense { dimension: 4 }, Distance::Cosine, Fine::F16),
            VectorField::new(
                "long",
                VectorKind::Dense { dimension: 1100 },
                Distance::Euclid,
                Fine::F32,
            ),
            VectorField::new("words", VectorKind::Sparse, Distance::Dot, Fine::F32),
            VectorField::new("tokens", VectorKind::Multi { dimension: 2 }, Distance::Dot, Fine::F16),
        ],
        ..Schema::default()
    }
}

fn documents() -> Vec<Document> {
    let halves = |values: &[f32]| Dense::F16(values.iter().map(|value| f16::from_f32(*value).to_bits()).collect());
    let document = |id, version, payload: &str, vectors: Vec<(&str, Vector)>| Document {
        id,
        version,
        payload: Arc::from(payload.as_bytes()),
        vectors: vectors
            .into_iter()
            .map(|(name, vector)| (name.to_owned(), vector))
            .collect(),
    };
    let long = Vector::Dense(Dense::F32((0..1100).map(|at| at as f32 / 8.0).collect()));
    let words = Vector::Sparse {
        indices: vec![3, 500, 70_000],
        values: vec![0.5, 1.25, -2.0],
    };
    let tokens = |rows: &[f32]| Vector::Multi {
        dimension: 2,
        rows: halves(rows),
    };
    vec![
        document(
            DocId::Text("zebra".into()),
            11,
            r#"{"title":"Zebra","sizes":[1,2.5]}"#,
            vec![("", Vector::Dense(halves(&[0.5, -0.5, 0.5, 0.5]))), ("words", words)],
        ),
        document(
            DocId::Number(7),
            12,
            "",
            vec![("long", long), ("tokens", tokens(&[1.0, 0.0, 0.25, -4.0]))],
        ),
        document(
            DocId::Uuid([0xa5; 16]),
            13,
            "{}",
            vec![
                ("", Vector::Dense(halves(&[1.0, 0.0, 0.0, 0.0]))),
                ("tokens", tokens(&[0.0, 2.0])),
            ],
        ),
        document(DocId::Number(8), 14, r#"{"dead":true}"#, vec![]),
    ]
}

/// Seals the documents as segment 1 and the death of number 8 as generation 2.
fn write(directory: &Path) -> Vec<SegmentRef> {
    let index = Index::open(directory, schema(), Options::default(), &[]).unwrap();
    for document in documents() {
        index.insert(document, None).unwrap();
    }
    let built = index.build(&index.freeze(SegmentId(1))).unwrap();
    let place = built.ids().find(|(id, _)| **id == DocId::Number(8)).unwrap().1;
    index.publish(built);
    assert!(index.delete(&DocId::Number(8), Some(place)));
    index.build(&index.freeze(SegmentId(2))).unwrap().segments().to_vec()
}

/// The manifest, digests taken from the files as they lie there.
fn manifest(written: Vec<SegmentRef>) -> Vec<SegmentRef> {
    let digested = |file: FileRef| {
        let bytes = std::fs::read(golden().join(&file.name)).unwrap();
        FileRef {
            name: file.name,
            bytes: bytes.len() as u64,
            xxh3: xxh3_64(&bytes),
        }
    };
    written
        .into_iter()
        .map(|segment| SegmentRef {
            files: segment.files.into_iter().map(digested).collect(),
            ..segment
        })
        .collect()
}

#[test]
fn files_of_version_1_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = manifest(write(directory.path()));
    assert_eq!(verify(&golden(), &manifest).problems, Vec::<String>::new());
    let index = Index::open(&golden(), schema(), Options::default(), &manifest).unwrap();
    let view = index.view();
    let mut expected: Vec<Document> = documents()
        .into_iter()
        .filter(|document| document.version != 14)
        .collect();
    expected.sort_by(|left, right| left.id.cmp(&right.id));
    let rows = view.scan(&Filter::default(), None, 10, &|| false).unwrap();
    let found: Vec<Document> = rows.iter().map(|(_, row)| view.document(*row).unwrap()).collect();
    assert_eq!(found, expected);
}

/// For a new version of the format, with its own directory: `GOLDEN=write cargo test -p granum-index --test golden`.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever adds a version of the format asks for its files by hand"
)]
fn writes_golden_files() -> bool {
    std::env::var("GOLDEN").is_ok_and(|value| value == "write")
}

#[test]
fn the_same_documents_are_still_written_as_the_same_bytes() {
    if writes_golden_files() {
        write(&golden());
    }
    let directory = tempfile::tempdir().unwrap();
    for file in write(directory.path()).into_iter().flat_map(|segment| segment.files) {
        let written = std::fs::read(directory.path().join(&file.name)).unwrap();
        assert_eq!(file.xxh3, xxh3_64(&written), "{}", file.name);
        // Another release of zstd may pack payloads into other bytes that unpack to the same.
        if !file.name.ends_with(".payload") {
            assert!(
                written == std::fs::read(golden().join(&file.name)).unwrap(),
                "{} differs",
                file.name
            );
        }
    }
}

#[test]
fn a_scaled_row_is_its_scale_and_its_numbers() {
    let field = VectorField::new("", VectorKind::Dense { dimension: 3 }, Distance::Dot, Fine::I8);
    let schema = Schema {
        vectors: vec![field],
        ..Schema::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), schema, Options::default(), &[]).unwrap();
    let row = Vector::Dense(Dense::F32(vec![0.5, -63.5, 1.0]));
    let document = Document {
        id: DocId::Number(1),
        version: 1,
        payload: Arc::default(),
        vectors: vec![(String::new(), row)],
    };
    index.insert(document.clone(), None).unwrap();
    let built = index.build(&index.freeze(SegmentId(1))).unwrap();
    let mut files = built.segments()[0].files.iter();
    let file = files.find(|file| file.name.contains("vector")).unwrap();
    let path = directory.path().join(&file.name);
    let written = std::fs::read(&path).unwrap();
    let numbers = [1, -127i8, 2].map(i8::cast_unsigned);
    assert_eq!(written[..7], [&0.5f32.to_le_bytes()[..], &numbers].concat());
    let mut manifest = built.segments().to_vec();
    index.publish(built);
    let view = index.view();
    assert_eq!(view.get(&DocId::Number(1), None).unwrap(), Some(document));
    assert_eq!(verify(directory.path(), &manifest).problems, Vec::<String>::new());
    let mut forged = written;
    mended::edit(&mut forged, &[4, 0, 0, 1, 1, 0x80]);
    let mut files = manifest[0].files.iter_mut();
    files.find(|file| path.ends_with(&file.name)).unwrap().xxh3 = xxh3_64(&forged);
    std::fs::write(&path, forged).unwrap();
    let problems = verify(directory.path(), &manifest).problems.join("\n");
    assert!(problems.contains("not whole numbers of a scale"), "{problems}");
}

#[test]
fn a_row_of_zeros_is_no_damage() {
    let document = Document {
        id: DocId::Number(1),
        version: 1,
        payload: Arc::default(),
        vectors: vec![(String::new(), Vector::Dense(Dense::F16(vec![0; 4])))],
    };
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), schema(), Options::default(), &[]).unwrap();
    index.insert(document, None).unwrap();
    let built = index.build(&index.freeze(SegmentId(1))).unwrap();
    assert_eq!(
        verify(directory.path(), built.segments()).problems,
        Vec::<String>::new()
    );
}
