//! A bounded read misses nothing that was acknowledged longer ago than its bound.
//!
//! A replica counts from when it *heard* its leader, so the longest time that the leader's message may have been under way
//! comes on top.

use std::time::Duration;

use crate::history::{History, Level};

/// Complaints about bounded reads that missed something; `travel`: the longest time of a message.
pub fn check(history: &History, travel: Duration) -> Vec<String> {
    let mut complaints = Vec::new();
    for read in &history.reads {
        let Level::Bounded(bound_ms) = read.level else {
            continue;
        };
        let allowed = Duration::from_millis(bound_ms) + travel;
        let missed = history.writes.iter().find(|write| {
            let old = write
                .answered()
                .is_some_and(|answered| !write.settled_late && answered.at + allowed < read.invoked.at);
            old && write.version().is_some_and(|version| version > read.sequence)
        });
        if let Some(write) = missed {
            complaints.push(format!(
                "bounds: a read bounded by {bound_ms} ms on node {} at {:?}, sequence {}, misses version {:?}, \
                 acknowledged at {:?}",
                read.node,
                read.invoked.at,
                read.sequence,
                write.version(),
                write.answered().map(|answered| answered.at)
            ));
        }
    }
    complaints
}
