//! What does a log hold after a crash, and when must it not be believed?
//!
//! All segments are read from the oldest on, and every checksum is checked. Three things may be found that are no
//! record:
//! - Zeros: the end. In all but the last segment the next one's position says where the end must be.
//! - A **torn tail**: bytes of the last segment that no sync had covered, in whole or in part. Cut off (overwritten by
//!   zeros), together with whatever a disk that writes in its own order has put behind them.
//! - **Damage**: bytes that were durable once and are not what was written. Nothing is skipped. If the header holds,
//!   it is the group's: that group does not open, the others do. Otherwise the length is unknown, and the log does not
//!   open.
//!
//! Torn and damaged are told apart so: in the last segment, a broken record is damage if a later record knew that it
//! was synced, or if neither its end nor a sector of it is zero, as unwritten bytes of a fresh segment are. (A bit that
//! flips in the very last batch, in a record with a whole sector of zeros, is taken for a torn tail: no log can tell.)
//!
//! Then each group must be whole: entries without gaps, behind its purge, and the committed entry among them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::record::{self, BadRecord, Fact, Header};
use super::segment::{self, Segment};
use super::state::{Group, Kept, Place, Slot, State};
use super::{LogError, LogOptions};
use crate::disk::{SECTOR_BYTES, SharedDisk};
use crate::raft::type_config::{GroupId, LogId, Vote};

/// A log as it was found.
#[derive(Debug)]
pub struct Recovered {
    /// What it holds; the last segment is the one to go on with.
    pub state: State,
    /// Offset in the last segment where the next record goes.
    pub offset: usize,
    /// Bytes cut off as a torn tail.
    pub torn_bytes: u64,
}

/// Reads a log; a folder without segments gets its first one if the options allow that.
pub fn recover(disk: &SharedDisk, dir: &Path, options: &LogOptions) -> Result<Recovered, LogError> {
    segment::discard_spare(disk.as_ref(), dir)?;
    let numbers = segment::numbers(disk.as_ref(), dir)?;
    let (Some(first), Some(last)) = (numbers.first().copied(), numbers.last().copied()) else {
        return create(disk, dir, options);
    };
    let mut scan = Scan::default();
    let mut end = (segment::HEADER_BYTES, 0);
    let mut expected: Option<u64> = None;
    for (number, found) in (first..=last).zip(&numbers) {
        if number != *found {
            let path = dir.join(format!("{number:016x}.log"));
            return Err(LogError::damaged(&path, 0, "it is missing between its neighbours"));
        }
        let (segment, bytes) = Segment::open(disk.as_ref(), dir, number, options.owner)?;
        if let Some(expected) = expected.filter(|expected| *expected != segment.position) {
            let before = format!("{:016x}.log", number - 1);
            let reason = format!(
                "{before} ends at position {expected}, and this one begins at {}",
                segment.position
            );
            return Err(LogError::damaged(segment.file.path(), 24, &reason));
        }
        let offset = scan.segment(&segment, &bytes, number == last)?;
        if number == last {
            end = (offset, cut(&segment, &bytes, offset)?);
        }
        expected = Some(segment.position_at(offset));
        scan.segments.insert(number, segment);
    }
    Ok(Recovered {
        state: scan.finish(),
        offset: end.0,
        torn_bytes: end.1,
    })
}

fn create(disk: &SharedDisk, dir: &Path, options: &LogOptions) -> Result<Recovered, LogError> {
    if !options.create {
        return Err(LogError::Missing { path: dir.to_owned() });
    }
    segment::prepare_spare(disk.as_ref(), dir, options.segment_bytes)?;
    let segment = Segment::from_spare(disk, dir, (1, 0, options.segment_bytes), options.owner)?;
    let mut state = State::default();
    state.segments.insert(1, segment);
    Ok(Recovered {
        state,
        offset: segment::HEADER_BYTES,
        torn_bytes: 0,
    })
}

/// Overwrites by zeros what stands behind the end, and answers how many bytes that were.
fn cut(segment: &Segment, bytes: &[u8], end: usize) -> Result<u64, LogError> {
    let torn = record::used_bytes(&bytes[end..]);
    if torn > 0 {
        segment.file.write_at(end as u64, &vec![0; torn])?;
        segment.file.sync_data()?;
    }
    Ok(torn as u64)
}

/// What the records so far have said.
#[derive(Debug, Default)]
struct Scan {
    groups: BTreeMap<GroupId, Found>,
    segments: BTreeMap<u64, Segment>,
}

/// A group, with entries in any order: a carried one may come behind those that follow it.
#[derive(Debug, Default)]
struct Found {
    vote: Kept<Vote>,
    committed: Kept<LogId>,
    purged: Kept<LogId>,
    entries: BTreeMap<u64, Slot>,
    damage: Option<Arc<LogError>>,
}

impl Scan {
    /// Reads one segment's records and answers the offset where they end.
    fn segment(&mut self, segment: &Segment, bytes: &[u8], last: bool) -> Result<usize, LogError> {
        let mut offset = segment::HEADER_BYTES;
        loop {
            let rest = &bytes[offset..];
            let position = segment.position_at(offset);
            let header = Header::decode(rest).and_then(|header| match header.position == position {
                true => Ok(header),
                false => Err(BadRecord::Meaning(format!(
                    "position {}, and it stands at {position}",
                    header.position
                ))),
            });
            let header = match header {
                Ok(header) => header,
                Err(BadRecord::Empty) if !last || !known_synced(segment, bytes, offset) => return Ok(offset),
                Err(BadRecord::Header) if last && is_torn(segment, bytes, offset, record::HEADER_BYTES) => {
                    return Ok(offset);
                }
                Err(bad) => return Err(LogError::damaged(segment.file.path(), offset as u64, &bad.to_string())),
            };
            match header.fact(rest) {
                Ok(fact) => self.take(&header, fact, segment, offset),
                Err(_) if last && is_torn(segment, bytes, offset, header.record_bytes()) => return Ok(offset),
                Err(bad) => {
                    let damage = LogError::damaged(segment.file.path(), offset as u64, &bad.to_string());
                    self.groups
                        .entry(header.group)
                        .or_default()
                        .damage
                        .get_or_insert(Arc::new(damage));
                }
            }
            // A length that leads out of the segment is met as a body that ends too early: torn, or damage.
            offset = (offset + header.record_bytes()).min(bytes.len());
        }
    }

    fn take(&mut self, header: &Header, fact: Fact, segment: &Segment, offset: usize) {
        if fact == Fact::Drop {
            self.groups.remove(&header.group);
            return;
        }
        let found = self.groups.entry(header.group).or_default();
        let here = Some(segment.number);
        match fact {
            Fact::Vote(vote) => {
                found.vote = Kept {
                    value: Some(vote),
                    segment: here,
                }
            }
            Fact::Committed(committed) => {
                found.committed = Kept {
                    value: committed,
                    segment: here,
                }
            }
            Fact::Purge(last) => {
                found.entries = found.entries.split_off(&(last.index + 1));
                found.purged = Kept {
                    value: found.purged.value.max(Some(last)),
                    segment: here,
                };
            }
            Fact::TruncateAfter(last) => drop(found.entries.split_off(&last.map_or(0, |last| last.index + 1))),
            // A purge that was carried forward may stand before entries that were queued when it was made.
            Fact::Entry { entry, .. }
                if found
                    .purged
                    .value
                    .is_some_and(|purged| entry.log_id.index <= purged.index) => {}
            Fact::Entry { entry, carried } => {
                let place = Place {
                    segment: segment.number,
                    offset: offset as u32,
                };
                let slot = Slot {
                    term: entry.log_id.leader_id.term,
                    bytes: header.record_bytes() as u32,
                    place: Some(place),
                    payload: None,
                };
                let before = found.entries.insert(entry.log_id.index, slot);
                if before.is_some_and(|before| !carried || before.term != entry.log_id.leader_id.term) {
                    let reason = format!(
                        "entry {} a second time, without a truncation between",
                        entry.log_id.index
                    );
                    found.damage.get_or_insert(Arc::new(LogError::damaged(
                        segment.file.path(),
                        offset as u64,
                        &reason,
                    )));
                }
            }
            Fact::Drop => {}
        }
    }

    fn finish(self) -> State {
        let mut state = State::default();
        state.segments = self.segments;
        for (id, found) in self.groups {
            let newest = state
                .segments
                .values()
                .next_back()
                .map(|segment| segment.file.path().to_owned());
            let broken = found.broken().map(|reason| LogError::Incomplete {
                path: newest.unwrap_or_default(),
                group: id,
                reason,
            });
            for slot in found.entries.values() {
                let place = slot.place.expect("a recovered entry stands somewhere");
                *state.live_bytes.entry(place.segment).or_default() += u64::from(slot.bytes);
            }
            state.group_or_new(id).fill(found, broken);
        }
        state
    }
}

impl Found {
    /// What is missing of a group whose records all hold.
    fn broken(&self) -> Option<String> {
        let first = self.entries.keys().next().copied();
        let last = self.entries.keys().next_back().copied();
        if let (Some(first), Some(last)) = (first, last) {
            let begins = self.purged.value.map_or(first <= 1, |purged| first == purged.index + 1);
            if !begins {
                let purged = self
                    .purged
                    .value
                    .map_or("nothing".to_owned(), |purged| format!("up to {}", purged.index));
                return Some(format!("its entries begin with {first}, and {purged} was purged"));
            }
            if last - first + 1 != self.entries.len() as u64 {
                return Some(format!("entries between {first} and {last} are missing"));
            }
        }
        let committed = self.committed.value?;
        let held = match self.entries.get(&committed.index) {
            Some(slot) => slot.term == committed.leader_id.term,
            None => self.purged.value.is_some_and(|purged| committed.index <= purged.index),
        };
        (!held).then(|| format!("entry {} was committed and is not there", committed.index))
    }
}

impl Group {
    fn fill(&mut self, found: Found, broken: Option<LogError>) {
        let behind_purged = found.purged.value.map_or(0, |purged| purged.index + 1);
        self.first = found.entries.keys().next().copied().unwrap_or(behind_purged);
        self.vote = found.vote;
        self.committed = found.committed;
        self.purged = found.purged;
        self.damage = found.damage.or(broken.map(Arc::new));
        self.slots = found.entries.into_values().collect();
    }
}

/// Whether a broken record was perhaps never on the disk as a whole.
fn is_torn(segment: &Segment, bytes: &[u8], offset: usize, length: usize) -> bool {
    let end = (offset + length).min(bytes.len());
    let end_is_zero = record::is_zero(&bytes[end - 1..(end + 4).min(bytes.len())]);
    !known_synced(segment, bytes, offset) && (end_is_zero || has_zero_sector(offset, &bytes[offset..end]))
}

/// Whether a record behind `offset` was written after what stands there was synced.
fn known_synced(segment: &Segment, bytes: &[u8], offset: usize) -> bool {
    let position = segment.position_at(offset);
    let bytes = &bytes[..record::used_bytes(bytes)];
    let mut from = offset + 1;
    while let Some(at) = record::next_magic(bytes, from) {
        let header = Header::decode(&bytes[at..]).ok();
        if header.is_some_and(|header| header.position == segment.position_at(at) && header.synced > position) {
            return true;
        }
        from = at + 1;
    }
    false
}

/// Whether a sector's share of these bytes is all zero.
fn has_zero_sector(offset: usize, bytes: &[u8]) -> bool {
    let room = SECTOR_BYTES - offset % SECTOR_BYTES;
    let (first, rest) = bytes.split_at(room.min(bytes.len()));
    std::iter::once(first)
        .chain(rest.chunks(SECTOR_BYTES))
        .any(record::is_zero)
}
