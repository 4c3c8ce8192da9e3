//! One replica of a shard: commands in, documents in memory and in sealed segments, pinned views out.
//!
//! The deciding is done by [`Core`], pure; this type gives it a [`Staged`] index to read, commits what it decided, and
//! moves the replica from seal to seal (`sealing`). Four locks, taken in this order: `merging` (one merge or install at a
//! time), `sealing` (one seal, snapshot or install at a time, and the end of a merge), `core` (one command at a time;
//! publishing a segment too, so that no command looks a document up before and writes after), `standing` (what readers
//! pin; held to commit and to pin, never while anything is read).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use granum_index::{Census, Frozen, Index, View};
use granum_model::{RequestId, Schema};
use granum_proto::internal::{self, EnsureReplicaRequest, Epoch, Manifest, SealCensus};
use granum_proto::status::Failure;
use prost::Message;
use tokio::sync::watch;

use super::census::Censuses;
use super::command::{self, Unreadable};
use super::core::{Core, Step};
use super::documents::Documents;
use super::options::Options;
use super::staged::Staged;
use super::{Applied, Entry, Fault, LogPosition, Pressure, Sealed, SnapshotFiles, StateMachine, files, sealing, worth};
use crate::planted::{Bug, is_planted};

/// Seals that wait to be built. When more are asked for, the last of them is made up for afterwards.
pub(super) const PENDING_SEALS_MAX: usize = 4;

/// A replica of a shard as a Raft group drives it.
pub struct ShardMachine {
    pub(super) options: Options,
    /// The shard's folder.
    pub(super) directory: PathBuf,
    pub(super) documents: Option<Arc<Documents>>,
    pub(super) merging: Mutex<()>,
    /// How many want a merge that runs to end.
    pub(super) interrupts: AtomicU32,
    /// For the coordinators to compare.
    pub(super) censuses: Censuses,
    pub(super) sealing: Mutex<sealing::Place>,
    pub(super) core: Mutex<Driven>,
    pub(super) standing: RwLock<Standing>,
    sequences: watch::Sender<u64>,
    /// This replica's share of the budget.
    recent_bytes: AtomicU64,
    /// Its seal points among those that the budget knows to be flushed.
    flushes: AtomicU64,
    pub(super) snapshots: AtomicU64,
}

/// What commands change.
pub(super) struct Driven {
    pub core: Core,
    /// Up to where the log is applied.
    pub applied: Sealed,
    pub next_segment: u64,
    pub pending: VecDeque<Pending>,
    /// A seal point came while too many were pending.
    pub missed_seal: bool,
    /// A command failed half way, or could not be read: nothing more is applied.
    pub fault: Option<Fault>,
}

/// A seal point whose documents are frozen and not yet on disk.
#[derive(Clone)]
pub(super) struct Pending {
    pub frozen: Frozen,
    pub point: Sealed,
    /// All but seal point, segments and the id of the next.
    pub manifest: Manifest,
}

/// What readers see.
pub(super) struct Standing {
    pub index: Arc<Index>,
    pub applied_index: u64,
    pub sequence: u64,
    pub epoch: Epoch,
    pub schema: Arc<Schema>,
}

/// A state that doesn't change under its reader.
#[derive(Clone)]
pub struct Pinned {
    /// The documents.
    pub view: View,
    /// What they are a view of, for what is learned from answers; it may have gone since.
    pub index: Weak<Index>,
    /// Where sealed documents lie, as a hint for [`View::get`].
    pub documents: Option<Arc<Documents>>,
    /// Index of the last log entry contained.
    pub applied_index: u64,
    /// The shard's sequence.
    pub sequence: u64,
    /// Epoch and range; epoch 0: no command was applied yet, and there are no documents.
    pub epoch: Epoch,
    /// What documents look like.
    pub schema: Arc<Schema>,
}

/// Sizes of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Sizes of the index.
    pub index: granum_index::Stats,
    /// The shard's sequence.
    pub sequence: u64,
    /// The epoch that is taken; 0: none yet.
    pub epoch: u64,
    /// Index of the last entry applied.
    pub applied_index: u64,
    /// Answers in the dedup table.
    pub dedup_answers: u64,
    /// What was held at the last seals, the oldest first.
    pub seals: Vec<SealCensus>,
}

impl ShardMachine {
    /// Opens a replica in a folder of its own, made where it is missing: the last seal, if there is one. What the shard
    /// is (epoch, range, schema) comes from its log, not from `birth`, of which only the name of its cache is taken.
    pub fn open(birth: &EnsureReplicaRequest, directory: &Path, options: &Options) -> Result<Arc<ShardMachine>, Fault> {
        let opened = sealing::open(options, birth, directory)?;
        let standing = opened.driven.standing(opened.index);
        let census = Census::of(&opened.place.segments);
        Ok(Arc::new(ShardMachine {
            options: options.clone(),
            directory: directory.to_owned(),
            documents: opened.documents,
            merging: Mutex::default(),
            interrupts: AtomicU32::new(0),
            censuses: Censuses::beginning(&opened.place.sealed, census),
            sealing: Mutex::new(opened.place),
            core: Mutex::new(opened.driven),
            sequences: watch::Sender::new(standing.sequence),
            standing: RwLock::new(standing),
            recent_bytes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
        }))
    }

    /// Pins what is there now.
    pub fn pin(&self) -> Pinned {
        let standing = self.read_standing();
        Pinned {
            view: standing.index.view(),
            index: Arc::downgrade(&standing.index),
            documents: self.documents.clone(),
            applied_index: standing.applied_index,
            sequence: standing.sequence,
            epoch: standing.epoch.clone(),
            schema: standing.schema.clone(),
        }
    }

    /// Epoch and range that commands are taken for; epoch 0: none yet.
    pub fn epoch(&self) -> Epoch {
        self.read_standing().epoch.clone()
    }

    /// The schema that stands.
    pub fn schema(&self) -> Arc<Schema> {
        self.read_standing().schema.clone()
    }

    /// The shard's sequence, to be waited on.
    pub fn sequences(&self) -> watch::Receiver<u64> {
        self.sequences.subscribe()
    }

    /// What was answered to a request as a whole, if that is still known, and the digest it had.
    pub fn answered(&self, request: RequestId) -> Option<(u64, internal::Applied)> {
        self.lock_core().core.answered(request)
    }

    /// Everything that replicas agree on at one index, bar the documents: sequence, epoch, schema, answers to requests.
    pub fn agreed(&self) -> (u64, Manifest) {
        let driven = self.lock_core();
        let index = driven.applied.last.map_or(0, |last| last.index);
        (index, driven.core.write_manifest())
    }

    /// Refuses new writes while too much is unsealed, on this node as a whole.
    pub fn admit(&self) -> Result<(), Failure> {
        let budget = &self.options.budget;
        if budget.is_exceeded() {
            let (used, limit) = (budget.used_bytes(), budget.limit_bytes());
            return Err(Failure::Busy(format!(
                "recent_bytes: {used} bytes are not yet sealed, at most {limit}"
            )));
        }
        Ok(())
    }

    /// Sizes now.
    pub fn stats(&self) -> ShardStats {
        let dedup_answers = self.lock_core().core.dedup_answers();
        let standing = self.read_standing();
        ShardStats {
            index: standing.index.stats(),
            sequence: standing.sequence,
            epoch: standing.epoch.epoch,
            applied_index: standing.applied_index,
            dedup_answers,
            seals: self.censuses.list(),
        }
    }

    pub(super) fn lock_core(&self) -> MutexGuard<'_, Driven> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_standing(&self) -> RwLockReadGuard<'_, Standing> {
        self.standing.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_standing(&self) -> RwLockWriteGuard<'_, Standing> {
        self.standing.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> Arc<Index> {
        self.read_standing().index.clone()
    }

    /// Tells the budget what this replica holds now.
    pub(super) fn account(&self, recent_bytes: u64) {
        let before = self.recent_bytes.swap(recent_bytes, Ordering::Relaxed);
        self.options.budget.change(before, recent_bytes);
    }

    /// Tells it how many seal points of this replica are going to be flushed.
    pub(super) fn account_flushes(&self, pending: usize) {
        let before = self.flushes.swap(pending as u64, Ordering::Relaxed);
        self.options.budget.change_flushes(before, pending as u64);
    }

    /// Tells who waits for a sequence.
    pub(super) fn announce(&self, sequence: u64) {
        self.sequences
            .send_if_modified(|known| std::mem::replace(known, sequence) != sequence);
    }

    fn apply_command(&self, driven: &mut Driven, position: LogPosition, bytes: &[u8]) -> Result<Applied, Fault> {
        let index = self.index();
        let (step, effects) = match command::decode(bytes) {
            Ok(command) => {
                let mut staged = Staged::new(index.view(), self.documents.as_deref());
                let step = driven.core.apply(&mut staged, command)?;
                (step, staged.into_effects())
            }
            Err(Unreadable::Malformed(problem)) => (driven.core.malformed(problem), Default::default()),
            Err(newer) => return Err(Fault::new(newer)),
        };
        driven.applied.last = Some(position);
        let mut standing = self.write_standing();
        effects.commit(&index)?;
        *standing = driven.standing(index.clone());
        drop(standing);
        let Step { applied, seal } = step;
        if seal {
            driven.freeze(&index);
            self.account_flushes(driven.pending.len());
        }
        Ok(Applied {
            reply: applied.encode_to_vec().into(),
            seal_point: seal,
        })
    }
}

impl Driven {
    /// What readers see of it.
    pub(super) fn standing(&self, index: Arc<Index>) -> Standing {
        Standing {
            index,
            applied_index: self.applied.last.map_or(0, |last| last.index),
            sequence: self.core.sequence(),
            epoch: self.core.epoch().clone(),
            schema: self.core.schema().clone(),
        }
    }

    /// Freezes everything applied so far, to be sealed by a worker.
    pub(super) fn freeze(&mut self, index: &Index) {
        if self.pending.len() >= PENDING_SEALS_MAX {
            self.missed_seal = true;
            return;
        }
        self.missed_seal = false;
        let frozen = index.freeze(self.mint_segment());
        let mut manifest = self.core.write_manifest();
        if is_planted(Bug::DedupNotSealed) {
            manifest.dedup = None;
        }
        self.pending.push_back(Pending {
            frozen,
            point: self.applied.clone(),
            manifest,
        });
    }
}

impl Drop for ShardMachine {
    fn drop(&mut self) {
        self.account(0);
        self.account_flushes(0);
    }
}

impl StateMachine for ShardMachine {
    fn sealed(&self) -> Sealed {
        self.lock_sealing().sealed.clone()
    }

    fn apply(&self, position: LogPosition, entry: Entry) -> Result<Applied, Fault> {
        let mut driven = self.lock_core();
        if let Some(fault) = &driven.fault {
            return Err(fault.clone());
        }
        if driven.applied.last.is_some_and(|last| position.index <= last.index) {
            return Ok(Applied {
                reply: Bytes::new(),
                seal_point: false,
            });
        }
        let nothing = || Applied {
            reply: internal::Applied::default().encode_to_vec().into(),
            seal_point: false,
        };
        let applied = match entry {
            Entry::Command(bytes) => match self.apply_command(&mut driven, position, &bytes) {
                Ok(applied) => applied,
                Err(fault) => {
                    driven.fault = Some(fault.clone());
                    return Err(fault);
                }
            },
            Entry::Membership(bytes) => {
                driven.applied.membership = Some((position, bytes));
                nothing()
            }
            Entry::Blank => nothing(),
        };
        driven.applied.last = Some(position);
        self.write_standing().applied_index = position.index;
        let sequence = driven.core.sequence();
        drop(driven);
        self.account(self.index().stats().recent_bytes);
        self.announce(sequence);
        Ok(applied)
    }

    fn wants_seal(&self, quiet: Duration) -> bool {
        worth::sealing(&self.index().stats(), quiet, &self.options) && self.lock_core().pending.is_empty()
    }

    fn is_short_of_memory(&self) -> bool {
        self.options.budget.is_exceeded()
    }

    fn pressure(&self) -> Pressure {
        self.options.budget.pressure(self.flushes.load(Ordering::Relaxed))
    }

    fn seal(&self) -> Result<Sealed, Fault> {
        self.seal_pending()
    }

    fn snapshot(&self) -> Result<Option<SnapshotFiles>, Fault> {
        self.pin_snapshot()
    }

    fn incoming(&self) -> PathBuf {
        self.directory.join(files::INCOMING)
    }

    fn install(&self, directory: &Path, sealed: Sealed) -> Result<(), Fault> {
        self.install_snapshot(directory, sealed)
    }
}
