//! What does group 0 replicate? The register: a few keys that hold the cluster map, changed by compare-and-swap.
//!
//! [`keys`] is the register itself, pure. Around it [`RegisterMachine`] keeps it under a Raft group: the log is its
//! write-ahead log, one checksummed file (docs/formats/register.md) its seal and its snapshot. Readers that wait for
//! changes wait on [`RegisterMachine::revisions`] and then ask [`RegisterMachine::events_since`].

pub mod keys;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use granum_proto::internal::{self, KeyValue, RegisterEvents, RegisterState, applied::Refusal, command::Kind};
use prost::Message;
use tokio::sync::watch;

use super::command::{self, Unreadable};
use super::frame::{self, FrameError, Kind as FrameKind};
use super::{Applied, Entry, Fault, LogPosition, Sealed, SnapshotFiles, StateMachine, files, point};
use crate::disk::{Disk, SharedDisk};
use keys::Keys;

/// File of the register's seal.
pub const REGISTER_FILE: &str = "REGISTER";

const FRAME: FrameKind = FrameKind {
    magic: *b"GRANREGI",
    version: 1,
};

/// Entries after which the leader proposes a seal: replaying so many takes milliseconds.
const SEAL_AFTER_ENTRIES: u64 = 1024;

/// The register as the state machine of group 0.
#[derive(Debug)]
pub struct RegisterMachine {
    disk: SharedDisk,
    directory: PathBuf,
    state: RwLock<State>,
    /// What stands on disk. Held while that changes, so that one seal, snapshot or install runs at a time.
    sealed: Mutex<Sealed>,
    unsealed_entries: AtomicU64,
    snapshots: AtomicU64,
    revisions: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    keys: Keys,
    /// Up to where the log is contained in `keys`, and the last membership.
    applied: Sealed,
}

impl RegisterMachine {
    /// Opens the register in a folder of its own, made where it is missing.
    pub fn open(disk: SharedDisk, directory: &Path) -> Result<RegisterMachine, Fault> {
        disk.create_dir_all(directory)?;
        disk.remove_dir_all(&directory.join(files::SNAPSHOTS))?;
        let state = read_seal(disk.as_ref(), directory)?.unwrap_or_default();
        Ok(RegisterMachine {
            disk,
            directory: directory.to_owned(),
            revisions: watch::Sender::new(state.keys.revision()),
            sealed: Mutex::new(state.applied.clone()),
            state: RwLock::new(state),
            unsealed_entries: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
        })
    }

    /// Keys that begin with one of `prefixes` ("" is all), in order, and the register's revision.
    pub fn read(&self, prefixes: &[String]) -> (u64, Vec<KeyValue>) {
        let state = self.read_state();
        (state.keys.revision(), state.keys.read(prefixes))
    }

    /// What changed in `prefixes` after `revision`; see [`Keys::events_since`].
    pub fn events_since(&self, prefixes: &[String], revision: u64) -> RegisterEvents {
        self.read_state().keys.events_since(prefixes, revision)
    }

    /// The register's revision, to be waited on.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }

    fn read_state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_sealed(&self) -> MutexGuard<'_, Sealed> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(REGISTER_FILE)
    }
}

impl State {
    fn apply_command(&mut self, bytes: &[u8]) -> Result<Applied, Fault> {
        let command = match command::decode(bytes) {
            Ok(command) => command,
            Err(Unreadable::Malformed(problem)) => return Ok(refused(problem)),
            Err(newer) => return Err(Fault::new(newer)),
        };
        match command.kind {
            Some(Kind::Swap(swap)) => Ok(match self.keys.swap(swap, command.digest) {
                Ok(result) => reply(internal::Applied {
                    sequence: result.revision,
                    swap: Some(result),
                    ..internal::Applied::default()
                }),
                Err(invalid) => refused(invalid.to_string()),
            }),
            Some(Kind::Seal(_)) => Ok(Applied {
                seal_point: true,
                ..reply(internal::Applied::default())
            }),
            _ => Ok(refused("the register takes swaps and seals only".into())),
        }
    }
}

fn reply(applied: internal::Applied) -> Applied {
    Applied {
        reply: applied.encode_to_vec().into(),
        seal_point: false,
    }
}

fn refused(reason: String) -> Applied {
    reply(internal::Applied {
        refused: reason,
        refusal: Refusal::Invalid.into(),
        ..internal::Applied::default()
    })
}

impl StateMachine for RegisterMachine {
    fn sealed(&self) -> Sealed {
        self.lock_sealed().clone()
    }

    fn apply(&self, position: LogPosition, entry: Entry) -> Result<Applied, Fault> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.applied.last.is_some_and(|last| position.index <= last.index) {
            return Ok(Applied {
                reply: Bytes::new(),
                seal_point: false,
            });
        }
        let applied = match entry {
            Entry::Blank => reply(internal::Applied::default()),
            Entry::Command(bytes) => state.apply_command(&bytes)?,
            Entry::Membership(bytes) => {
                state.applied.membership = Some((position, bytes));
                reply(internal::Applied::default())
            }
        };
        state.applied.last = Some(position);
        let revision = state.keys.revision();
        drop(state);
        self.unsealed_entries.fetch_add(1, Ordering::Relaxed);
        self.revisions
            .send_if_modified(|known| std::mem::replace(known, revision) != revision);
        Ok(applied)
    }

    fn wants_seal(&self, _: Duration) -> bool {
        self.unsealed_entries.load(Ordering::Relaxed) >= SEAL_AFTER_ENTRIES
    }

    fn seal(&self) -> Result<Sealed, Fault> {
        let mut sealed = self.lock_sealed();
        let (content, applied) = {
            let state = self.read_state();
            self.unsealed_entries.store(0, Ordering::Relaxed);
            if state.applied == *sealed {
                return Ok(sealed.clone());
            }
            let message = RegisterState {
                point: Some(point::write(&state.applied)),
                ..state.keys.write()
            };
            (message.encode_to_vec(), state.applied.clone())
        };
        frame::write(self.disk.as_ref(), &self.path(), FRAME, &content)?;
        *sealed = applied;
        Ok(sealed.clone())
    }

    fn snapshot(&self) -> Result<Option<SnapshotFiles>, Fault> {
        let sealed = self.lock_sealed();
        if sealed.last.is_none() {
            return Ok(None);
        }
        let names = [REGISTER_FILE.to_owned()];
        let number = self.snapshots.fetch_add(1, Ordering::Relaxed);
        let pinned = files::pin(&self.disk, &self.directory, &self.directory, number, &names)?;
        let (bytes, digest) = files::digest(self.disk.as_ref(), &pinned.path().join(REGISTER_FILE))?;
        Ok(Some(SnapshotFiles {
            sealed: sealed.clone(),
            directory: pinned.path().to_owned(),
            files: vec![(REGISTER_FILE.to_owned(), bytes, digest)],
            guard: Some(Box::new(pinned)),
        }))
    }

    fn incoming(&self) -> PathBuf {
        self.directory.join(files::INCOMING)
    }

    fn install(&self, directory: &Path, announced: Sealed) -> Result<(), Fault> {
        let mut sealed = self.lock_sealed();
        let received = read_frame(self.disk.as_ref(), &directory.join(REGISTER_FILE))?;
        let (content, installed) = received.ok_or_else(|| Fault::new("snapshot: it lacks the register's file"))?;
        if installed.applied.last != announced.last {
            let problem = format!(
                "snapshot: it reaches {:?}, announced {:?}",
                installed.applied.last, announced.last
            );
            return Err(Fault::new(problem));
        }
        frame::write(self.disk.as_ref(), &self.path(), FRAME, &content)?;
        let revision = installed.keys.revision();
        *sealed = installed.applied.clone();
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = installed;
        self.unsealed_entries.store(0, Ordering::Relaxed);
        self.revisions.send_replace(revision);
        Ok(())
    }
}

fn read_frame(disk: &dyn Disk, path: &Path) -> Result<Option<(Vec<u8>, State)>, FrameError> {
    let Some(framed) = frame::read(disk, path, FRAME)? else {
        return Ok(None);
    };
    let damaged = |problem: String| FrameError::Damaged {
        path: path.to_owned(),
        offset: 32,
        problem,
    };
    let mut message = RegisterState::decode(&framed.content[..]).map_err(|error| damaged(error.to_string()))?;
    let applied = point::read(message.point.take());
    let keys = Keys::read_state(message).map_err(damaged)?;
    Ok(Some((framed.content, State { keys, applied })))
}

fn read_seal(disk: &dyn Disk, directory: &Path) -> Result<Option<State>, FrameError> {
    Ok(read_frame(disk, &directory.join(REGISTER_FILE))?.map(|(_, state)| state))
}

/// Checks the register's file in `directory`; how many keys it holds, `None` where nothing was ever sealed.
pub fn verify(disk: &dyn Disk, directory: &Path) -> Result<Option<usize>, FrameError> {
    Ok(read_seal(disk, directory)?.map(|state| state.keys.read(&[String::new()]).len()))
}

#[cfg(test)]
mod tests;
