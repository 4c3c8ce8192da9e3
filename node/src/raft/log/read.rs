//! How are entries read back that memory no longer holds?
//!
//! A [`Plan`] is made under the lock: for each entry its payload, or the segment and place where it stands. It is
//! carried out without the lock; neighbours in a segment are read with one call. Every checksum is checked again, and
//! the record must be the entry that was asked for. A segment freed meanwhile can still be read through its open file.

use std::io;
use std::ops::Range;

use super::LogError;
use super::record::{Fact, Header};
use super::segment::Segment;
use super::state::{Place, State};
use crate::raft::type_config::{Entry, GroupId, LogId, Payload, log_id};

/// Neighbouring records are read together up to so many bytes.
const RUN_BYTES: usize = 1 << 20;

/// Where to find a row of entries.
#[derive(Debug, Default)]
pub struct Plan {
    group: GroupId,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    at: LogId,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Memory(Payload),
    Disk {
        segment: Segment,
        place: Place,
        bytes: usize,
    },
}

impl Plan {
    /// Plans to read the entries of a group in `range` that are there, up to `limit` bytes (one entry at least).
    pub fn new(state: &State, id: GroupId, range: Range<u64>, limit: usize) -> Self {
        let mut plan = Self {
            group: id,
            steps: Vec::new(),
        };
        let Some(group) = state.groups.get(&id) else {
            return plan;
        };
        let mut bytes = 0;
        for index in range.start.max(group.first)..range.end.min(group.end()) {
            let slot = group.slot(index).expect("the range is clipped to the slots");
            bytes += slot.bytes as usize;
            if bytes > limit && !plan.steps.is_empty() {
                break;
            }
            let source = match (&slot.payload, slot.place) {
                (Some(payload), _) => Source::Memory(Payload::clone(payload)),
                (None, Some(place)) => {
                    let segment = state
                        .segments
                        .get(&place.segment)
                        .expect("a place's segment is kept")
                        .clone();
                    Source::Disk {
                        segment,
                        place,
                        bytes: slot.bytes as usize,
                    }
                }
                (None, None) => unreachable!("a payload leaves memory only when it has a place"),
            };
            plan.steps.push(Step {
                at: log_id(slot.term, index),
                source,
            });
        }
        plan
    }

    /// Whether carrying it out touches the disk.
    pub fn needs_disk(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.source, Source::Disk { .. }))
    }

    /// Reads the entries, in order.
    ///
    /// # Errors
    /// The disk failed, or what it gave is not what was written: file and offset are named.
    pub fn read(self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::with_capacity(self.steps.len());
        let mut run = Run::default();
        for step in self.steps {
            let payload = match step.source {
                Source::Memory(payload) => payload,
                Source::Disk { segment, place, bytes } => run.read(self.group, step.at, &segment, place, bytes)?,
            };
            entries.push(Entry {
                log_id: step.at,
                payload,
            });
        }
        Ok(entries)
    }
}

/// Bytes of one segment that were read ahead.
#[derive(Debug, Default)]
struct Run {
    segment: u64,
    start: usize,
    bytes: Vec<u8>,
}

impl Run {
    fn read(
        &mut self,
        group: GroupId,
        at: LogId,
        segment: &Segment,
        place: Place,
        bytes: usize,
    ) -> io::Result<Payload> {
        let offset = place.offset as usize;
        let held = self.segment == segment.number && offset >= self.start;
        if !held || offset + bytes > self.start + self.bytes.len() {
            let length = bytes.max(RUN_BYTES.min(segment.length - offset));
            self.bytes.resize(length, 0);
            segment.file.read_at(u64::from(place.offset), &mut self.bytes)?;
            (self.segment, self.start) = (segment.number, offset);
        }
        let record = &self.bytes[offset - self.start..offset - self.start + bytes];
        let damaged = |reason: &str| LogError::damaged(segment.file.path(), u64::from(place.offset), reason);
        let header = Header::decode(record).map_err(|bad| damaged(&bad.to_string()))?;
        match header.fact(record).map_err(|bad| damaged(&bad.to_string()))? {
            Fact::Entry { entry, .. } if header.group == group && entry.log_id == at => Ok(entry.payload),
            _ => Err(damaged(&format!("it is not entry {} of group {group}", at.index)).into()),
        }
    }
}
