//! What does a damaged file do? It is named with its page, it never answers wrongly and never panics.

use std::path::Path;
use std::sync::Arc;

use granum_index::{Document, Index, Options, Params, Query, ReadError, SearchError, SegmentId, SegmentRef, verify};
use granum_model::{Condition, Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};
use proptest::prelude::*;

const ROWS: u64 = 300;

fn schema() -> Schema {
    let field = |name: &str, kind| VectorField::new(name, kind, Distance::Dot, Fine::F32);
    Schema {
        vectors: vec![
            field("dense", VectorKind::Dense { dimension: 16 }),
            field("sparse", VectorKind::Sparse),
            field("multi", VectorKind::Multi { dimension: 4 }),
        ],
        ..Schema::default()
    }
}

fn vectors(number: u64) -> Vec<(String, Vector)> {
    let values = |count: u64| {
        (0..count)
            .map(|at| ((number * 7 + at * 3) % 11) as f32 - 5.0)
            .collect::<Vec<f32>>()
    };
    let sparse = Vector::Sparse {
        indices: vec![number as u32, number as u32 + 9],
        values: values(2),
    };
    let rows = 1 + number % 3;
    let multi = Vector::Multi {
        dimension: 4,
        rows: Dense::F32(values(4 * rows)),
    };
    let mut vectors = vec![
        ("dense".into(), Vector::Dense(Dense::F32(values(16)))),
        ("sparse".into(), sparse),
    ];
    if !number.is_multiple_of(4) {
        vectors.push(("multi".into(), multi));
    }
    vectors
}

/// A segment of 300 rows, some of them dead, sealed below `directory`.
fn seal(directory: &Path) -> Vec<SegmentRef> {
    let index = Index::open(directory, schema(), Options::default(), &[]).unwrap();
    for number in 0..ROWS {
        let payload = format!(r#"{{"n": {number}, "text": "package number {number}"}}"#);
        let payload = Arc::from(payload.as_bytes());
        let document = Document {
            id: DocId::Number(number),
            version: number,
            payload,
            vectors: vectors(number),
        };
        index.insert(document, None).unwrap();
    }
    let mut manifest = Vec::new();
    for generation in 1..3 {
        let built = index.build(&index.freeze(SegmentId(generation))).unwrap();
        let places: Vec<_> = built.ids().map(|(id, place)| (id.clone(), place)).collect();
        manifest = built.segments().to_vec();
        index.publish(built);
        for (id, place) in places.iter().step_by(10) {
            assert!(index.delete(id, Some(*place)));
        }
    }
    assert_eq!(manifest[0].deleted, Some(2));
    manifest
}

fn queries() -> Vec<Query> {
    let filter = Filter {
        must: vec![Condition::MatchText {
            key: "text".into(),
            text: "7 number".into(),
        }],
        ..Filter::default()
    };
    let query = |name: &str, vector, filter: &Filter| Query {
        using: name.into(),
        vector,
        filter: filter.clone(),
        k: 400,
        threshold: None,
        exclude: None,
        params: Params::default(),
    };
    let of = |name: &str| vectors(5).into_iter().find(|(own, _)| own == name).unwrap().1;
    ["dense", "sparse", "multi"]
        .iter()
        .flat_map(|name| {
            [
                query(name, of(name), &Filter::default()),
                query(name, of(name), &filter),
            ]
        })
        .collect()
}

/// Everything a reader can ask for.
fn read_all(index: &Index) -> Result<Vec<(DocId, f32, Document)>, SearchError> {
    let view = index.view();
    let mut all = Vec::new();
    for found in view.search(&queries(), &|| false)? {
        for row in found.hits {
            all.push((row.hit.id, row.hit.score, view.document(row.row)?));
        }
    }
    for (id, row) in view.scan(&Filter::default(), None, 1000, &|| false)? {
        all.push((id, 0.0, view.document(row)?));
    }
    Ok(all)
}

fn open(directory: &Path, manifest: &[SegmentRef]) -> Result<Index, granum_index::OpenError> {
    Index::open(directory, schema(), Options::default(), manifest)
}

#[test]
fn a_sound_segment_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(directory.path());
    let verified = verify(directory.path(), &manifest);
    assert_eq!(verified.problems, Vec::<String>::new());
    assert_eq!((verified.segments, verified.rows), (1, ROWS));
    let files = manifest[0].files.iter();
    assert_eq!(verified.bytes, files.map(|file| file.bytes).sum::<u64>());
}

#[test]
fn a_damaged_page_is_named_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(directory.path());
    let name = manifest[0]
        .files
        .iter()
        .find(|file| file.name.contains(".vector.00"))
        .unwrap()
        .name
        .clone();
    let path = directory.path().join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 * 4096 + 100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let index = open(directory.path(), &manifest).unwrap();
    match read_all(&index) {
        Err(SearchError::Read(ReadError::Page { file, page: 2, .. })) => assert_eq!(file, name),
        other => panic!("{other:?}"),
    }
    let problems = verify(directory.path(), &manifest).problems;
    assert!(
        problems[0].starts_with(&format!("{name}: page 2 is damaged")),
        "{problems:?}"
    );
}

#[test]
fn missing_short_and_foreign_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(directory.path());
    for file in &manifest[0].files {
        let path = directory.path().join(&file.name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(open(directory.path(), &manifest).is_err(), "{} short", file.name);
        std::fs::remove_file(&path).unwrap();
        assert!(open(directory.path(), &manifest).is_err(), "{} missing", file.name);
        assert!(verify(directory.path(), &manifest).problems_found > 0);
        std::fs::write(&path, &bytes).unwrap();
    }
    let mut foreign = manifest.clone();
    foreign[0].files[0].name = "../0000000000000001.ids".into();
    assert!(open(directory.path(), &foreign).is_err());
    assert!(open(directory.path(), &manifest).is_ok());
}

#[test]
fn ends_of_a_multi_vector_beyond_its_rows_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(directory.path());
    let path = directory.path().join("0000000000000001.vector.02");
    let mut bytes = std::fs::read(&path).unwrap();
    let footer = bytes.len() - 4096;
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (pages, ends) = (number(&bytes, footer + 32), number(&bytes, footer + 64 + 2 * 16));
    bytes[ends..][..8].copy_from_slice(&(u64::MAX - 9).to_le_bytes());
    mend(&mut bytes, pages);
    std::fs::write(&path, &bytes).unwrap();
    let index = open(directory.path(), &manifest).unwrap();
    assert!(matches!(read_all(&index), Err(SearchError::Read(_))));
    assert!(verify(directory.path(), &manifest).problems_found > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_never_changes_an_answer(file in 0usize..6, bit in any::<prop::sample::Index>()) {
        let directory = tempfile::tempdir().unwrap();
        let manifest = seal(directory.path());
        let expected = read_all(&open(directory.path(), &manifest).unwrap()).unwrap();
        let file = &manifest[0].files[file];
        let path = directory.path().join(&file.name);
        let mut bytes = std::fs::read(&path).unwrap();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bytes).unwrap();
        if let Ok(index) = open(directory.path(), &manifest)
            && let Ok(found) = read_all(&index)
        {
            prop_assert_eq!(found, expected);
        }
        prop_assert!(verify(directory.path(), &manifest).problems_found > 0);
    }

    /// Bytes changed by somebody who also mends the checksums: any answer, but no panic and no endless memory.
    #[test]
    fn hostile_bytes_never_panic(
        file in 0usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut manifest = seal(directory.path());
        let file = &mut manifest[0].files[file];
        let path = directory.path().join(&file.name);
        let mut bytes = std::fs::read(&path).unwrap();
        let pages = u64::from_le_bytes(bytes[bytes.len() - 4096 + 32..][..8].try_into().unwrap()) as usize;
        for (at, byte) in changes {
            let at = at.index(pages * 4096);
            bytes[at] = byte;
        }
        mend(&mut bytes, pages);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(index) = open(directory.path(), &manifest) {
            let _ = read_all(&index);
            let _ = index.view().sealed_ids().collect::<Result<Vec<_>, _>>();
        }
        let _ = verify(directory.path(), &manifest);
    }
}

/// Writes right checksums over whatever the content is: table, digest of the table, digest of the footer.
fn mend(bytes: &mut [u8], pages: usize) {
    use xxhash_rust::xxh3::xxh3_64;
    for page in 0..pages {
        let checksum = crc32c::crc32c(&bytes[page * 4096..(page + 1) * 4096]);
        bytes[pages * 4096 + page * 4..][..4].copy_from_slice(&checksum.to_le_bytes());
    }
    let footer = bytes.len() - 4096;
    let table_digest = xxh3_64(&bytes[pages * 4096..footer]);
    bytes[footer + 40..][..8].copy_from_slice(&table_digest.to_le_bytes());
    let digest = xxh3_64(&bytes[footer..footer + 4088]);
    bytes[footer + 4088..].copy_from_slice(&digest.to_le_bytes());
}
