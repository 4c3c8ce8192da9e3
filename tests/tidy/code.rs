//! Is the code free of what the house does without: unproved `unsafe`, unwrapping, stubs, switched-off tests, missing docs?
//!
//! Comments and literals do not count as code; what is compiled for tests only is exempt where a rule looks at `product`.

use crate::tree::Rust;
use crate::{none, read, source, tree};

/// Mapping files and vector instructions; every other crate forbids it.
const UNSAFE_HOMES: [&str; 2] = ["node/index/src/simd", "node/index/src/fine/io"];

/// Where the same input must give the same output, on every replica and in every simulation. What is not written yet is
/// listed too: it is to be born pure.
const PURE: [&str; 8] = [
    "proto/model/src",
    "node/index/src",
    "node/src/shard",
    "coordinator/src/map/range",
    "coordinator/src/map/change",
    "coordinator/src/control/plan",
    "coordinator/src/route/plan",
    "coordinator/src/merge",
];

#[test]
fn unsafe_stays_where_it_is_proved() {
    let elsewhere: Vec<Rust> = tree::rust()
        .into_iter()
        .filter(|rust| !UNSAFE_HOMES.iter().any(|home| rust.file.is_in(home)))
        .collect();
    none(
        places(
            &elsewhere,
            |rust| &rust.code,
            |code| source::words(code, "unsafe").collect(),
        ),
        "call a safe function of node/index/src/simd or node/index/src/fine/io, or add one there with its SAFETY note",
    );
}

#[test]
fn clocks_and_chance_are_arguments_where_replicas_must_agree() {
    let pure: Vec<Rust> = tree::rust()
        .into_iter()
        .filter(|rust| PURE.iter().any(|place| rust.file.is_in(place)))
        .collect();
    let ambient = |code: &str| -> Vec<usize> {
        let clocks = ["Instant::now", "SystemTime::now"]
            .into_iter()
            .flat_map(|clock| all(code, clock));
        clocks.chain(source::names_package(code, "rand")).collect()
    };
    assert!(!pure.is_empty(), "the pure places are found");
    none(
        places(&pure, |rust| &rust.product, ambient),
        "take the time, the seed or the deadline as an argument; the caller asks the clock",
    );
}

#[test]
fn nothing_unwraps_outside_tests() {
    none(
        places(&tree::rust(), |rust| &rust.product, |code| all(code, ".unwrap()")),
        "`?` with a typed error, or `expect(\"why this cannot fail\")`",
    );
}

#[test]
fn nothing_is_left_for_later() {
    // In two parts each, so that this file does not find itself.
    let stubs = [["to", "do!("].concat(), ["un", "implemented!("].concat()];
    let words = [["FIX", "ME"].concat(), ["TO", "DO"].concat(), ["XX", "X"].concat()];
    let promises = [
        ["for ", "now"].concat(),
        ["not yet ", "implemented"].concat(),
        ["To be ", "written"].concat(),
    ];

    let files = tree::rust();
    let mut found = places(
        &files,
        |rust| &rust.code,
        |code| stubs.iter().flat_map(|stub| all(code, stub)).collect(),
    );
    found.extend(places(
        &files,
        |rust| &rust.file.text,
        |text| {
            let marks = words.iter().flat_map(|word| source::words(text, word));
            marks
                .chain(promises.iter().flat_map(|promise| all(text, promise)))
                .collect()
        },
    ));
    none(found, "do it, or leave the feature out and say what is there");
}

#[test]
fn no_test_is_switched_off() {
    none(
        places(&tree::rust(), |rust| &rust.code, |code| all(code, "#[ignore")),
        "mend the test, or take it away; a slow one says in a constant how far it goes",
    );
}

#[test]
fn public_items_have_docs_everywhere() {
    let workspace: toml::Value = toml::from_str(&read("Cargo.toml")).expect("cargo has read this manifest");
    assert_eq!(
        workspace["workspace"]["lints"]["rust"]["missing_docs"].as_str(),
        Some("warn")
    );
    none(
        places(
            &tree::rust(),
            |rust| &rust.product,
            |code| all(code, "allow(missing_docs)"),
        ),
        "write the docs: shapes, units, ranges, errors, source",
    );
}

/// `path:line` of each place where `find` finds something in what `part` shows of a file.
fn places(files: &[Rust], part: impl Fn(&Rust) -> &str, find: impl Fn(&str) -> Vec<usize>) -> Vec<String> {
    let lines = files.iter().flat_map(|rust| {
        let text = part(rust);
        find(text)
            .into_iter()
            .map(move |at| format!("{}:{}", rust.file.path, source::line_of(text, at)))
    });
    lines.collect()
}

fn all(text: &str, wanted: &str) -> Vec<usize> {
    text.match_indices(wanted).map(|(at, _)| at).collect()
}
