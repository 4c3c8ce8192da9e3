//! The part of the fault table that every change must pass: one fault of each row that is marked so, real processes under load,
//! histories checked. docs/operating/faults.md tells what the rows do; `cargo run -p granum-tests --bin faults -- --all` runs all.
//!
//! A row that this machine can't run (no root, no nftables) says so in a line and passes.

use granum_tests::faults::queries::PACE;
use granum_tests::faults::rows::ROWS;
use granum_tests::faults::run::{self, Ended};
use tokio::sync::Mutex;

/// A repeat wants the machine for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn check(name: &str) {
    let _alone = ALONE.lock().await;
    let row = ROWS.iter().find(|row| row.name == name).expect("a row of the table");
    assert!(row.smoke, "{name} is not among the rows that --smoke runs");
    // A run that says nothing, for the machine was too busy, is done once more.
    for seed in [1, 2] {
        match run::run(row, 1, seed, PACE).await.unwrap() {
            Ended::Skipped(reason) => return println!("skipped: {name}: {reason}"),
            Ended::Done(repeat) => {
                assert!(repeat.is_clean(), "{name}, seed {seed}: {repeat:#?}");
                match repeat.void {
                    None => return,
                    Some(reason) => println!("void: {name}: {reason}"),
                }
            }
        }
    }
    panic!("{name}: two runs in a row say nothing: the machine is too busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_a_leader_is_killed() {
    check("kill-leader").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_a_follower_is_killed() {
    check("kill-follower").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_and_goes_on_answers_nothing_stale() {
    check("pause-leader-5s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_alone_in_the_network_answers_nothing_stale() {
    check("partition-leader").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_power_of_a_leader_is_lost() {
    check("power-leader").await;
}
