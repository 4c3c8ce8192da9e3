//! Files of a seal: digested, pinned by hard links, taken over from a snapshot.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::disk::{Disk, DiskError, SharedDisk};

/// Folder beside a group's state that holds pinned snapshots, one folder each.
pub(super) const SNAPSHOTS: &str = "snapshots";

/// Folder beside a group's state in which another replica's snapshot comes in.
pub(super) const INCOMING: &str = "incoming";

/// Bytes of a file read at once, to digest or to copy it.
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
pub fn is_plain_name(name: &str) -> bool {
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

/// Whether a file has this length and xxh3_64; one that can't be read has not. Reads it.
pub fn is_intact(disk: &dyn Disk, path: &Path, (_, bytes, xxh3): &(String, u64, u64)) -> bool {
    let read = disk.open(path).and_then(|file| match file.len()? == *bytes {
        true => digest(disk, path).map(Some),
        false => Ok(None),
    });
    match read {
        Ok(found) => found == Some((*bytes, *xxh3)),
        Err(error) => {
            tracing::warn!(%error, "a file can't be read");
            false
        }
    }
}

/// Gives a file that is never changed a second name; a durable copy of its own where the file system refuses links.
pub fn link_or_copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), DiskError> {
    match disk.hard_link(from, to) {
        Err(error) if error.refuses_links() => copy(disk, from, to),
        linked => linked,
    }
}

fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), DiskError> {
    let (source, target) = (disk.open(from)?, disk.create(to)?);
    let bytes = source.len()?;
    let mut chunk = vec![0; DIGEST_CHUNK_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let length = (bytes - offset).min(chunk.len() as u64) as usize;
        source.read_at(offset, &mut chunk[..length])?;
        target.write_at(offset, &chunk[..length])?;
        offset += length as u64;
    }
    target.sync_data()
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
        link_or_copy(disk.as_ref(), &state.join(name), &pinned.path.join(name))?;
    }
    Ok(pinned)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::disk::{Faults, MemoryDisk, Operation};

    const HELD: &[u8] = b"grain";

    fn disk_with_a_file() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.create_dir_all(Path::new("/")).unwrap();
        let file = disk.create(Path::new("/a")).unwrap();
        file.append(HELD).unwrap();
        file.sync_data().unwrap();
        disk
    }

    fn read(disk: &MemoryDisk, path: &str) -> Vec<u8> {
        let file = disk.open(Path::new(path)).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_file_is_intact_that_has_length_and_digest() {
        let disk = disk_with_a_file();
        let check = |path: &str, bytes: u64, xxh3: u64| is_intact(&disk, Path::new(path), &("a".into(), bytes, xxh3));
        assert!(check("/a", 5, xxh3_64(HELD)));
        assert!(!check("/a", 4, xxh3_64(HELD)) && !check("/a", 5, 7) && !check("/b", 5, xxh3_64(HELD)));
        disk.flip(Path::new("/a"), 2, 1);
        assert!(!check("/a", 5, xxh3_64(HELD)));
    }

    #[test]
    fn what_cannot_be_linked_is_copied() {
        for (kind, is_copied) in [
            (None, false),
            (Some(ErrorKind::CrossesDevices), true),
            (Some(ErrorKind::TooManyLinks), true),
            (Some(ErrorKind::Unsupported), true),
            (Some(ErrorKind::PermissionDenied), true),
        ] {
            let disk = disk_with_a_file();
            disk.set_faults(Faults {
                fail_next: kind.map(|kind| (Operation::HardLink, kind)),
                ..Faults::default()
            });
            link_or_copy(&disk, Path::new("/a"), Path::new("/b")).unwrap();
            assert_eq!(read(&disk, "/b"), HELD);
            disk.open(Path::new("/a")).unwrap().write_at(0, b"G").unwrap();
            assert_eq!(read(&disk, "/b") == HELD, is_copied, "{kind:?}");
        }
        let disk = disk_with_a_file();
        disk.set_faults(Faults {
            fail_next: Some((Operation::HardLink, ErrorKind::StorageFull)),
            ..Faults::default()
        });
        assert!(link_or_copy(&disk, Path::new("/a"), Path::new("/b")).is_err());
    }

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
