//! Does a node merge by itself? One real node, one shard, many small seals; then it is killed and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use granum_model::{DocId, Filter, RequestId, ShardId};
use granum_node::raft::Group;
use granum_node::shard::{ShardMachine, command};
use granum_node::{Config, Node, start};
use granum_proto::convert;
use granum_proto::internal::{Applied, Command, EnsureReplicaRequest, Epoch, Member, Operation, WriteBatch, operation};
use granum_proto::v1;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DEADLINE: Duration = Duration::from_secs(60);
const SHARD: u64 = 7;
const SEALS: u64 = 40;
/// Documents of a batch; half of them are overwritten by the next.
const BATCH: u64 = 10;

fn put(number: u64, round: u64) -> operation::Kind {
    operation::Kind::Put(v1::Document {
        id: Some(convert::id::write(&DocId::Number(number))),
        payload_json: format!("{{\"round\":{round}}}").into(),
        ..v1::Document::default()
    })
}

fn write(round: u64) -> Command {
    let numbers = round * BATCH / 2..round * BATCH / 2 + BATCH;
    let operations = (0..).zip(numbers).map(|(ordinal, number)| Operation {
        kind: Some(put(number, round)),
        ordinal,
        ..Operation::default()
    });
    let batch = WriteBatch {
        operations: operations.collect(),
        ..WriteBatch::default()
    };
    command::write(RequestId([round as u8; 16]), 1, 0, batch)
}

async fn propose(group: &Group, command: &Command) {
    let encoded: Bytes = command::encode(command).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let applied = loop {
        match group.propose(encoded.clone(), deadline).await {
            Ok(applied) => break Applied::decode(applied).unwrap(),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(applied.refused, "");
}

async fn wait<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The value of a line of the metrics page.
async fn metric(node: &Node, line: &str) -> f64 {
    let mut stream = tokio::net::TcpStream::connect(node.metrics_address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let found = page.lines().find_map(|own| own.strip_prefix(line));
    found
        .unwrap_or_else(|| panic!("{line} in\n{page}"))
        .trim()
        .parse()
        .unwrap()
}

fn machine(node: &Node) -> Arc<ShardMachine> {
    node.holdings().replicas().find(SHARD).unwrap().machine.clone()
}

fn rounds(machine: &ShardMachine) -> Vec<(DocId, String)> {
    let view = machine.pin().view;
    let rows = view.scan(&Filter::default(), None, 10_000, &|| false).unwrap();
    let payload = |row| String::from_utf8(view.payload(row).unwrap().to_vec()).unwrap();
    rows.into_iter().map(|(id, row)| (id, payload(row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_merges_by_itself_and_keeps_every_document_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: folder.path().join("node").display().to_string(),
        listen_data: "127.0.0.1:0".into(),
        listen_raft: "127.0.0.1:0".into(),
        listen_metrics: "127.0.0.1:0".into(),
        election_timeout_ms: 500,
        heartbeat_ms: 100,
        log_segment_bytes: 1 << 20,
        log_budget_bytes: 4 << 20,
        free_space_min_bytes: 1 << 20,
        worker_threads: 1,
        ..Config::default()
    };
    let node = start(config.clone()).await.unwrap();
    let birth = EnsureReplicaRequest {
        cluster: 5,
        shard: SHARD,
        replica: 1,
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
        schema: Some(v1::Schema::default()),
    };
    propose(&group, &command::fence(epoch)).await;
    for round in 0..SEALS {
        propose(&group, &write(round)).await;
        propose(&group, &command::seal()).await;
        wait("a seal", async || {
            (machine(&node).stats().index.recent_documents == 0).then_some(())
        })
        .await;
    }
    wait("few segments", async || {
        let merges = metric(&node, "granum_merges_total").await;
        (machine(&node).stats().index.segments < 4 && merges > 0.0).then_some(())
    })
    .await;
    let expected: Vec<(DocId, String)> = (0..(SEALS + 1) * BATCH / 2)
        .map(|number| (DocId::Number(number), (number / (BATCH / 2)).min(SEALS - 1)))
        .map(|(id, round)| (id, format!("{{\"round\":{round}}}")))
        .collect();
    assert_eq!(rounds(&machine(&node)), expected);
    assert!(metric(&node, "granum_merge_written_bytes_total").await > 0.0);
    assert_eq!(metric(&node, "granum_merges_failed_total").await, 0.0);
    assert!(metric(&node, "granum_shard_dead_rows{shard=\"7\"}").await >= 0.0);

    drop((node, group));
    let node = wait("the folder's lock", async || start(config.clone()).await.ok()).await;
    wait("the log to be replayed", async || {
        (rounds(&machine(&node)) == expected).then_some(())
    })
    .await;
    node.drain().await;
}
