//! Which nodes failed lately, and who led each shard when last heard of. Guesses that save time, never truth: a wrong one
//! costs one call.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use granum_model::{NodeId, ShardId};
use tokio::time::Instant;

/// How long a node is avoided after its first failure in a row; each further one doubles it.
const AVOID_FIRST: Duration = Duration::from_millis(200);
/// Longest time a node is avoided.
const AVOID_LONGEST: Duration = Duration::from_secs(5);
/// How long a node is not asked for a shard after it said that it has no replica of it, though the map says so.
const ABSENT: Duration = Duration::from_secs(5);
/// Most shards whose leaders, or absences, are remembered.
const LEADERS_MAX: usize = 300_000;

/// What was learned from answers.
#[derive(Default)]
pub(crate) struct Health {
    nodes: Mutex<HashMap<NodeId, Failing>>,
    leaders: Mutex<HashMap<ShardId, NodeId>>,
    /// Until when a node is avoided for a shard.
    absent: Mutex<HashMap<(ShardId, NodeId), Instant>>,
}

struct Failing {
    in_a_row: u32,
    avoid_until: Instant,
}

impl Health {
    /// A node did not answer, at `now`.
    pub fn failed(&self, node: NodeId, now: Instant) {
        let mut nodes = self.nodes.lock().expect("nothing panics while holding it");
        let failing = nodes.entry(node).or_insert(Failing {
            in_a_row: 0,
            avoid_until: now,
        });
        let avoid = AVOID_FIRST * 2u32.pow(failing.in_a_row.min(10));
        failing.in_a_row += 1;
        failing.avoid_until = now + avoid.min(AVOID_LONGEST);
    }

    /// A node answered, whatever it said.
    pub fn answered(&self, node: NodeId) {
        self.nodes
            .lock()
            .expect("nothing panics while holding it")
            .remove(&node);
    }

    /// Whether a node is better avoided at `now`, whatever for.
    fn suspect(&self, node: NodeId, now: Instant) -> bool {
        let nodes = self.nodes.lock().expect("nothing panics while holding it");
        nodes.get(&node).is_some_and(|failing| now < failing.avoid_until)
    }

    /// A node said at `now` that it has no replica of a shard: it is new, or damaged.
    pub fn lacks(&self, node: NodeId, shard: ShardId, now: Instant) {
        let mut absent = self.absent.lock().expect("nothing panics while holding it");
        if absent.len() >= LEADERS_MAX {
            absent.clear();
        }
        absent.insert((shard, node), now + ABSENT);
    }

    /// Whether a node is better avoided at `now` for a shard.
    pub fn avoided(&self, node: NodeId, shard: ShardId, now: Instant) -> bool {
        let absent = self.absent.lock().expect("nothing panics while holding it");
        absent.get(&(shard, node)).is_some_and(|until| now < *until) || self.suspect(node, now)
    }

    /// Who is thought to lead a shard.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.leaders
            .lock()
            .expect("nothing panics while holding it")
            .get(&shard)
            .copied()
    }

    /// A node leads a shard; `None`: it turned out that nobody is known to.
    pub fn leads(&self, shard: ShardId, leader: Option<NodeId>) {
        let mut leaders = self.leaders.lock().expect("nothing panics while holding it");
        if leaders.len() >= LEADERS_MAX {
            leaders.clear();
        }
        match leader {
            Some(node) => leaders.insert(shard, node),
            None => leaders.remove(&shard),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_node_is_avoided_longer_each_time_and_forgiven_at_its_first_answer() {
        let (health, node, now) = (Health::default(), NodeId(1), Instant::now());
        assert!(!health.suspect(node, now));
        health.failed(node, now);
        assert!(health.suspect(node, now) && !health.suspect(node, now + AVOID_FIRST));
        for _ in 0..40 {
            health.failed(node, now);
        }
        let nearly = now + AVOID_LONGEST - Duration::from_millis(1);
        assert!(health.suspect(node, nearly) && !health.suspect(node, now + AVOID_LONGEST));
        health.answered(node);
        assert!(!health.suspect(node, now));
    }

    #[tokio::test]
    async fn a_node_without_a_replica_is_avoided_for_that_shard_only() {
        let (health, node, now) = (Health::default(), NodeId(1), Instant::now());
        health.lacks(node, ShardId(7), now);
        health.answered(node);
        assert!(health.avoided(node, ShardId(7), now) && !health.avoided(node, ShardId(8), now));
        assert!(!health.avoided(node, ShardId(7), now + ABSENT));
    }
}
