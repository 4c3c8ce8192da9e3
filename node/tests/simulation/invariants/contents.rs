//! No acknowledged write is lost, and none appears that nobody made: every read, of whatever level, finds exactly what
//! the writes taken up to its sequence have left.

use crate::history::{History, Timeline};

/// Complaints about reads that found something else.
pub fn check(history: &History, timeline: &Timeline) -> Vec<String> {
    let mut complaints = Vec::new();
    for read in &history.reads {
        let expected = timeline.at(read.key, read.sequence);
        if read.found != expected {
            complaints.push(format!(
                "contents: a {:?} read on node {} at {:?}, sequence {}, found document {} as {:?}, and it was {expected:?}",
                read.level, read.node, read.answered.at, read.sequence, read.key, read.found
            ));
        }
    }
    complaints
}
