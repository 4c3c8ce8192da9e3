//! Is there an order of all operations on one document, each somewhere between its call and its return, that explains every
//! answer? One history a document, checked by porcupine; an operation whose outcome is unknown may fall at any later time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation};

/// What porcupine is known to finish on, a document (research: 1,000 operations of 5 clients take 8 ms).
pub const OPERATIONS_MAX: usize = 2_000;
/// Time for the history of one document; without a verdict by then the run has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// Operations before the first answer that has no explanation, which are told with it.
const TOLD: usize = 16;

/// A value that was written: unique, so it names the write.
pub type Value = u64;

/// One operation on one document, as a client saw it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which document.
    pub key: u64,
    /// Who did it.
    pub client: u32,
    /// Microseconds since the run began.
    pub call_us: i64,
    /// `None`: nobody knows whether and when it happened.
    pub return_us: Option<i64>,
    /// What was done, and what came of it.
    pub act: Act,
    /// The version that the cluster named: of what was written, read, or stood in the way; 0: no document.
    pub version: u64,
}

/// What was done, and what came of it. `taken`, `existed`: `None` where that is unknown.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Written whatever stood there.
    Put(Value),
    /// Written if a condition held.
    PutIf {
        /// The condition.
        condition: Condition,
        /// What was written.
        value: Value,
        /// Whether it was.
        taken: Option<bool>,
    },
    /// Deleted, if there was anything.
    Delete {
        /// Whether there was.
        existed: Option<bool>,
    },
    /// Read at the level `linearizable`.
    Read(Option<Value>),
}

/// What must hold for a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// No document.
    Absent,
    /// Some document.
    Present,
    /// The document with this value (its version, on the wire).
    Is(Value),
}

/// An [`Act`] with what else its answer has told.
#[derive(Clone, Debug)]
struct Step {
    act: Act,
    /// What stood there by the version that a refusal named, where somebody has seen that version.
    stood: Option<Option<Value>>,
}

#[derive(Clone)]
struct Register;

impl Model for Register {
    type State = Option<Value>;
    type Op = Step;
    type Metadata = ();

    fn init() -> Option<Value> {
        None
    }

    fn step(state: &Option<Value>, op: &Step) -> (bool, Option<Value>) {
        match op.act {
            Act::Put(value) => (true, Some(value)),
            Act::PutIf {
                condition,
                value,
                taken,
            } => {
                let holds = match condition {
                    Condition::Absent => state.is_none(),
                    Condition::Present => state.is_some(),
                    Condition::Is(expected) => *state == Some(expected),
                };
                let told = op.stood.is_none_or(|stood| stood == *state);
                match taken {
                    Some(taken) if taken != holds => (false, *state),
                    Some(false) => (told, *state),
                    _ => (true, if holds { Some(value) } else { *state }),
                }
            }
            Act::Delete { existed } => (existed.is_none_or(|existed| existed == state.is_some()), None),
            Act::Read(value) => (value == *state, *state),
        }
    }
}

/// Checks all histories. What is wrong with them, a sentence each; empty: nothing.
pub fn check(records: &[Record]) -> Vec<String> {
    let mut keys: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in records {
        keys.entry(record.key).or_default().push(record);
    }
    keys.into_iter()
        .flat_map(|(key, records)| check_key(key, &records))
        .collect()
}

fn check_key(key: u64, records: &[&Record]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut values: HashMap<u64, Value> = HashMap::new();
    for record in records.iter().filter(|record| record.return_us.is_some()) {
        let value = match record.act {
            Act::Put(value)
            | Act::PutIf {
                value,
                taken: Some(true),
                ..
            }
            | Act::Read(Some(value)) => value,
            _ => continue,
        };
        let known = *values.entry(record.version).or_insert(value);
        if known != value {
            let version = record.version;
            wrong.push(format!("document {key}: version {version} is both {known} and {value}"));
        }
    }
    if records.len() > OPERATIONS_MAX {
        wrong.push(format!(
            "document {key}: {} operations are too many to check",
            records.len()
        ));
        return wrong;
    }
    let operations: Vec<Operation<Register>> = records.iter().map(|record| operation(record, &values)).collect();
    match porcupine_rs::check_operations_timeout(&operations, CHECK_TIMEOUT) {
        CheckResult::Ok => {}
        CheckResult::Illegal => wrong.push(explain(key, records, &values)),
        CheckResult::Unknown => wrong.push(format!("document {key}: no verdict in {CHECK_TIMEOUT:?}")),
    }
    wrong
}

/// Names the first answer that no order explains, with what happened around it.
fn explain(key: u64, records: &[&Record], values: &HashMap<u64, Value>) -> String {
    let mut returns: Vec<i64> = records.iter().filter_map(|record| record.return_us).collect();
    returns.sort_unstable();
    // What is explained up to some time is explained up to any time before it.
    let explained = returns.partition_point(|at_us| {
        let past: Vec<_> = records.iter().filter_map(|record| known_at(record, *at_us)).collect();
        let past: Vec<_> = past.iter().map(|record| operation(record, values)).collect();
        porcupine_rs::check_operations_timeout(&past, CHECK_TIMEOUT) == CheckResult::Ok
    });
    let mut told = format!("document {key}: its history has no order that explains it");
    let Some(&first_us) = returns.get(explained) else {
        return told;
    };
    let mut around: Vec<&&Record> = records.iter().filter(|record| record.call_us <= first_us).collect();
    around.sort_unstable_by_key(|record| record.return_us.unwrap_or(i64::MAX));
    let pending = around
        .iter()
        .filter(|record| record.return_us.is_none_or(|at_us| at_us > first_us));
    let from = (around.len() - pending.count()).saturating_sub(TOLD);
    for record in &around[from..] {
        let mark = if record.return_us == Some(first_us) { "!" } else { " " };
        told += &format!("\n{mark} {record}");
    }
    told
}

/// What was known of an operation at some time: all, that it had begun, or nothing.
fn known_at(record: &Record, at_us: i64) -> Option<Record> {
    let mut known = record.clone();
    if record.return_us.is_some_and(|returned_us| returned_us <= at_us) {
        return Some(known);
    }
    (known.return_us, known.version) = (None, 0);
    match &mut known.act {
        Act::Read(_) => return None,
        Act::PutIf { taken, .. } => *taken = None,
        Act::Delete { existed } => *existed = None,
        Act::Put(_) => {}
    }
    (record.call_us <= at_us).then_some(known)
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let returned = self.return_us.map_or("never".to_owned(), |at_us| at_us.to_string());
        let (client, call_us, act, version) = (self.client, self.call_us, &self.act, self.version);
        write!(
            out,
            "client {client}, {call_us} to {returned} us: {act:?}, version {version}"
        )
    }
}

fn operation(record: &Record, values: &HashMap<u64, Value>) -> Operation<Register> {
    let refused = matches!(record.act, Act::PutIf { taken: Some(false), .. });
    let stood = match record.version {
        0 => Some(None),
        version => values.get(&version).map(|value| Some(*value)),
    };
    Operation {
        client_id: Some(record.client),
        call_time: record.call_us,
        return_time: record.return_us.unwrap_or(i64::MAX),
        op: Step {
            act: record.act.clone(),
            stood: stood.filter(|_| refused),
        },
        metadata: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(call_us: i64, return_us: impl Into<Option<i64>>, act: Act, version: u64) -> Record {
        Record {
            key: 1,
            client: 0,
            call_us,
            return_us: return_us.into(),
            act,
            version,
        }
    }

    #[track_caller]
    fn check(history: &[Record], fine: bool) {
        let wrong = super::check(history);
        assert_eq!(wrong.is_empty(), fine, "{wrong:?}");
    }

    #[test]
    fn a_read_sees_the_last_write_that_returned_or_one_under_way() {
        let writes = [record(0, 10, Act::Put(1), 5), record(20, 40, Act::Put(2), 6)];
        let with = |read: Record| [writes.to_vec(), vec![read]].concat();
        check(&with(record(11, 12, Act::Read(Some(1)), 5)), true);
        check(&with(record(25, 30, Act::Read(Some(1)), 5)), true);
        check(&with(record(25, 30, Act::Read(Some(2)), 6)), true);
        check(&with(record(41, 50, Act::Read(Some(2)), 6)), true);
        check(&with(record(41, 50, Act::Read(Some(1)), 5)), false);
        check(&with(record(11, 12, Act::Read(None), 0)), false);
    }

    #[test]
    fn an_unknown_write_may_have_happened_at_any_time_or_never() {
        let writes = [record(0, 10, Act::Put(1), 5), record(20, None, Act::Put(2), 0)];
        let with = |reads: &[Record]| [&writes[..], reads].concat();
        check(&with(&[record(50, 60, Act::Read(Some(1)), 5)]), true);
        check(&with(&[record(50, 60, Act::Read(Some(2)), 6)]), true);
        let there_and_back = [
            record(50, 60, Act::Read(Some(2)), 6),
            record(70, 80, Act::Read(Some(1)), 5),
        ];
        check(&with(&there_and_back), false);
    }

    #[test]
    fn a_refusal_must_name_what_stood() {
        let refused = |version| {
            let act = Act::PutIf {
                condition: Condition::Is(9),
                value: 3,
                taken: Some(false),
            };
            record(50, 60, act, version)
        };
        let writes = [record(0, 10, Act::Put(1), 5), record(20, 30, Act::Put(2), 6)];
        let with = |last: Record| [writes.to_vec(), vec![last]].concat();
        check(&with(refused(6)), true);
        check(&with(refused(5)), false);
        check(&with(refused(0)), false);
    }

    #[test]
    fn the_first_answer_without_an_explanation_is_named() {
        let history = [
            record(0, 10, Act::Put(1), 5),
            record(20, 30, Act::Read(Some(1)), 5),
            record(40, 50, Act::Read(None), 0),
            record(45, 60, Act::Put(2), 6),
            record(70, 80, Act::Read(Some(2)), 6),
        ];
        let [wrong] = super::check(&history).try_into().unwrap();
        let marked: Vec<&str> = wrong.lines().filter(|line| line.starts_with('!')).collect();
        assert_eq!(marked, ["! client 0, 40 to 50 us: Read(None), version 0"], "{wrong}");
        assert!(!wrong.contains("70 to 80"), "{wrong}");
    }

    #[test]
    fn a_version_is_one_value() {
        check(&[record(0, 10, Act::Put(1), 5), record(20, 30, Act::Put(2), 5)], false);
    }

    #[test]
    fn a_lost_write_is_found_at_the_last_read() {
        let delete = Act::Delete { existed: Some(false) };
        check(
            &[record(0, 10, Act::Put(1), 5), record(20, 30, Act::Read(None), 0)],
            false,
        );
        check(&[record(0, 10, Act::Put(1), 5), record(20, 30, delete, 0)], false);
    }
}
