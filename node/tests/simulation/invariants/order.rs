//! Linearizable: what was answered before something began stands before it in the shard's sequence.
//!
//! Writes (also those that a condition refused) and linearizable reads; session, bounded and `any` reads are judged
//! elsewhere.

use std::collections::BTreeMap;

use crate::history::{History, Level, Moment};

/// One thing that took place between two moments.
struct Act {
    invoked: Moment,
    answered: Moment,
    point: u64,
    /// Its point is its own: nothing before it may have it too.
    own: bool,
    what: String,
}

/// Complaints about acts out of order, and writes that share a version.
pub fn check(history: &History) -> Vec<String> {
    let mut acts = Vec::new();
    let mut versions = BTreeMap::new();
    let mut complaints = Vec::new();
    for write in &history.writes {
        let what = format!(
            "write {:?} of document {} by client {}",
            write.change, write.key, write.client
        );
        if let Some(version) = write.version()
            && let Some(other) = versions.insert(version, what.clone())
        {
            complaints.push(format!("order: version {version} belongs to {what} and to {other}"));
        }
        if let (Some(answered), Some(point)) = (write.answered(), write.point()) {
            acts.push(Act {
                invoked: write.invoked,
                answered,
                point,
                own: write.version().is_some(),
                what,
            });
        }
    }
    for read in history.reads.iter().filter(|read| read.level == Level::Linearizable) {
        acts.push(Act {
            invoked: read.invoked,
            answered: read.answered,
            point: read.sequence,
            own: false,
            what: format!(
                "read of document {} on node {} by client {}",
                read.key, read.node, read.client
            ),
        });
    }
    // In the order in which they began; what had ended by then is folded into the floor.
    acts.sort_by_key(|act| act.answered);
    let mut ended = acts.iter().peekable();
    let mut begun: Vec<&Act> = acts.iter().collect();
    begun.sort_by_key(|act| act.invoked);
    let mut floor: Option<&Act> = None;
    for act in begun {
        while let Some(earlier) = ended.next_if(|earlier| earlier.answered < act.invoked) {
            if floor.is_none_or(|floor| floor.point < earlier.point) {
                floor = Some(earlier);
            }
        }
        if let Some(floor) = floor
            && (act.point < floor.point || (act.own && act.point == floor.point))
        {
            complaints.push(format!(
                "order: {} began at {:?} and stands at {}, but {} had ended at {:?} and stands at {}",
                act.what, act.invoked.at, act.point, floor.what, floor.answered.at, floor.point
            ));
        }
    }
    complaints
}
