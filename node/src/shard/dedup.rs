//! Has this request had its effect already? The table that makes a repeated write happen once.
//!
//! Key: the client's request id and an operation's ordinal in the client's request; value: what was answered. The table is
//! replicated state: it changes by log entries only, never by a clock, and every seal carries it. It is bounded by
//! weight ([`DEDUP_BYTES_MAX`]); what leaves it is remembered by hash for [`DEDUP_EXPIRED_MAX`] requests more, so that a
//! retry that comes too late is refused as expired instead of applied again. Later still it can't be told from a new one.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use granum_model::RequestId;
use granum_proto::internal::{DedupEntry, DedupTable};

/// Most weight of the remembered answers, in bytes: about 100,000 single writes or two million in large batches.
pub const DEDUP_BYTES_MAX: usize = 8 << 20;

/// Requests that are remembered as expired, 8 bytes each.
pub const DEDUP_EXPIRED_MAX: usize = 1 << 17;

/// What an entry weighs beyond its ordinals and its answer.
const ENTRY_BYTES: usize = 64;

/// What was answered to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Hash of the client's original bytes.
    pub digest: u64,
    /// Ordinals of the operations that were applied, in the order of the outcomes.
    pub ordinals: Vec<u32>,
    /// An encoded `granum.internal.v1.Applied`.
    pub applied: Bytes,
}

impl Answered {
    fn weight(&self) -> usize {
        ENTRY_BYTES + 4 * self.ordinals.len() + self.applied.len()
    }
}

/// Whether operations of a request are new.
#[derive(Debug, PartialEq)]
pub enum Seen<'a> {
    /// Never heard of them.
    New,
    /// Some or all of them were answered, by these commands, oldest first.
    Answered(Vec<&'a Answered>),
    /// Answers to this request have left the table: these operations may be among them.
    Expired,
}

/// Answers by request id, the oldest leaving first. A request has one answer for each command that it became.
#[derive(Clone, Debug, Default)]
pub struct Dedup {
    answers: HashMap<RequestId, VecDeque<Answered>>,
    /// Request ids by age of their answers: each as often as it has answers.
    order: VecDeque<RequestId>,
    weight: usize,
    expired: HashSet<u64>,
    /// Hashes by age; each is in `expired`.
    expired_order: VecDeque<u64>,
}

impl Dedup {
    /// What is known of the operations of a request that have these ordinals (none: of the request as a whole).
    pub fn seen(&self, request: RequestId, ordinals: &[u32]) -> Seen<'_> {
        let wanted: HashSet<&u32> = ordinals.iter().collect();
        let concerns = |answered: &&Answered| {
            answered.ordinals == ordinals || answered.ordinals.iter().any(|ordinal| wanted.contains(ordinal))
        };
        let answers = self.answers.get(&request).into_iter().flatten();
        let concerned: Vec<&Answered> = answers.filter(concerns).collect();
        match concerned.is_empty() {
            false => Seen::Answered(concerned),
            true if self.expired.contains(&fingerprint(request)) => Seen::Expired,
            true => Seen::New,
        }
    }

    /// Remembers the answer to a command.
    pub fn remember(&mut self, request: RequestId, answered: Answered) {
        self.weight += answered.weight();
        self.answers.entry(request).or_default().push_back(answered);
        self.order.push_back(request);
        while self.weight > DEDUP_BYTES_MAX && self.order.len() > 1 {
            self.expire_oldest();
        }
    }

    fn expire_oldest(&mut self) {
        let Some(request) = self.order.pop_front() else { return };
        let answers = self.answers.get_mut(&request).expect("every ordered id has an answer");
        let answered = answers.pop_front().expect("as many as the id is ordered times");
        if answers.is_empty() {
            self.answers.remove(&request);
        }
        self.weight -= answered.weight();
        self.remember_expired(fingerprint(request));
    }

    fn remember_expired(&mut self, fingerprint: u64) {
        if self.expired.insert(fingerprint) {
            self.expired_order.push_back(fingerprint);
        }
        while self.expired_order.len() > DEDUP_EXPIRED_MAX {
            let oldest = self.expired_order.pop_front().expect("longer than its bound");
            self.expired.remove(&oldest);
        }
    }

    /// Answers that are held.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no answer is held.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The table as a seal keeps it.
    pub fn write(&self) -> DedupTable {
        let mut taken: HashMap<RequestId, usize> = HashMap::new();
        let entry = |request: &RequestId| {
            let at = taken.entry(*request).or_default();
            let answered = &self.answers[request][*at];
            *at += 1;
            DedupEntry {
                request_id: request.0.to_vec().into(),
                digest: answered.digest,
                ordinals: answered.ordinals.clone(),
                applied: answered.applied.clone(),
            }
        };
        DedupTable {
            entries: self.order.iter().map(entry).collect(),
            expired: self.expired_order.iter().copied().collect(),
        }
    }

    /// Reads what [`write`](Self::write) wrote; an error says what is wrong with it.
    pub fn read(table: DedupTable) -> Result<Dedup, String> {
        let mut dedup = Dedup::default();
        for fingerprint in table.expired {
            dedup.remember_expired(fingerprint);
        }
        for entry in table.entries {
            let request = entry.request_id[..].try_into().map(RequestId);
            let request = request.map_err(|_| format!("dedup: request_id of {} bytes", entry.request_id.len()))?;
            let answered = Answered {
                digest: entry.digest,
                ordinals: entry.ordinals,
                // A copy: the entry's bytes may share the whole manifest's.
                applied: Bytes::copy_from_slice(&entry.applied),
            };
            dedup.remember(request, answered);
        }
        Ok(dedup)
    }
}

fn fingerprint(request: RequestId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&request.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64) -> RequestId {
        RequestId(u128::from(number).to_be_bytes())
    }

    fn answered(digest: u64, bytes: usize) -> Answered {
        Answered {
            digest,
            ordinals: vec![0],
            applied: vec![1; bytes].into(),
        }
    }

    #[test]
    fn an_answer_is_kept_until_its_weight_is_needed_and_then_known_as_expired() {
        let mut dedup = Dedup::default();
        let bytes = DEDUP_BYTES_MAX / 4;
        for number in 0..4 {
            dedup.remember(request(number), answered(number, bytes));
        }
        assert_eq!(dedup.seen(request(0), &[0]), Seen::Expired);
        assert_eq!(dedup.seen(request(1), &[0]), Seen::Answered(vec![&answered(1, bytes)]));
        assert_eq!(dedup.seen(request(9), &[0]), Seen::New);
        assert_eq!(dedup.len(), 3);
    }

    #[test]
    fn commands_of_one_request_are_told_apart_by_their_ordinals() {
        let mut dedup = Dedup::default();
        let of = |ordinals: &[u32]| Answered {
            digest: 1,
            ordinals: ordinals.to_vec(),
            applied: Bytes::new(),
        };
        dedup.remember(request(1), of(&[0, 1]));
        dedup.remember(request(1), of(&[5]));
        assert_eq!(dedup.seen(request(1), &[2, 3]), Seen::New);
        assert_eq!(dedup.seen(request(1), &[]), Seen::New);
        assert_eq!(
            dedup.seen(request(1), &[1, 5]),
            Seen::Answered(vec![&of(&[0, 1]), &of(&[5])])
        );
        dedup.remember(request(1), of(&[]));
        assert_eq!(dedup.seen(request(1), &[]), Seen::Answered(vec![&of(&[])]));
    }

    #[test]
    fn one_answer_heavier_than_the_bound_is_still_kept() {
        let mut dedup = Dedup::default();
        dedup.remember(request(1), answered(1, DEDUP_BYTES_MAX + 1));
        assert!(matches!(dedup.seen(request(1), &[0]), Seen::Answered(_)));
        dedup.remember(request(2), answered(2, 1));
        assert_eq!(dedup.seen(request(1), &[0]), Seen::Expired);
    }

    #[test]
    fn expired_requests_are_bounded_too() {
        let mut dedup = Dedup::default();
        for number in 0..DEDUP_EXPIRED_MAX as u64 + 1 {
            dedup.remember_expired(number);
        }
        assert_eq!(
            (dedup.expired.len(), dedup.expired_order.len()),
            (DEDUP_EXPIRED_MAX, DEDUP_EXPIRED_MAX)
        );
        assert!(!dedup.expired.contains(&0) && dedup.expired.contains(&1));
    }

    #[test]
    fn a_table_reads_back_with_ages_and_weights() {
        let mut dedup = Dedup::default();
        for number in 0..12 {
            dedup.remember(request(number / 2), answered(number, DEDUP_BYTES_MAX / 8));
        }
        let mut read = Dedup::read(dedup.write()).unwrap();
        assert_eq!(read.write(), dedup.write());
        assert_eq!(read.weight, dedup.weight);
        for table in [&mut read, &mut dedup] {
            table.remember(request(99), answered(0, DEDUP_BYTES_MAX / 2));
        }
        assert_eq!(read.write(), dedup.write());
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let entries = vec![DedupEntry {
            request_id: vec![0; 15].into(),
            ..DedupEntry::default()
        }];
        assert!(
            Dedup::read(DedupTable {
                entries,
                expired: vec![]
            })
            .is_err()
        );
    }
}
