//! What does a node do and say by itself? One real node, one shard, no coordinator.

mod merging;
mod quiet;
mod recall;
#[path = "../shared/mod.rs"]
mod shared;
mod unindexed;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use granum_model::ShardId;
use granum_node::Node;
use granum_node::raft::Group;
use granum_node::shard::{ShardMachine, command};
use granum_proto::internal::shard_client::ShardClient;
use granum_proto::internal::{
    Applied, Command, EnsureReplicaRequest, Epoch, IndexSettings, Member, ShardCall, ShardQuery, ShardSearchRequest,
    ShardSearchResponse,
};
use granum_proto::v1::{self, read_level};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Endpoint;

use shared::{DEADLINE, config, wait};

const SHARD: u64 = 7;

/// The shard, with this node as its only replica.
async fn found(node: &Node, schema: v1::Schema, index: IndexSettings) -> Arc<Group> {
    let birth = EnsureReplicaRequest {
        cluster: 5,
        shard: SHARD,
        replica: 1,
        epoch: 1,
        collection_name: "alone".into(),
        schema: Some(schema.clone()),
        index: Some(index),
        ..EnsureReplicaRequest::default()
    };
    assert!(node.holdings().ensure(birth).await.unwrap());
    let group = node.holdings().groups().group(ShardId(SHARD)).unwrap();
    let members = [Member {
        replica: 1,
        node: node.id(),
    }];
    group.initialize(&members).await.unwrap();
    let epoch = Epoch {
        epoch: 1,
        range_start: 0,
        range_end: u64::MAX,
        schema: Some(schema),
    };
    propose(&group, &command::fence(epoch)).await;
    group
}

async fn propose(group: &Group, command: &Command) {
    let encoded: Bytes = command::encode(command).unwrap();
    let applied = wait("a command to be taken", async || {
        let deadline = Instant::now() + DEADLINE;
        let applied = group.propose(encoded.clone(), deadline).await.ok()?;
        Some(Applied::decode(applied).unwrap())
    })
    .await;
    assert_eq!(applied.refused, "");
}

/// The value of a line of the metrics page.
async fn metric(node: &Node, line: &str) -> f64 {
    find_metric(node, line)
        .await
        .unwrap_or_else(|| panic!("no line {line}"))
}

async fn find_metric(node: &Node, line: &str) -> Option<f64> {
    let mut stream = tokio::net::TcpStream::connect(node.metrics_address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let found = page.lines().find_map(|own| own.strip_prefix(line))?;
    Some(found.trim().parse().unwrap())
}

/// One query, as a coordinator asks it.
async fn ask(node: &Node, query: ShardQuery) -> ShardSearchResponse {
    let call = ShardCall {
        shard: SHARD,
        epoch: 1,
        request_id: vec![2; 16].into(),
        timeout_ms: 10_000,
        read: Some(v1::ReadLevel {
            kind: Some(read_level::Kind::Any(read_level::Any {})),
        }),
    };
    let request = ShardSearchRequest {
        call: Some(call),
        queries: vec![query],
    };
    let address = format!("http://{}", node.data_address());
    let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
    ShardClient::new(channel).search(request).await.unwrap().into_inner()
}

fn machine(node: &Node) -> Arc<ShardMachine> {
    node.holdings().replicas().find(SHARD).unwrap().machine.clone()
}
