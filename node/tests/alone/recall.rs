//! Does a node see what its searches miss? By calls as a coordinator makes them, and the metrics page.

use granum_model::{Dense, DocId, RequestId, Vector};
use granum_node::shard::command;
use granum_node::{Config, Node, start};
use granum_proto::convert;
use granum_proto::internal::{Command, IndexSettings, Operation, ShardQuery, WriteBatch, operation};
use granum_proto::v1::{self, search_params};

use super::{SHARD, ask, config, find_metric, found, machine, metric, propose, wait};

const DIMENSION: u64 = 32;
const DOCUMENTS: u64 = 600;
/// Documents with the second vector: too few for codes, so that every search of it is exact.
const FEW: u64 = 100;

/// Without a pattern, so that one bit a dimension misses some.
fn vector(number: u64) -> v1::Vector {
    let value = |at: u64| {
        let mixed = (number * DIMENSION + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ mixed >> 32) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    convert::vector::write(&Vector::Dense(Dense::F32((0..DIMENSION).map(value).collect())))
}

fn schema() -> v1::Schema {
    let field = |name: &str| v1::VectorField {
        name: name.into(),
        dimension: DIMENSION as u32,
        distance: v1::Distance::Euclid.into(),
        fine: v1::Fine::F32.into(),
        ..v1::VectorField::default()
    };
    v1::Schema {
        vectors: vec![field("many"), field("few")],
        ..v1::Schema::default()
    }
}

fn documents() -> Command {
    let put = |number: u64| {
        let named = |name: &str| v1::NamedVector {
            name: name.into(),
            vector: Some(vector(number)),
        };
        let mut vectors = vec![named("many")];
        vectors.extend((number < FEW).then(|| named("few")));
        operation::Kind::Put(v1::Document {
            id: Some(convert::id::write(&DocId::Number(number))),
            vectors,
            ..v1::Document::default()
        })
    };
    let operations = (0..DOCUMENTS).map(|number| Operation {
        kind: Some(put(number)),
        ordinal: number as u32,
        ..Operation::default()
    });
    let batch = WriteBatch {
        operations: operations.collect(),
        ..WriteBatch::default()
    };
    command::write(RequestId([1; 16]), 1, 0, batch)
}

/// Asks for the nearest of `using` by codes alone.
async fn search(node: &Node, using: &str, number: u64) {
    let query = ShardQuery {
        using: using.into(),
        nearest: Some(vector(DOCUMENTS + number)),
        k: 10,
        params: Some(v1::SearchParams {
            verify: search_params::Verify::None.into(),
            ..v1::SearchParams::default()
        }),
        ..ShardQuery::default()
    };
    assert_eq!(ask(node, query).await.lists[0].hits.len(), 10);
}

/// Searches until a search of that vector was checked.
async fn recall(node: &Node, using: &str) -> f64 {
    let line = format!("granum_recall_at_k{{collection=\"alone\",shard=\"{SHARD}\",vector=\"{using}\"}}");
    let mut number = 0;
    wait("a recall check", async || {
        number += 1;
        search(node, using, number).await;
        find_metric(node, &line).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_how_much_its_searches_find() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        recall_check_every: 1,
        ..config(folder.path())
    };
    let node = start(config).await.unwrap();
    let index = IndexSettings {
        bits: 1,
        ..IndexSettings::default()
    };
    let group = found(&node, schema(), index).await;
    propose(&group, &documents()).await;
    propose(&group, &command::seal()).await;
    wait("codes", async || {
        let stats = machine(&node).stats();
        (stats.index.recent_documents == 0 && stats.index.resident_bytes > 0).then_some(())
    })
    .await;
    let many = recall(&node, "many").await;
    assert!(
        many > 0.0 && many < 1.0,
        "codes of one bit find some of the best: {many}"
    );
    assert_eq!(recall(&node, "few").await, 1.0, "all rows were scored");
    assert!(metric(&node, "granum_recall_checks_total").await >= 2.0);
    node.drain().await;
}
