//! Replicas are equal once they have applied the same: documents, versions, sequence, schema and answers to requests; and
//! they are what the writes taken lead to.

use std::collections::BTreeMap;

use granum_model::{DocId, Filter};
use granum_node::shard::ShardMachine;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

/// A replica's state.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Up to which entry.
    pub index: u64,
    /// Everything but the documents, digested; sizes for the message.
    pub agreed: (u64, u64, usize),
    /// Version and value, by document.
    pub documents: BTreeMap<u64, (u64, u64)>,
}

/// Looks at a replica.
pub fn state(machine: &ShardMachine) -> Result<State, String> {
    let (index, agreed) = machine.agreed();
    let answers = agreed.dedup.as_ref().map_or(0, |table| table.entries.len());
    let pinned = machine.pin();
    let rows = pinned
        .view
        .scan(&Filter::default(), None, 10_000, &|| false)
        .map_err(|error| format!("equal: a scan failed: {error}"))?;
    let mut documents = BTreeMap::new();
    for (id, row) in rows {
        let document = pinned
            .view
            .document(row)
            .map_err(|error| format!("equal: {id}: {error}"))?;
        let DocId::Number(key) = id else {
            return Err(format!("equal: nobody wrote {id}"));
        };
        documents.insert(key, (document.version, value_of(&document.payload)?));
    }
    Ok(State {
        index,
        agreed: (xxh3_64(&agreed.encode_to_vec()), agreed.sequence, answers),
        documents,
    })
}

/// The unique value in a payload.
pub fn value_of(payload: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(payload);
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| format!("equal: nobody wrote {text}"))
}

/// Complaints where they are not equal, or not what was written.
pub fn check(states: &[(u64, State)], expected: &BTreeMap<u64, (u64, u64)>) -> Vec<String> {
    let mut complaints = Vec::new();
    for pair in states.windows(2) {
        let ((one, left), (other, right)) = (&pair[0], &pair[1]);
        if left != right {
            complaints.push(format!(
                "equal: node {one} and node {other} differ: index {} and {}, (digest, sequence, answers) {:?} and {:?}, \
                 documents {}",
                left.index,
                right.index,
                left.agreed,
                right.agreed,
                if left.documents == right.documents { "equal" } else { "not equal" }
            ));
        }
    }
    for (node, state) in states {
        if state.documents != *expected {
            complaints.push(format!(
                "equal: node {node} holds {:?}, and what was taken leads to {expected:?}",
                state.documents
            ));
        }
    }
    complaints
}
