//! One bit of a file, flipped while its node is down.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FileKind {
    /// The Raft log, in its middle.
    Log,
    /// A shard's manifest.
    Manifest,
    /// Rows of a vector in a segment.
    Rows,
    /// Codes of a vector in a segment.
    Codes,
    /// A graph of a segment.
    Graph,
    /// Payload of a segment.
    Payload,
    /// The table of documents, which sled holds.
    Documents,
}

impl FileKind {
    fn is(self, path: &Path) -> bool {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let in_folder = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
        match self {
            FileKind::Log => name.ends_with(".log"),
            FileKind::Manifest => name == "MANIFEST",
            FileKind::Rows => name.contains(".vector."),
            FileKind::Codes => name.contains(".codes."),
            FileKind::Graph => name.contains(".graph."),
            FileKind::Payload => name.ends_with(".payload"),
            FileKind::Documents => in_folder("trees") && !name.contains("conf"),
        }
    }

    /// Whether there is such a file under `data`, which a node is writing to.
    pub fn is_there(self, data: &Path) -> bool {
        let mut files = Vec::new();
        // A file that goes meanwhile is for the next look.
        list(data, &mut files).is_ok() && files.iter().any(|path| self.is(path))
    }

    /// Flips a bit of such a file under `data`; where. `None`: there is no such file.
    pub fn flip(self, data: &Path, random: &mut StdRng) -> Result<Option<String>> {
        let mut files = Vec::new();
        list(data, &mut files)?;
        files.retain(|path| self.is(path));
        files.sort();
        // Bytes that say something: not the zeros that a log or a page is filled with.
        let mut places = Vec::new();
        for path in files {
            let bytes = std::fs::read(&path)?;
            let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            // The middle of what is there, so that a log's tail, which may be torn, stays whole.
            if let Some(middle) = used
                .get(used.len() / 4..used.len() / 2)
                .filter(|middle| !middle.is_empty())
            {
                places.push((path, middle[random.random_range(0..middle.len())]));
            }
        }
        if places.is_empty() {
            return Ok(None);
        }
        let (path, at) = places.swap_remove(random.random_range(0..places.len()));
        let bit = random.random_range(0..8);
        let file = File::options().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64)?;
        file.write_all_at(&[byte[0] ^ (1 << bit)], at as u64)?;
        file.sync_all()?;
        let shown = path.strip_prefix(data).unwrap_or(&path).display();
        Ok(Some(format!("{shown}, byte {at}, bit {bit}")))
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
