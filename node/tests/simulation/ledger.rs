//! What was applied where? Every state machine of a simulation is watched through [`Watched`].
//!
//! The first replica to apply an index says what stands there; all others must apply the same and answer the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granum_model::RequestId;
use granum_node::shard::{
    Applied, Entry, Fault, LogPosition, Pressure, Sealed, ShardMachine, SnapshotFiles, StateMachine, command,
};
use granum_proto::internal;
use prost::Message;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::invariants::{entries, once};

/// What stands at an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Digest of the entry.
    pub entry: u64,
    /// Digest of the answer.
    pub reply: u64,
    /// Replica that applied it first, for messages.
    pub replica: u64,
}

/// Everything applied.
#[derive(Debug, Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: BTreeMap<u64, Line>,
    effects: BTreeMap<RequestId, once::Effect>,
    violations: Vec<String>,
    applied: u64,
    installed: u64,
    sealed: u64,
}

/// Counts of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Different entries.
    pub entries: u64,
    /// Entries applied, by all replicas and again after restarts.
    pub applied: u64,
    /// Snapshots taken over.
    pub installed: u64,
    /// Seals made.
    pub sealed: u64,
}

impl Ledger {
    fn record(&self, replica: u64, position: LogPosition, entry: &Entry, applied: &Applied) {
        let mut inner = self.inner.lock().unwrap();
        let line = Line {
            term: position.term,
            entry: match entry {
                Entry::Blank => 0,
                Entry::Command(bytes) | Entry::Membership(bytes) => xxh3_64(bytes),
            },
            reply: xxh3_64(&applied.reply),
            replica,
        };
        inner.applied += 1;
        let standing = inner
            .lines
            .entry(position.index)
            .or_insert_with(|| line.clone())
            .clone();
        if let Err(violation) = entries::check(position.index, &standing, &line) {
            inner.violations.push(violation);
        }
        if let Some(request) = request_of(entry) {
            let seen = once::Effect::of(position.index, &applied.reply);
            let standing = inner.effects.entry(request).or_insert_with(|| seen.clone()).clone();
            match once::check(request, &standing, &seen) {
                Ok(kept) => {
                    inner.effects.insert(request, kept);
                }
                Err(violation) => inner.violations.push(violation),
            }
        }
    }

    /// Whether an entry with this request had an effect.
    pub fn had_effect(&self, request: RequestId) -> bool {
        let inner = self.inner.lock().unwrap();
        inner.effects.get(&request).is_some_and(|effect| !effect.refused)
    }

    /// What broke a rule so far.
    pub fn violations(&self) -> Vec<String> {
        self.inner.lock().unwrap().violations.clone()
    }

    /// Counts so far.
    pub fn written(&self) -> Written {
        let inner = self.inner.lock().unwrap();
        Written {
            entries: inner.lines.len() as u64,
            applied: inner.applied,
            installed: inner.installed,
            sealed: inner.sealed,
        }
    }
}

fn request_of(entry: &Entry) -> Option<RequestId> {
    let Entry::Command(bytes) = entry else { return None };
    let command = command::decode(bytes).ok()?;
    matches!(command.kind, Some(internal::command::Kind::Write(_)))
        .then(|| command::request_id(&command))
        .flatten()
}

/// A shard's machine, and a ledger of what it applies while its node lives.
pub struct Watched {
    /// The machine itself.
    pub machine: Arc<ShardMachine>,
    /// Its replica.
    pub replica: u64,
    /// Where to.
    pub ledger: Arc<Ledger>,
    /// Cancelled when the node died: what a ghost does is nobody's business.
    pub dead: CancellationToken,
}

impl StateMachine for Watched {
    fn sealed(&self) -> Sealed {
        self.machine.sealed()
    }

    fn apply(&self, position: LogPosition, entry: Entry) -> Result<Applied, Fault> {
        let contained = self.machine.stats().applied_index >= position.index && position.index > 0;
        let applied = self.machine.apply(position, entry.clone())?;
        if !contained && !self.dead.is_cancelled() {
            self.ledger.record(self.replica, position, &entry, &applied);
        }
        Ok(applied)
    }

    fn wants_seal(&self, quiet: Duration) -> bool {
        self.machine.wants_seal(quiet)
    }

    fn is_short_of_memory(&self) -> bool {
        self.machine.is_short_of_memory()
    }

    fn pressure(&self) -> Pressure {
        self.machine.pressure()
    }

    fn seal(&self) -> Result<Sealed, Fault> {
        let before = self.machine.sealed().last;
        let sealed = self.machine.seal()?;
        self.ledger.inner.lock().unwrap().sealed += u64::from(sealed.last != before);
        Ok(sealed)
    }

    fn snapshot(&self) -> Result<Option<SnapshotFiles>, Fault> {
        self.machine.snapshot()
    }

    fn incoming(&self) -> PathBuf {
        self.machine.incoming()
    }

    fn install(&self, directory: &Path, sealed: Sealed) -> Result<(), Fault> {
        self.machine.install(directory, sealed)?;
        self.ledger.inner.lock().unwrap().installed += 1;
        Ok(())
    }
}

/// The answer to a command.
pub fn read_reply(reply: &[u8]) -> internal::Applied {
    internal::Applied::decode(reply).expect("a machine answers what it can encode")
}
