//! A node that hangs keeps its connections, and so nothing fails by itself: whoever asked it goes on elsewhere all the same.

use std::time::Duration;

use granum_client::ReadLevel;

use crate::leader_lost::leader;
use crate::processes::{Cluster, Layout, eventually};
use crate::{create, vector, write_all};

/// The coordinators would wait for one node far longer than the client waits for an answer.
const ATTEMPT: &str = "--attempt-timeout-ms=120000";

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_reads_go_on_while_their_leader_hangs() {
    let mut cluster = Cluster::start_as(Layout {
        coordinator_arguments: vec![ATTEMPT.to_owned()],
        ..Layout::default()
    });
    cluster.ready().await;
    create(&cluster.client(), "documents", 1).await;
    // A dead connection is noticed by its keep-alive after some 20 s: that would be too late.
    let client = cluster.client().with_timeout(Duration::from_secs(10)).session();
    write_all(&client, "documents", 0..50).await;
    eventually("a leader is known", Duration::from_secs(60), async || {
        leader(&cluster, &client).await.is_some()
    })
    .await;
    let hangs = leader(&cluster, &client).await.expect("just seen");
    cluster.stop_node(hangs);
    write_all(&client, "documents", 50..100).await;
    for _ in 0..50 {
        let query = client.query("documents").vector(vector(77)).limit(1);
        let strict = query.clone().read(ReadLevel::Linearizable);
        for query in [query, strict] {
            let answer = query.send().await.unwrap();
            let best = answer.hits[0].score;
            assert!(best > 0.999, "its own vector scores {best}");
        }
    }
    cluster.continue_node(hangs);
    write_all(&client, "documents", 100..150).await;
}
