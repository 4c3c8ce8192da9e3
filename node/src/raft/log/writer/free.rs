//! Which segments are freed, and what is carried forward out of them?
//!
//! From the oldest on, as long as what only it holds is little: votes, bounds and few entries of groups that have long
//! been idle. These are copied to the log's end, and once the copies are durable the file goes.

use std::collections::BTreeSet;
use std::io;

use super::{Need, Put, Writer};
use crate::disk::{DiskError, Operation};
use crate::raft::log::read::Plan;
use crate::raft::log::record::Fact;
use crate::raft::log::segment;
use crate::raft::log::state::{Place, State};
use crate::raft::type_config::{GroupId, LogId, Vote};

impl Writer {
    /// Frees segments from the oldest on, as long as what they hold is little enough to be carried forward. What cannot
    /// be freed now is looked at again after the next purge, truncation or new segment.
    pub fn free_segments(&mut self) -> Result<(), DiskError> {
        self.may_free = false;
        // What is carried makes new segments; no more of them are freed than there were.
        let segments = self.shared.lock().state.segments.len();
        for _ in 0..segments {
            let Some((oldest, groups)) = self.freeable() else {
                return Ok(());
            };
            for group in groups {
                if !self.carry(oldest, group)? {
                    return Ok(());
                }
            }
            self.flush()?;
            self.sync()?;
            let mut locked = self.shared.lock();
            if locked.state.live_bytes.get(&oldest).is_some_and(|live| *live > 0) {
                // Held by a truncation or purge that is queued.
                return Ok(());
            }
            locked.state.segments.remove(&oldest);
            locked.state.live_bytes.remove(&oldest);
            drop(locked);
            segment::remove(self.disk.as_ref(), &self.dir, oldest)?;
            self.shared.counters.freed();
        }
        Ok(())
    }

    /// The oldest segment and the groups it holds something of, if that is little.
    fn freeable(&self) -> Option<(u64, BTreeSet<GroupId>)> {
        let locked = self.shared.lock();
        let state = &locked.state;
        let oldest = state
            .segments
            .keys()
            .next()
            .copied()
            .filter(|oldest| *oldest != self.current.number)?;
        let live = state.live_bytes.get(&oldest).copied().unwrap_or(0);
        // A damaged group's records are kept, or its loss would one day look like an empty log.
        let damaged = state.groups.values().any(|group| group.damage.is_some());
        (live <= self.shared.options.carry_bytes() && !damaged).then(|| (oldest, state.groups_in(oldest)))
    }

    /// Copies to the log's end what `segment` holds of a group. False: that cannot be done now (no room, or a committed
    /// id that waits for its entry).
    fn carry(&mut self, segment: u64, id: GroupId) -> Result<bool, DiskError> {
        let Some(held) = Held::new(&self.shared.lock().state, id, segment) else {
            return Ok(true);
        };
        let mut places = Vec::with_capacity(held.entries.len());
        for plan in held.entries {
            for entry in plan.read().map_err(|error| self.unreadable(error))? {
                let at = entry.log_id;
                match self.put(id, &Fact::Entry { entry, carried: true }, Need::Small)? {
                    Put::At(place) => places.push((at, place)),
                    Put::NoRoom => return Ok(false),
                }
            }
        }
        let facts = [
            held.vote.map(Fact::Vote),
            held.purged.map(Fact::Purge),
            held.committed.map(Fact::Committed),
        ];
        let mut kept = Vec::new();
        for fact in facts.into_iter().flatten() {
            match self.put(id, &fact, Need::Small)? {
                Put::At(place) => kept.push((fact, place.segment)),
                Put::NoRoom => return Ok(false),
            }
        }
        // Before readers are sent to the copies, these must be there.
        self.flush()?;
        self.shared.counters.carried((places.len() + kept.len()) as u64);
        let mut locked = self.shared.lock();
        places
            .into_iter()
            .for_each(|(at, place)| locked.state.place(id, at, place));
        let Some(group) = locked.state.groups.get_mut(&id) else {
            return Ok(true);
        };
        for (fact, segment) in kept {
            match fact {
                Fact::Vote(_) => group.vote.segment = Some(segment),
                Fact::Purge(_) => group.purged.segment = Some(segment),
                _ => group.committed.segment = Some(segment),
            }
        }
        Ok(!held.committed_waits)
    }

    fn unreadable(&self, source: io::Error) -> DiskError {
        DiskError {
            operation: Operation::Read,
            path: self.dir.clone(),
            source,
        }
    }
}

/// What a segment holds of a group.
struct Held {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<Option<LogId>>,
    /// The newest committed id may not be written yet, so its last record must stay.
    committed_waits: bool,
    entries: Vec<Plan>,
}

impl Held {
    fn new(state: &State, id: GroupId, segment: u64) -> Option<Self> {
        let group = state.groups.get(&id)?;
        let here = |place: Option<Place>| place.is_some_and(|place| place.segment == segment);
        let indexes = (group.first..)
            .zip(&group.slots)
            .filter(|(_, slot)| here(slot.place))
            .map(|(index, _)| index);
        let committed = group.committed.segment == Some(segment);
        let written = group.committed_is_written();
        Some(Self {
            vote: group.vote.value.filter(|_| group.vote.segment == Some(segment)),
            purged: group.purged.value.filter(|_| group.purged.segment == Some(segment)),
            committed: (committed && written).then_some(group.committed.value),
            committed_waits: committed && !written,
            entries: indexes
                .map(|index| Plan::new(state, id, index..index + 1, usize::MAX))
                .collect(),
        })
    }
}
