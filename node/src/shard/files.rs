//! Files of a seal: digested, pinned by hard links, taken over from a snapshot.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::disk::{Disk, DiskError, SharedDisk};

/// Folder beside a group's state that holds pinned snapshots, one folder each.
pub(super) const SNAPSHOTS: &str = "snapshots";

/// Bytes of a file read at once to digest it.
const DIGEST_CHUNK_BYTES: usize = 1 << 20;

/// Longest name of a file that travels in a snapshot, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A folder that goes, with all in it, when this value does.
#[derive(Debug)]
pub struct OwnedDirectory {
    disk: SharedDisk,
    path: PathBuf,
}

impl OwnedDirectory {
    /// Takes charge of a folder that is there.
    pub fn new(disk: SharedDisk, path: PathBuf) -> OwnedDirectory {
        OwnedDirectory { disk, path }
    }

    /// Which folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedDirectory {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove_dir_all(&self.path) {
            // Left over until the next start, which removes it.
            tracing::warn!(%error, "a snapshot's folder stays");
        }
    }
}

/// Whether a name from a manifest or from another node is plain: it can't leave its folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Length and xxh3_64 of a file.
pub(super) fn digest(disk: &dyn Disk, path: &Path) -> Result<(u64, u64), DiskError> {
    let file = disk.open(path)?;
    let bytes = file.len()?;
    let mut hash = Xxh3::new();
    let mut chunk = vec![0; DIGEST_CHUNK_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let length = (bytes - offset).min(chunk.len() as u64) as usize;
        file.read_at(offset, &mut chunk[..length])?;
        hash.update(&chunk[..length]);
        offset += length as u64;
    }
    Ok((bytes, hash.digest()))
}

/// Makes folder `number` under `directory`'s snapshots and links `names` out of `state` into it.
pub(super) fn pin(
    disk: &SharedDisk,
    state: &Path,
    directory: &Path,
    number: u64,
    names: &[String],
) -> Result<OwnedDirectory, DiskError> {
    let path = directory.join(SNAPSHOTS).join(number.to_string());
    disk.create_dir_all(&path)?;
    let pinned = OwnedDirectory::new(disk.clone(), path);
    for name in names {
        disk.hard_link(&state.join(name), &pinned.path.join(name))?;
    }
    Ok(pinned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_stay_in_their_folder() {
        for name in ["MANIFEST", "segment-7.rows", "a_b.c"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "a\0",
            "ä",
            &"x".repeat(129),
        ] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
