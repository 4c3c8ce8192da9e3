//! How does openraft see one group's part of the log?
//!
//! As its own log storage. Appends and votes go through the queue; reads come from memory or, on a blocking thread, from
//! the segments. Streams hand out a bounded piece at a time: a restart that applies a million entries again never holds
//! them all.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::RaftLogReader;
use openraft::errors::LeaderChanged;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogStorage};

use super::queue::{Item, Locked, Shared};
use super::read::Plan;
use super::record;
use super::state::Group;
use super::writer::closed;
use crate::raft::type_config::{Entry, GroupId, LogId, TypeConfig, Vote};

type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;

/// One group's part of the node's log. Clones read and write the same.
#[derive(Clone, Debug)]
pub struct GroupLog {
    shared: Arc<Shared>,
    id: GroupId,
    generation: u64,
}

impl GroupLog {
    pub(super) fn new(shared: Arc<Shared>, id: GroupId, generation: u64) -> Self {
        Self { shared, id, generation }
    }

    /// The group.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Whether nothing was ever saved of this group: no vote, no entry, no purge. A replica that should have a log and
    /// finds it fresh has lost it.
    pub fn is_fresh(&self) -> bool {
        self.with(|group| group.vote.value.is_none() && group.last().is_none())
            .unwrap_or(true)
    }

    fn with<T>(&self, look: impl FnOnce(&Group) -> T) -> io::Result<T> {
        let locked = self.shared.lock();
        let group = locked
            .state
            .groups
            .get(&self.id)
            .filter(|group| group.generation == self.generation);
        group.map(look).ok_or_else(|| closed(self.id))
    }

    /// Queues what a change means for the disk, if this handle is still the group's.
    fn push(&self, change: impl FnOnce(&mut Locked) -> io::Result<Item>) -> io::Result<()> {
        self.shared.try_push(|locked| {
            let generation = locked.state.groups.get(&self.id).map(|group| group.generation);
            if generation != Some(self.generation) {
                return Err(closed(self.id));
            }
            change(locked)
        })
    }

    /// Reads entries of the range, up to `limit` bytes (one at least).
    async fn read(&self, range: Range<u64>, limit: usize) -> io::Result<Vec<Entry>> {
        let plan = {
            let locked = self.shared.lock();
            if !locked.state.groups.contains_key(&self.id) {
                return Err(closed(self.id));
            }
            Plan::new(&locked.state, self.id, range, limit)
        };
        match plan.needs_disk() {
            true => self
                .shared
                .options
                .blocking
                .run(|| plan.read())
                .await
                .map_err(io::Error::other)?,
            false => plan.read(),
        }
    }

    /// Cuts a range to the entries that are there now.
    fn clip(&self, range: &impl RangeBounds<u64>) -> io::Result<Range<u64>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.with(|group| start.max(group.first)..end.min(group.end()))
    }

    /// The next piece of a stream, without holes.
    async fn piece(&self, rest: &Range<u64>) -> io::Result<Vec<Entry>> {
        let entries = self.read(rest.clone(), self.shared.options.read_bytes).await?;
        match entries.first() {
            Some(first) if first.log_id.index == rest.start => Ok(entries),
            _ => Err(io::Error::other(format!(
                "entry {} of group {} went while it was read",
                rest.start, self.id
            ))),
        }
    }

    async fn check_leader(&self, leader: &LeaderId) -> Result<(), LeaderBoundedStreamError<TypeConfig>> {
        let vote = self.with(|group| group.vote.value)?;
        match vote {
            Some(vote) if vote.leader_id == *leader && vote.committed => Ok(()),
            other => Err(LeaderChanged::new(*leader, other).into()),
        }
    }
}

/// Checks that entries follow each other and the log's end, and that each fits; answers their bytes.
fn check(group: &Group, entries: &[Entry], max_record_bytes: usize) -> io::Result<usize> {
    let mut next = group.next();
    let mut bytes = 0;
    for entry in entries {
        let index = entry.log_id.index;
        if next.is_some_and(|next| next != index) {
            let reason = format!(
                "entry {index} does not follow the log, which goes on with {}",
                next.unwrap_or(0)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let record_bytes = record::entry_bytes(&entry.payload);
        if record_bytes > max_record_bytes {
            let reason = format!("entry {index} takes {record_bytes} bytes, over the limit of {max_record_bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        bytes += record_bytes;
        next = Some(index + 1);
    }
    Ok(bytes)
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(self.clip(&range)?, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, self.shared.options.read_bytes).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.with(|group| group.vote.value)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = self.clone();
        in_pieces(self.clip(&range), move |rest| {
            let log = log.clone();
            async move { log.piece(&rest).await }
        })
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = self.clone();
        let range = match self.check_leader(&leader).await {
            Ok(()) => self.clip(&range).map_err(LeaderBoundedStreamError::from),
            Err(error) => Err(error),
        };
        in_pieces(range, move |rest| {
            let log = log.clone();
            async move {
                log.check_leader(&leader).await?;
                let entries = log.piece(&rest).await;
                // A change of leader explains a missing entry, so it is looked at first.
                log.check_leader(&leader).await?;
                Ok(entries?)
            }
        })
    }
}

/// A stream over a range, read a piece at a time; it ends after the first error.
fn in_pieces<E, F>(
    range: Result<Range<u64>, E>,
    read: impl Fn(Range<u64>) -> F + Send + 'static,
) -> impl Stream<Item = Result<Entry, E>> + Send
where
    E: Send + 'static,
    F: Future<Output = Result<Vec<Entry>, E>> + Send + 'static,
{
    let pieces = stream::unfold((Some(range), read), |(range, read)| async move {
        let rest = match range? {
            Ok(rest) if rest.is_empty() => return None,
            Ok(rest) => rest,
            Err(error) => return Some((vec![Err(error)], (None, read))),
        };
        match read(rest.clone()).await {
            Ok(entries) => {
                let next = rest.start + entries.len() as u64..rest.end;
                Some((entries.into_iter().map(Ok).collect(), (Some(Ok(next)), read)))
            }
            Err(error) => Some((vec![Err(error)], (None, read))),
        }
    });
    // Boxed, since openraft asks for a stream that can be moved.
    pieces.map(stream::iter).flatten().boxed()
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.with(|group| LogState {
            last_purged_log_id: group.purged.value,
            last_log_id: group.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, durable) = tokio::sync::oneshot::channel();
        self.push(|_| {
            Ok(Item::Vote {
                group: self.id,
                vote: *vote,
                done,
            })
        })?;
        durable.await.map_err(|_| self.shared.closed_error())?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut locked = self.shared.lock();
        let group = locked
            .state
            .groups
            .get_mut(&self.id)
            .filter(|group| group.generation == self.generation);
        let group = group.ok_or_else(|| closed(self.id))?;
        group.committed.value = committed;
        group.committed_dirty = true;
        self.shared.wake_for_committed(locked, self.id);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.with(|group| group.committed.value)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let bytes = self.with(|group| check(group, &entries, self.shared.options.max_record_bytes()))??;
        let room = self.shared.room(bytes).await?;
        self.push(|locked| {
            if locked.full {
                let reason = format!("the raft log has no room for group {}: the disk is full", self.id);
                return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
            }
            entries.iter().for_each(|entry| locked.state.push(self.id, entry));
            Ok(Item::Append {
                group: self.id,
                generation: self.generation,
                entries,
                flushed,
                room,
            })
        })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.push(|locked| {
            let released = locked.state.truncate_after(self.id, last);
            Ok(Item::TruncateAfter {
                group: self.id,
                last,
                released,
            })
        })
    }

    async fn purge(&mut self, last: LogId) -> Result<(), io::Error> {
        self.push(|locked| {
            let released = locked.state.purge(self.id, last);
            Ok(Item::Purge {
                group: self.id,
                last,
                released,
            })
        })
    }
}
