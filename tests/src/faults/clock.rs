//! Wall clocks that jump, one for each node: libfaketime reads them from a file. The monotonic clock stays real.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::processes::NODES;

/// Where Debian has libfaketime.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The files that clocks follow.
pub struct Clocks(tempfile::TempDir);

impl Clocks {
    /// All of them right; an error where libfaketime is missing.
    pub fn make() -> Result<Clocks> {
        if !Path::new(LIBRARY).exists() {
            bail!("libfaketime is not installed");
        }
        let clocks = Clocks(tempfile::tempdir()?);
        for node in 0..NODES {
            clocks.jump(node, 0)?;
        }
        Ok(clocks)
    }

    /// A node's clock is so many seconds ahead from now on.
    pub fn jump(&self, node: usize, seconds: i64) -> Result<()> {
        let next = self.0.path().join("next");
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(next, self.file(node))?)
    }

    /// What makes a node follow its file.
    pub fn environment(&self, node: usize) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", LIBRARY.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(node).display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn file(&self, node: usize) -> PathBuf {
        self.0.path().join(node.to_string())
    }
}
