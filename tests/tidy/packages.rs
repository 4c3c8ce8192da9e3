//! What do the crates depend on, and under which licences? Cargo's own answer, from the lock file and without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::tree::root;

/// A package of the lock file that this platform builds.
pub struct Package {
    pub name: String,
    pub version: String,
    /// An SPDX expression; older packages write `/` for OR.
    pub licence: String,
    /// Empty for crates of this workspace.
    pub source: String,
    /// Names of the packages it asks for, for building and testing too.
    pub dependencies: BTreeSet<String>,
}

/// The packages by name; of several versions, all.
pub fn packages() -> Vec<Package> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    packages.iter().map(package).collect()
}

/// The crates of this workspace, by name.
pub fn crates() -> BTreeMap<String, Package> {
    let ours = packages().into_iter().filter(|package| package.source.is_empty());
    ours.map(|package| (package.name.clone(), package)).collect()
}

/// Everything that a build of the crate `name` compiles, itself included, tests left out.
pub fn built_into(name: &str) -> BTreeSet<String> {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .expect("cargo metadata resolves");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .expect("cargo metadata lists packages")
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let wanted = |dependency: &Value| {
        let kinds = dependency["dep_kinds"].as_array().expect("a dependency has kinds");
        kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev"))
    };
    let mut next: Vec<String> = names
        .iter()
        .filter(|(_, have)| *have == name)
        .map(|(id, _)| id.clone())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = next.pop() {
        if seen.insert(id.clone()) {
            let node = nodes
                .iter()
                .find(|node| node["id"] == *id)
                .expect("every package is resolved");
            let dependencies = node["deps"].as_array().expect("a node lists its dependencies");
            next.extend(
                dependencies
                    .iter()
                    .filter(|&dependency| wanted(dependency))
                    .map(|dependency| text(&dependency["pkg"])),
            );
        }
    }
    seen.iter().map(|id| names[id].clone()).collect()
}

/// Whether an SPDX expression can be met with the licences of `allowed`.
pub fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        let met = either(words, allowed);
        return words.next() == Some(")") && met;
    }
    let mut licence = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence)
}

fn package(value: &Value) -> Package {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let dependencies = value["dependencies"]
        .as_array()
        .expect("a package lists its dependencies");
    Package {
        name: text("name"),
        version: text("version"),
        licence: text("license"),
        source: text("source"),
        dependencies: dependencies
            .iter()
            .filter_map(|dependency| dependency["name"].as_str())
            .map(str::to_owned)
            .collect(),
    }
}

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let host = host();
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--locked",
            "--filter-platform",
            &host,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

/// The platform that this test was built for: other platforms' packages may not have been fetched.
fn host() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).expect("rustc writes UTF-8");
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("rustc -vV names its host").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_weighed_as_they_are_joined() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for passes in [
            "MIT",
            "MIT/GPL-3.0",
            "GPL-3.0 OR MIT",
            "(MIT OR X) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(permits(passes, &allowed), "{passes}");
        }
        for fails in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR X) AND Y",
            "MIT WITH X",
            "MIT X",
            "(MIT",
        ] {
            assert!(!permits(fails, &allowed), "{fails}");
        }
    }
}
