//! Does each chosen package stay in its one home, so that it can be judged, bounded and, if it must be, replaced?

use crate::{none, packages, source, tree};

/// A chosen package, the crate that may depend on it, and the places that may name it.
struct Home {
    packages: &'static [&'static str],
    owner: &'static str,
    places: &'static [&'static str],
}

/// One home each, so that a package can be judged, bounded and, if it must be, replaced.
const HOMES: [Home; 8] = [
    Home {
        packages: &["openraft", "openraft-multi", "openraft-rt"],
        owner: "granum-node",
        places: &["node/src/raft"],
    },
    Home {
        packages: &["sled"],
        owner: "granum-node",
        places: &["node/src/disk"],
    },
    Home {
        packages: &["bincode"],
        owner: "granum-node",
        places: &["node/src/codec"],
    },
    Home {
        packages: &["hnsw_rs"],
        owner: "granum-index",
        // The builder, and the oracle of recall.
        places: &["node/index/src/coarse/build", "node/index/tests", "node/index/benches"],
    },
    Home {
        packages: &["candle-core", "safetensors", "tokenizers"],
        owner: "granum-coordinator",
        places: &["coordinator/src/embed"],
    },
    Home {
        packages: &["memmap2"],
        owner: "granum-index",
        places: &["node/index/src/fine/io"],
    },
    Home {
        packages: &["libc"],
        owner: "granum-index",
        places: &["node/index/src/fine/io"],
    },
    Home {
        packages: &["clap", "indicatif"],
        owner: "granum",
        places: &["client/cli"],
    },
];

#[test]
fn chosen_packages_stay_at_home() {
    let files = tree::rust();
    let crates = packages::crates();
    let mut complaints = Vec::new();
    for home in &HOMES {
        for package in home.packages {
            let name = package.replace('-', "_");
            let abroad = files
                .iter()
                .filter(|rust| !home.places.iter().any(|place| rust.file.is_in(place)));
            for rust in abroad {
                if let Some(at) = source::names_package(&rust.code, &name) {
                    let line = source::line_of(&rust.code, at);
                    complaints.push(format!(
                        "{}:{line} names {package}; its home is {}",
                        rust.file.path, home.places[0]
                    ));
                }
            }
            for (name, found) in &crates {
                if name != home.owner && found.dependencies.contains(*package) {
                    complaints.push(format!("{name} depends on {package}; only {} may", home.owner));
                }
            }
        }
    }
    none(
        complaints,
        "give the package's home a function that says what you need in our own words",
    );
}

#[test]
fn metrics_are_made_in_files_named_metrics() {
    let elsewhere = tree::rust().into_iter().filter(|rust| rust.file.name() != "metrics.rs");
    let found = elsewhere.filter_map(|rust| {
        let at = source::names_package(&rust.code, "prometheus")?;
        Some(format!("{}:{}", rust.file.path, source::line_of(&rust.code, at)))
    });
    none(
        found.collect(),
        "give metrics.rs of the role a method named for what happened, and call that",
    );
}

#[test]
fn tower_stays_at_the_edge_of_the_servers() {
    let edges = ["server", "service", "http", "main", "lib"];
    let inside = tree::rust().into_iter().filter(|rust| {
        let edge = ["node/src", "coordinator/src"]
            .iter()
            .any(|src| edges.iter().any(|place| rust.file.is_in(&format!("{src}/{place}"))));
        !edge && !rust.product.is_empty()
    });
    let found = inside.filter_map(|rust| {
        let at = source::names_package(&rust.product, "tower")?;
        Some(format!("{}:{}", rust.file.path, source::line_of(&rust.product, at)))
    });
    none(
        found.collect(),
        "limits and shedding are layers where a server is put together; inside, pass a permit",
    );
}
