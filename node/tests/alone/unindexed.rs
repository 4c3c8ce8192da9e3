//! Does a node name the index that a filter misses, and only where that costs something?

use granum_model::{Dense, DocId, RequestId, Vector};
use granum_node::shard::command;
use granum_node::start;
use granum_proto::convert;
use granum_proto::internal::{Command, IndexSettings, Operation, ShardQuery, WriteBatch, operation};
use granum_proto::v1::{self, condition, scalar};

use super::{ask, config, found, machine, propose, wait};

fn vector(number: u32) -> v1::Vector {
    convert::vector::write(&Vector::Dense(Dense::F32(vec![number as f32])))
}

fn field(key: &str, kind: v1::PayloadKind) -> v1::PayloadField {
    v1::PayloadField {
        key: key.into(),
        kind: kind.into(),
    }
}

fn documents(numbers: std::ops::Range<u32>, request: u8) -> Command {
    let put = |number: u32| {
        operation::Kind::Put(v1::Document {
            id: Some(convert::id::write(&DocId::Number(number.into()))),
            payload_json: format!(r#"{{"tag": "t{}", "year": {}}}"#, number % 7, number % 5).into(),
            vectors: vec![v1::NamedVector {
                name: "v".into(),
                vector: Some(vector(number)),
            }],
        })
    };
    let operations = (0..).zip(numbers).map(|(ordinal, number)| Operation {
        kind: Some(put(number)),
        ordinal,
        ..Operation::default()
    });
    let batch = WriteBatch {
        operations: operations.collect(),
        ..WriteBatch::default()
    };
    command::write(RequestId([request; 16]), 1, 0, batch)
}

fn query(key: &str, value: scalar::Kind) -> ShardQuery {
    let matches = v1::Match {
        key: key.into(),
        any: vec![v1::Scalar { kind: Some(value) }],
        ..v1::Match::default()
    };
    let filter = v1::Filter {
        must: vec![v1::Condition {
            kind: Some(condition::Kind::Match(matches)),
        }],
        ..v1::Filter::default()
    };
    ShardQuery {
        using: "v".into(),
        nearest: Some(vector(7)),
        filter: Some(filter),
        k: 3,
        ..ShardQuery::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_reads_many_documents_is_told_of_the_index_it_misses() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(config(folder.path())).await.unwrap();
    let schema = v1::Schema {
        vectors: vec![v1::VectorField {
            name: "v".into(),
            dimension: 1,
            distance: v1::Distance::Euclid.into(),
            fine: v1::Fine::F32.into(),
            ..v1::VectorField::default()
        }],
        payload: vec![field("year", v1::PayloadKind::Integer)],
    };
    let group = found(&node, schema, IndexSettings::default()).await;
    let by_tag = || query("tag", scalar::Kind::Text("t3".into()));
    let missed = async || ask(&node, by_tag()).await.answer.unwrap().unindexed;

    for (request, numbers) in [(1, 0..1500), (2, 1500..3000)] {
        propose(&group, &documents(numbers, request)).await;
        assert_eq!(missed().await, [], "nothing is read from disk, or little");
        propose(&group, &command::seal()).await;
        wait("a seal", async || {
            (machine(&node).stats().index.recent_documents == 0).then_some(())
        })
        .await;
    }
    assert_eq!(missed().await, [field("tag", v1::PayloadKind::Keyword)]);
    let by_year = ShardQuery {
        params: Some(v1::SearchParams {
            exact: true,
            ..v1::SearchParams::default()
        }),
        ..query("year", scalar::Kind::Integer(3))
    };
    let answer = ask(&node, by_year).await;
    assert_eq!(
        answer.answer.unwrap().unindexed,
        [],
        "there is an index, or it is being built"
    );
    assert_eq!(answer.lists[0].delta, Some(0.0), "all rows that pass were scored");
    node.drain().await;
}
