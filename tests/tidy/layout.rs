//! Do files open, end and refer as a stranger would hope? Headers, lengths, names, links, and settings that must agree.

use std::collections::BTreeSet;

use crate::{links, none, read, tree};

/// A longer file says in its header why it is one file.
const LINES_MAX: usize = 400;
const LINES_REASON: &str = "Over 400 lines because";

#[test]
fn every_rust_file_opens_with_the_question_it_answers() {
    let silent = tree::rust().into_iter().filter(|rust| {
        let first = rust.file.text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_none_or(|said| said.len() < 20)
    });
    none(
        silent.map(|rust| rust.file.path).collect(),
        "open with `//! ` and a sentence: what the file answers, why so, what it leaves out",
    );
}

#[test]
fn every_python_file_opens_with_the_question_it_answers() {
    let silent = tree::files().into_iter().filter(|file| {
        let opening = file
            .text
            .lines()
            .find(|line| !line.starts_with("#!"))
            .unwrap_or_default();
        file.path.ends_with(".py") && !opening.starts_with("\"\"\"")
    });
    none(
        silent.map(|file| file.path).collect(),
        "open with a docstring: what the file answers",
    );
}

#[test]
fn long_files_say_why_they_are_long() {
    let long = tree::rust().into_iter().filter(|rust| {
        let mut header = rust.file.text.lines().take_while(|line| line.starts_with("//!"));
        rust.file.text.lines().count() > LINES_MAX && !header.any(|line| line.contains(LINES_REASON))
    });
    none(
        long.map(|rust| format!("{} has {} lines", rust.file.path, rust.file.text.lines().count()))
            .collect(),
        "cut the file by duty (plan, call, hedge), or say `Over 400 lines because ...` in its header",
    );
}

#[test]
fn files_are_named_for_what_they_hold() {
    let vague = [
        "utils", "util", "helpers", "helper", "common", "manager", "misc", "types",
    ];
    let found = tree::files().into_iter().filter(|file| {
        let stem = file.name().split('.').next().unwrap_or_default();
        (file.path.ends_with(".rs") || file.path.ends_with(".py")) && vague.contains(&stem)
    });
    none(
        found.map(|file| file.path).collect(),
        "name the file for its one duty, and move what is not of it",
    );
}

#[test]
fn every_relative_link_leads_somewhere() {
    let files = tree::files();
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for link in links::links(file) {
            let resolved = if link.path.is_empty() {
                Some(file.path.clone())
            } else {
                links::resolve(&file.path, &link.path)
            };
            let Some(path) = resolved.filter(|path| tree::root().join(path).exists()) else {
                complaints.push(format!("{}:{} {}", file.path, link.line, link.path));
                continue;
            };
            let Some(heading) = link.heading else { continue };
            let target = files.iter().find(|file| file.path == path && path.ends_with(".md"));
            if target.is_some_and(|target| !links::headings(target).contains(&heading)) {
                complaints.push(format!("{}:{} {}#{heading}", file.path, link.line, link.path));
            }
        }
    }
    none(complaints, "mend the link, or write what it promises");
}

#[test]
fn no_file_names_a_registrys_host() {
    // In parts, so that this file does not find itself. Cargo.lock names its registry by Cargo's rule.
    let hosts: Vec<String> = [
        ["crates", "io"],
        ["pypi", "org"],
        ["npmjs", "org"],
        ["npmjs", "com"],
        ["debian", "org"],
        ["pythonhosted", "org"],
    ]
    .iter()
    .map(|parts| parts.join("."))
    .collect();
    let mut complaints = Vec::new();
    for file in tree::files().iter().filter(|file| file.name() != "Cargo.lock") {
        for (line, text) in file.lines() {
            complaints.extend(
                hosts
                    .iter()
                    .filter(|host| text.contains(*host))
                    .map(|host| format!("{}:{line} {host}", file.path)),
            );
        }
    }
    none(
        complaints,
        "name the package, and leave where it comes from to the client's own settings",
    );
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_version() {
    let manifests = tree::files()
        .into_iter()
        .filter(|file| file.name() == "Cargo.toml" && file.path != "Cargo.toml");
    let mut complaints = Vec::new();
    for manifest in manifests {
        let read: toml::Value = toml::from_str(&manifest.text).expect("cargo has read this manifest");
        let inherits = |table: &str, key: &str| read.get(table).and_then(|table| table.get(key)).is_some();
        if !inherits("lints", "workspace") && !manifest.text.contains("[lints.rust]") {
            complaints.push(format!("{}: no [lints] workspace = true", manifest.path));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            let inherited = read["package"]
                .get(key)
                .and_then(|value| value.get("workspace"))
                .is_some();
            if !inherited {
                complaints.push(format!("{}: no {key}.workspace = true", manifest.path));
            }
        }
    }
    none(
        complaints,
        "inherit from the workspace, so that one line changes it for all",
    );
}

#[test]
fn the_nearest_clippy_list_holds_what_the_root_bans() {
    let bans = |path: &str, key: &str| -> BTreeSet<String> {
        let list: toml::Value = toml::from_str(&read(path)).expect("clippy reads TOML");
        let entries = list[key].as_array().expect("a list of bans");
        entries
            .iter()
            .filter_map(|entry| entry["path"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let nearer = tree::files()
        .into_iter()
        .filter(|file| file.name() == "clippy.toml" && file.path != "clippy.toml");
    let mut complaints = Vec::new();
    for list in nearer {
        for key in ["disallowed-methods", "disallowed-macros"] {
            let lost: Vec<String> = bans("clippy.toml", key)
                .difference(&bans(&list.path, key))
                .cloned()
                .collect();
            complaints.extend(lost.iter().map(|path| format!("{} lacks {path}", list.path)));
        }
    }
    none(
        complaints,
        "clippy reads the nearest list only: repeat the root's there",
    );
}
