//! Do codes and graphs of format version 1 mean for ever what they meant? `golden/v1/codes.*` and `graph` are the first.
//!
//! Their sums are of floats, in another order for each instruction set, so files built anew may differ in last bits: the
//! old ones are opened, searched and read by the documented bytes, and new ones hold the same numbers but for rounding.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use granum_index::{
    Bits, Builder, Document, Index, Inline, Options, Params, Query, RowHit, SegmentId, SegmentRef, Usage, verify,
};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};

#[allow(dead_code)]
#[path = "../fuzz/mended.rs"]
mod mended;

const SEED: u64 = 7;
const DIMENSION: usize = 4;
/// As few as get codes, and as few as get a graph.
const CODES_ROWS: u64 = 256;
const GRAPH_ROWS: u64 = 1000;
const CODES: &str = "0000000000000001.codes.00";
const GRAPH: &str = "0000000000000001.graph.00";
const VECTORS: &str = "0000000000000001.vector.00";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

/// What is sealed.
#[derive(Clone, Copy)]
struct Ground {
    distance: Distance,
    /// Added to every component.
    shift: f32,
}

const CENTRED: Ground = Ground {
    distance: Distance::Euclid,
    shift: 0.0,
};
/// So far from 0 that codes are about a centroid.
const DISPLACED: Ground = Ground {
    distance: Distance::Dot,
    shift: 40.0,
};

/// Eighths, which every float holds exactly.
fn vector(ground: Ground, number: u64) -> Vector {
    let value = |at: u64| {
        let word = (number * DIMENSION as u64 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((word ^ word >> 31) % 257) as f32 / 8.0 - 16.0 + ground.shift
    };
    Vector::Dense(Dense::F32((0..DIMENSION as u64).map(value).collect()))
}

fn schema(ground: Ground) -> Schema {
    let field = VectorField::new(
        "v",
        VectorKind::Dense {
            dimension: DIMENSION as u32,
        },
        ground.distance,
        Fine::F32,
    );
    Schema {
        vectors: vec![field],
        ..Schema::default()
    }
}

fn options(builder: Builder, bits: Bits) -> Options {
    Options {
        builder,
        bits,
        seed: SEED,
        ..Options::default()
    }
}

/// Seals so many rows as segment 1, without codes.
fn seal(ground: Ground, directory: &Path, rows: u64) -> Vec<SegmentRef> {
    let index = open(ground, directory, options(Builder::Scan, Bits::Four), &[]);
    for number in 0..rows {
        let document = Document {
            id: DocId::Number(number),
            version: number + 1,
            payload: Arc::from(&b""[..]),
            vectors: vec![("v".into(), vector(ground, number))],
        };
        index.insert(document, None).unwrap();
    }
    index.build(&index.freeze(SegmentId(1))).unwrap().segments().to_vec()
}

fn open(ground: Ground, directory: &Path, options: Options, manifest: &[SegmentRef]) -> Index {
    Index::open(directory, schema(ground), options, manifest).unwrap()
}

fn find(ground: Ground, index: &Index, number: u64, params: Params) -> (Vec<RowHit>, Usage) {
    let query = Query {
        using: "v".into(),
        vector: vector(ground, number),
        filter: Filter::default(),
        k: 3,
        threshold: None,
        exclude: None,
        params,
    };
    let found = index.view().search(&[query], &|| false).unwrap().remove(0);
    (found.hits, found.usage)
}

/// Queries beside the rows find what an exact scan finds, in fewer than all rows.
#[track_caller]
fn check_searches(ground: Ground, index: &Index, rows: u64, what: &str) {
    let exact = Params {
        exact: true,
        ..Params::default()
    };
    let quick = Params {
        ef: Some(8),
        ..Params::default()
    };
    let mut rows_read = 0;
    for number in rows..rows + 20 {
        let (hits, usage) = find(ground, index, number, quick);
        assert_eq!(hits, find(ground, index, number, exact).0, "{what}, query {number}");
        rows_read += usage.rows_read;
    }
    assert!(rows_read < 20 * rows / 2, "{what}: {rows_read} rows read");
}

/// Number of `bytes` bytes at `at`.
fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(&file[at..at + bytes]);
    u64::from_le_bytes(word)
}

fn section(file: &[u8], section: usize) -> &[u8] {
    let footer = file.len() - 4096;
    let at = |offset| number(file, footer + 64 + section * 16 + offset, 8) as usize;
    &file[at(0)..at(0) + at(8)]
}

/// The footer of a derived file, as docs/formats/segment.md has it.
#[track_caller]
fn check_footer(file: &[u8], vectors: &[u8], kind: u64, rows: u64, dimension: u64, sections: u64) {
    let (footer, of_vectors) = (&file[file.len() - 4096..], &vectors[vectors.len() - 4096..]);
    assert_eq!(&footer[..8], b"GRANUMSG");
    let fields = [(8, 2), (10, 2), (12, 4), (16, 8), (24, 8), (48, 4), (54, 2), (56, 8)];
    let found = fields.map(|(at, bytes)| number(footer, at, bytes));
    let fingerprint = number(of_vectors, 40, 8);
    assert_eq!(found, [1, kind, sections, 1, rows, dimension, 0, fingerprint]);
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever adds a version of the format asks for its files by hand"
)]
fn writes_golden_files() -> bool {
    std::env::var("GOLDEN").is_ok_and(|value| value == "write")
}

/// Builds a derived file anew; returns it and the golden one, which is replaced first where that was asked for.
fn built_and_golden(ground: Ground, name: &str, golden_name: &str, rows: u64, options: Options) -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(ground, directory.path(), rows);
    open(ground, directory.path(), options, &manifest)
        .derive(&Inline)
        .unwrap();
    let built = std::fs::read(directory.path().join(name)).unwrap();
    if writes_golden_files() {
        std::fs::write(golden(golden_name), &built).unwrap();
    }
    (built, std::fs::read(golden(golden_name)).unwrap())
}

#[test]
fn codes_of_version_1_are_read() {
    for bits in Bits::ALL {
        let name = format!("codes.{}", bits.count());
        let (old, built) = check_codes(CENTRED, &name, bits);
        let maker = section(&old, 0);
        assert_eq!((number(maker, 0, 4), number(maker, 4, 4)), (u64::from(bits.count()), 0));
        assert_eq!(maker, section(&built, 0), "the same bits, version and seed");
    }
}

#[test]
fn codes_about_a_centroid_are_read() {
    let (old, built) = check_codes(DISPLACED, "codes.about", Bits::Four);
    let (maker, built) = (section(&old, 0), section(&built, 0));
    assert_eq!((number(maker, 0, 4), number(maker, 4, 4)), (4, 1));
    assert_eq!(maker[..16], built[..16], "the same bits, version and seed");
    assert_eq!(maker.len(), 16 + DIMENSION * 4);
    for (old, built) in floats(&maker[16..]).iter().zip(floats(&built[16..])) {
        assert!((old - 40.0).abs() < 2.0 && (old - built).abs() < 1e-4, "{old} {built}");
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Golden codes are searched, and hold what is built anew; returns both.
#[track_caller]
fn check_codes(ground: Ground, name: &str, bits: Bits) -> (Vec<u8>, Vec<u8>) {
    let options = options(Builder::Codes, bits);
    let (built, old) = built_and_golden(ground, CODES, name, CODES_ROWS, options);
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(ground, directory.path(), CODES_ROWS);
    std::fs::write(directory.path().join(CODES), &old).unwrap();
    let index = open(ground, directory.path(), options, &manifest);
    assert_eq!(index.derive(&Inline).unwrap(), 0, "{name} is taken as it is");
    assert_eq!(verify(directory.path(), &manifest).problems, Vec::<String>::new());
    check_searches(ground, &index, CODES_ROWS, name);

    let vectors = std::fs::read(directory.path().join(VECTORS)).unwrap();
    let sections = if ground.shift == 0.0 { 5 } else { 6 };
    check_footer(&old, &vectors, 8, CODES_ROWS, DIMENSION as u64, sections);
    let distance = if ground.distance == Distance::Euclid { 2 } else { 1 };
    assert_eq!(number(&old, old.len() - 4096 + 52, 1), distance);
    let row_bytes = 64 * bits.count() as usize / 8;
    assert_eq!(section(&old, 1).len(), CODES_ROWS as usize * row_bytes);
    let pairs = section(&old, 1).iter().zip(section(&built, 1));
    let differing = pairs.filter(|(left, right)| left != right).count();
    assert!(
        differing * 100 <= section(&old, 1).len(),
        "{name}: {differing} bytes of codes"
    );
    for factors in 2..sections as usize {
        let (old, built) = (floats(section(&old, factors)), floats(section(&built, factors)));
        assert_eq!(old.len(), CODES_ROWS as usize);
        for (row, (old, built)) in old.iter().zip(&built).enumerate() {
            assert!(
                (old - built).abs() <= 1e-2 * old.abs(),
                "{name}, section {factors}, row {row}: {old} was written, {built} is built"
            );
        }
    }
    (old, built)
}

#[test]
fn graphs_of_version_1_are_read() {
    let options = options(Builder::Granum, Bits::Four);
    let (built, old) = built_and_golden(CENTRED, GRAPH, "graph", GRAPH_ROWS, options);
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(CENTRED, directory.path(), GRAPH_ROWS);
    std::fs::write(directory.path().join(GRAPH), &old).unwrap();
    open(CENTRED, directory.path(), options, &manifest)
        .derive(&Inline)
        .unwrap();
    let kept = std::fs::read(directory.path().join(GRAPH)).unwrap();
    assert!(kept == old, "the graph is taken as it is");
    let index = open(CENTRED, directory.path(), options, &manifest);
    assert_eq!(index.derive(&Inline).unwrap(), 0);
    assert_eq!(verify(directory.path(), &manifest).problems, Vec::<String>::new());
    check_searches(CENTRED, &index, GRAPH_ROWS, "graph");
    let walk = Params {
        ef: Some(4),
        ..Params::default()
    };
    let (_, usage) = find(CENTRED, &index, GRAPH_ROWS, walk);
    assert!(usage.rows_scored < GRAPH_ROWS, "walked: {usage:?}");

    let vectors = std::fs::read(directory.path().join(VECTORS)).unwrap();
    check_footer(&old, &vectors, 7, GRAPH_ROWS, 32, 3);
    assert_eq!(section(&old, 0).len(), GRAPH_ROWS as usize * 32 * 4);
    for list in section(&old, 0).chunks_exact(32 * 4) {
        let links: Vec<u64> = (0..32).map(|at| number(list, at * 4, 4)).collect();
        let end = links.iter().position(|link| *link == 0xffff_ffff).unwrap_or(32);
        assert!(links[..end].iter().all(|link| *link < GRAPH_ROWS), "{links:?}");
        assert!(links[end..].iter().all(|link| *link == 0xffff_ffff), "{links:?}");
    }
    for entries in [section(&old, 1), section(&built, 1)] {
        assert!(!entries.is_empty() && entries.len().is_multiple_of(4), "{entries:?}");
        let mut places = entries.chunks_exact(4).map(|entry| number(entry, 0, 4));
        assert!(places.all(|place| place < GRAPH_ROWS), "{entries:?}");
    }
    let widths: Vec<u64> = section(&old, 2)
        .chunks_exact(8)
        .map(|pair| number(pair, 0, 4))
        .collect();
    assert!(
        widths.len() > 4 && widths.is_sorted_by(|left, right| left < right),
        "{widths:?}"
    );
    for pair in section(&old, 2).chunks_exact(8) {
        let recall = f32::from_bits(number(pair, 4, 4) as u32);
        assert!((0.0..=1.0).contains(&recall), "{recall}");
    }
}

#[test]
fn a_list_of_links_with_a_gap_or_a_place_twice_is_damage() {
    let options = options(Builder::Granum, Bits::Four);
    for (written, problem) in [
        (&[0, 0, 0, 1, 4, 0xff][..], "a gap in the links of place 0"),
        (&[0, 0, 0, 4, 2, 7, 0, 0, 0], "a place twice in the links of place 0"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let manifest = seal(CENTRED, directory.path(), GRAPH_ROWS);
        let mut bytes = std::fs::read(golden("graph")).unwrap();
        mended::edit(&mut bytes, written);
        std::fs::write(directory.path().join(GRAPH), &bytes).unwrap();
        let problems = verify(directory.path(), &manifest).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(problem), "{problems:?}");
        let index = open(CENTRED, directory.path(), options, &manifest);
        assert_eq!(index.derive(&Inline).unwrap(), 2);
        assert_eq!(verify(directory.path(), &manifest).problems, Vec::<String>::new());
        check_searches(CENTRED, &index, GRAPH_ROWS, "a graph built anew");
    }
}
