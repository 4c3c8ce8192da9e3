//! How does a snapshot travel? A header, then its files in order, in chunks of [`CHUNK_BYTES`] with a checksum each.
//!
//! The sender reads files that are pinned (hard links of immutable files). The receiver trusts nothing: plain names, the
//! announced lengths, free space, every chunk's CRC-32C and every file's xxh3_64 are checked before a state machine
//! sees any of it. What it writes lies in a directory of its own that goes when the install is over, done or failed.
//!
//! Over 400 lines because sender, receiver and the tests that let one speak to the other are one protocol.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use granum_proto::internal::{self, raft_snapshot_chunk as chunk};
use granum_proto::status::Failure;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use xxhash_rust::xxh3::Xxh3;

use super::blocking::Blocking;
use super::machine::{Snapshot, SnapshotData, SnapshotMeta, sealed_of};
use super::type_config::{StoredMembership, Vote};
use super::wire::{self, Malformed};
use crate::disk::{DiskError, File, SharedDisk};
use crate::shard::{OwnedDirectory, SnapshotFiles};

/// Bytes of a file in one chunk.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Most files of a snapshot.
pub const FILES_MAX: usize = 65_536;
/// Longest name of a file, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Chunks read ahead of the connection.
const READ_AHEAD_CHUNKS: usize = 4;

/// What announces `snapshot` to the replica `target`.
pub fn header(target: internal::RaftTarget, vote: &Vote, snapshot: &Snapshot) -> Result<chunk::Header, Malformed> {
    let files = snapshot.snapshot.as_ref().ok_or(Malformed("snapshot: no files"))?;
    let file = |(name, bytes, xxh3): &(String, u64, u64)| chunk::File {
        name: name.clone(),
        bytes: *bytes,
        xxh3: *xxh3,
    };
    let membership = &snapshot.meta.last_membership;
    Ok(chunk::Header {
        target: Some(target),
        vote: Some(wire::vote_out(vote)),
        last_log: snapshot.meta.last_log_id.map(wire::log_id_out),
        membership_log: membership.log_id().map(wire::log_id_out),
        membership: Some(wire::membership_out(membership.membership())),
        files: files.files.iter().map(file).collect(),
    })
}

/// Header and chunks, read where blocking harms nobody, a few ahead. An unreadable file ends the stream early, which the
/// receiver refuses.
pub fn send(
    place: Blocking,
    disk: SharedDisk,
    header: chunk::Header,
    files: SnapshotData,
) -> ReceiverStream<internal::RaftSnapshotChunk> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
    tokio::spawn(async move {
        let message = internal::RaftSnapshotChunk {
            kind: Some(chunk::Kind::Header(header)),
        };
        let (Some(files), Ok(())) = (files, sender.send(message).await) else {
            return;
        };
        for (ordinal, (name, bytes, _)) in files.files.iter().enumerate() {
            let path = files.directory.join(name);
            if let Err(error) = send_file(place, &disk, path, ordinal as u32, *bytes, &sender).await {
                tracing::error!(%error, "a file of a snapshot can't be sent");
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn send_file(
    place: Blocking,
    disk: &SharedDisk,
    path: PathBuf,
    ordinal: u32,
    bytes: u64,
    sender: &mpsc::Sender<internal::RaftSnapshotChunk>,
) -> io::Result<()> {
    let opening = disk.clone();
    let file = place
        .run(move || opening.open(&path))
        .await
        .map_err(io::Error::other)??;
    let mut offset = 0;
    while offset < bytes {
        let length = (bytes - offset).min(CHUNK_BYTES as u64);
        let reading = file.clone();
        let read = move || {
            let mut buffer = vec![0; length as usize];
            reading.read_at(offset, &mut buffer).map(|()| buffer)
        };
        let buffer = place.run(read).await.map_err(io::Error::other)??;
        let data = chunk::Data {
            file: ordinal,
            offset,
            crc32c: crc32c::crc32c(&buffer),
            bytes: buffer.into(),
        };
        if sender
            .send(internal::RaftSnapshotChunk {
                kind: Some(chunk::Kind::Data(data)),
            })
            .await
            .is_err()
        {
            return Ok(());
        }
        offset += length;
    }
    Ok(())
}

/// Takes a snapshot's chunks in. Blocks: for a blocking thread.
pub struct Incoming {
    disk: SharedDisk,
    files: SnapshotFiles,
    meta: SnapshotMeta,
    /// File being written, and bytes of it that are there.
    current: Option<(usize, Arc<dyn File>, u64, Xxh3)>,
    next: usize,
}

impl Incoming {
    /// Checks `header` and makes `directory`, which must not exist.
    pub fn begin(disk: SharedDisk, directory: PathBuf, header: chunk::Header) -> Result<Incoming, Failure> {
        check_names(&header.files)?;
        let membership = wire::membership_in(header.membership.unwrap_or_default()).map_err(malformed)?;
        let membership_log = header.membership_log.map(wire::log_id_in);
        let meta = SnapshotMeta {
            last_log_id: header.last_log.map(wire::log_id_in),
            last_membership: StoredMembership::new(membership_log, membership),
        };
        let files = header
            .files
            .into_iter()
            .map(|file| (file.name, file.bytes, file.xxh3))
            .collect();
        disk.create_dir_all(&directory).map_err(|error| read_only(&error))?;
        let guard = Some(OwnedDirectory::new(disk.clone(), directory.clone()));
        let files = SnapshotFiles {
            sealed: sealed_of(&meta),
            directory,
            files,
            guard,
        };
        let needed: u64 = files.files.iter().fold(0, |sum, file| file.1.saturating_add(sum));
        let available = disk
            .available_space(&files.directory)
            .map_err(|error| read_only(&error))?;
        if needed > available {
            return Err(Failure::ReadOnly(format!(
                "snapshot: {needed} bytes, {available} available on disk"
            )));
        }
        Ok(Incoming {
            disk,
            files,
            meta,
            current: None,
            next: 0,
        })
    }

    /// Writes one chunk, which must be the next.
    pub fn take(&mut self, data: &chunk::Data) -> Result<(), Failure> {
        if data.bytes.is_empty() || data.bytes.len() > CHUNK_BYTES || crc32c::crc32c(&data.bytes) != data.crc32c {
            return Err(Failure::Fault(format!(
                "snapshot: chunk at {} of file {} is damaged",
                data.offset, data.file
            )));
        }
        if self.current.is_none() {
            self.open_next()?;
        }
        let (ordinal, file, written, hash) = self
            .current
            .as_mut()
            .ok_or_else(|| Failure::Invalid("snapshot: a chunk behind the last file".into()))?;
        let length = self.files.files[*ordinal].1;
        let end = written.saturating_add(data.bytes.len() as u64);
        if *ordinal != data.file as usize || *written != data.offset || end > length {
            return Err(Failure::Invalid(format!(
                "snapshot: chunk at {} of file {} is out of place",
                data.offset, data.file
            )));
        }
        file.write_at(data.offset, &data.bytes)
            .map_err(|error| read_only(&error))?;
        hash.update(&data.bytes);
        *written = end;
        if end == length {
            self.close_current()?;
        }
        Ok(())
    }

    /// All files are there, as announced and synced.
    pub fn finish(mut self) -> Result<Snapshot, Failure> {
        if self.current.is_none() {
            self.open_next()?;
        }
        if self.current.is_some() || self.next < self.files.files.len() {
            return Err(Failure::Unavailable(
                "snapshot: the stream ended before the last file".into(),
            ));
        }
        self.disk
            .sync_dir(&self.files.directory)
            .map_err(|error| read_only(&error))?;
        Ok(Snapshot {
            meta: self.meta,
            snapshot: Some(Arc::new(self.files)),
        })
    }

    /// Makes the next file that is not empty the current one; empty ones are made on the way.
    fn open_next(&mut self) -> Result<(), Failure> {
        while self.current.is_none() && self.next < self.files.files.len() {
            let (name, length, _) = &self.files.files[self.next];
            let file = self
                .disk
                .create(&self.files.directory.join(name))
                .map_err(|error| read_only(&error))?;
            let empty = *length == 0;
            self.current = Some((self.next, file, 0, Xxh3::new()));
            self.next += 1;
            if empty {
                self.close_current()?;
            }
        }
        Ok(())
    }

    fn close_current(&mut self) -> Result<(), Failure> {
        let Some((ordinal, file, _, hash)) = self.current.take() else {
            return Ok(());
        };
        let (name, _, announced) = &self.files.files[ordinal];
        if hash.digest() != *announced {
            return Err(Failure::Fault(format!(
                "snapshot: file {name} arrived with another digest"
            )));
        }
        file.sync_data().map_err(|error| read_only(&error))
    }
}

fn malformed(why: Malformed) -> Failure {
    Failure::Invalid(why.to_string())
}

fn read_only(error: &DiskError) -> Failure {
    Failure::ReadOnly(format!("snapshot: {error}"))
}

/// Refuses names that could lead anywhere else, and names given twice.
fn check_names(files: &[chunk::File]) -> Result<(), Failure> {
    if files.len() > FILES_MAX {
        return Err(Failure::Invalid(format!(
            "snapshot.files: {} files, at most {FILES_MAX}",
            files.len()
        )));
    }
    let mut seen = HashSet::new();
    for file in files {
        let name = file.name.as_str();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fits =
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.chars().all(plain);
        if !fits || !seen.insert(name) {
            return Err(Failure::Invalid(format!(
                "snapshot.files: {name:?} is no plain name, or is given twice"
            )));
        }
    }
    Ok(())
}

/// The bytes of `data`, for tests and tools that make chunks by hand.
pub fn chunk_of(file: u32, offset: u64, bytes: Bytes) -> chunk::Data {
    chunk::Data {
        file,
        offset,
        crc32c: crc32c::crc32c(&bytes),
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use tokio_stream::StreamExt;
    use xxhash_rust::xxh3::xxh3_64;

    fn file(name: &str, bytes: &[u8]) -> chunk::File {
        chunk::File {
            name: name.into(),
            bytes: bytes.len() as u64,
            xxh3: xxh3_64(bytes),
        }
    }

    fn head(files: Vec<chunk::File>) -> chunk::Header {
        let peers = vec![internal::RaftPeer { replica: 1, node: 1 }];
        let configs = vec![internal::RaftVoters { replicas: vec![1] }];
        let membership = Some(internal::RaftMembership { configs, peers });
        let last_log = Some(internal::RaftLogId {
            term: 1,
            replica: 0,
            index: 9,
        });
        chunk::Header {
            files,
            membership,
            last_log,
            ..chunk::Header::default()
        }
    }

    fn begin(files: Vec<chunk::File>) -> Result<Incoming, Failure> {
        Incoming::begin(Arc::new(MemoryDisk::new()), PathBuf::from("/incoming/1"), head(files))
    }

    #[tokio::test]
    async fn files_arrive_as_they_were_sent() {
        let disk: SharedDisk = Arc::new(MemoryDisk::new());
        let from = PathBuf::from("/from");
        disk.create_dir_all(&from).unwrap();
        let large: Vec<u8> = (0..CHUNK_BYTES * 2 + 17).map(|at| at as u8).collect();
        let contents: [(&str, &[u8]); 3] = [("empty", b""), ("large", &large), ("small", b"x")];
        for (name, bytes) in contents {
            disk.create(&from.join(name)).unwrap().append(bytes).unwrap();
        }
        let files: Vec<chunk::File> = contents.iter().map(|(name, bytes)| file(name, bytes)).collect();
        let pinned = SnapshotFiles {
            sealed: Default::default(),
            directory: from,
            files: files
                .iter()
                .map(|file| (file.name.clone(), file.bytes, file.xxh3))
                .collect(),
            guard: None,
        };
        let mut stream = send(Blocking::Pool, disk.clone(), head(files), Some(Arc::new(pinned)));
        let Some(chunk::Kind::Header(header)) = stream.next().await.unwrap().kind else {
            panic!("no header")
        };
        let mut incoming = Incoming::begin(disk.clone(), PathBuf::from("/to"), header).unwrap();
        while let Some(message) = stream.next().await {
            let Some(chunk::Kind::Data(data)) = message.kind else {
                panic!("no data")
            };
            incoming.take(&data).unwrap();
        }
        let snapshot = incoming.finish().unwrap();
        assert_eq!(snapshot.meta.last_log_id.unwrap().index, 9);
        for (name, bytes) in contents {
            let mut read = vec![0; bytes.len()];
            disk.open(&PathBuf::from("/to").join(name))
                .unwrap()
                .read_at(0, &mut read)
                .unwrap();
            assert_eq!(read, bytes, "{name}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "..", "../x", "a/b", ".hidden", "a\0", &"x".repeat(129)] {
            assert!(begin(vec![file(name, b"")]).is_err(), "{name:?}");
        }
        assert!(begin(vec![file("a", b""), file("a", b"")]).is_err());
    }

    #[test]
    fn damaged_misplaced_and_missing_chunks_are_refused() {
        let bytes = Bytes::from_static(b"grain");
        let start = || begin(vec![file("a", &bytes)]).unwrap();
        assert!(start().finish().is_err(), "nothing came");
        let mut damaged = chunk_of(0, 0, bytes.clone());
        damaged.crc32c ^= 1;
        assert!(start().take(&damaged).is_err());
        assert!(start().take(&chunk_of(0, 1, bytes.slice(1..))).is_err(), "a gap");
        assert!(start().take(&chunk_of(1, 0, bytes.clone())).is_err(), "another file");
        assert!(
            start().take(&chunk_of(0, 0, Bytes::from_static(b"grains"))).is_err(),
            "too long"
        );
        assert!(
            start().take(&chunk_of(0, 0, Bytes::from_static(b"groin"))).is_err(),
            "another digest"
        );
        let mut whole = start();
        whole.take(&chunk_of(0, 0, bytes)).unwrap();
        assert!(whole.finish().is_ok());
    }
}
