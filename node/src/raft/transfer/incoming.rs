//! What of an announced snapshot is here already, and what arrives of the rest? Blocks: for blocking threads.
//!
//! A file is here when it was read and has the announced length and digest: one that an earlier transfer brought, or one
//! of the replica's own, which is linked into place. Whatever else lies in the folder goes. A file comes in as a
//! [`Partial`] and has its own name only when its digest was right.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use granum_proto::internal::{raft_snapshot_chunk as chunk, raft_snapshot_reply as reply};
use granum_proto::status::Failure;

use super::partial::{self, Partial};
use super::reception::Turn;
use super::{FileOf, Offer, chunk_length};
use crate::disk::{DiskError, SharedDisk};
use crate::raft::machine::{Snapshot, sealed_of};
use crate::raft::type_config::Vote;
use crate::shard::{SnapshotFiles, is_intact, link_or_copy};

/// Takes a snapshot in.
pub struct Incoming {
    disk: SharedDisk,
    directory: PathBuf,
    offer: Offer,
    /// Files that are not whole, in their order.
    missing: VecDeque<Missing>,
    spared: Spared,
    turn: Turn,
}

struct Missing {
    ordinal: usize,
    /// What is there of it; `None`: nothing.
    partial: Option<Box<Partial>>,
}

/// Bytes that need not travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spared {
    /// In files that are here whole.
    pub held_bytes: u64,
    /// In files that are here in part.
    pub resumed_bytes: u64,
}

impl Incoming {
    /// Looks what of `offer` lies in `directory`, which is made where it is missing, and in the seal that `standing`
    /// pins. Removes everything else from `directory`.
    pub fn begin(
        disk: SharedDisk,
        directory: PathBuf,
        offer: Offer,
        standing: Option<&SnapshotFiles>,
        turn: Turn,
    ) -> Result<Incoming, Failure> {
        let mut incoming = Incoming {
            disk,
            directory,
            offer,
            missing: VecDeque::new(),
            spared: Spared::default(),
            turn,
        };
        incoming.look(standing)?;
        incoming.check_space()?;
        Ok(incoming)
    }

    fn look(&mut self, standing: Option<&SnapshotFiles>) -> Result<(), Failure> {
        self.disk
            .create_dir_all(&self.directory)
            .map_err(|error| read_only(&error))?;
        self.remove_others().map_err(|error| read_only(&error))?;
        let own: HashSet<&FileOf> = standing.iter().flat_map(|standing| &standing.files).collect();
        for ordinal in 0..self.offer.files.len() {
            self.turn.check()?;
            let file = self.offer.files[ordinal].clone();
            let own = standing.filter(|_| own.contains(&file));
            let found = self.find(&file, own).map_err(|error| read_only(&error))?;
            match found {
                Found::Whole => self.spared.held_bytes += file.1,
                Found::Part(partial) => {
                    self.spared.resumed_bytes += partial.offset();
                    let partial = Some(partial);
                    self.missing.push_back(Missing { ordinal, partial });
                }
                Found::Nothing if file.1 == 0 => self.make_empty(&file)?,
                Found::Nothing => self.missing.push_back(Missing { ordinal, partial: None }),
            }
        }
        Ok(())
    }

    /// Removes files that are no part of this snapshot, whole or begun.
    fn remove_others(&self) -> Result<(), DiskError> {
        let known: HashSet<String> = self
            .offer
            .files
            .iter()
            .flat_map(|file| {
                let (content, checksums) = partial::names(file);
                [file.0.clone(), content, checksums]
            })
            .collect();
        for name in self.disk.list(&self.directory)? {
            if !known.contains(&name) {
                self.disk.remove(&self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// `own` pins the replica's files where it has one of this name, length and digest.
    fn find(&self, file: &FileOf, own: Option<&SnapshotFiles>) -> Result<Found, DiskError> {
        let path = self.directory.join(&file.0);
        if self.disk.exists(&path)? {
            if is_intact(self.disk.as_ref(), &path, file) {
                return Ok(Found::Whole);
            }
            self.disk.remove(&path)?;
        }
        if let Some(own) = own {
            let source = own.directory.join(&file.0);
            if is_intact(self.disk.as_ref(), &source, file) {
                link_or_copy(self.disk.as_ref(), &source, &path)?;
                return Ok(Found::Whole);
            }
            tracing::warn!(
                file = file.0,
                "this replica's file is not what its manifest says: it is fetched"
            );
        }
        let Some(partial) = Partial::find(&self.disk, &self.directory, file)? else {
            return Ok(Found::Nothing);
        };
        if !partial.is_whole() {
            return Ok(Found::Part(Box::new(partial)));
        }
        match partial.complete()? {
            true => Ok(Found::Whole),
            false => Ok(Found::Nothing),
        }
    }

    /// A file without bytes never travels.
    fn make_empty(&self, file: &FileOf) -> Result<(), Failure> {
        let made = Partial::begin(&self.disk, &self.directory, file).and_then(Partial::complete);
        match made.map_err(|error| read_only(&error))? {
            true => Ok(()),
            false => Err(Failure::Invalid(format!(
                "snapshot.files: {} is empty, and has another digest",
                file.0
            ))),
        }
    }

    fn check_space(&self) -> Result<(), Failure> {
        let needed = self.missing_bytes();
        let available = self
            .disk
            .available_space(&self.directory)
            .map_err(|error| read_only(&error))?;
        if needed > available {
            return Err(Failure::ReadOnly(format!(
                "snapshot: {needed} bytes, {available} available on disk"
            )));
        }
        Ok(())
    }

    /// Bytes that are still to come.
    pub fn missing_bytes(&self) -> u64 {
        let bytes = |missing: &Missing| self.offer.files[missing.ordinal].1 - missing.offset();
        self.missing.iter().map(bytes).fold(0, u64::saturating_add)
    }

    /// What was here at the beginning.
    pub fn spared(&self) -> Spared {
        self.spared
    }

    /// The vote of the leader that sends it.
    pub fn vote(&self) -> Vote {
        self.offer.vote
    }

    /// The right to the folder.
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// What the sender is asked for.
    pub fn wanted(&self) -> reply::Wanted {
        let missing = |missing: &Missing| reply::Missing {
            file: missing.ordinal as u32,
            offset: missing.offset(),
        };
        reply::Wanted {
            missing: self.missing.iter().map(missing).collect(),
        }
    }

    /// Writes one chunk, which must be the next. What is not right about it, or about the file that it ends, is asked for
    /// again by the next transfer.
    pub fn take(&mut self, data: &chunk::Data) -> Result<(), Failure> {
        let written = self.write(data);
        if written.as_ref().is_err_and(|error| error.is_full) {
            // Others need the room more than a transfer that can't end.
            if let Err(error) = self.disk.remove_dir_all(&self.directory) {
                tracing::warn!(%error, "what came in of a snapshot stays on a full disk");
            }
        }
        written.map_err(|unwritten| unwritten.why)
    }

    fn write(&mut self, data: &chunk::Data) -> Result<(), Unwritten> {
        let place = || format!("chunk at {} of file {}", data.offset, data.file);
        if crc32c::crc32c(&data.bytes) != data.crc32c {
            return Err(Failure::Fault(format!("snapshot: {} is damaged", place())).into());
        }
        let misplaced = || Unwritten::from(Failure::Invalid(format!("snapshot: {} is out of place", place())));
        let missing = self.missing.front_mut().ok_or_else(misplaced)?;
        let file = &self.offer.files[missing.ordinal];
        let length = chunk_length(missing.offset(), file.1);
        let is_next = missing.ordinal == data.file as usize && missing.offset() == data.offset;
        if !is_next || data.bytes.len() as u64 != length {
            return Err(misplaced());
        }
        let partial = match &mut missing.partial {
            Some(partial) => partial,
            none => none.insert(Box::new(Partial::begin(&self.disk, &self.directory, file)?)),
        };
        partial.write(&data.bytes, data.crc32c)?;
        if partial.is_whole() {
            self.complete_first()?;
        }
        Ok(())
    }

    /// The first missing file has its last chunk.
    fn complete_first(&mut self) -> Result<(), Unwritten> {
        let Some(Missing { ordinal, partial }) = self.missing.pop_front() else {
            return Ok(());
        };
        match partial.map_or(Ok(true), |partial| partial.complete())? {
            true => Ok(()),
            false => {
                let name = &self.offer.files[ordinal].0;
                Err(Failure::Fault(format!("snapshot: file {name} arrived with another digest")).into())
            }
        }
    }

    /// All files are there, as announced and synced.
    pub fn finish(self) -> Result<Snapshot, Failure> {
        if !self.missing.is_empty() {
            return Err(Failure::Unavailable(
                "snapshot: the stream ended before the last file".into(),
            ));
        }
        self.disk.sync_dir(&self.directory).map_err(|error| read_only(&error))?;
        let files = SnapshotFiles {
            sealed: sealed_of(&self.offer.meta),
            directory: self.directory,
            files: self.offer.files,
            guard: Some(Box::new(self.turn)),
        };
        Ok(Snapshot {
            meta: self.offer.meta,
            snapshot: Some(Arc::new(files)),
        })
    }
}

impl Missing {
    fn offset(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| partial.offset())
    }
}

/// What there is of a file.
enum Found {
    Whole,
    Part(Box<Partial>),
    Nothing,
}

/// Why a chunk was not written.
struct Unwritten {
    why: Failure,
    is_full: bool,
}

impl From<Failure> for Unwritten {
    fn from(why: Failure) -> Unwritten {
        Unwritten { why, is_full: false }
    }
}

impl From<DiskError> for Unwritten {
    fn from(error: DiskError) -> Unwritten {
        Unwritten {
            why: read_only(&error),
            is_full: error.is_full(),
        }
    }
}

fn read_only(error: &DiskError) -> Failure {
    Failure::ReadOnly(format!("snapshot: {error}"))
}

#[cfg(test)]
mod tests;
