//! What happens to replicas whose node is gone for good, or whose files are damaged? Others take their place, and nothing that
//! was acknowledged is missing, even when the replicas that were there all the time are gone too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use granum_client::Client;
use granum_node::disk::RealDisk;
use granum_node::shard::manifest;

use crate::processes::{Cluster, Layout, eventually};
use crate::{all_caught_up, assert_all_there, create, write_all};

const DEADLINE: Duration = Duration::from_secs(90);

/// Nodes that hold a replica of any shard, by id.
async fn holders(client: &Client) -> Vec<u64> {
    let status = client.status().await.unwrap();
    let shards = status.collections.iter().flat_map(|collection| &collection.shards);
    let replicas = shards.flat_map(|shard| &shard.replicas);
    let mut nodes: Vec<u64> = replicas.map(|replica| replica.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_given_up_and_its_replicas_live_on_another() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 2).await;
    write_all(&client, "documents", 0..500).await;
    let before = client.status().await.unwrap();
    let address = &cluster.data_addresses()[2];
    let dead = before
        .nodes
        .iter()
        .find(|node| node.data_address == *address)
        .unwrap()
        .id;
    let name = format!("{dead:016x}");

    let refused = cluster.granum(&["cluster", "remove-node", &name]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("answers"), "{said}");
    let unknown = cluster.granum(&["cluster", "remove-node", "00000000000000aa"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && said.contains("not known"), "{said}");

    cluster.kill_node(2);
    write_all(&client, "documents", 500..700).await;
    cluster.add_node().await;
    let removed = cluster.granum(&["cluster", "remove-node", &name, "--wait"]);
    let said = String::from_utf8_lossy(&removed.stdout).into_owned();
    assert!(removed.status.success() && said.contains("2 replicas"), "{said}");
    eventually("the new replicas caught up", DEADLINE, async || {
        all_caught_up(&client).await
    })
    .await;
    assert!(!holders(&client).await.contains(&dead));
    eventually("the register has three voters again", DEADLINE, async || {
        let status = client.status().await.unwrap();
        status.nodes.iter().filter(|node| node.register_voter).count() == 3
    })
    .await;

    // With the new node and one old one, there is a majority of everything: of the shards and of the register.
    write_all(&client, "documents", 700..800).await;
    cluster.kill_node(1);
    assert_all_there(&client, "documents", 800).await;
    write_all(&client, "documents", 800..900).await;
    assert_all_there(&client, "documents", 900).await;
}

/// Nodes that were started with these arguments, and hold 2,000 documents of one shard.
async fn filled(node_arguments: &[&str]) -> (Cluster, Client) {
    let cluster = Cluster::start_as(Layout {
        node_arguments: node_arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        ..Layout::default()
    });
    cluster.ready().await;
    let client = cluster.client();
    create(&client, "documents", 1).await;
    write_all(&client, "documents", 0..2000).await;
    eventually("all replicas caught up", DEADLINE, async || {
        all_caught_up(&client).await
    })
    .await;
    (cluster, client)
}

/// Files below a directory whose names hold `part`.
fn files_below(directory: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_wanted = path.file_name().unwrap().to_string_lossy().contains(part);
        match path.is_dir() {
            true => found.extend(files_below(&path, part)),
            false if is_wanted => found.push(path),
            false => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_files_are_damaged_is_made_anew_from_the_others() {
    // Nothing that is damaged is to be merged away before it is read.
    let (mut cluster, client) = filled(&["--seal-bytes=65536", "--merge-threads=0"]).await;
    let before = replicas(&client).await;

    cluster.kill_node(1);
    let files = files_below(&cluster.node_directory(1), ".vector.");
    assert!(!files.is_empty(), "nothing was sealed yet");
    for file in files {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    cluster.start_node(1);
    eventually("the damaged replica has a successor", DEADLINE, async || {
        // Searches that meet the damage are answered by others, and tell on it.
        for row in 0..10 {
            let answer = client.query("documents").vector(crate::vector(row)).exact();
            let answer = answer
                .read(granum_client::ReadLevel::Any)
                .limit(1)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.hits.len(), 1);
        }
        replicas(&client).await != before && all_caught_up(&client).await
    })
    .await;
    assert_one_replaced(&before, &replicas(&client).await);
    cluster.kill_node(0);
    assert_all_there(&client, "documents", 2000).await;
}

/// Every file is sound and fits its checksum: only what the others hold tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_holds_other_documents_than_the_others_is_made_anew_from_them() {
    let (mut cluster, client) = filled(&["--seal-bytes=65536"]).await;
    let before = replicas(&client).await;

    cluster.kill_node(1);
    let manifests = files_below(&cluster.node_directory(1), "MANIFEST");
    assert!(!manifests.is_empty(), "nothing was sealed yet");
    for state in manifests.iter().map(|manifest| manifest.parent().unwrap()) {
        let mut manifest = manifest::read(&RealDisk, state).unwrap().unwrap().manifest;
        manifest.segments[0].digest ^= 1;
        manifest::write(&RealDisk, state, &manifest).unwrap();
    }
    cluster.start_node(1);
    eventually("the replica that differs has a successor", DEADLINE, async || {
        replicas(&client).await != before && all_caught_up(&client).await
    })
    .await;
    assert_one_replaced(&before, &replicas(&client).await);
    cluster.kill_node(0);
    assert_all_there(&client, "documents", 2000).await;
}

/// Replicas of the first shard, by id.
async fn replicas(client: &Client) -> Vec<u64> {
    let status = client.status().await.unwrap();
    let replicas = &status.collections[0].shards[0].replicas;
    replicas.iter().map(|replica| replica.replica).collect()
}

#[track_caller]
fn assert_one_replaced(before: &[u64], after: &[u64]) {
    let kept = before.iter().filter(|replica| after.contains(replica)).count();
    assert_eq!((kept, after.len()), (2, 3), "{before:?} -> {after:?}");
}
