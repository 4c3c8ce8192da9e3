//! What is written to no more is sealed without being asked, once.

use granum_model::{DocId, RequestId};
use granum_node::shard::command;
use granum_node::{Config, start};
use granum_proto::convert;
use granum_proto::internal::{Command, IndexSettings, Operation, WriteBatch, operation};
use granum_proto::v1;

use super::{config, found, machine, propose, wait};

/// As many documents as are worth a segment.
const DOCUMENTS: u64 = 1_000;

fn put(numbers: std::ops::Range<u64>) -> Command {
    let put = |number: u64| Operation {
        kind: Some(operation::Kind::Put(v1::Document {
            id: Some(convert::id::write(&DocId::Number(number))),
            ..v1::Document::default()
        })),
        ordinal: number as u32,
        ..Operation::default()
    };
    let request = RequestId([numbers.start as u8; 16]);
    let batch = WriteBatch {
        operations: numbers.map(put).collect(),
        ..WriteBatch::default()
    };
    command::write(request, 1, 0, batch)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_written_to_no_more_is_sealed_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        seal_quiet_ms: 100,
        ..config(folder.path())
    };
    let node = start(config).await.unwrap();
    let group = found(&node, v1::Schema::default(), IndexSettings::default()).await;
    propose(&group, &put(0..DOCUMENTS)).await;
    let machine = machine(&node);
    let sealed_rows = async |rows: u64| {
        wait("a seal", async || {
            let stats = machine.stats();
            let is_sealed = stats.index.recent_documents == 0 && stats.index.segment_rows == rows;
            is_sealed.then_some(stats.applied_index)
        })
        .await
    };
    let applied = sealed_rows(DOCUMENTS).await;
    propose(&group, &put(DOCUMENTS..2 * DOCUMENTS)).await;
    let again = sealed_rows(2 * DOCUMENTS).await;
    assert_eq!(again, applied + 2, "a write and a seal, and no seals between");
    node.drain().await;
}
