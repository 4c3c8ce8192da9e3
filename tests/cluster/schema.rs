//! A collection changed while it holds documents: a vector field added, used, dropped, through a restart of everything.

use std::time::Duration;

use granum_client::{Client, Document, ReadLevel, SearchError, VectorField};

use crate::processes::{Cluster, eventually};
use crate::{all_caught_up, create, document, vector, write_all};

/// Four components; no two rows below 343 point the same way.
fn title(row: u64) -> Vec<f32> {
    [row % 7, row / 7 % 7, row / 49, 1]
        .map(|component| component as f32)
        .to_vec()
}

async fn best_by_title(client: &Client, row: u64) -> Result<String, SearchError> {
    let answer = client
        .query("documents")
        .using("title")
        .vector(title(row))
        .limit(1)
        .send()
        .await?;
    Ok(answer.hits[0].id.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_field_is_added_used_and_dropped_while_documents_stay() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "documents", 2).await;
    write_all(&client, "documents", 0..200).await;
    let unknown = best_by_title(&client, 1).await.unwrap_err().to_string();
    assert!(unknown.contains("using: \"title\" is no vector"), "{unknown}");

    let added = vec![VectorField::dense("title", 4).fine(granum_client::v1::Fine::I8)];
    let read = Some(ReadLevel::Bounded {
        max_lag: Duration::from_secs(30),
        max_lag_entries: 0,
    });
    let altered = client
        .alter_collection("documents", added, Vec::new(), read.clone())
        .await
        .unwrap();
    let names = |info: &granum_client::v1::CollectionInfo| -> Vec<String> {
        let fields = info.schema.iter().flat_map(|schema| &schema.vectors);
        fields.map(|field| field.name.clone()).collect()
    };
    assert_eq!(names(&altered), ["", "title"]);
    let with_title = |row: u64| document(row).vector("title", title(row));
    let batch: Vec<Document> = (200..300).map(with_title).collect();
    client.upsert("documents", batch).await.unwrap();
    // The field is for old documents too.
    client.upsert("documents", vec![with_title(7)]).await.unwrap();
    assert_eq!(best_by_title(&client, 250).await.unwrap(), "250");
    assert_eq!(best_by_title(&client, 7).await.unwrap(), "7");

    // Both coordinators and all nodes keep it.
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
    for coordinator in 0..2 {
        cluster.kill_coordinator(coordinator);
        cluster.start_coordinator(coordinator).await;
    }
    assert_eq!(best_by_title(&client, 250).await.unwrap(), "250");
    let found = client.collection("documents").await.unwrap();
    assert_eq!(names(&found), ["", "title"]);
    assert_eq!(found.default_read, read.map(Into::into));
    let answer = client
        .query("documents")
        .vector(vector(3))
        .limit(1)
        .send()
        .await
        .unwrap();
    assert!(
        answer.info.shards.iter().all(|shard| shard.level == "bounded"),
        "{:?}",
        answer.info.shards
    );

    let dropped = client
        .alter_collection(
            "documents",
            Vec::new(),
            vec!["title".into()],
            Some(ReadLevel::Linearizable),
        )
        .await
        .unwrap();
    assert_eq!(names(&dropped), [""]);
    assert!(best_by_title(&client, 250).await.is_err());
    let refused = client
        .upsert("documents", vec![with_title(8)])
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("\"title\" is no vector"), "{refused}");
    write_all(&client, "documents", 300..400).await;
    assert_eq!(client.count("documents", &Default::default()).await.unwrap(), 400);
    let answer = client
        .query("documents")
        .vector(vector(250))
        .limit(1)
        .send()
        .await
        .unwrap();
    assert!(
        answer.hits[0].score > 0.999,
        "a document that had the field is found as before"
    );

    // Its values are still in segments, of some replicas only once they merge: nobody may find them under the name.
    let again = client
        .alter_collection("documents", vec![VectorField::dense("title", 4)], Vec::new(), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(again.contains("\"title\" was dropped from this collection"), "{again}");
    let heading = vec![VectorField::dense("heading", 4)];
    let altered = client
        .alter_collection("documents", heading, Vec::new(), None)
        .await
        .unwrap();
    assert_eq!(names(&altered), ["", "heading"]);

    let twice = client
        .alter_collection("documents", vec![VectorField::dense("", 4)], Vec::new(), None)
        .await;
    assert!(twice.is_err(), "a field that stands can't be added");
    let none = client
        .alter_collection("documents", Vec::new(), vec!["nope".into()], None)
        .await
        .unwrap_err();
    assert!(none.to_string().contains("\"nope\""), "{none}");
}
