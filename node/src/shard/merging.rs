//! How do a replica's segments stay few? Merges, beside everything else, known to this replica only.
//!
//! A merge is no entry of the log: it changes which files hold the documents of the seal that stands, and nothing that
//! replicas agree on. So it writes the standing manifest anew, with the same point and everything else as it was, but for
//! `segments` and `next_segment`. Durable with the rename of that manifest: a crash before leaves the sources, a crash
//! after the merged segment, and what neither names is removed at the next start.
//!
//! The long part (writing, and later the table of places) holds no lock but `merging`, and waits while the replica seals;
//! only naming and publishing, a manifest's worth of time, happens under `sealing`. An install or the end of the replica
//! interrupts a merge, and whatever builds codes and graphs, and waits until it is gone, since both take its folder away.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use granum_index::{BuildError, Census, Index, MergeError, Merged, Moved, SegmentId, SegmentRef};
use granum_proto::internal::Manifest;

use super::documents::Tag;
use super::machine::{Driven, ShardMachine};
use super::sealing::state_directory;
use super::{Fault, manifest};
use crate::threads::Paced;

/// How long a merge waits before it looks again whether the replica still seals.
const SEALING_PAUSE: Duration = Duration::from_millis(5);

/// Is told now and then how many bytes were written since, may take its time, and says whether to give up.
pub type Pace<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// What a merge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeDone {
    /// Segments that became one.
    pub sources: usize,
    /// Bytes written.
    pub bytes: u64,
}

/// Why a merge that was due was not made.
#[derive(Debug, thiserror::Error)]
pub enum NotMerged {
    /// Nothing was begun: what is free is kept for the log and for seals, without which nothing is acknowledged.
    #[error("it may write {bytes} bytes, and {kept} are kept free (free_space_min_bytes)")]
    NoRoom {
        /// What would be written, about.
        bytes: u64,
        /// What must be free beside it.
        kept: u64,
    },
    /// Nothing was changed: a damaged source, a disk that was filled meanwhile.
    #[error(transparent)]
    Failed(#[from] MergeError),
    /// The replica stops.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ShardMachine {
    /// Whether a merge is due.
    pub fn is_merge_due(&self) -> bool {
        self.index().plan_merge(&self.options.merge).is_some()
    }

    /// Whether a segment lacks codes, a graph or a payload index.
    pub fn is_derive_due(&self) -> bool {
        self.index().lacks_derived()
    }

    /// Builds codes, graphs and payload indexes that segments lack; nothing while a merge runs, which builds its own. Slow: for a
    /// worker. `pace` as for a [`merge`](Self::merge), but from any of the threads that build, and with 0 bytes between pieces.
    pub fn derive(&self, pace: Pace<'_>) -> Result<(), NotMerged> {
        let _merging = match self.merging.try_lock() {
            Ok(merging) => merging,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        if self.is_interrupted() {
            return Ok(());
        }
        self.check_room(self.index().underived_bytes())?;
        match self.index().derive(&self.builders(&|bytes| self.gives_up(bytes, pace))) {
            Ok(_) | Err(BuildError::Stopped) => Ok(()),
            Err(error) => Err(MergeError::from(error).into()),
        }
    }

    /// Makes the merge that is due; `None`: none was, another runs, or `pace` gave up. Slow: for a worker. `pace` is told
    /// now and then how many bytes were written since, and may take its time.
    pub fn merge(&self, pace: Pace<'_>) -> Result<Option<MergeDone>, NotMerged> {
        let _merging = match self.merging.try_lock() {
            Ok(merging) => merging,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let index = self.index();
        let Some(plan) = index.plan_merge(&self.options.merge).filter(|_| !self.is_interrupted()) else {
            return Ok(None);
        };
        self.check_room(plan.bytes)?;
        let next = {
            let mut driven = self.lock_core();
            if let Some(fault) = &driven.fault {
                return Err(fault.clone().into());
            }
            driven.mint_segment()
        };
        let give_up = |bytes| self.gives_up(bytes, pace);
        let merged = match index.merge(&plan, next, &give_up) {
            // The plan was made a moment ago: a seal has dropped a source since.
            Err(MergeError::Stopped | MergeError::Gone { .. }) => return Ok(None),
            merged => merged?,
        };
        match index.derive_merged(&merged, &self.builders(&give_up)) {
            Ok(_) => {}
            // The sources have their codes and graphs: they are worth more than a segment without.
            Err(BuildError::Stopped) => return Ok(None),
            // What is derived is no part of the segment: searches are right without it.
            Err(error) => tracing::warn!(%error, "an index file could not be derived"),
        }
        let done = MergeDone {
            sources: plan.segments.len(),
            bytes: merged.bytes(),
        };
        let moved = self.publish_merged(&index, merged)?;
        self.follow_moved(&index, moved);
        Ok(Some(done))
    }

    /// Refuses to begin what would leave the log and the seals without space: a full disk is theirs to the last byte.
    fn check_room(&self, bytes: u64) -> Result<(), NotMerged> {
        let kept = self.options.free_space_min_bytes;
        // A file system that does not say counts as one with room: writing to it will tell.
        let available = self.options.disk.available_space(&self.directory).unwrap_or(u64::MAX);
        match available < kept.saturating_add(bytes) {
            true => Err(NotMerged::NoRoom { bytes, kept }),
            false => Ok(()),
        }
    }

    /// Names the merged segment in the standing manifest and swaps it in.
    fn publish_merged(&self, index: &Index, mut merged: Merged) -> Result<Moved, NotMerged> {
        let mut place = self.lock_sealing();
        let segments = index.settle(&mut merged)?;
        let written = self.rewrite_manifest(place.number, &segments);
        let tag = written.inspect_err(|fault| self.lock_core().stop(fault))?;
        let moved = {
            let _driven = self.lock_core();
            index.publish_merged(merged)
        };
        (place.tag, place.segments) = (tag, segments);
        if let Err(error) = index.remove_unreferenced(&place.segments) {
            tracing::warn!(%error, "files that were merged stay until the next seal");
        }
        Ok(moved)
    }

    /// The manifest that stands, naming other files for the same documents. A fault leaves it unknown which one stands.
    fn rewrite_manifest(&self, state: u64, segments: &[SegmentRef]) -> Result<Tag, Fault> {
        let (disk, state) = (self.options.disk.as_ref(), state_directory(&self.directory, state));
        let standing = manifest::read(disk, &state)?.ok_or_else(|| Fault::new("the standing manifest is gone"))?;
        let (before, after) = (Census::of(&standing.segments), Census::of(segments));
        if before != after {
            return Err(Fault::new(format!("merged to {after:?}, sealed with {before:?}")));
        }
        if let Some(table) = &self.documents {
            table.begin_moving();
        }
        let rewritten = Manifest {
            segments: manifest::write_segments(segments),
            next_segment: self.lock_core().next_segment,
            ..standing.manifest
        };
        Ok(manifest::write(disk, &state, &rewritten)?)
    }

    /// Brings the table of places up to date; until then, and where it is interrupted, the index follows old places.
    fn follow_moved(&self, index: &Arc<Index>, moved: Moved) {
        if let Some(table) = &self.documents
            && !table.follow(moved.places(), &|| self.is_interrupted())
        {
            return;
        }
        {
            // No command has looked a place up that it has not used yet.
            let _driven = self.lock_core();
            index.forget_moved(moved);
        }
        if let Some(table) = &self.documents {
            table.end_moving(self.lock_sealing().tag);
        }
    }

    /// Who builds what is derived, as long as `pace` does not give up.
    fn builders<'a>(&self, pace: Pace<'a>) -> Paced<'a> {
        Paced {
            threads: self.options.builders,
            pace,
        }
    }

    /// Whether to give up, having written so many bytes; writing waits while the replica seals.
    fn gives_up(&self, bytes: u64, pace: Pace<'_>) -> bool {
        if bytes > 0 {
            self.wait_while_sealing();
        }
        self.is_interrupted() || pace(bytes)
    }

    fn wait_while_sealing(&self) {
        while !self.is_interrupted() && matches!(self.sealing.try_lock(), Err(TryLockError::WouldBlock)) {
            std::thread::sleep(SEALING_PAUSE);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupts.load(Ordering::Acquire) > 0
    }

    /// Ends a merge that runs and keeps others out, for as long as the guard lives. Waits.
    pub(super) fn interrupt_merging(&self) -> MutexGuard<'_, ()> {
        self.interrupts.fetch_add(1, Ordering::AcqRel);
        let merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        self.interrupts.fetch_sub(1, Ordering::AcqRel);
        merging
    }

    /// This replica goes: on return nothing of it writes to its folder any more, nor will. Waits.
    pub fn retire(&self) {
        self.interrupts.fetch_add(1, Ordering::AcqRel);
        drop(self.merging.lock());
        drop(self.lock_sealing());
    }
}

/// Ids of segments are minted under the lock of the core, for seals and merges alike: a part that is frozen later gets a
/// greater one, and no manifest names one that it has not left behind.
impl Driven {
    pub(super) fn mint_segment(&mut self) -> SegmentId {
        self.next_segment += 1;
        SegmentId(self.next_segment - 1)
    }

    fn stop(&mut self, fault: &Fault) {
        self.fault.get_or_insert_with(|| fault.clone());
    }
}

#[cfg(test)]
mod tests;
