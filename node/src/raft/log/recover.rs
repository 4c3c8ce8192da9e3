//! What does a log hold after a crash, and when must it not be believed?
//!
//! All segments are read from the oldest on, and every checksum is checked. Three things may be found that are no
//! record:
//! - Zeros: the end. In all but the last segment the next one's position says where the end must be.
//! - A **torn tail**: bytes of the last segment that no sync had covered, in whole or in part. Cut off (overwritten by
//!   zeros), together with whatever a disk that writes in its own order has put behind them. Beside damage it is left, and
//!   a new segment begun: what is cut may be all that proves that the damaged bytes were durable, and without proof the
//!   next start would take them for a torn tail, and cut off what is sound behind them.
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

/// Reads a log and makes it ready to be written; a folder without segments gets its first one if the options allow that.
pub fn recover(disk: &SharedDisk, dir: &Path, options: &LogOptions) -> Result<Recovered, LogError> {
    segment::discard_spare(disk.as_ref(), dir)?;
    match read(disk, dir, options.owner)? {
        Some(found) => found.settle(disk, dir, options),
        None => create(disk, dir, options),
    }
}

/// Reads a log and changes nothing; `None`: the folder has no segments.
pub fn read(disk: &SharedDisk, dir: &Path, owner: u64) -> Result<Option<Recovered>, LogError> {
    let segments = open_all(disk, dir, owner)?;
    let mut scan = Scan::default();
    let mut found = None;
    for (at, segment) in segments.iter().enumerate() {
        let (bytes, next) = (segment.read()?, segments.get(at + 1));
        let offset = scan.segment(segment, &bytes, next.map(|next| next.position))?;
        let end = segment.position_at(offset);
        if let Some(next) = next.filter(|next| next.position != end) {
            let reason = format!(
                "{:016x}.log ends at position {end}, and this one begins at {}",
                segment.number, next.position
            );
            return Err(LogError::damaged(next.file.path(), 24, &reason));
        }
        found = Some((offset, record::used_bytes(&bytes[offset..]) as u64));
    }
    scan.segments = segments.into_iter().map(|segment| (segment.number, segment)).collect();
    Ok(found.map(|(offset, torn_bytes)| Recovered {
        state: scan.finish(),
        offset,
        torn_bytes,
    }))
}

/// All segments of a folder, in order and without gaps.
fn open_all(disk: &SharedDisk, dir: &Path, owner: u64) -> Result<Vec<Segment>, LogError> {
    let numbers = segment::numbers(disk.as_ref(), dir)?;
    let first = numbers.first().copied().unwrap_or_default();
    let open = |(number, found): (u64, &u64)| {
        if number != *found {
            let path = dir.join(format!("{number:016x}.log"));
            return Err(LogError::damaged(&path, 0, "it is missing between its neighbours"));
        }
        Segment::open(disk.as_ref(), dir, number, owner)
    };
    (first..=u64::MAX).zip(&numbers).map(open).collect()
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

impl Recovered {
    /// Puts a torn tail where no later start meets it.
    fn settle(mut self, disk: &SharedDisk, dir: &Path, options: &LogOptions) -> Result<Recovered, LogError> {
        let last = self.state.segments.last_key_value().map(|(_, last)| last.clone());
        let last = last.expect("a log that was read has a segment");
        if self.torn_bytes == 0 {
            return Ok(self);
        }
        if self.state.groups.values().any(|group| group.damage.is_some()) {
            let next = (last.number + 1, last.position_at(self.offset), options.segment_bytes);
            segment::prepare_spare(disk.as_ref(), dir, options.segment_bytes)?;
            let next = Segment::from_spare(disk, dir, next, options.owner)?;
            self.state.segments.insert(next.number, next);
            self.offset = segment::HEADER_BYTES;
        } else {
            let zeros = vec![0; self.torn_bytes as usize];
            last.file.write_at(self.offset as u64, &zeros)?;
            last.file.sync_data()?;
        }
        Ok(self)
    }
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
    /// Reads one segment's records and answers the offset where they end: in all but the last segment where the `next` one
    /// begins, if no sound record stands there. (A torn tail may, see [`Recovered::settle`].)
    fn segment(&mut self, segment: &Segment, bytes: &[u8], next: Option<u64>) -> Result<usize, LogError> {
        let last = next.is_none();
        let mut offset = segment::HEADER_BYTES;
        loop {
            let rest = &bytes[offset..];
            let position = segment.position_at(offset);
            let header = header_at(rest, position);
            let is_sound = || header.as_ref().is_ok_and(|header| header.fact(rest).is_ok());
            if next == Some(position) && !is_sound() {
                return Ok(offset);
            }
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

/// The header of a record that stands at its position.
fn header_at(bytes: &[u8], position: u64) -> Result<Header, BadRecord> {
    let header = Header::decode(bytes)?;
    if header.position != position {
        let written = header.position;
        return Err(BadRecord::Meaning(format!(
            "position {written}, and it stands at {position}"
        )));
    }
    Ok(header)
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
