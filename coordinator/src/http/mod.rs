//! Who speaks Qdrant's REST conventions: the HTTP gateway, so that clients and frameworks people already have work here.
//!
//! JSON is a spelling of `granum.v1`: a handler decodes into the same messages that gRPC carries, makes one call on
//! [`Coordinator`] and encodes the answer. Nothing is decided here. Reading order: this table of routes, then [`points`],
//! [`facet`] and [`collections`] (the handlers), [`decode`] (JSON in, every mistake named by its path), [`encode`] (messages out,
//! [`payload`]s as they were stored), and [`reply`] (the envelope and the shape of errors).
//!
//! Paths, names, defaults and envelopes are Qdrant's; what Granum adds are further optional keys (`embedder` of a vector,
//! `read`, `partial`, `explain` of a query). Keys that tune another engine are accepted and without effect; keys that
//! would change the meaning of a request and can't be honoured are refused by name.

mod collections;
pub(crate) mod decode;
mod encode;
pub(crate) mod facet;
pub(crate) mod json;
mod payload;
mod points;
mod reply;

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use granum_proto::limits::MESSAGE_IN_BYTES_MAX;
use granum_proto::status::Failure;

use crate::Coordinator;

/// The version of Qdrant's REST interface that this gateway follows; clients compare it with their own.
const REST_VERSION: &str = "1.20.0";

/// All routes of the gateway.
pub fn router(coordinator: Coordinator) -> Router {
    let collection = get(collections::info)
        .put(collections::create)
        .delete(collections::delete);
    Router::new()
        .route("/", get(root))
        .route("/healthz", get(health))
        .route("/collections", get(collections::list))
        .route("/collections/{collection}", collection)
        .route("/collections/{collection}/exists", get(collections::exists))
        .route("/collections/{collection}/index", put(collections::create_index))
        .route(
            "/collections/{collection}/index/{field}",
            delete(collections::delete_index),
        )
        .route(
            "/collections/{collection}/points",
            put(points::upsert).post(points::retrieve),
        )
        .route("/collections/{collection}/points/{id}", get(points::retrieve_one))
        .route("/collections/{collection}/points/delete", post(points::delete))
        .route("/collections/{collection}/points/scroll", post(points::scroll))
        .route("/collections/{collection}/points/count", post(points::count))
        .route("/collections/{collection}/facet", post(facet::facet))
        .route("/collections/{collection}/points/query", post(points::query))
        .route(
            "/collections/{collection}/points/query/batch",
            post(points::query_batch),
        )
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(DefaultBodyLimit::max(MESSAGE_IN_BYTES_MAX))
        .with_state(coordinator)
}

async fn root() -> Response {
    let body = serde_json::json!({
        "title": "Granum - distributed retrieval cluster",
        "version": REST_VERSION,
        "granum_version": env!("CARGO_PKG_VERSION"),
    });
    reply::json(StatusCode::OK, &body)
}

async fn health() -> &'static str {
    "healthz check passed"
}

async fn no_route(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    let problem = format!("{method} {}: Granum has no such route", uri.path());
    reply::Clock::start().reply::<()>(Err(Failure::NotFound(problem)))
}
