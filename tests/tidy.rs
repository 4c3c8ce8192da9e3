//! Does the tree keep the rules of the house? Style, run as a test: each failure names the place and what to do instead.
//!
//! Rules are in `layout` (files), `code` (what is in them), `homes` (who may name a package) and `arrows` (who may know
//! whom); the rest reads the tree for them: `tree`, `source`, `packages`, `links`. They speak of files as git would
//! commit them. Formatting and lints are left to rustfmt and clippy.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/homes.rs"]
mod homes;
#[path = "tidy/layout.rs"]
mod layout;
#[path = "tidy/links.rs"]
mod links;
#[path = "tidy/packages.rs"]
mod packages;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

/// Fails with the complaints, one a line, and with what to do instead.
#[track_caller]
fn none(complaints: Vec<String>, instead: &str) {
    let (listed, count) = (complaints.join("\n  "), complaints.len());
    assert!(
        complaints.is_empty(),
        "\n  {listed}\n{count} in all. Instead: {instead}\n"
    );
}

/// The text of a file that must be there.
fn read(path: &str) -> String {
    std::fs::read_to_string(tree::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
