//! A cluster that has more to do than it can is not asked for more still by its own coordinators, and one busy node stops nobody.

use std::time::{Duration, Instant};

use granum_client::{Client, ReadLevel};
use tokio::task::JoinSet;

use crate::processes::{COORDINATORS, Cluster, Layout, NODES};
use crate::{create, vector, write_all};

/// So few at once that a handful of callers is too much.
const REQUESTS_MAX: &str = "--requests-max=1";
const CALLERS: u64 = 200;
/// Refusals that were not repeated after which enough was seen.
const ENOUGH: f64 = 1_000.0;
const PATIENCE: Duration = Duration::from_secs(60);
/// What coordinators may repeat of the reads that were refused as busy, and what each has saved up.
const SHARE: f64 = 0.1;
const SAVED: f64 = 100.0;
/// Questions of a caller before the counters are looked at.
const OFTEN: u32 = 20;
const WITHHELD: &str = "granum_coordinator_repeats_withheld_total";

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_a_busy_leader_refuses_are_seldom_repeated() {
    let cluster = Cluster::start_as(Layout {
        node_arguments: vec![REQUESTS_MAX.to_owned()],
        ..Layout::default()
    });
    cluster.ready().await;
    let client = cluster.client();
    create(&client, "documents", 1).await;
    write_all(&client, "documents", 0..100).await;
    let count = |name: &str| -> f64 { (0..COORDINATORS).map(|at| cluster.coordinator_metric(at, name)).sum() };
    let asked = || count("granum_coordinator_shard_calls_total{method=\"search\"");
    let repeated = || count("granum_coordinator_retries_total{failure=\"busy\"}");
    let before = (asked(), repeated());
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(ask_without_end(client.with_timeout(Duration::from_millis(100)), caller));
    }
    let began = Instant::now();
    while count(WITHHELD) < ENOUGH {
        assert!(
            began.elapsed() < PATIENCE,
            "the cluster was not busy: {} withheld",
            count(WITHHELD)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    callers.shutdown().await;
    let (asked, repeated) = (asked() - before.0, repeated() - before.1);
    println!("{asked} reads, of which {repeated} were repetitions");
    // Reads that their callers gave up are not among those asked: half as many again may be.
    assert!(
        repeated <= 1.5 * SHARE * asked + SAVED * COORDINATORS as f64,
        "{repeated} of {asked} reads were repetitions"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_is_passed_over_however_often() {
    let environment = |number: usize| match number {
        0 => vec![("GRANUM_REQUESTS_MAX".to_owned(), "1".to_owned())],
        _ => Vec::new(),
    };
    let cluster = Cluster::start_as(Layout {
        node_environment: (0..NODES).map(environment).collect(),
        ..Layout::default()
    });
    cluster.ready().await;
    let client = cluster.client();
    create(&client, "documents", 1).await;
    write_all(&client, "documents", 0..100).await;
    let count = |name: &str| -> f64 { (0..COORDINATORS).map(|at| cluster.coordinator_metric(at, name)).sum() };
    let passed_over = || count("granum_coordinator_retries_total{failure=\"busy\"}");
    let (began, mut reads) = (Instant::now(), 0);
    // More often than coordinators may repeat reads: were these repetitions, some would have failed.
    while passed_over() <= SHARE * f64::from(reads) + SAVED * COORDINATORS as f64 {
        assert!(
            began.elapsed() < PATIENCE,
            "the node was not busy: {} times",
            passed_over()
        );
        let mut callers = JoinSet::new();
        for caller in 0..60 {
            callers.spawn(ask_often(client.clone(), caller));
        }
        callers.join_all().await;
        reads += 60 * OFTEN;
    }
    assert_eq!(count(WITHHELD), 0.0);
}

async fn ask_often(client: Client, caller: u64) {
    for _ in 0..OFTEN {
        let query = client.query("documents").vector(vector(caller)).limit(10);
        query.read(ReadLevel::Any).send().await.unwrap();
    }
}

async fn ask_without_end(client: Client, caller: u64) {
    loop {
        let query = client.query("documents").vector(vector(caller)).limit(10);
        // Many are refused, and that is what they are for.
        let _ = query.read(ReadLevel::Linearizable).send().await;
    }
}
