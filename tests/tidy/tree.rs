//! Which files are there, and what is in them? The tree as git would commit it, new files included, ignored ones not.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::source;

/// Text files only: weights, samples and golden files are data, and no rule here is about data.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// One text file of the tree.
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
}

impl File {
    /// Whether the path is `place`, lies below it, or is `place` as a single Rust file.
    pub fn is_in(&self, place: &str) -> bool {
        match self.path.strip_prefix(place) {
            Some(rest) => rest.is_empty() || rest == ".rs" || rest.starts_with('/'),
            None => false,
        }
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Lines of text with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// A Rust file and what a compiler sees of it.
pub struct Rust {
    pub file: File,
    /// The text with comments and literals blanked; offsets and lines are the file's.
    pub code: String,
    /// `code` without what is compiled for tests only; empty where that is the whole file.
    pub product: String,
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the crate of tests lies in the workspace")
        .to_path_buf()
}

/// All text files of the tree.
pub fn files() -> Vec<File> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the tree");
    assert!(
        listing.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&listing.stderr)
    );
    let paths = String::from_utf8(listing.stdout).expect("paths in this tree are UTF-8");
    paths.split_terminator('\0').filter_map(read).collect()
}

/// All Rust files of the tree.
pub fn rust() -> Vec<Rust> {
    let files: Vec<File> = files().into_iter().filter(|file| file.path.ends_with(".rs")).collect();
    let mut all: Vec<Rust> = files
        .into_iter()
        .map(|file| {
            let code = source::code(&file.text);
            let product = if is_for_tests(&file.path) {
                String::new()
            } else {
                source::without_tests(&code)
            };
            Rust { file, code, product }
        })
        .collect();
    let for_tests: Vec<String> = all
        .iter()
        .flat_map(|rust| modules_for_tests(&rust.file.path, &rust.code))
        .collect();
    for rust in &mut all {
        if for_tests.iter().any(|module| rust.file.is_in(module)) {
            rust.product.clear();
        }
    }
    all
}

/// A file that is gone from the disk, too long, or not text, is no file of ours.
fn read(path: &str) -> Option<File> {
    let bytes = std::fs::read(root().join(path))
        .ok()
        .filter(|bytes| bytes.len() <= TEXT_BYTES_MAX)?;
    Some(File {
        path: path.to_owned(),
        text: String::from_utf8(bytes).ok()?,
    })
}

fn is_for_tests(path: &str) -> bool {
    path.split('/')
        .any(|part| matches!(part, "tests" | "benches" | "examples" | "fuzz" | "tests.rs"))
}

/// The places of `#[cfg(test)] mod name;` in the file at `path`: `name.rs` and the folder `name` are in each.
fn modules_for_tests(path: &str, code: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.trim_end_matches(".rs");
    let home = if matches!(stem, "lib" | "main" | "mod") {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let mut found = Vec::new();
    for item in code.split("#[cfg(test)]").skip(1) {
        let mut words = item.split_whitespace().skip_while(|word| word.starts_with("pub"));
        if let (Some("mod"), Some(module)) = (words.next(), words.next())
            && let Some(module) = module.strip_suffix(';')
        {
            found.push(format!("{home}/{module}"));
        }
    }
    found
}
