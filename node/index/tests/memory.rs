//! Do sealed vectors stay out of anonymous memory, and what passes through a merge too? One test in a process of its own,
//! since it reads the process's memory.
#![cfg(target_os = "linux")]

use std::cell::Cell;

use granum_index::{Bits, Builder, Document, Index, MergePlan, Options, Params, Query, SegmentId, SegmentRef};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};

const DIMENSION: usize = 1024;
const ROWS: u64 = 8192;
/// Bytes of a payload, which doesn't pack well.
const PAYLOAD_BYTES: u64 = 1500;
/// Growth allowed while all rows of 32 MiB of vectors are opened and scored, and merged with 12 MiB of payload.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

fn schema() -> Schema {
    let kind = VectorKind::Dense {
        dimension: DIMENSION as u32,
    };
    let field = VectorField::new("v", kind, Distance::Dot, Fine::F32);
    Schema {
        vectors: vec![field],
        ..Schema::default()
    }
}

fn vector(number: u64) -> Vector {
    Vector::Dense(Dense::F32(
        (0..DIMENSION as u64)
            .map(|at| ((number * 31 + at * 7) % 101) as f32 / 101.0)
            .collect(),
    ))
}

fn payload(number: u64) -> Vec<u8> {
    let letter =
        |at: u64| b'a' + (number.wrapping_mul(6364136223846793005).wrapping_add(at * at * 7919) >> 7) as u8 % 26;
    let text = (0..PAYLOAD_BYTES).map(letter).collect();
    let text = String::from_utf8(text).unwrap();
    format!(r#"{{"text": "{text}"}}"#).into_bytes()
}

/// Anonymous resident memory of this process, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// All rows are read.
const OPTIONS: Options = Options {
    builder: Builder::Scan,
    bits: Bits::Four,
    seed: 0,
    target_recall: 0.98,
};

/// Eight segments, each sealed before the next is filled.
fn seal(directory: &std::path::Path) -> Vec<SegmentRef> {
    let index = Index::open(directory, schema(), OPTIONS, &[]).unwrap();
    let mut manifest = Vec::new();
    for segment in 0..8 {
        for number in segment * ROWS / 8..(segment + 1) * ROWS / 8 {
            let vectors = vec![("v".into(), vector(number))];
            index
                .insert(
                    Document {
                        id: DocId::Number(number),
                        version: 1,
                        payload: payload(number).into(),
                        vectors,
                    },
                    None,
                )
                .unwrap();
        }
        let built = index.build(&index.freeze(SegmentId(segment + 1))).unwrap();
        manifest = built.segments().to_vec();
        index.publish(built);
    }
    manifest
}

#[test]
fn sealed_vectors_and_merges_do_not_grow_anonymous_memory() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = seal(directory.path());
    let before = anonymous_bytes();
    let index = Index::open(directory.path(), schema(), OPTIONS, &manifest).unwrap();
    let query = Query {
        using: "v".into(),
        vector: vector(5),
        filter: Filter::default(),
        k: 10,
        threshold: None,
        exclude: None,
        params: Params::default(),
    };
    for _ in 0..3 {
        let found = &index.view().search(std::slice::from_ref(&query), &|| false).unwrap()[0];
        assert_eq!(found.usage.bytes_read, ROWS * DIMENSION as u64 * 4);
    }
    let growth = anonymous_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "anonymous memory grew by {growth} bytes");

    let plan = MergePlan {
        segments: manifest.iter().map(|segment| segment.id).collect(),
        bytes: 0,
    };
    let before = anonymous_bytes();
    let (most, asked) = (Cell::new(0), Cell::new(0));
    let pace = |_| {
        most.set(most.get().max(anonymous_bytes().saturating_sub(before)));
        asked.set(asked.get() + 1);
        false
    };
    let merged = index.merge(&plan, SegmentId(99), &pace).unwrap();
    assert!(
        merged.bytes() > 36 << 20 && asked.get() > 100,
        "{} bytes",
        merged.bytes()
    );
    assert!(
        most.get() < GROWTH_BYTES_MAX,
        "anonymous memory grew by {} bytes",
        most.get()
    );
}
