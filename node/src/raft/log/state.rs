//! What does the log hold of each group, and where?
//!
//! One [`State`] a node, behind one lock that is never held across disk or `.await`: for each group its vote, its
//! bounds and one [`Slot`] an entry. It runs ahead of the disk: an append shows here at once (readers must find it) and
//! gets its [`Place`] when the writer has it on the disk. Until then its payload stays in memory; afterwards it stays
//! as long as the tail cache has room (oldest out first), and is read from its place when it is gone.
//!
//! `live_bytes` counts, for each segment, the entries that only it holds. An entry that is truncated or purged leaves
//! the slots at once, but is counted until the record that says so is durable: a segment is never freed on the strength
//! of a fact that a crash could still take back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::LogError;
use super::record;
use super::segment::Segment;
use crate::raft::type_config::{Entry, GroupId, LogId, Payload, Vote, log_id};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Segment number.
    pub segment: u64,
    /// Offset in the segment, in bytes.
    pub offset: u32,
}

/// One entry of a group.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Bytes of its record.
    pub bytes: u32,
    /// Where it stands; none until the writer has put it there.
    pub place: Option<Place>,
    /// The payload, while in memory; boxed, since most slots of a long log have none.
    pub payload: Option<Box<Payload>>,
}

/// A value of a group and the segment that last recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    /// The value; none: never set.
    pub value: Option<T>,
    /// Number of the segment that holds the newest record of it; none: no segment does.
    pub segment: Option<u64>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            value: None,
            segment: None,
        }
    }
}

/// What the log holds of one group.
///
/// Invariants: `slots` are the entries `first`, `first + 1`, ...; if `purged` is set, then `first = purged.index + 1`;
/// slots without a place all stand behind those with one.
#[derive(Debug, Default)]
pub struct Group {
    /// Told apart from an earlier group of this id, and from this one before an append failed.
    pub generation: u64,
    /// Last vote that is durable.
    pub vote: Kept<Vote>,
    /// Last committed entry that openraft named.
    pub committed: Kept<LogId>,
    /// `committed` is not yet written.
    pub committed_dirty: bool,
    /// Last entry purged.
    pub purged: Kept<LogId>,
    /// Index of the first slot.
    pub first: u64,
    /// The entries.
    pub slots: VecDeque<Slot>,
    /// What is wrong with the bytes of this group; it must not be opened.
    pub damage: Option<Arc<LogError>>,
}

/// Entry bytes that a segment no longer has to hold, once the record that says so is durable.
pub type Released = BTreeMap<u64, u64>;

/// All groups of a node, the segments that hold them, and the tail cache.
#[derive(Debug, Default)]
pub struct State {
    /// The groups, damaged ones too.
    pub groups: BTreeMap<GroupId, Group>,
    /// The segments, by number; the last is written to.
    pub segments: BTreeMap<u64, Segment>,
    /// Entry bytes that only this segment holds.
    pub live_bytes: BTreeMap<u64, u64>,
    /// Payload bytes in memory.
    pub cached_bytes: usize,
    cached: VecDeque<(GroupId, u64)>,
    cached_slots: usize,
    generations: u64,
}

impl Group {
    /// Index behind the last entry.
    pub fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The slot of an index.
    pub fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Last entry, or the last purged one if there is none.
    pub fn last(&self) -> Option<LogId> {
        match self.slots.back() {
            Some(slot) => Some(log_id(slot.term, self.end() - 1)),
            None => self.purged.value,
        }
    }

    /// Index that the next append must begin with; none: any, nothing was ever appended.
    pub fn next(&self) -> Option<u64> {
        self.last().map(|last| last.index + 1)
    }

    /// Whether a committed entry's record may follow what is written: it must not name what a crash could take back.
    pub fn committed_is_written(&self) -> bool {
        let Some(committed) = self.committed.value else {
            return true;
        };
        let purged = self.purged.value.is_some_and(|purged| committed.index <= purged.index);
        purged
            || self
                .slot(committed.index)
                .is_some_and(|slot| slot.place.is_some() && slot.term == committed.leader_id.term)
    }

    /// First entry that stands on the disk.
    fn oldest_place(&self) -> Option<Place> {
        self.slots.iter().filter_map(|slot| slot.place).min()
    }
}

impl State {
    /// The group, made if it is not there.
    pub fn group_or_new(&mut self, id: GroupId) -> &mut Group {
        self.groups.entry(id).or_insert_with(|| {
            self.generations += 1;
            Group {
                generation: self.generations,
                ..Group::default()
            }
        })
    }

    /// Adds an entry that the writer has yet to place.
    pub fn push(&mut self, id: GroupId, entry: &Entry) {
        let group = self.groups.get_mut(&id).expect("append looks the group up first");
        if group.slots.is_empty() {
            group.first = entry.log_id.index;
        }
        debug_assert_eq!(group.end(), entry.log_id.index, "append checks that no hole arises");
        let bytes = record::entry_bytes(&entry.payload);
        group.slots.push_back(Slot {
            term: entry.log_id.leader_id.term,
            bytes: u32::try_from(bytes).expect("append refuses entries over the limit"),
            place: None,
            payload: Some(Box::new(entry.payload.clone())),
        });
        self.cached_bytes += bytes;
        self.cached_slots += 1;
        self.cached.push_back((id, entry.log_id.index));
    }

    /// Notes where an entry stands now, unless it is gone or another by now.
    pub fn place(&mut self, id: GroupId, at: LogId, place: Place) {
        let slot = self.groups.get_mut(&id).and_then(|group| group.slot_mut(at.index));
        let Some(slot) = slot.filter(|slot| slot.term == at.leader_id.term) else {
            return;
        };
        let bytes = u64::from(slot.bytes);
        if let Some(before) = slot.place.replace(place) {
            self.release(&Released::from([(before.segment, bytes)]));
        }
        *self.live_bytes.entry(place.segment).or_default() += bytes;
    }

    /// Removes the entries behind `last` (all, if none) and answers what that frees once it is durable.
    pub fn truncate_after(&mut self, id: GroupId, last: Option<LogId>) -> Released {
        let Some(group) = self.groups.get_mut(&id) else {
            return Released::new();
        };
        let kept = last.map_or(0, |last| (last.index + 1).saturating_sub(group.first));
        let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(group.slots.len());
        let gone: Vec<Slot> = group.slots.drain(kept..).collect();
        self.forget(gone)
    }

    /// Removes the entries up to `last` and answers what that frees once it is durable.
    pub fn purge(&mut self, id: GroupId, last: LogId) -> Released {
        let Some(group) = self.groups.get_mut(&id) else {
            return Released::new();
        };
        let gone = usize::try_from((last.index + 1).saturating_sub(group.first)).unwrap_or(usize::MAX);
        let gone: Vec<Slot> = group.slots.drain(..gone.min(group.slots.len())).collect();
        group.first = group.first.max(last.index + 1);
        group.purged.value = group.purged.value.max(Some(last));
        self.forget(gone)
    }

    /// Removes a group and answers what that frees once it is durable.
    pub fn drop_group(&mut self, id: GroupId) -> Released {
        let slots = self.groups.remove(&id).map(|group| group.slots);
        self.forget(slots.into_iter().flatten())
    }

    /// Takes back the entries of a group from `index` on, which could not be written, and closes it to the handle that
    /// appended them.
    pub fn take_back(&mut self, id: GroupId, index: u64) {
        self.generations += 1;
        let generation = self.generations;
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.generation = generation;
        let kept = usize::try_from(index.saturating_sub(group.first))
            .unwrap_or(usize::MAX)
            .min(group.slots.len());
        let gone: Vec<Slot> = group.slots.drain(kept..).collect();
        let released = self.forget(gone);
        self.release(&released);
    }

    fn forget(&mut self, slots: impl IntoIterator<Item = Slot>) -> Released {
        let mut released = Released::new();
        for slot in slots {
            if slot.payload.is_some() {
                self.cached_bytes -= slot.bytes as usize;
                self.cached_slots -= 1;
            }
            if let Some(place) = slot.place {
                *released.entry(place.segment).or_default() += u64::from(slot.bytes);
            }
        }
        released
    }

    /// Subtracts what segments no longer have to hold.
    pub fn release(&mut self, released: &Released) {
        for (segment, bytes) in released {
            if let Some(live) = self.live_bytes.get_mut(segment) {
                *live = live
                    .checked_sub(*bytes)
                    .expect("an entry is counted once and released once");
            }
        }
    }

    /// Drops payloads, oldest first, until at most `limit` bytes stay. What has no place yet stays.
    pub fn evict(&mut self, limit: usize) {
        while self.cached_bytes > limit {
            let Some(&(id, index)) = self.cached.front() else {
                return;
            };
            let slot = self.groups.get_mut(&id).and_then(|group| group.slot_mut(index));
            if let Some(slot) = slot.filter(|slot| slot.payload.is_some()) {
                if slot.place.is_none() {
                    return;
                }
                slot.payload = None;
                self.cached_bytes -= slot.bytes as usize;
                self.cached_slots -= 1;
            }
            self.cached.pop_front();
        }
        // Names of entries long purged: thrown out when they outnumber the rest.
        if self.cached.len() > 2 * self.cached_slots + 1024 {
            let groups = &self.groups;
            let cached = |&(id, index): &(GroupId, u64)| groups.get(&id)?.slot(index)?.payload.as_ref();
            self.cached.retain(|name| cached(name).is_some());
        }
    }

    /// Which group's oldest entry stands furthest back.
    pub fn oldest(&self) -> Option<(GroupId, Place)> {
        let places = self
            .groups
            .iter()
            .filter_map(|(id, group)| Some((*id, group.oldest_place()?)));
        places.min_by_key(|(_, place)| *place)
    }

    /// Groups of which a segment holds the newest vote, bounds or an entry.
    pub fn groups_in(&self, segment: u64) -> BTreeSet<GroupId> {
        let holds = |group: &Group| {
            let kept = [group.vote.segment, group.purged.segment, group.committed.segment];
            kept.contains(&Some(segment))
                || group
                    .slots
                    .iter()
                    .any(|slot| slot.place.is_some_and(|place| place.segment == segment))
        };
        self.groups
            .iter()
            .filter(|(_, group)| holds(group))
            .map(|(id, _)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests;
