//! Nodes that were started without a list of each other wait, and `granum cluster init` makes them found a cluster, once.

use std::time::Duration;

use crate::processes::{Cluster, Layout, eventually};
use crate::{all_caught_up, assert_all_there, create, write_all};

#[tokio::test(flavor = "multi_thread")]
async fn cluster_init_founds_a_cluster_once() {
    let mut cluster = Cluster::start_as(Layout {
        unfounded: true,
        ..Layout::default()
    });
    let nodes = cluster.data_addresses().join(",");
    // A process that was just started may not listen yet.
    eventually("the nodes found a cluster", Duration::from_secs(60), async || {
        cluster.granum(&["cluster", "init", "--nodes", &nodes]).status.success()
    })
    .await;
    cluster.ready().await;
    let again = cluster.granum(&["cluster", "init", "--nodes", &nodes]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to cluster"), "{said}");

    let client = cluster.client();
    create(&client, "documents", 2).await;
    write_all(&client, "documents", 0..200).await;
    for node in 0..3 {
        cluster.kill_node(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    eventually(
        "restarted without a list, they find each other",
        Duration::from_secs(60),
        async || all_caught_up(&client).await,
    )
    .await;
    assert_all_there(&client, "documents", 200).await;
}
