//! How far did an import get? A small JSON file beside the data, replaced whole, gone when the import is complete.
//!
//! Lines count once all lines up to them are acknowledged, whatever was acknowledged beyond: going on may send a few batches
//! again, under the same request ids where the batches are the same, and writing a document again changes nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::output::note;

/// Of the file's format.
const VERSION: u32 = 1;
/// Longest state file read.
const STATE_BYTES_MAX: u64 = 64 << 10;
/// Least time between two writes of the file.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Which import it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Where to.
    pub collection: String,
    /// What is done to each line.
    pub options: String,
    /// Length of the data.
    pub file_bytes: u64,
    /// When the data was last changed, in milliseconds since 1970.
    pub file_modified_ms: u64,
}

/// How far it got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Random, 32 hex digits; request ids are made of it.
    pub import: String,
    /// Lines from the first on that are done with.
    pub lines: u64,
    /// Those of them that were not blank.
    pub rows: u64,
    /// Documents acknowledged among them.
    pub documents: u64,
    /// Bad lines among them.
    pub skipped: u64,
}

impl Saved {
    /// Nothing yet.
    pub fn fresh() -> Self {
        Saved {
            import: format!("{:032x}", rand::random::<u128>()),
            lines: 0,
            rows: 0,
            documents: 0,
            skipped: 0,
        }
    }

    /// The import's id as a number.
    pub fn import_number(&self) -> anyhow::Result<u128> {
        u128::from_str_radix(&self.import, 16).context("an import's id is 32 hex digits")
    }
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    version: u32,
    /// Which import.
    pub identity: Identity,
    /// How far.
    pub saved: Saved,
}

/// Keeps the file up to date.
pub struct State {
    path: Option<PathBuf>,
    identity: Identity,
    saved: Saved,
    written: Option<Instant>,
}

/// What tells an import from others.
pub fn identity(file: &Path, collection: &str, options: &str) -> anyhow::Result<Identity> {
    let metadata = fs::metadata(file).with_context(|| file.display().to_string())?;
    if !metadata.is_file() {
        bail!("{}: not a file", file.display());
    }
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(Identity {
        collection: collection.to_owned(),
        options: options.to_owned(),
        file_bytes: metadata.len(),
        file_modified_ms: modified.map_or(0, |since| since.as_millis() as u64),
    })
}

impl State {
    /// Nothing is written before the first progress.
    pub fn new(path: PathBuf, identity: Identity, saved: Saved) -> Self {
        State {
            path: Some(path),
            identity,
            saved,
            written: None,
        }
    }

    /// A state that nobody goes on from: it is never written.
    pub fn unkept() -> Self {
        let identity = Identity {
            collection: String::new(),
            options: String::new(),
            file_bytes: 0,
            file_modified_ms: 0,
        };
        State {
            path: None,
            ..State::new(PathBuf::new(), identity, Saved::fresh())
        }
    }

    /// What an earlier run left; `None` where there is nothing.
    pub fn load(path: &Path) -> anyhow::Result<Option<Found>> {
        let broken = || {
            format!(
                "{}: not the state of an import; delete it to begin again",
                path.display()
            )
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if metadata.len() > STATE_BYTES_MAX {
            bail!(broken());
        }
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let found: Found = serde_json::from_slice(&bytes).with_context(broken)?;
        if found.version != VERSION || found.saved.import_number().is_err() {
            bail!(broken());
        }
        Ok(Some(found))
    }

    /// How far it got.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Whether a later run finds something to go on from.
    pub fn is_kept(&self) -> bool {
        self.written.is_some() && self.path.is_some()
    }

    /// Takes in progress; the file follows at most every second.
    pub fn advance(&mut self, lines: u64, rows: u64, documents: u64, skipped: u64) {
        self.saved.lines = lines;
        self.saved.rows = rows;
        self.saved.documents += documents;
        self.saved.skipped += skipped;
        if self.written.is_none_or(|written| written.elapsed() >= WRITE_INTERVAL) {
            self.write();
        }
    }

    /// Brings the file up to date, where there is progress. A place that can't be written is said once, and given up.
    pub fn write(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.saved.lines > 0) else {
            return;
        };
        self.written = Some(Instant::now());
        if let Err(error) = self.replace(path) {
            let path = path.display();
            note(&format!(
                "warning: {path}: {error}: this import can't be resumed; --state names another place"
            ));
            self.path = None;
        }
    }

    fn replace(&self, path: &Path) -> std::io::Result<()> {
        let found = Found {
            version: VERSION,
            identity: self.identity.clone(),
            saved: self.saved.clone(),
        };
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        fs::write(&fresh, serde_json::to_vec(&found)?)?;
        fs::rename(&fresh, path)
    }

    /// The import is complete: nothing is left to go on with.
    pub fn remove(&mut self) {
        if let Some(path) = &self.path {
            // Where it was never written there is nothing to remove.
            let _gone = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(directory: &Path) -> (State, PathBuf) {
        let data = directory.join("data.jsonl");
        fs::write(&data, "{}\n").unwrap();
        let identity = identity(&data, "c", "--id id").unwrap();
        let path = directory.join("data.jsonl.granum-import");
        (State::new(path.clone(), identity, Saved::fresh()), path)
    }

    #[test]
    fn what_was_saved_is_found_again_and_gone_when_complete() {
        let directory = tempfile::tempdir().unwrap();
        let (mut state, path) = state(directory.path());
        assert!(State::load(&path).unwrap().is_none());
        assert!(!state.is_kept());
        state.advance(10, 9, 8, 1);
        assert!(state.is_kept());
        state.advance(20, 19, 10, 0);
        state.write();
        let found = State::load(&path).unwrap().unwrap();
        assert_eq!((&found.identity, &found.saved), (&state.identity, state.saved()));
        assert_eq!(
            (found.saved.lines, found.saved.documents, found.saved.skipped),
            (20, 18, 1)
        );
        state.remove();
        assert!(State::load(&path).unwrap().is_none());
    }

    #[test]
    fn other_data_is_another_import() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _) = state(directory.path());
        let data = directory.path().join("data.jsonl");
        fs::write(&data, "{}\n{}\n").unwrap();
        assert_ne!(identity(&data, "c", "--id id").unwrap(), state.identity);
    }

    #[test]
    fn a_state_that_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for bytes in ["", "{}", "null", &"[".repeat(100_000)] {
            fs::write(&path, bytes).unwrap();
            let error = State::load(&path).unwrap_err().to_string();
            assert!(error.contains("delete it"), "{error}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_ends_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut state, _) = state(directory.path());
        state.path = Some(directory.path().join("missing").join("state"));
        state.advance(1, 1, 1, 0);
        assert!(!state.is_kept());
        assert_eq!(state.saved().lines, 1);
    }
}
