//! What are the bytes of one record, and when does one believe them?
//!
//! All numbers little-endian. A record never crosses a segment's end.
//!
//! ```text
//!  0  4  magic        47 72 63 64 ("Grcd")
//!  4  1  version      1
//!  5  1  kind         1 entry, 2 vote, 3 truncate, 4 purge, 5 committed, 6 drop
//!  6  1  flags        by kind, below
//!  7  1  zero
//!  8  4  body bytes   at most 4 MiB + 64 KiB
//! 12  4  body CRC32C
//! 16  8  group
//! 24  8  index        entry; last one kept (truncate), last one gone (purge), committed one; else 0
//! 32  8  term         of that index; of the vote
//! 40  8  replica      voted for; else 0
//! 48  8  position     of this record: record bytes written to the log before it, from its first segment on
//! 56  8  synced       position up to which everything was on the disk when this record was made
//! 64  4  header CRC32C over bytes 0..64
//! 68  n  body         entry: the command, or the membership (membership.rs); else empty
//!  .  1  end mark     E7
//! ```
//!
//! Flags: entry 0 blank, 1 command, 2 membership, and 80 "carried": a copy of a record whose segment was freed. Vote: 1
//! committed. Truncate and committed: 1 if there is a log id (truncate without one removes all entries).
//!
//! `position` proves that a record stands where it was written. `synced` proves that what stands before it was once
//! durable: so a broken record is damage if any later record knew it as synced, else perhaps a torn tail. The end mark
//! is not zero, as the bytes of a fresh segment are: a record torn at any byte has a zero there.

use super::membership;
use crate::raft::type_config::{Command, Entry, GroupId, LogId, Payload, ReplicaId, Vote, log_id};
use bytes::Bytes;
use granum_proto::limits::ENTRY_BYTES_MAX;

/// Bytes before a record's body.
pub const HEADER_BYTES: usize = 68;
/// Bytes of a record besides its body.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1;
/// The longest body: a command, or a membership of some thousand replicas.
pub const MAX_BODY_BYTES: usize = ENTRY_BYTES_MAX + (64 << 10);

const MAGIC: [u8; 4] = *b"Grcd";
const VERSION: u8 = 1;
const END_MARK: u8 = 0xE7;
const CHECKED_BYTES: usize = 64;

const FLAG_COMMAND: u8 = 1;
const FLAG_MEMBERSHIP: u8 = 2;
const FLAG_SET: u8 = 1;
const FLAG_CARRIED: u8 = 0x80;

/// What a record says of its group.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// An entry; `carried` if it is a copy of one in a segment that was freed.
    Entry { entry: Entry, carried: bool },
    /// The vote is this.
    Vote(Vote),
    /// Entries behind this one are gone; all are, if none is named.
    TruncateAfter(Option<LogId>),
    /// Entries up to this one are gone.
    Purge(LogId),
    /// Entries up to this one are committed.
    Committed(Option<LogId>),
    /// The group is gone from this node.
    Drop,
}

/// A header whose checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    flags: u8,
    /// Bytes between header and end mark.
    pub body_bytes: usize,
    body_crc: u32,
    /// Whose record it is.
    pub group: GroupId,
    index: u64,
    term: u64,
    replica: ReplicaId,
    /// Record bytes in the log before this one.
    pub position: u64,
    /// Everything before this position was on the disk when the record was made.
    pub synced: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Entry = 1,
    Vote = 2,
    Truncate = 3,
    Purge = 4,
    Committed = 5,
    Drop = 6,
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Nothing was ever written here.
    #[error("no record")]
    Empty,
    /// The header's checksum or magic is wrong.
    #[error("the header's checksum does not hold")]
    Header,
    /// The header holds and says something impossible.
    #[error("the header says {0}")]
    Meaning(String),
    /// The header holds, but not the body.
    #[error("the body's checksum does not hold")]
    Body,
}

/// Bytes that a record of this entry takes.
pub fn entry_bytes(payload: &Payload) -> usize {
    OVERHEAD_BYTES
        + match payload {
            Payload::Blank => 0,
            Payload::Normal(command) => command.0.len(),
            Payload::Membership(membership) => membership::encoded_bytes(membership),
        }
}

/// Appends a record to `buffer`.
pub fn encode(buffer: &mut Vec<u8>, group: GroupId, fact: &Fact, position: u64, synced: u64) {
    let start = buffer.len();
    let (kind, flags, at, replica) = match fact {
        Fact::Entry { entry, carried } => {
            let carried = if *carried { FLAG_CARRIED } else { 0 };
            (
                Kind::Entry,
                payload_flag(&entry.payload) | carried,
                Some(entry.log_id),
                0,
            )
        }
        Fact::Vote(vote) => {
            let leader = vote.leader_id;
            (
                Kind::Vote,
                u8::from(vote.committed),
                Some(log_id(leader.term, 0)),
                leader.voted_for,
            )
        }
        Fact::TruncateAfter(last) => (Kind::Truncate, u8::from(last.is_some()), *last, 0),
        Fact::Purge(last) => (Kind::Purge, 0, Some(*last), 0),
        Fact::Committed(last) => (Kind::Committed, u8::from(last.is_some()), *last, 0),
        Fact::Drop => (Kind::Drop, 0, None, 0),
    };
    buffer.resize(start + HEADER_BYTES, 0);
    if let Fact::Entry { entry, .. } = fact {
        match &entry.payload {
            Payload::Blank => {}
            Payload::Normal(command) => buffer.extend_from_slice(&command.0),
            Payload::Membership(membership) => membership::encode(buffer, membership),
        }
    }
    let body = &buffer[start + HEADER_BYTES..];
    let body_bytes = u32::try_from(body.len()).expect("append refuses bodies over MAX_BODY_BYTES");
    let body_crc = crc32c::crc32c(body);
    buffer.push(END_MARK);

    let header = &mut buffer[start..start + HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&[VERSION, kind as u8, flags, 0]);
    header[8..12].copy_from_slice(&body_bytes.to_le_bytes());
    header[12..16].copy_from_slice(&body_crc.to_le_bytes());
    let (index, term) = at.map_or((0, 0), |at| (at.index, at.leader_id.term));
    for (slot, number) in [group, index, term, replica, position, synced].into_iter().enumerate() {
        header[16 + 8 * slot..24 + 8 * slot].copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&header[..CHECKED_BYTES]);
    header[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
}

fn payload_flag(payload: &Payload) -> u8 {
    match payload {
        Payload::Blank => 0,
        Payload::Normal(_) => FLAG_COMMAND,
        Payload::Membership(_) => FLAG_MEMBERSHIP,
    }
}

impl Header {
    /// Reads and checks the header at the start of `bytes`, which may be too short for one.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let Some(header) = bytes.get(..HEADER_BYTES) else {
            return Err(if is_zero(bytes) {
                BadRecord::Empty
            } else {
                BadRecord::Header
            });
        };
        if is_zero(header) {
            return Err(BadRecord::Empty);
        }
        let crc = crc32c::crc32c(&header[..CHECKED_BYTES]);
        if header[..4] != MAGIC || crc != u32_at(header, CHECKED_BYTES) {
            return Err(BadRecord::Header);
        }
        if header[4] != VERSION {
            return Err(BadRecord::Meaning(format!(
                "version {}, and this program knows {VERSION}",
                header[4]
            )));
        }
        let body_bytes = u32_at(header, 8) as usize;
        if body_bytes > MAX_BODY_BYTES {
            return Err(BadRecord::Meaning(format!(
                "a body of {body_bytes} bytes, over the limit of {MAX_BODY_BYTES}"
            )));
        }
        let kind = Kind::decode(header[5])?;
        let index = u64_at(header, 24);
        if index == u64::MAX {
            return Err(BadRecord::Meaning(format!("index {index}, behind which there is none")));
        }
        Ok(Self {
            kind,
            flags: header[6],
            body_bytes,
            body_crc: u32_at(header, 12),
            group: u64_at(header, 16),
            index,
            term: u64_at(header, 32),
            replica: u64_at(header, 40),
            position: u64_at(header, 48),
            synced: u64_at(header, 56),
        })
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.body_bytes
    }

    /// Checks the body of this record, whose bytes begin at the start of `record`, and says what it means.
    pub fn fact(&self, record: &[u8]) -> Result<Fact, BadRecord> {
        let body = record
            .get(HEADER_BYTES..HEADER_BYTES + self.body_bytes)
            .ok_or(BadRecord::Body)?;
        let marked = record.get(HEADER_BYTES + self.body_bytes) == Some(&END_MARK);
        if !marked || crc32c::crc32c(body) != self.body_crc {
            return Err(BadRecord::Body);
        }
        let at = log_id(self.term, self.index);
        let set = (self.flags & FLAG_SET != 0).then_some(at);
        Ok(match self.kind {
            Kind::Entry => {
                let entry = Entry {
                    log_id: at,
                    payload: self.payload(body)?,
                };
                Fact::Entry {
                    entry,
                    carried: self.flags & FLAG_CARRIED != 0,
                }
            }
            Kind::Vote if self.flags & FLAG_SET != 0 => Fact::Vote(Vote::new_committed(self.term, self.replica)),
            Kind::Vote => Fact::Vote(Vote::new(self.term, self.replica)),
            Kind::Truncate => Fact::TruncateAfter(set),
            Kind::Purge => Fact::Purge(at),
            Kind::Committed => Fact::Committed(set),
            Kind::Drop => Fact::Drop,
        })
    }

    fn payload(&self, body: &[u8]) -> Result<Payload, BadRecord> {
        match self.flags & !FLAG_CARRIED {
            0 if body.is_empty() => Ok(Payload::Blank),
            FLAG_COMMAND => Ok(Payload::Normal(Command(Bytes::copy_from_slice(body)))),
            FLAG_MEMBERSHIP => membership::decode(body)
                .map(Payload::Membership)
                .map_err(BadRecord::Meaning),
            flags => Err(BadRecord::Meaning(format!(
                "an entry of flags {flags} and {} bytes",
                body.len()
            ))),
        }
    }
}

impl Kind {
    fn decode(byte: u8) -> Result<Self, BadRecord> {
        let kinds = [
            Self::Entry,
            Self::Vote,
            Self::Truncate,
            Self::Purge,
            Self::Committed,
            Self::Drop,
        ];
        let found = kinds.into_iter().find(|kind| *kind as u8 == byte);
        found.ok_or_else(|| BadRecord::Meaning(format!("kind {byte}, which this program does not know")))
    }
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Bytes up to the last that is not zero. Compares by blocks: a fresh segment is nearly all zeros.
pub fn used_bytes(bytes: &[u8]) -> usize {
    const BLOCK: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end >= BLOCK.len() && bytes[end - BLOCK.len()..end] == BLOCK {
        end -= BLOCK.len();
    }
    bytes[..end]
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Where the magic of a record next appears in `bytes`, from `from` on.
pub fn next_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(MAGIC.len())
        .position(|window| window == MAGIC)
        .map(|at| from + at)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
