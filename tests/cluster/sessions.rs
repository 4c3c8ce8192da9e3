//! A session reads what it has written and never goes back, whichever replica and coordinator answers; a token carries that from
//! one client to another, and what can't be had in time is refused, not lowered.

use std::time::Duration;

use granum_client::{Client, ReadLevel, SearchError};
use granum_model::Filter;

use crate::processes::Cluster;
use crate::{create, document, vector, write_all};

#[track_caller]
fn assert_session(info: &granum_client::v1::ReplyInfo) {
    assert!(!info.shards.is_empty());
    assert!(
        info.shards.iter().all(|shard| shard.level == "session"),
        "{:?}",
        info.shards
    );
}

async fn count(client: &Client) -> u64 {
    client.count("documents", &Filter::default()).await.unwrap()
}

/// Even and odd documents.
async fn by_parity(client: &Client) -> [u64; 2] {
    let found = client
        .facet("documents", "parity", &Filter::default(), 10)
        .await
        .unwrap();
    assert!(found.is_exact);
    ["even", "odd"].map(|parity| {
        let mut hits = found.hits.iter().filter(|hit| hit.value.to_string() == parity);
        hits.next().map_or(0, |hit| hit.count)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_its_own_writes_and_hands_them_to_another_client() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 2).await;
    write_all(&client, "documents", 0..100).await;
    let session = client.session();
    for row in 100..150 {
        session.upsert("documents", vec![document(row)]).await.unwrap();
        let answer = session
            .query("documents")
            .vector(vector(row))
            .limit(5)
            .send()
            .await
            .unwrap();
        assert_session(&answer.info);
        let found = answer.hits.iter().any(|hit| hit.id.to_string() == row.to_string());
        assert!(found || answer.hits[0].score > 0.999, "row {row} was just written");
        assert!(
            session.get("documents", [row], false).await.unwrap().len() == 1,
            "row {row} was just written"
        );
        assert!(count(&session).await > row);
        assert_eq!(by_parity(&session).await, [row / 2 + 1, row.div_ceil(2)]);
    }
    session.delete("documents", [149u64]).await.unwrap();
    assert_eq!(count(&session).await, 149);
    assert_eq!(by_parity(&session).await, [75, 74]);

    // Another client, through the coordinator that is left, with one node fewer.
    let token = session.session_token().expect("a session has a token");
    assert_eq!(token.sequences.len(), 2, "both shards were written to: {token:?}");
    cluster.kill_coordinator(0);
    cluster.kill_node(2);
    let other = cluster.client();
    let answer = other
        .query("documents")
        .vector(vector(148))
        .limit(1)
        .read(ReadLevel::Session(token.clone()))
        .send()
        .await
        .unwrap();
    assert_session(&answer.info);
    for report in &answer.info.shards {
        assert!(
            report.sequence >= token.sequences[&report.shard],
            "{report:?} of {token:?}"
        );
    }

    // A token of what has not happened yet is waited for, and then refused by name.
    let mut future = token;
    future
        .sequences
        .values_mut()
        .for_each(|sequence| *sequence += 1_000_000);
    let impatient = other.with_timeout(Duration::from_secs(2));
    let refused = impatient
        .query("documents")
        .vector(vector(1))
        .read(ReadLevel::Session(future))
        .send()
        .await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, SearchError::Stale(_) | SearchError::Unavailable(_)),
        "{refused:?}"
    );
}
