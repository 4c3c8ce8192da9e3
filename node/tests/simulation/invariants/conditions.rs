//! A conditional write is taken exactly where its condition held, and a delete where there was something to delete.

use granum_proto::v1::outcome::Kind;

use crate::history::{Change, Condition, History, Timeline};

/// Complaints about outcomes that the state at their point does not explain.
pub fn check(history: &History, timeline: &Timeline) -> Vec<String> {
    let mut complaints = Vec::new();
    for write in &history.writes {
        let Some((outcome, sequence)) = write.outcome() else {
            continue;
        };
        let taken = outcome.kind() == Kind::Taken;
        let before = match taken {
            true => timeline.at(write.key, outcome.version - 1),
            false => timeline.at(write.key, sequence),
        };
        let holds = match write.condition {
            Condition::None => true,
            Condition::IfVersion(version) => before.is_some_and(|(standing, _)| standing == version),
            Condition::InsertOnly => before.is_none(),
            Condition::UpdateOnly => before.is_some(),
        };
        let expected = match (before, write.change) {
            (None, Change::Delete) => Kind::NotFound,
            _ if holds => Kind::Taken,
            _ => Kind::Refused,
        };
        if outcome.kind() != expected {
            complaints.push(format!(
                "conditions: {:?} of document {} if {:?}: {:?} at sequence {sequence}, where it was {before:?}",
                write.change,
                write.key,
                write.condition,
                outcome.kind()
            ));
        }
    }
    complaints
}
