//! What did the simulation find? Each fault of ours that it found, as a test of its own that needs no luck.

use std::time::Duration;

use granum_node::disk::Survival;

use crate::options::Options;
use crate::world::in_world;

/// openraft's leader resumed its term after a restart. What it had sent and not yet synced was gone, so that others came
/// to stand under the same term and index.
#[test]
fn a_leader_that_restarts_does_not_go_on_in_its_old_term() {
    in_world(1, Options::of(1), |world| async move {
        world.begin().await;
        let leader = world.leader().expect("it took the fence");
        let term = world.running(leader).expect("it runs").group.status().term;
        let claim = world.claim(leader).expect("nobody else wants it");
        world.crash(leader, Survival::Everything);
        world.start(claim).await;
        for _ in 0..1000 {
            let leader = world.leader().and_then(|leader| world.running(leader));
            if let Some(leader) = leader {
                assert!(leader.group.status().term > term, "term {term} goes on");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader in 10 s");
    });
}
