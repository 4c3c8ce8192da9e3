//! SIGKILL of the very node that takes the writes, while it takes them: every row that was acknowledged, before, at and after
//! that moment, is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use granum_client::{Client, Outcome};

use crate::processes::{Cluster, eventually};
use crate::{BATCH, all_caught_up, assert_all_there, create, document};

/// Which node leads the only shard of `documents`.
pub async fn leader(cluster: &Cluster, client: &Client) -> Option<usize> {
    let status = client.status().await.ok()?;
    let shards = status.collections.iter().flat_map(|collection| &collection.shards);
    let leader = shards
        .flat_map(|shard| &shard.replicas)
        .find(|replica| replica.leader)?
        .node;
    let address = &status.nodes.iter().find(|node| node.id == leader)?.data_address;
    cluster.data_addresses().iter().position(|known| known == address)
}

/// Writes rows from `first` on in batches until told to stop; the end of what was acknowledged grows with each.
async fn write_on(client: Client, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut first = acknowledged.load(Ordering::SeqCst);
    while !stop.load(Ordering::SeqCst) {
        let batch = (first..first + BATCH).map(document).collect();
        let written = client.upsert("documents", batch).await;
        let written = written.unwrap_or_else(|error| panic!("rows from {first}: {error}"));
        assert!(
            written
                .outcomes
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Taken { .. })),
            "{:?}",
            written.outcomes
        );
        first += BATCH;
        acknowledged.store(first, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_documents_survive_the_death_of_their_leader_in_mid_import() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 1).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut killed = BTreeSet::new();
    // A second time with the next leader, after the first one is back.
    for _ in 0..2 {
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(write_on(client.clone(), acknowledged.clone(), stop.clone()));
        let from = acknowledged.load(Ordering::SeqCst) + 1_000;
        eventually("the import is under way", Duration::from_secs(60), async || {
            acknowledged.load(Ordering::SeqCst) >= from
        })
        .await;
        let leading = leader(&cluster, &client).await.expect("a leader takes the writes");
        cluster.kill_node(leading);
        let at = acknowledged.load(Ordering::SeqCst);
        eventually("the import goes on without it", Duration::from_secs(60), async || {
            acknowledged.load(Ordering::SeqCst) > at + BATCH
        })
        .await;
        cluster.start_node(leading);
        cluster.node_ready(leading).await;
        stop.store(true, Ordering::SeqCst);
        writing.await.unwrap();
        eventually("the old leader follows", Duration::from_secs(60), async || {
            all_caught_up(&client).await
        })
        .await;
        killed.insert(leading);
    }
    assert_eq!(killed.len(), 2, "two different leaders died: {killed:?}");
    assert_all_there(&client, "documents", acknowledged.load(Ordering::SeqCst)).await;
}
