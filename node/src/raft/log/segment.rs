//! How is a segment file made, named and read?
//!
//! ```text
//!  0  8  magic     "GRNMLOG\n"
//!  8  4  version   1
//! 12  4  zero
//! 16  8  number    1, 2, 3 ... without gaps; also the file's name: 16 hex digits and ".log"
//! 24  8  position  record bytes in all segments before this one
//! 32  8  length    of the file, in bytes
//! 40  8  owner     the node's id
//! 48 12  zero
//! 60  4  CRC32C over bytes 0..60
//! 64     records, then zeros up to the file's length
//! ```
//!
//! A file is filled with zeros and synced as `spare.tmp`, then gets its header and, synced again, its name: what has a
//! segment's name has its length and its header. It is never shortened and its name never reused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogError;
use crate::disk::{Disk, DiskError, File, SharedDisk};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"GRNMLOG\n";
const VERSION: u32 = 1;
const CHECKED_BYTES: usize = 60;
const SPARE: &str = "spare.tmp";

/// An open segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Record bytes of the log before this segment.
    pub position: u64,
    /// Length of the file in bytes.
    pub length: usize,
    /// The file.
    pub file: Arc<dyn File>,
}

/// Numbers of the segments in a folder, ascending.
pub fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, LogError> {
    let names = disk.list(dir)?;
    let mut numbers = Vec::new();
    for name in names.iter().filter_map(|name| name.strip_suffix(".log")) {
        let number = (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten();
        let path = dir.join(format!("{name}.log"));
        numbers.push(number.ok_or_else(|| LogError::damaged(&path, 0, "no segment has such a name"))?);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes a file of zeros that can become a segment. A half-made one is made anew.
pub fn prepare_spare(disk: &dyn Disk, dir: &Path, length: usize) -> Result<(), DiskError> {
    discard_spare(disk, dir)?;
    let file = disk.create(&dir.join(SPARE))?;
    let filled = file.preallocate(length as u64).and_then(|()| file.sync_data());
    // What a full disk has left of it is given back at once.
    filled.inspect_err(|_| discard_spare(disk, dir).unwrap_or_default())
}

/// Removes what a crash or a full disk has left of a spare file.
pub fn discard_spare(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    match disk.remove(&dir.join(SPARE)) {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

impl Segment {
    /// Makes a segment of the spare file. Durable on return.
    pub fn from_spare(
        disk: &SharedDisk,
        dir: &Path,
        (number, position, length): (u64, u64, usize),
        owner: u64,
    ) -> Result<Self, DiskError> {
        let spare = dir.join(SPARE);
        let file = disk.open(&spare)?;
        file.write_at(0, &header(number, position, length, owner))?;
        file.sync_data()?;
        drop(file);
        let path = path(dir, number);
        disk.rename(&spare, &path)?;
        disk.sync_dir(dir)?;
        Ok(Self {
            number,
            position,
            length,
            file: disk.open(&path)?,
        })
    }

    /// Opens a segment and checks its header.
    pub fn open(disk: &dyn Disk, dir: &Path, number: u64, owner: u64) -> Result<Self, LogError> {
        let path = path(dir, number);
        let file = disk.open(&path)?;
        let length = usize::try_from(file.len()?).map_err(|_| LogError::damaged(&path, 0, "it is impossibly long"))?;
        if length < HEADER_BYTES {
            return Err(LogError::damaged(&path, 0, "it is shorter than its header"));
        }
        let mut bytes = [0; HEADER_BYTES];
        file.read_at(0, &mut bytes)?;
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if bytes[..8] != MAGIC || u32_at(CHECKED_BYTES) != crc32c::crc32c(&bytes[..CHECKED_BYTES]) {
            return Err(LogError::damaged(&path, 0, "its header's checksum does not hold"));
        }
        if u32_at(8) != VERSION {
            return Err(LogError::Version {
                path,
                found: u32_at(8),
                known: VERSION,
            });
        }
        if u64_at(16) != number {
            return Err(LogError::damaged(
                &path,
                16,
                &format!("it is segment {:016x}, renamed", u64_at(16)),
            ));
        }
        if u64_at(32) != length as u64 {
            return Err(LogError::damaged(
                &path,
                length as u64,
                &format!("it was {} bytes long", u64_at(32)),
            ));
        }
        if u64_at(40) != owner {
            return Err(LogError::Owner {
                path,
                found: u64_at(40),
                owner,
            });
        }
        let position = u64_at(24);
        if position.checked_add(length as u64).is_none() {
            return Err(LogError::damaged(
                &path,
                24,
                &format!("no log has a position of {position}"),
            ));
        }
        Ok(Self {
            number,
            position,
            length,
            file,
        })
    }

    /// All its bytes.
    pub fn read(&self) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![0; self.length];
        self.file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Position of the record at an offset of this segment.
    pub fn position_at(&self, offset: usize) -> u64 {
        self.position + (offset - HEADER_BYTES) as u64
    }
}

/// Removes a segment. Durable on return.
pub fn remove(disk: &dyn Disk, dir: &Path, number: u64) -> Result<(), DiskError> {
    disk.remove(&path(dir, number))?;
    disk.sync_dir(dir)
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}

fn header(number: u64, position: u64, length: usize, owner: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    for (slot, field) in [number, position, length as u64, owner].into_iter().enumerate() {
        header[16 + 8 * slot..24 + 8 * slot].copy_from_slice(&field.to_le_bytes());
    }
    let crc = crc32c::crc32c(&header[..CHECKED_BYTES]);
    header[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Faults, MemoryDisk};

    #[test]
    fn a_segment_comes_back_with_its_header_checked() {
        let disk = MemoryDisk::new();
        let shared: SharedDisk = Arc::new(disk.clone());
        let dir = Path::new("/log");
        disk.create_dir_all(dir).unwrap();
        prepare_spare(&disk, dir, 4096).unwrap();
        let made = Segment::from_spare(&shared, dir, (3, 777, 4096), 99).unwrap();
        assert_eq!(made.position_at(HEADER_BYTES + 5), 782);
        assert_eq!(numbers(&disk, dir).unwrap(), [3]);
        let found = Segment::open(&disk, dir, 3, 99).unwrap();
        let bytes = found.read().unwrap();
        assert_eq!(
            (found.number, found.position, found.length, bytes.len()),
            (3, 777, 4096, 4096)
        );
        assert!(matches!(
            Segment::open(&disk, dir, 3, 98),
            Err(LogError::Owner {
                found: 99,
                owner: 98,
                ..
            })
        ));
        for offset in 0..64 {
            disk.flip(&path(dir, 3), offset, 1);
            assert!(
                Segment::open(&disk, dir, 3, 99).is_err(),
                "bit of byte {offset} flipped"
            );
            disk.flip(&path(dir, 3), offset, 1);
        }
    }

    #[test]
    fn a_spare_that_does_not_fit_leaves_nothing_behind() {
        let disk = MemoryDisk::new();
        let dir = Path::new("/log");
        disk.create_dir_all(dir).unwrap();
        disk.set_faults(Faults {
            capacity_bytes: Some(4000),
            ..Faults::default()
        });
        assert!(prepare_spare(&disk, dir, 4096).unwrap_err().is_full());
        assert!(disk.list(dir).unwrap().is_empty());
    }
}
