//! Do columns of format version 1 mean for ever what they meant? `tests/golden/columns` was written by the first release
//! that had them. Columns of words are left out: they are built anew for another version of Unicode.

use std::path::{Path, PathBuf};

use granum_index::{FileRef, Index, Inline, Options, SegmentId, SegmentRef};
use granum_model::{PayloadKind, Schema};
use xxhash_rust::xxh3::xxh3_64;

use super::{answer, columns, expected, has, must, random, schema, seal};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/columns")
}

fn without_words() -> Schema {
    let mut schema = schema();
    schema.payload.retain(|field| field.kind != PayloadKind::Text);
    schema
}

/// Copies the golden files whose names pass, and says what a manifest would.
fn copy(to: &Path, passes: impl Fn(&str) -> bool) -> Vec<SegmentRef> {
    let mut files = Vec::new();
    for name in ["0000000000000001.ids", "0000000000000001.payload"] {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        files.push(FileRef {
            name: name.into(),
            bytes: bytes.len() as u64,
            xxh3: xxh3_64(&bytes),
        });
    }
    for entry in std::fs::read_dir(golden()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if passes(&name) {
            std::fs::copy(golden().join(&name), to.join(&name)).unwrap();
        }
    }
    let rows = random::fixed_payloads().len() as u32;
    vec![SegmentRef {
        id: SegmentId(1),
        rows,
        live_rows: rows,
        digest: 0,
        dead_digest: 0,
        deleted: None,
        files,
    }]
}

/// For a new version of the format, with its own directory: `GOLDEN=write cargo test -p granum-index --test payload`.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever adds a version of the format asks for its files by hand"
)]
fn writes_golden_files() -> bool {
    std::env::var("GOLDEN").is_ok_and(|value| value == "write")
}

#[test]
fn columns_of_version_1_are_read() {
    if writes_golden_files() {
        seal(&golden(), without_words(), &random::fixed_payloads());
    }
    let directory = tempfile::tempdir().unwrap();
    let manifest = copy(directory.path(), |_| true);
    let index = Index::open(directory.path(), without_words(), Options::default(), &manifest).unwrap();
    assert_eq!(index.derive(&Inline).unwrap(), 0, "all are used as they are");
    let filter = must(has("keyword", "a b"));
    assert_eq!(answer(&index, &filter), expected(&random::fixed_payloads(), &filter));
}

#[test]
fn the_same_payloads_still_make_the_same_columns() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = copy(directory.path(), |name| !name.contains(".column."));
    let index = Index::open(directory.path(), without_words(), Options::default(), &manifest).unwrap();
    assert_eq!(index.derive(&Inline).unwrap(), without_words().payload.len());
    for path in columns(directory.path()) {
        let name = path.file_name().unwrap();
        let is_same = std::fs::read(&path).unwrap() == std::fs::read(golden().join(name)).unwrap();
        assert!(is_same, "{name:?} differs");
    }
}
