//! Nodes that were started without a list of each other wait, and `granum cluster init` makes them found a cluster, once. One
//! that began small keeps its map on more nodes as it grows.

use std::time::Duration;

use granum_client::Client;
use granum_model::ids::register_voters;

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

/// Nodes that have a vote in the register.
async fn voters(client: &Client) -> usize {
    let status = client.status().await.unwrap();
    status.nodes.iter().filter(|node| node.register_voter).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_began_as_one_node_bears_the_loss_of_two_when_it_has_seven() {
    let mut cluster = Cluster::start_as(Layout {
        unfounded: true,
        ..Layout::default()
    });
    let first = cluster.data_addresses()[0].clone();
    eventually("one node founds a cluster", Duration::from_secs(60), async || {
        cluster.granum(&["cluster", "init", "--nodes", &first]).status.success()
    })
    .await;
    cluster.node_ready(0).await;
    let client = cluster.client();
    let mut observed = Vec::new();
    for nodes in 2..=7 {
        cluster.add_node().await;
        let wanted = register_voters(nodes);
        eventually("the register grows", Duration::from_secs(60), async || {
            voters(&client).await == wanted
        })
        .await;
        observed.push(voters(&client).await);
        eventually("the status says so", Duration::from_secs(60), async || {
            let status = client.status().await.unwrap();
            let register = status.register.unwrap();
            let is_whole = register.joining.is_none() && register.replicas.iter().all(|replica| replica.reachable);
            is_whole && register.replicas.len() == wanted && status.register_wanted as usize == wanted
        })
        .await;
    }
    assert_eq!(observed, [1, 3, 3, 3, 3, 5]);

    // The founder is one of them. Nodes 1 and 2 never belonged to the cluster.
    let status = client.status().await.unwrap();
    let addresses = cluster.data_addresses();
    let holders = status.nodes.iter().filter(|node| node.register_voter);
    let holders: Vec<usize> = holders
        .map(|holder| addresses.iter().position(|own| *own == holder.data_address).unwrap())
        .collect();
    assert!(holders.contains(&0), "{holders:?}");
    cluster.kill_node(0);
    cluster.kill_node(*holders.iter().find(|holder| **holder != 0).unwrap());
    eventually("the status misses two", Duration::from_secs(60), async || {
        let said = cluster.granum(&["status"]);
        String::from_utf8_lossy(&said.stderr).contains("the cluster's map: 3 of 5 replicas are up")
    })
    .await;
    create(&client, "documents", 2).await;
    write_all(&client, "documents", 0..100).await;
    assert_all_there(&client, "documents", 100).await;
}
