//! What the attempts of one call have taught: whether another replica may help, whether a write may have happened, and what the
//! caller is told when time is up.

use std::collections::{HashSet, VecDeque};

use granum_model::{NodeId, ShardId};
use granum_proto::status::Failure;

use super::plan::Wanted;
use crate::backoff::Backoff;
use crate::map::Shard;

/// Hints followed in a row without a pause: more than that is an election, which takes its time.
const HINTS_MAX: u32 = 3;
/// An attempt that failed, and where.
pub(super) struct Failed {
    pub node: NodeId,
    pub failure: Failure,
    /// A node was asked before that has said nothing.
    pub silent: Option<NodeId>,
    /// Another node was told the same, and may have done it or do it yet.
    pub in_doubt: bool,
    /// It had so little time that its silence says nothing about the node.
    pub hasty: bool,
}

/// What has been tried.
pub(super) struct Repeat {
    writes: bool,
    maybe_happened: bool,
    hints: u32,
    /// Nodes whose replica is damaged.
    damaged: HashSet<NodeId>,
    pub backoff: Backoff,
}

impl Repeat {
    pub fn new(writes: bool) -> Self {
        Repeat {
            writes,
            maybe_happened: false,
            hints: 0,
            damaged: HashSet::new(),
            backoff: Backoff::new(),
        }
    }

    /// Whether a read that met damage may find another of so many replicas intact, now or when it leads.
    pub fn elsewhere(&mut self, failed: &Failed, replicas: usize) -> bool {
        if self.writes || !matches!(failed.failure, Failure::Fault(_)) {
            return false;
        }
        self.damaged.insert(failed.node);
        self.damaged.len() < replicas
    }

    pub fn failed(&mut self, failed: &Failed) {
        let maybe = failed.in_doubt || matches!(failed.failure, Failure::Unknown(_));
        self.maybe_happened |= self.writes && maybe;
    }

    /// Puts the leader that a failure names in front. `false`: there is none to follow, it is damaged, or was tried often enough.
    pub fn follow(&mut self, failure: &Failure, shard: &Shard, waiting: &mut VecDeque<NodeId>) -> bool {
        let Failure::NotLeader { leader_node, .. } = *failure else {
            return false;
        };
        let leader = NodeId(leader_node);
        let damaged = self.damaged.contains(&leader);
        if self.hints >= HINTS_MAX || damaged || shard.replica_on(leader).is_none() {
            self.hints = 0;
            return false;
        }
        self.hints += 1;
        waiting.retain(|&node| node != leader);
        waiting.push_front(leader);
        true
    }

    /// What the caller is told when nothing more is tried.
    pub fn gave_up(&self, shard: ShardId, last: Failure) -> Failure {
        let last = match last {
            Failure::NotLeader { .. } | Failure::WrongEpoch { .. } | Failure::NoReplica { .. } => {
                Failure::Unavailable(format!("no leader was found in time: {last}"))
            }
            last => named(shard, last),
        };
        if self.maybe_happened {
            return last.of_a_write_in_doubt();
        }
        last
    }
}

/// Whether a busy node was asked that the call can't do without, because it leads: it is given time. If it does not lead any
/// more, the next one says who does.
pub(super) fn is_pushed_back(failure: &Failure, wanted: Wanted) -> bool {
    wanted == Wanted::Leader && matches!(failure, Failure::Busy(_))
}

/// The failure, saying which shard it is about. What is wrong with the request itself is wrong everywhere.
fn named(shard: ShardId, failure: Failure) -> Failure {
    let at = |text: String| format!("shard {shard}: {text}");
    match failure {
        Failure::NotFound(text) => Failure::NotFound(at(text)),
        Failure::Stale(text) => Failure::Stale(at(text)),
        Failure::Busy(text) => Failure::Busy(at(text)),
        Failure::ReadOnly(text) => Failure::ReadOnly(at(text)),
        Failure::Unavailable(text) => Failure::Unavailable(at(text)),
        Failure::Unknown(text) => Failure::Unknown(at(text)),
        Failure::Expired(text) => Failure::Expired(at(text)),
        Failure::Precondition(text) => Failure::Precondition(at(text)),
        Failure::Fault(text) => Failure::Fault(at(text)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(node: u64, failure: Failure) -> Failed {
        Failed {
            node: NodeId(node),
            failure,
            silent: None,
            in_doubt: false,
            hasty: false,
        }
    }

    #[test]
    fn a_read_gives_up_only_when_every_replica_is_damaged() {
        let damage = |node| failed(node, Failure::Fault("broken".to_owned()));
        let mut read = Repeat::new(false);
        // The others name the broken one as their leader until they have elected another.
        for _ in 0..10 {
            assert!(read.elsewhere(&damage(7), 3));
        }
        assert!(read.elsewhere(&damage(8), 3));
        assert!(!read.elsewhere(&damage(9), 3));
        assert!(
            !Repeat::new(true).elsewhere(&damage(7), 3),
            "a write is not tried elsewhere"
        );
    }

    #[test]
    fn a_busy_leader_is_given_time_and_a_busy_replica_is_passed_over() {
        let busy = Failure::Busy("full".to_owned());
        assert!(is_pushed_back(&busy, Wanted::Leader));
        assert!(!is_pushed_back(&busy, Wanted::Any));
        assert!(!is_pushed_back(
            &Failure::Unavailable("gone".to_owned()),
            Wanted::Leader
        ));
    }

    #[test]
    fn a_write_that_another_node_was_told_too_may_have_happened() {
        let told_twice = Failed {
            in_doubt: true,
            ..failed(
                8,
                Failure::NotLeader {
                    shard: 1,
                    leader_node: 9,
                },
            )
        };
        let (mut write, mut read) = (Repeat::new(true), Repeat::new(false));
        write.failed(&told_twice);
        read.failed(&told_twice);
        assert!(write.maybe_happened && !read.maybe_happened);
    }

    /// A leader's disk failed under a write, whose repetition it refused: the write was in the others' logs, and was committed.
    #[test]
    fn a_write_in_doubt_that_is_refused_at_last_may_have_happened() {
        let refused = || Failure::ReadOnly("the disk is full".to_owned());
        let mut write = Repeat::new(true);
        write.failed(&failed(7, refused()));
        assert!(matches!(write.gave_up(ShardId(1), refused()), Failure::ReadOnly(_)));
        write.failed(&failed(7, Failure::Unknown("the disk has failed".to_owned())));
        write.failed(&failed(7, refused()));
        assert!(matches!(write.gave_up(ShardId(1), refused()), Failure::Unknown(_)));
    }
}
