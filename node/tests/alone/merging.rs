//! Does a node merge by itself? Many small seals; then it is killed and comes back.

use granum_model::{DocId, Filter, RequestId};
use granum_node::shard::{ShardMachine, command};
use granum_node::start;
use granum_proto::convert;
use granum_proto::internal::{Command, IndexSettings, Operation, WriteBatch, operation};
use granum_proto::v1;

use super::{config, found, machine, metric, propose, wait};

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

fn rounds(machine: &ShardMachine) -> Vec<(DocId, String)> {
    let view = machine.pin().view;
    let rows = view.scan(&Filter::default(), None, 10_000, &|| false).unwrap();
    let payload = |row| String::from_utf8(view.payload(row).unwrap().to_vec()).unwrap();
    rows.into_iter().map(|(id, row)| (id, payload(row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_merges_by_itself_and_keeps_every_document_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let node = start(config.clone()).await.unwrap();
    let group = found(&node, v1::Schema::default(), IndexSettings::default()).await;
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
