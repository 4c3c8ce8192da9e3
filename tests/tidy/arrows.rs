//! Do the crates know only whom the architecture lets them, and does the whole rest on packages that we may ship?

use std::collections::BTreeSet;

use crate::packages::Package;
use crate::{none, packages, read};

/// Which crates of ours a crate may know. There is no other arrow.
const ARROWS: [(&str, &[&str]); 7] = [
    ("granum-model", &[]),
    ("granum-index", &["granum-model"]),
    ("granum-proto", &["granum-model"]),
    ("granum-node", &["granum-index", "granum-model", "granum-proto"]),
    ("granum-coordinator", &["granum-model", "granum-proto"]),
    ("granum-client", &["granum-model", "granum-proto"]),
    (
        "granum",
        &[
            "granum-client",
            "granum-coordinator",
            "granum-index",
            "granum-model",
            "granum-node",
            "granum-proto",
        ],
    ),
];

/// The crate that knows everybody, and whom nobody knows.
const TESTS: &str = "granum-tests";

/// A network, a runtime or a store has no place in the index.
const NOT_IN_THE_INDEX: [&str; 9] = [
    "tokio",
    "tonic",
    "hyper",
    "axum",
    "tower",
    "async-std",
    "smol",
    "openraft",
    "sled",
];

#[test]
fn crates_know_only_whom_the_architecture_lets_them() {
    let crates = packages::crates();
    let ours: BTreeSet<&str> = crates.keys().map(String::as_str).collect();
    let mut complaints = Vec::new();
    for (name, found) in &crates {
        if name == TESTS {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| from == name) else {
            complaints.push(format!("{name} is not in ARROWS"));
            continue;
        };
        for known in found.dependencies.iter().filter(|known| ours.contains(known.as_str())) {
            if !allowed.contains(&known.as_str()) {
                complaints.push(format!("{name} -> {known}"));
            }
        }
    }
    none(
        complaints,
        "move the shared word to proto/model, or pass the value in; see docs/architecture.md, Layers",
    );
}

#[test]
fn the_index_is_pure() {
    let built = packages::built_into("granum-index");
    assert!(built.contains("granum-model"), "the graph is read");
    let found = NOT_IN_THE_INDEX.iter().filter(|package| built.contains(**package));
    none(
        found.map(|package| format!("granum-index builds {package}")).collect(),
        "bytes and arithmetic only: what needs a network, a runtime or a store belongs to the node",
    );
}

#[test]
fn the_shared_words_depend_on_nobody() {
    let built = packages::built_into("granum-model");
    none(
        built.into_iter().filter(|package| package != "granum-model").collect(),
        "granum-model holds words that all share; what needs a package lives in the crate that uses it",
    );
}

#[test]
fn every_package_has_an_allowed_licence_and_comes_from_the_registry() {
    let deny: toml::Value = toml::from_str(&read("deny.toml")).expect("deny.toml is TOML");
    let allowed = deny["licenses"]["allow"].as_array().expect("deny.toml lists licences");
    let allowed: Vec<String> = allowed
        .iter()
        .filter_map(|licence| licence.as_str())
        .map(str::to_owned)
        .collect();
    let complaints = packages::packages().into_iter().filter_map(|package| {
        let Package {
            name,
            version,
            licence,
            source,
            ..
        } = package;
        if !packages::permits(&licence, &allowed) {
            return Some(format!("{name} {version} is under '{licence}'"));
        }
        let fetched = source.is_empty() || source.starts_with("registry+");
        (!fetched).then(|| format!("{name} {version} comes from {source}"))
    });
    none(
        complaints.collect(),
        "find a permissive package of the registry; deny.toml says which licences pass",
    );
}
