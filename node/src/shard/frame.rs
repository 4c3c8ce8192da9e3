//! How does a message become a file that outlives upgrades and shows damage? The frame around manifest and register.
//!
//! ```text
//!  0   8  magic              which kind of file
//!  8   4  version            of the frame's content, u32
//! 12   4  zero
//! 16   8  length             of the content in bytes, u64
//! 24   8  digest             xxh3_64 of bytes 0..24 and the content, u64
//! 32   .  content            a prost message
//! ```
//!
//! Numbers are little-endian. A file is written beside its final name, synced, renamed, and the folder synced: after a
//! crash the old or the new one is there, never a mix.

use std::path::{Path, PathBuf};

use granum_proto::status::Failure;
use xxhash_rust::xxh3::Xxh3;

use crate::disk::{Disk, DiskError};

/// Longest content, in bytes: above anything a seal can hold, below what a damaged length could ask for.
pub const CONTENT_BYTES_MAX: u64 = 1 << 30;

const HEADER_BYTES: usize = 32;
/// What a file is called until it is whole.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Which kind of file, and the version of its content that this build writes and the newest that it reads.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// First bytes of the file.
    pub magic: [u8; 8],
    /// Version of the content.
    pub version: u32,
}

/// A file that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bytes are not what was written; says at which offset which rule is broken.
    #[error("{path}: offset {offset}: {problem}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// In bytes.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Failure {
        Failure::Fault(error.to_string())
    }
}

/// What a frame held.
#[derive(Debug)]
pub struct Framed {
    /// The content.
    pub content: Vec<u8>,
    /// The frame's digest, which names this state of the file.
    pub digest: u64,
    /// Version of the content.
    pub version: u32,
}

/// Puts `content` under `path`, durably and at once. Returns the frame's digest.
pub fn write(disk: &dyn Disk, path: &Path, kind: Kind, content: &[u8]) -> Result<u64, FrameError> {
    let length = content.len() as u64;
    assert!(
        length <= CONTENT_BYTES_MAX,
        "{length} bytes of content, at most {CONTENT_BYTES_MAX}"
    );
    let mut header = [0u8; HEADER_BYTES];
    header[..8].copy_from_slice(&kind.magic);
    header[8..12].copy_from_slice(&kind.version.to_le_bytes());
    header[16..24].copy_from_slice(&length.to_le_bytes());
    let digest = digest(&header, content);
    header[24..].copy_from_slice(&digest.to_le_bytes());

    let temporary = temporary(path);
    match disk.remove(&temporary) {
        Err(error) if !error.is_missing() => return Err(error.into()),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    file.write_at(0, &header)?;
    file.write_at(HEADER_BYTES as u64, content)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().expect("a frame lies in a folder"))?;
    Ok(digest)
}

/// Reads the frame under `path`; `None` if there is no such file.
pub fn read(disk: &dyn Disk, path: &Path, kind: Kind) -> Result<Option<Framed>, FrameError> {
    let file = match disk.open(path) {
        Err(error) if error.is_missing() => return Ok(None),
        opened => opened?,
    };
    let damaged = |offset: u64, problem: String| FrameError::Damaged {
        path: path.to_owned(),
        offset,
        problem,
    };
    let bytes = file.len()?;
    if bytes < HEADER_BYTES as u64 {
        return Err(damaged(0, format!("{bytes} bytes, a header alone has {HEADER_BYTES}")));
    }
    let mut header = [0u8; HEADER_BYTES];
    file.read_at(0, &mut header)?;
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let (length, written_digest) = (number(16), number(24));
    if header[..8] != kind.magic {
        return Err(damaged(
            0,
            format!("magic {:02x?}, expected {:02x?}", &header[..8], kind.magic),
        ));
    }
    if length > CONTENT_BYTES_MAX || length != bytes - HEADER_BYTES as u64 {
        return Err(damaged(
            16,
            format!("{length} bytes of content in a file of {bytes} bytes"),
        ));
    }
    let mut content = vec![0; length as usize];
    file.read_at(HEADER_BYTES as u64, &mut content)?;
    let digest = digest(&header, &content);
    if digest != written_digest {
        return Err(damaged(
            24,
            format!("digest {digest:016x}, written {written_digest:016x}"),
        ));
    }
    if version == 0 || version > kind.version {
        return Err(damaged(
            8,
            format!("version {version}, this build reads up to {}", kind.version),
        ));
    }
    Ok(Some(Framed {
        content,
        digest,
        version,
    }))
}

fn digest(header: &[u8; HEADER_BYTES], content: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&header[..24]);
    hash.update(content);
    hash.digest()
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    name.into()
}

/// Whether a file of this name is one that a crash left half written.
pub fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY_SUFFIX)
}

#[cfg(test)]
mod tests {
    use crate::disk::{Faults, MemoryDisk, RealDisk, Survival};

    use super::*;

    const KIND: Kind = Kind {
        magic: *b"GRANTEST",
        version: 2,
    };

    fn check_damaged(at: usize, byte: u8, problem: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&RealDisk, &path, KIND, b"content").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] = byte;
        std::fs::write(&path, bytes).unwrap();
        let said = read(&RealDisk, &path, KIND).unwrap_err().to_string();
        assert!(said.contains(problem), "{said}");
    }

    #[test]
    fn content_reads_back_and_a_missing_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(read(&RealDisk, &path, KIND).unwrap().is_none());
        for content in [&b""[..], b"one", b"two, and longer"] {
            let digest = write(&RealDisk, &path, KIND, content).unwrap();
            let framed = read(&RealDisk, &path, KIND).unwrap().unwrap();
            assert_eq!((&framed.content[..], framed.digest), (content, digest));
        }
        assert_eq!(RealDisk.list(folder.path()).unwrap(), ["file"]);
    }

    #[test]
    fn the_byte_map_never_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let digest = write(&RealDisk, &path, KIND, b"abc").unwrap();
        let mut expected = b"GRANTEST\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0".to_vec();
        let hashed = [&expected[..], b"abc"].concat();
        assert_eq!(digest, xxhash_rust::xxh3::xxh3_64(&hashed));
        expected.extend_from_slice(&digest.to_le_bytes());
        expected.extend_from_slice(b"abc");
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn every_flipped_byte_is_noticed_with_its_place() {
        check_damaged(0, b'X', "offset 0: magic");
        check_damaged(8, 1, "offset 24: digest");
        check_damaged(12, 1, "offset 24: digest");
        check_damaged(16, 6, "offset 16: 6 bytes of content in a file of 39 bytes");
        check_damaged(30, 1, "offset 24: digest");
        check_damaged(38, 1, "offset 24: digest");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&RealDisk, &path, Kind { version: 3, ..KIND }, b"").unwrap();
        assert!(
            read(&RealDisk, &path, KIND)
                .unwrap_err()
                .to_string()
                .contains("offset 8: version 3")
        );
        std::fs::write(&path, b"short").unwrap();
        assert!(
            read(&RealDisk, &path, KIND)
                .unwrap_err()
                .to_string()
                .contains("5 bytes")
        );
    }

    #[test]
    fn a_power_cut_leaves_the_old_content_or_the_new() {
        let path = Path::new("/shard/file");
        let mut outcomes = std::collections::BTreeSet::new();
        for changes in 0..8 {
            for survival in [
                Survival::Everything,
                Survival::Synced,
                Survival::Prefix(7),
                Survival::Scattered(7),
            ] {
                let disk = MemoryDisk::new();
                disk.create_dir_all(Path::new("/shard")).unwrap();
                write(&disk, path, KIND, b"old").unwrap();
                disk.set_faults(Faults {
                    power_cut_after: Some(changes),
                    ..Faults::default()
                });
                let written = write(&disk, path, KIND, b"the new").is_ok();
                let disk = disk.crash(survival);
                let content = read(&disk, path, KIND).unwrap().unwrap().content;
                assert!(
                    content == b"the new" || (content == b"old" && !written),
                    "{changes} {survival:?}"
                );
                outcomes.insert(content);
                write(&disk, path, KIND, b"after").unwrap();
            }
        }
        assert_eq!(outcomes.len(), 2);
    }
}
