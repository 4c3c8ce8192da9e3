//! When all faults are over the cluster heals, in bounded time: one leader, everybody has applied what it has, and fresh
//! writes are answered.

use std::time::Duration;

use granum_node::raft::GroupStatus;

/// Longest time until a healed cluster serves again, in its own clock.
pub const HEALING_MAX: Duration = Duration::from_secs(30);

/// Whether these replicas, all there are, are healed; else what is missing.
pub fn check(nodes: usize, statuses: &[(u64, GroupStatus)]) -> Result<(), String> {
    let leaders: Vec<u64> = statuses
        .iter()
        .filter(|(_, status)| status.leader)
        .map(|(node, _)| *node)
        .collect();
    let said = || {
        let line = |(node, status): &(u64, GroupStatus)| {
            format!(
                "node {node}: term {}, leader {}, log {}, committed {}, applied {}, sealed {}, fault {:?}",
                status.term,
                status.leader_replica,
                status.last_log,
                status.committed,
                status.applied,
                status.sealed,
                status.fault
            )
        };
        statuses.iter().map(line).collect::<Vec<_>>().join("; ")
    };
    let same = statuses.windows(2).all(|pair| {
        (pair[0].1.term, pair[0].1.applied, pair[0].1.leader_replica)
            == (pair[1].1.term, pair[1].1.applied, pair[1].1.leader_replica)
    });
    let caught_up = statuses.iter().all(|(_, status)| status.applied == status.last_log);
    match statuses.len() == nodes && leaders.len() == 1 && same && caught_up {
        true => Ok(()),
        false => Err(format!("healing: leaders {leaders:?}; {}", said())),
    }
}
