//! The register without disk or log: keys under one revision, changed by compare-and-swap.
//!
//! The revision grows by one with each swap that changes something, and a key carries the revision of its last write, so
//! "what changed since" needs no history of writes; only deletions are remembered, the last [`DELETED_KEYS_MAX`]. Whoever
//! asks from before that is given everything anew.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use granum_model::RequestId;
use granum_proto::internal::{DeletedKey, KeyValue, RegisterAnswer, RegisterEvents, RegisterState, Swap, SwapResult};
use granum_proto::limits::{Invalid, at_most};

/// Compares, puts or deletes of one swap.
pub const SWAP_KEYS_MAX: usize = 256;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Largest register, keys and values together, in bytes: it lives in memory and travels as one file.
pub const REGISTER_BYTES_MAX: usize = 64 << 20;
/// Deletions that are remembered for watchers.
pub const DELETED_KEYS_MAX: usize = 4096;
/// Swaps whose answers are remembered, so that repeating one gives the first answer.
pub const ANSWERS_MAX: usize = 4096;

/// Keys, each with a value and the revision at which it was last written.
///
/// Invariants: no key's revision is above `revision`; `bytes` is the sum of all keys and values; `deleted` is ordered by
/// revision and complete after `history_from`.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    revision: u64,
    entries: BTreeMap<String, (Bytes, u64)>,
    bytes: usize,
    deleted: VecDeque<(u64, String)>,
    history_from: u64,
    answers: HashMap<RequestId, (u64, SwapResult)>,
    answer_order: VecDeque<RequestId>,
}

impl Keys {
    /// The revision of the last change; 0: there was none.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Changes all or nothing. `digest` is of the whole swap: a request id that comes again with another is refused.
    pub fn swap(&mut self, swap: Swap, digest: u64) -> Result<SwapResult, Invalid> {
        let request = granum_proto::ids::request_id(&swap.request_id)?;
        if let Some((answered_digest, result)) = request.and_then(|request| self.answers.get(&request)) {
            return match *answered_digest == digest {
                true => Ok(result.clone()),
                false => Err(Invalid::new("request_id", "it named another swap before")),
            };
        }
        check(&swap)?;
        if swap
            .compares
            .iter()
            .any(|compare| self.revision_of(&compare.key) != compare.revision)
        {
            let compared = swap.compares.iter();
            return Ok(SwapResult {
                swapped: false,
                revision: self.revision,
                current: compared.filter_map(|compare| self.entry(&compare.key)).collect(),
            });
        }
        at_most(
            "puts",
            self.bytes_after(&swap),
            REGISTER_BYTES_MAX,
            "bytes in the register",
        )?;
        self.change(swap);
        let result = SwapResult {
            swapped: true,
            revision: self.revision,
            current: Vec::new(),
        };
        if let Some(request) = request {
            self.remember(request, digest, result.clone());
        }
        Ok(result)
    }

    fn revision_of(&self, key: &str) -> u64 {
        self.entries.get(key).map_or(0, |(_, revision)| *revision)
    }

    fn entry(&self, key: &str) -> Option<KeyValue> {
        let (value, revision) = self.entries.get(key)?;
        Some(KeyValue {
            key: key.to_owned(),
            value: value.clone(),
            revision: *revision,
        })
    }

    fn bytes_of(&self, key: &str) -> usize {
        self.entries.get(key).map_or(0, |(value, _)| key.len() + value.len())
    }

    fn bytes_after(&self, swap: &Swap) -> usize {
        let added: usize = swap.puts.iter().map(|put| put.key.len() + put.value.len()).sum();
        let keys = swap.puts.iter().map(|put| &put.key).chain(&swap.deletes);
        self.bytes + added - keys.map(|key| self.bytes_of(key)).sum::<usize>()
    }

    fn change(&mut self, swap: Swap) {
        let deletes: Vec<String> = swap
            .deletes
            .into_iter()
            .filter(|key| self.entries.contains_key(key))
            .collect();
        if swap.puts.is_empty() && deletes.is_empty() {
            return;
        }
        self.revision += 1;
        for put in swap.puts {
            self.bytes = self.bytes + put.key.len() + put.value.len() - self.bytes_of(&put.key);
            // A copy: the value's bytes may share a whole log entry's.
            self.entries
                .insert(put.key, (Bytes::copy_from_slice(&put.value), self.revision));
        }
        for key in deletes {
            self.bytes -= self.bytes_of(&key);
            self.entries.remove(&key);
            self.deleted.push_back((self.revision, key));
        }
        while self.deleted.len() > DELETED_KEYS_MAX {
            let (revision, _) = self.deleted.pop_front().expect("longer than its bound");
            self.history_from = revision;
        }
    }

    fn remember(&mut self, request: RequestId, digest: u64, result: SwapResult) {
        self.answers.insert(request, (digest, result));
        self.answer_order.push_back(request);
        while self.answer_order.len() > ANSWERS_MAX {
            let oldest = self.answer_order.pop_front().expect("longer than its bound");
            self.answers.remove(&oldest);
        }
    }

    /// All keys that begin with one of `prefixes`, in order; "" is the beginning of every key.
    pub fn read(&self, prefixes: &[String]) -> Vec<KeyValue> {
        self.written_since(prefixes, 0)
    }

    fn written_since(&self, prefixes: &[String], revision: u64) -> Vec<KeyValue> {
        let mut found = BTreeMap::new();
        for prefix in prefixes {
            let from_prefix = self
                .entries
                .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
            let in_prefix = from_prefix.take_while(|(key, _)| key.starts_with(prefix.as_str()));
            found.extend(in_prefix.filter(|(_, (_, written))| *written > revision));
        }
        let entry = |(key, (value, revision)): (&String, &(Bytes, u64))| KeyValue {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        };
        found.into_iter().map(entry).collect()
    }

    /// What changed in `prefixes` after `revision`, several changes of a key as one. Where the deletions since then are
    /// not all remembered, or `revision` has not been yet, everything, with `reset`.
    pub fn events_since(&self, prefixes: &[String], revision: u64) -> RegisterEvents {
        let reset = revision < self.history_from || revision > self.revision;
        let since = if reset { 0 } else { revision };
        let mut deletes = Vec::new();
        if !reset {
            let watched = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
            let gone = self
                .deleted
                .iter()
                .filter(|(deleted, key)| *deleted > revision && watched(key));
            let gone: HashSet<&String> = gone
                .map(|(_, key)| key)
                .filter(|key| !self.entries.contains_key(*key))
                .collect();
            deletes = gone.into_iter().cloned().collect();
            deletes.sort();
        }
        RegisterEvents {
            revision: self.revision,
            reset,
            puts: self.written_since(prefixes, since),
            deletes,
        }
    }

    /// As a seal keeps it; the seal point is the caller's.
    pub fn write(&self) -> RegisterState {
        let deleted = |(revision, key): &(u64, String)| DeletedKey {
            key: key.clone(),
            revision: *revision,
        };
        let answer = |request: &RequestId| {
            let (digest, result) = &self.answers[request];
            RegisterAnswer {
                request_id: request.0.to_vec().into(),
                digest: *digest,
                result: Some(result.clone()),
            }
        };
        RegisterState {
            point: None,
            revision: self.revision,
            entries: self.read(&[String::new()]),
            deleted: self.deleted.iter().map(deleted).collect(),
            history_from: self.history_from,
            answers: self.answer_order.iter().map(answer).collect(),
        }
    }

    /// Reads what [`write`](Self::write) wrote; an error says what is wrong with it.
    pub fn read_state(state: RegisterState) -> Result<Keys, String> {
        if state.revision == u64::MAX {
            return Err(format!("revision {}, behind which there is none", state.revision));
        }
        let mut keys = Keys {
            revision: state.revision,
            history_from: state.history_from,
            ..Keys::default()
        };
        for entry in state.entries {
            if entry.revision == 0 || entry.revision > state.revision {
                return Err(format!(
                    "key {:?}: revision {}, the register's is {}",
                    entry.key, entry.revision, state.revision
                ));
            }
            keys.bytes += entry.key.len() + entry.value.len();
            let value = Bytes::copy_from_slice(&entry.value);
            if keys
                .entries
                .insert(entry.key.clone(), (value, entry.revision))
                .is_some()
            {
                return Err(format!("key {:?} stands twice", entry.key));
            }
        }
        keys.deleted = state
            .deleted
            .into_iter()
            .map(|deleted| (deleted.revision, deleted.key))
            .collect();
        for answer in state.answers {
            let request = answer.request_id[..].try_into().map(RequestId);
            let request = request.map_err(|_| format!("answer: request_id of {} bytes", answer.request_id.len()))?;
            if keys.answers.contains_key(&request) {
                return Err(format!("answer: request {request} stands twice"));
            }
            keys.remember(request, answer.digest, answer.result.unwrap_or_default());
        }
        Ok(keys)
    }
}

/// Refuses a swap that breaks a limit, or changes one key twice.
fn check(swap: &Swap) -> Result<(), Invalid> {
    at_most("compares", swap.compares.len(), SWAP_KEYS_MAX, "keys")?;
    at_most("puts", swap.puts.len(), SWAP_KEYS_MAX, "keys")?;
    at_most("deletes", swap.deletes.len(), SWAP_KEYS_MAX, "keys")?;
    let mut changed = HashSet::new();
    for key in swap.puts.iter().map(|put| &put.key).chain(&swap.deletes) {
        if key.is_empty() {
            return Err(Invalid::new("key", "must not be empty"));
        }
        at_most("key", key.len(), KEY_BYTES_MAX, "bytes")?;
        if !changed.insert(key) {
            return Err(Invalid::new("key", format!("{key:?} is changed twice")));
        }
    }
    for put in &swap.puts {
        at_most("value", put.value.len(), VALUE_BYTES_MAX, "bytes").map_err(|error| error.within(&put.key))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
