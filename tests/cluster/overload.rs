//! A cluster that has more to do than it can is not asked for more still by its own coordinators.

use std::time::Duration;

use granum_client::ReadLevel;
use tokio::task::JoinSet;

use crate::processes::{COORDINATORS, Cluster, Layout};
use crate::{create, vector, write_all};

/// So few at once that a handful of callers is too much.
const REQUESTS_MAX: &str = "--requests-max=2";
const CALLERS: u64 = 60;
/// Questions of each: together far more than what a coordinator has saved up for repetitions.
const QUESTIONS: u64 = 60;
/// What coordinators may repeat of the reads that were refused as busy, and what each has saved up.
const SHARE: f64 = 0.1;
const SAVED: f64 = 100.0;

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_are_refused_as_busy_are_seldom_repeated() {
    let cluster = Cluster::start_as(Layout {
        node_arguments: vec![REQUESTS_MAX.to_owned()],
        ..Layout::default()
    });
    cluster.ready().await;
    let client = cluster.client();
    create(&client, "documents", 1).await;
    write_all(&client, "documents", 0..100).await;
    let before = reads(&cluster);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = client.with_timeout(Duration::from_millis(200));
        callers.spawn(async move {
            for question in 0..QUESTIONS {
                let query = client.query("documents").vector(vector(caller + question));
                // Many are refused, and that is what they are for.
                let _ = query.limit(10).read(ReadLevel::Any).send().await;
            }
        });
    }
    callers.join_all().await;
    let sum = |name: &str| -> f64 { (0..COORDINATORS).map(|at| cluster.coordinator_metric(at, name)).sum() };
    let repeated = sum("granum_coordinator_retries_total{failure=\"busy\"}");
    let withheld = sum("granum_coordinator_repeats_withheld_total");
    let asked = reads(&cluster) - before;
    println!("{asked} reads, of which {repeated} were repetitions; {withheld} were withheld");
    assert!(withheld > 1_000.0, "the cluster was not busy: {withheld} withheld");
    assert!(
        repeated <= SHARE * asked + SAVED * COORDINATORS as f64,
        "{repeated} of {asked} reads were repetitions"
    );
}

/// Searches that coordinators have asked nodes for.
fn reads(cluster: &Cluster) -> f64 {
    let name = "granum_coordinator_shard_calls_total";
    let of = |outcome: &str| format!("{name}{{method=\"search\",outcome=\"{outcome}\"}}");
    (0..COORDINATORS)
        .map(|at| cluster.coordinator_metric(at, &of("ok")) + cluster.coordinator_metric(at, &of("busy")))
        .sum()
}
