//! The routes of collections: decode, one call, encode.

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use granum_proto::status::Failure;
use granum_proto::v1;

use crate::Coordinator;
use crate::http::json::{self, Node};
use crate::http::{decode, encode, reply};

/// `GET /collections`
pub async fn list(State(coordinator): State<Coordinator>) -> Response {
    let clock = reply::Clock::start();
    let outcome = coordinator.list_collections(v1::ListCollectionsRequest {}).await;
    clock.reply(outcome.map(|listed| encode::names(&listed.collections)))
}

/// `GET /collections/{collection}`
pub async fn info(State(coordinator): State<Coordinator>, Path(name): Path<String>) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let collection = coordinator.get_collection(v1::GetCollectionRequest { name }).await?;
        let filled = coordinator.count_filled(&collection).await?;
        Ok(encode::collection(&collection, &filled))
    };
    clock.reply(outcome.await)
}

/// `GET /collections/{collection}/exists`
pub async fn exists(State(coordinator): State<Coordinator>, Path(name): Path<String>) -> Response {
    let clock = reply::Clock::start();
    let outcome = match coordinator.get_collection(v1::GetCollectionRequest { name }).await {
        Ok(_) => Ok(encode::Exists { exists: true }),
        Err(Failure::NotFound(_)) => Ok(encode::Exists { exists: false }),
        Err(failure) => Err(failure),
    };
    clock.reply(outcome)
}

/// `PUT /collections/{collection}`
pub async fn create(
    State(coordinator): State<Coordinator>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let value = json::parse(&reply::body(body)?)?;
        let request = decode::collection::create(Node::root(&value, ""), name)?;
        coordinator.create_collection(request).await?;
        Ok(true)
    };
    clock.reply(outcome.await)
}

/// `DELETE /collections/{collection}`
pub async fn delete(State(coordinator): State<Coordinator>, Path(name): Path<String>) -> Response {
    let clock = reply::Clock::start();
    let outcome = coordinator
        .delete_collection(v1::DeleteCollectionRequest { info: None, name })
        .await;
    clock.reply(outcome.map(|deleted| deleted.existed))
}

/// `PUT /collections/{collection}/index`
pub async fn create_index(
    State(coordinator): State<Coordinator>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let value = json::parse(&reply::body(body)?)?;
        let request = decode::index::create(Node::root(&value, ""), name)?;
        coordinator.alter_collection(request).await?;
        Ok(encode::completed())
    };
    clock.reply(outcome.await)
}

/// `DELETE /collections/{collection}/index/{field}`
pub async fn delete_index(
    State(coordinator): State<Coordinator>,
    Path((name, key)): Path<(String, String)>,
) -> Response {
    let clock = reply::Clock::start();
    let request = v1::AlterCollectionRequest {
        name,
        drop_payload: vec![key],
        ..Default::default()
    };
    let outcome = coordinator.alter_collection(request).await;
    clock.reply(outcome.map(|_| encode::completed()))
}
