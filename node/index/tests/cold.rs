//! Rows that are not in memory: does a search that must wait for the disk answer the same, and fail the same?
//!
//! Files are really evicted, which needs a file system with a disk beneath it and a system that counts what it reads; where
//! either is missing, a line says so and the comparison is of pages that were in memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use granum_index::{
    Bits, Builder, Document, Found, Index, Inline, Options, Params, Query, SearchError, SegmentId, SegmentRef, Verify,
};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};
use rustix::fs::{Advice, fadvise};

const ROWS: u64 = 4000;
const DIMENSION: u32 = 256;
const OPTIONS: Options = Options {
    builder: Builder::Granum,
    bits: Bits::Four,
    seed: 1,
    target_recall: 0.98,
};

/// Components drawn evenly, so that rows are about equally far from each other.
fn vector(number: u64) -> Vector {
    let value = |at: u64| {
        let hash = (number * 1000 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((hash ^ hash >> 32) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    Vector::Dense(Dense::F32((0..u64::from(DIMENSION)).map(value).collect()))
}

fn schema() -> Schema {
    let field = VectorField::new(
        "",
        VectorKind::Dense { dimension: DIMENSION },
        Distance::Euclid,
        Fine::F32,
    );
    Schema {
        vectors: vec![field],
        ..Schema::default()
    }
}

/// One segment with its codes and graph; all files are closed.
fn seal(directory: &Path) -> Vec<SegmentRef> {
    let index = Index::open(directory, schema(), OPTIONS, &[]).unwrap();
    for number in 0..ROWS {
        let document = Document {
            id: DocId::Number(number),
            version: number + 1,
            payload: Arc::from(&b"{}"[..]),
            vectors: vec![(String::new(), vector(number))],
        };
        index.insert(document, None).unwrap();
    }
    let built = index.build(&index.freeze(SegmentId(1))).unwrap();
    let manifest = built.segments().to_vec();
    index.publish(built);
    index.derive(&Inline).unwrap();
    manifest
}

/// Drops the files from the page cache; none of them may be open.
fn evict(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

/// Bytes that this process has had read from a disk; `None`: the system does not tell.
fn disk_bytes() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/self/io").ok()?;
    counters
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "))?
        .parse()
        .ok()
}

/// Asks 20 questions of an index that was just opened, until one fails.
fn ask(directory: &Path, manifest: &[SegmentRef], verify: Verify) -> Result<Vec<Found>, SearchError> {
    let index = Index::open(directory, schema(), OPTIONS, manifest).unwrap();
    assert_eq!(index.derive(&Inline).unwrap(), 0, "codes and graph are there");
    let query = |number: u64| Query {
        using: String::new(),
        vector: vector(ROWS + number),
        filter: Filter::default(),
        k: 10,
        threshold: None,
        exclude: None,
        params: Params {
            ef: Some(40),
            verify,
            ..Params::default()
        },
    };
    let view = index.view();
    (0..20)
        .map(|number| Ok(view.search(&[query(number)], &|| false)?.remove(0)))
        .collect()
}

/// What is answered with an empty page cache.
fn ask_cold(directory: &Path, manifest: &[SegmentRef], verify: Verify) -> Result<Vec<Found>, SearchError> {
    evict(directory);
    let before = disk_bytes();
    let found = ask(directory, manifest, verify);
    if disk_bytes() <= before {
        eprintln!("skipped: the files could not be evicted here, so nothing was read from a disk");
    }
    found
}

#[test]
fn answers_are_the_same_from_disk_and_from_memory() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(directory.path());
    for verify in [Verify::All, Verify::Bound] {
        let cold = ask_cold(directory.path(), &manifest, verify).unwrap();
        assert_eq!(cold, ask(directory.path(), &manifest, verify).unwrap(), "{verify:?}");
        for found in cold {
            let usage = found.usage;
            assert!((1..=usage.rows_read).contains(&usage.pages_read), "{usage:?}");
        }
    }
}

#[test]
fn a_damaged_page_is_the_same_error_from_disk_and_from_memory() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(directory.path());
    let path = directory.path().join("0000000000000001.vector.00");
    let mut content = std::fs::read(&path).unwrap();
    // Every page of values: whichever row is read first lies in one.
    let values_bytes = ROWS as usize * DIMENSION as usize * 4;
    content[..values_bytes]
        .iter_mut()
        .step_by(4096)
        .for_each(|byte| *byte ^= 1);
    std::fs::write(&path, content).unwrap();
    let error = |found: Result<Vec<Found>, SearchError>| found.unwrap_err().to_string();
    let cold = error(ask_cold(directory.path(), &manifest, Verify::All));
    assert!(cold.contains("0000000000000001.vector.00"), "{cold}");
    assert_eq!(cold, error(ask(directory.path(), &manifest, Verify::All)));
}
