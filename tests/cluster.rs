//! What a cluster of real processes promises when processes die: three nodes and two coordinators of the binary `granum`,
//! killed with SIGKILL, started again on their directories, and asked for everything they acknowledged.
//!
//! The binary is the one beside this test in the target folder (`cargo test --workspace` builds it), or GRANUM_BIN.

#[path = "cluster/founding.rs"]
mod founding;
#[path = "cluster/full_disk.rs"]
mod full_disk;
#[path = "cluster/hanging.rs"]
mod hanging;
#[path = "cluster/leader_lost.rs"]
mod leader_lost;
#[path = "cluster/overload.rs"]
mod overload;
#[path = "cluster/replacing.rs"]
mod replacing;
#[path = "cluster/schema.rs"]
mod schema;
#[path = "cluster/sessions.rs"]
mod sessions;

use std::collections::BTreeMap;
use std::time::Duration;

use granum_client::{Client, Document, PayloadKind, ReadLevel, VectorField};
use granum_tests::processes::{self, Cluster, eventually};

const DIMENSION: u32 = 16;
const BATCH: u64 = 50;

/// A vector that tells rows apart and has no zero.
fn vector(row: u64) -> Vec<f32> {
    (0..u64::from(DIMENSION))
        .map(|at| ((row * 31 + at * 17) % 97) as f32 / 97.0 + 0.01)
        .collect()
}

fn document(row: u64) -> Document {
    let payload = serde_json::json!({"row": row, "parity": if row.is_multiple_of(2) { "even" } else { "odd" }});
    Document::new(row)
        .payload(&payload)
        .expect("a JSON object serialises")
        .vector("", vector(row))
}

async fn create(client: &Client, name: &str, shards: u32) {
    create_with(client, name, shards, 3).await;
}

async fn create_with(client: &Client, name: &str, shards: u32, replication_factor: u32) {
    let field = VectorField::dense("", DIMENSION);
    client
        .create_collection(name)
        .vector(field)
        .index("parity", PayloadKind::Keyword)
        .shards(shards)
        .replication_factor(replication_factor)
        .send()
        .await
        .unwrap();
}

/// Writes rows in batches, each retried until it is acknowledged.
async fn write_all(client: &Client, collection: &str, rows: std::ops::Range<u64>) {
    for first in rows.clone().step_by(BATCH as usize) {
        let batch: Vec<Document> = (first..(first + BATCH).min(rows.end)).map(document).collect();
        let written = client.upsert(collection, batch).await;
        written.unwrap_or_else(|error| panic!("rows from {first}: {error}"));
    }
}

/// Every row is there with its payload, and search finds it first by its own vector.
async fn assert_all_there(client: &Client, collection: &str, rows: u64) {
    let mut found = BTreeMap::new();
    let mut scroll = client.scroll(collection).page_documents(1000);
    while let Some(page) = scroll.next_page().await.unwrap() {
        for document in page {
            let payload: serde_json::Value = document.payload().unwrap();
            found.insert(payload["row"].as_u64().unwrap(), document.id.to_string());
        }
    }
    let missing: Vec<u64> = (0..rows).filter(|row| !found.contains_key(row)).collect();
    assert!(
        missing.is_empty(),
        "{} acknowledged rows are missing: {missing:?}",
        missing.len()
    );
    assert_eq!(found.len() as u64, rows);
    for row in (0..rows).step_by(97) {
        let answer = client
            .query(collection)
            .vector(vector(row))
            .limit(3)
            .send()
            .await
            .unwrap();
        let best = answer.hits[0].score;
        assert!(best > 0.999, "row {row}: its own vector scores {best}");
    }
}

/// All replicas of all shards have applied what their leaders have.
async fn all_caught_up(client: &Client) -> bool {
    let Ok(status) = client.status().await else {
        return false;
    };
    let mut replicas = status
        .collections
        .iter()
        .flat_map(|collection| &collection.shards)
        .flat_map(|shard| &shard.replicas);
    status.nodes.iter().all(|node| node.reachable)
        && replicas.all(|replica| replica.reachable && replica.lag_entries == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_documents_survive_the_death_of_a_node_and_of_all() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 4).await;
    write_all(&client, "documents", 0..1000).await;
    cluster.kill_node(1);
    write_all(&client, "documents", 1000..2000).await;
    assert_all_there(&client, "documents", 2000).await;
    cluster.start_node(1);
    eventually("the restarted node caught up", Duration::from_secs(60), async || {
        all_caught_up(&client).await
    })
    .await;

    for node in 0..3 {
        cluster.kill_node(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    eventually("all restarted nodes serve", Duration::from_secs(60), async || {
        all_caught_up(&client).await
    })
    .await;
    assert_all_there(&client, "documents", 2000).await;
    write_all(&client, "documents", 2000..2100).await;
    assert_all_there(&client, "documents", 2100).await;
}

/// A client's calls go to the coordinators in turn: each change is made by the one, and asked about at the other, which
/// hears nothing while the node that it follows, the first of its list, has stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_refuses_nothing_on_what_it_knew_before_another_changed_it() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    // Three replicas: all nodes have joined.
    create(&client, "joined", 1).await;
    cluster.stop_node(0);
    create_with(&client, "documents", 1, 1).await;
    write_all(&client, "documents", 0..10).await;
    assert!(client.delete_collection("documents").await.unwrap());
    create_with(&client, "documents", 1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_moves_on_when_its_coordinator_dies() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 2).await;
    write_all(&client, "documents", 0..200).await;
    for coordinator in 0..2 {
        cluster.kill_coordinator(coordinator);
        write_all(&client, "documents", 200..400).await;
        assert_all_there(&client, "documents", 400).await;
        cluster.start_coordinator(coordinator).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_answers_the_same_and_says_how_fresh() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 1).await;
    write_all(&client, "documents", 0..300).await;
    eventually("all replicas caught up", Duration::from_secs(60), async || {
        all_caught_up(&client).await
    })
    .await;
    let ask = async |level| {
        let answer = client
            .query("documents")
            .vector(vector(7))
            .limit(20)
            .read(level)
            .send()
            .await
            .unwrap();
        answer
            .hits
            .into_iter()
            .map(|hit| (hit.id.to_string(), hit.score, hit.version))
            .collect::<Vec<_>>()
    };
    let expected = ask(ReadLevel::Linearizable).await;
    assert_eq!(expected.len(), 20);
    for _ in 0..12 {
        assert_eq!(ask(ReadLevel::Any).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_collection_gives_its_disk_back() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "kept", 1).await;
    let before = cluster.shard_directories();
    create(&client, "documents", 4).await;
    write_all(&client, "documents", 0..500).await;
    assert!(cluster.shard_directories() > before);
    assert!(client.delete_collection("documents").await.unwrap());
    eventually("its directories are gone", Duration::from_secs(60), async || {
        cluster.shard_directories() == before
    })
    .await;
    assert!(client.query("documents").vector(vector(1)).send().await.is_err());
    create(&client, "documents", 2).await;
    assert_eq!(
        client.count("documents", &Default::default()).await.unwrap(),
        0,
        "a name used again begins empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_hands_its_leaders_over_and_exits_with_0() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 4).await;
    write_all(&client, "documents", 0..200).await;
    assert_eq!(cluster.terminate_node(0), Some(0));
    write_all(&client, "documents", 200..400).await;
    assert_all_there(&client, "documents", 400).await;
}
