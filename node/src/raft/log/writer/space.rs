//! Where does the next segment come from, and when is there no room?
//!
//! The next segment is prepared (zeros written) on a thread of its own while the current one fills, so that the turn in
//! which a segment ends costs no more than a rename. If there is no room for it, proposals are refused and what is
//! already under way still has the rest of the current segment; its last part is kept for small records, above all the
//! purges that free space. The register may write longer than the shards: that a collection is deleted is an entry there.

use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};

use super::Writer;
use crate::disk::DiskError;
use crate::raft::blocking::Blocking;
use crate::raft::log::segment::{self, Segment};

/// A file of zeros that can become the next segment.
pub enum Spare {
    /// None yet, or no room for one.
    None,
    /// A thread is writing the zeros.
    Preparing(JoinHandle<Result<(), DiskError>>),
    /// It is there.
    Ready,
}

impl Writer {
    /// Goes on in a new segment. All of the old one is synced before, so that only the last can have a torn tail.
    /// False: there is no room for one.
    pub fn roll(&mut self) -> Result<bool, DiskError> {
        self.flush()?;
        self.sync()?;
        self.finish_spare(true);
        if !matches!(self.spare, Spare::Ready) {
            return Ok(false);
        }
        let options = &self.shared.options;
        let next = (
            self.current.number + 1,
            self.current.position_at(self.offset),
            options.segment_bytes,
        );
        self.current = match Segment::from_spare(&self.disk, &self.dir, next, options.owner) {
            Err(error) if error.is_full() => return Ok(false),
            made => made?,
        };
        self.spare = Spare::None;
        self.offset = segment::HEADER_BYTES;
        self.may_free = true;
        self.shared
            .lock()
            .state
            .segments
            .insert(self.current.number, self.current.clone());
        Ok(true)
    }

    /// Takes note of a spare that is ready; where one is needed at once, makes it here.
    pub fn finish_spare(&mut self, now: bool) {
        self.spare = match std::mem::replace(&mut self.spare, Spare::None) {
            Spare::Preparing(thread) if now || thread.is_finished() => match thread.join() {
                Ok(Ok(())) => Spare::Ready,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "no room for the raft log's next segment");
                    Spare::None
                }
                Err(_panic) => Spare::None,
            },
            Spare::None if now && self.space_for_spare() => self.prepare_here(),
            other => other,
        };
    }

    fn prepare_here(&self) -> Spare {
        match segment::prepare_spare(self.disk.as_ref(), &self.dir, self.shared.options.segment_bytes) {
            Ok(()) => Spare::Ready,
            Err(error) => {
                tracing::warn!(%error, "no room for the raft log's next segment");
                Spare::None
            }
        }
    }

    fn prepare_aside(&self) -> Spare {
        if let Blocking::Inline(_) = self.shared.options.blocking {
            return self.prepare_here();
        }
        let (disk, dir, bytes) = (self.disk.clone(), self.dir.clone(), self.shared.options.segment_bytes);
        let prepare = move || segment::prepare_spare(disk.as_ref(), &dir, bytes);
        let thread = Builder::new().name("raft-log-spare".to_owned()).spawn(prepare);
        thread.map_or_else(|_| self.prepare_here(), Spare::Preparing)
    }

    /// A spare leaves a quarter of the reserve to seals: their files must be written before the log can be purged.
    fn space_for_spare(&self) -> bool {
        let options = &self.shared.options;
        self.available_space() >= options.segment_bytes as u64 + options.reserve_bytes / 4
    }

    fn available_space(&self) -> u64 {
        // A file system that does not say counts as one with room: writing to it will tell.
        self.disk.available_space(&self.dir).unwrap_or(u64::MAX)
    }

    /// Prepares the next segment in time, and says whether proposals may be taken.
    pub fn look_at_space(&mut self) {
        self.finish_spare(false);
        let half_full = self.offset >= self.current.length / 2;
        let full = self.shared.lock().full;
        if matches!(self.spare, Spare::None) && (half_full || full) && self.space_for_spare() {
            self.spare = self.prepare_aside();
        }
        if full && matches!(self.spare, Spare::Ready) {
            self.shared.lock().full = false;
        }
        let full = self.shared.lock().full;
        let no_spare = half_full && matches!(self.spare, Spare::None);
        let available = self.available_space();
        self.shared.available_bytes.store(available, Ordering::Relaxed);
        let room = available >= self.shared.options.reserve_bytes;
        let accepts = room && !full && !no_spare;
        // The register's entries are small, and few: they go on while there is somewhere to write them.
        let left = self.current.length - self.offset.min(self.current.length);
        let somewhere = left >= 2 * self.shared.options.small_record_bytes()
            || matches!(self.spare, Spare::Ready)
            || self.space_for_spare();
        self.shared
            .accepts_register
            .store(!full && somewhere, Ordering::Release);
        if self.shared.accepts_writes.swap(accepts, Ordering::AcqRel) != accepts {
            tracing::warn!(accepts, "the raft log's room for new proposals has changed");
        }
    }
}
