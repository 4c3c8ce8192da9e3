//! What does a replicated shard promise when network, disks and power fail in every order that a seed can think of?
//!
//! Nodes run the product's own log, groups, state machine and snapshots, on a simulated network, disks that crash and a
//! clock that moves when everybody waits (docs/operating/simulation.md). One seed is one simulation:
//! ```text
//! cargo test -p granum-node --test simulation                        the seeds that CI runs
//! GRANUM_SEEDS=5000 cargo test -p granum-node --test simulation      more
//! GRANUM_SEED=17 cargo test -p granum-node --test simulation         one; with GRANUM_SEEDS as many from there on
//! GRANUM_SEED=17 GRANUM_TRACE=1 ...                                  prints all that happens
//! ```

#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/invariants/mod.rs"]
mod invariants;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/options.rs"]
mod options;
#[path = "simulation/post.rs"]
mod post;
#[path = "simulation/regressions.rs"]
mod regressions;
#[path = "simulation/summary.rs"]
mod summary;
#[path = "simulation/volume.rs"]
mod volume;
#[path = "simulation/world.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use options::Options;
use summary::Summary;
use world::{Report, simulate};

/// Seeds of a run without further word.
const SEEDS: u64 = 200;

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")))
}

/// The seeds to run: those asked for, or the first `usual`.
fn seeds_or(usual: u64) -> std::ops::Range<u64> {
    let (first, usual) = match setting("GRANUM_SEED") {
        Some(seed) => (seed, 1),
        None => (1, usual),
    };
    first..first + setting("GRANUM_SEEDS").unwrap_or(usual)
}

fn run(seed: u64) -> Report {
    let verbose = setting("GRANUM_TRACE").is_some();
    simulate(
        seed,
        Options {
            verbose,
            ..Options::of(seed)
        },
    )
}

#[test]
fn no_promise_is_broken_whatever_the_seed() {
    let begun = Instant::now();
    let seeds = seeds_or(SEEDS);
    let next = AtomicU64::new(seeds.start);
    let reports: Mutex<Vec<Report>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed)) {
                    let report = run(seed);
                    if !report.complaints.is_empty() {
                        eprintln!("{}", failure(&report));
                    }
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap();
    reports.sort_by_key(|report| report.seed);
    let summary = Summary::of(&reports);
    println!("{summary}\n{:.1} s", begun.elapsed().as_secs_f64());
    let failed: Vec<String> = reports
        .iter()
        .filter(|report| !report.complaints.is_empty())
        .map(failure)
        .collect();
    assert!(
        failed.is_empty(),
        "\n{}\n{} of {} seeds failed",
        failed.join("\n"),
        failed.len(),
        reports.len()
    );
}

fn failure(report: &Report) -> String {
    let shown: Vec<&str> = report.complaints.iter().take(5).map(String::as_str).collect();
    format!(
        "seed {}: {} complaints (trace {:016x})\n  {}\n  again: GRANUM_SEED={} cargo test -p granum-node --test simulation -- \
         --nocapture",
        report.seed,
        report.complaints.len(),
        report.trace,
        shown.join("\n  "),
        report.seed
    )
}

/// Only where tokio's dice can be seeded, which orders those who wait for the same value.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_leads_to_the_same_history_twice() {
    for seed in [3, 11] {
        let (once, again) = (run(seed), run(seed));
        assert_eq!(
            (once.trace, once.writes, once.written, once.carried),
            (again.trace, again.writes, again.written, again.carried),
            "seed {seed}"
        );
    }
}

/// Seeds within which a planted bug must be found.
#[cfg(feature = "planted-bugs")]
const PLANTED_SEEDS: u64 = 40;

#[cfg(feature = "planted-bugs")]
fn check_planted(bug: granum_node::planted::Bug) {
    use granum_node::planted::plant;

    let mut found: Vec<(u64, String)> = Vec::new();
    let mut tried = 0;
    for seed in seeds_or(PLANTED_SEEDS) {
        tried += 1;
        plant(Some(bug));
        let report = run(seed);
        plant(None);
        // A run without enough traffic says nothing, of bugs either.
        let complaint = report
            .complaints
            .into_iter()
            .find(|complaint| !complaint.starts_with("void"));
        found.extend(complaint.map(|complaint| (seed, complaint)));
        // All seeds where their number was asked for, to say how often it is found.
        if !found.is_empty() && setting("GRANUM_SEEDS").is_none() {
            break;
        }
    }
    let seeds_found: Vec<u64> = found.iter().map(|(seed, _)| *seed).collect();
    println!("{bug:?}: found by {} of {tried} seeds: {seeds_found:?}", found.len());
    let first = found
        .first()
        .unwrap_or_else(|| panic!("{bug:?} was found by none of {tried} seeds"));
    println!("  {}", first.1);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_acknowledgement_before_sync_is_found() {
    check_planted(granum_node::planted::Bug::AcknowledgeBeforeSync);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_read_of_a_leader_that_asks_nobody_is_found() {
    check_planted(granum_node::planted::Bug::LeaderReadsUnasked);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_seal_without_the_dedup_table_is_found() {
    check_planted(granum_node::planted::Bug::DedupNotSealed);
}
