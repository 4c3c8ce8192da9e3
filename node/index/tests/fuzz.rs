//! Do the fuzz targets hold on the committed corpus and on a few thousand mutations of it? The same on every run.
//!
//! `cargo fuzz` goes on from there for as long as one likes (docs/formats/segment.md).

#[path = "../fuzz/replay.rs"]
mod replay;
#[path = "../fuzz/targets.rs"]
mod targets;

use replay::check;

/// Mutations tried of a target over few rows, and of one over the many that get codes and a graph.
const MUTATIONS: u64 = 800;
const MUTATIONS_OF_MANY: u64 = 250;

#[test]
fn hostile_footers_are_errors() {
    check("footer", targets::footer, MUTATIONS);
}

#[test]
fn hostile_content_under_right_checksums_never_panics() {
    check("segment", targets::segment, MUTATIONS);
}

#[test]
fn hostile_bitmaps_are_errors_or_bitmaps() {
    check("bitmap", targets::bitmap, MUTATIONS);
}

#[test]
fn hostile_codes_never_panic() {
    check("codes", targets::codes, MUTATIONS_OF_MANY);
}

#[test]
fn hostile_graphs_never_panic() {
    check("graph", targets::graph, MUTATIONS_OF_MANY);
}

#[test]
fn hostile_columns_never_panic() {
    check("column", targets::column, MUTATIONS);
}
