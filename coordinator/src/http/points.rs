//! The routes of points: decode, one call, encode.

use std::collections::HashMap;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use granum_proto::status::Failure;
use granum_proto::{limits::Invalid, v1};

use crate::Coordinator;
use crate::http::decode::query::Question;
use crate::http::json::{self, Node};
use crate::http::{decode, encode, reply};

type Body = Result<Bytes, BytesRejection>;
type Parameters = Query<HashMap<String, String>>;

/// What the query string says of the request: `timeout` in seconds. (`wait` and `ordering` ask for less than Granum always does.)
fn request_info(Query(parameters): &Parameters) -> Result<Option<v1::RequestInfo>, Invalid> {
    let Some(timeout) = parameters.get("timeout") else {
        return Ok(None);
    };
    let seconds: u64 = timeout
        .parse()
        .map_err(|_| Invalid::new("timeout", format!("{timeout:?} is no number of seconds")))?;
    Ok(Some(v1::RequestInfo {
        timeout_ms: seconds.saturating_mul(1000),
        ..Default::default()
    }))
}

/// Reads a body with the decoder given.
fn decoded<T>(body: Body, decode: impl FnOnce(Node<'_>) -> Result<T, Invalid>) -> Result<T, Failure> {
    let value = json::parse(&reply::body(body)?)?;
    Ok(decode(Node::root(&value, ""))?)
}

/// `PUT /collections/{collection}/points`
pub async fn upsert(
    State(coordinator): State<Coordinator>,
    Path(collection): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let mut request = decoded(body, |body| decode::point::upsert(body, collection))?;
        request.info = request_info(&parameters)?;
        encode::update(coordinator.upsert(request).await?)
    };
    clock.reply(outcome.await)
}

/// `POST /collections/{collection}/points/delete`
pub async fn delete(
    State(coordinator): State<Coordinator>,
    Path(collection): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let mut request = decoded(body, |body| decode::point::delete(body, collection))?;
        request.info = request_info(&parameters)?;
        encode::update(coordinator.delete(request).await?)
    };
    clock.reply(outcome.await)
}

/// `POST /collections/{collection}/points`
pub async fn retrieve(
    State(coordinator): State<Coordinator>,
    Path(collection): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let mut request = decoded(body, |body| decode::point::retrieve(body, collection))?;
        request.info = request_info(&parameters)?;
        encode::records(coordinator.get(request).await?.documents)
    };
    clock.reply(outcome.await)
}

/// `GET /collections/{collection}/points/{id}`
pub async fn retrieve_one(
    State(coordinator): State<Coordinator>,
    Path((collection, id)): Path<(String, String)>,
    parameters: Parameters,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let id = match id.parse::<u64>() {
            Ok(number) => serde_json::Value::from(number),
            Err(_) => serde_json::Value::from(id.as_str()),
        };
        let request = v1::GetRequest {
            info: request_info(&parameters)?,
            collection,
            ids: vec![decode::point::id(&Node::root(&id, "id"))?],
            with_payload: Some(v1::PayloadSelector {
                all: true,
                ..Default::default()
            }),
            with_vectors: Some(v1::VectorSelector {
                all: true,
                names: Vec::new(),
            }),
            read: None,
        };
        let documents = coordinator.get(request).await?.documents;
        let found = encode::records(documents)?.into_iter().next();
        found.ok_or_else(|| Failure::NotFound(format!("point {id}: not found")))
    };
    clock.reply(outcome.await)
}

/// `POST /collections/{collection}/points/scroll`
pub async fn scroll(
    State(coordinator): State<Coordinator>,
    Path(collection): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let mut request = decoded(body, |body| decode::query::scroll(body, collection))?;
        request.info = request_info(&parameters)?;
        encode::page(coordinator.scroll(request).await?)
    };
    clock.reply(outcome.await)
}

/// `POST /collections/{collection}/points/count`
pub async fn count(
    State(coordinator): State<Coordinator>,
    Path(collection): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let mut request = decoded(body, |body| decode::query::count(body, collection))?;
        request.info = request_info(&parameters)?;
        Ok(encode::Count {
            count: coordinator.count(request).await?.count,
        })
    };
    clock.reply(outcome.await)
}

/// `POST /collections/{collection}/points/query`
pub async fn query(
    State(coordinator): State<Coordinator>,
    Path(collection): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        match decoded(body, |body| decode::query::query(&body, &collection))? {
            Question::Nearest(mut request) => {
                request.info = request_info(&parameters)?;
                encode::answer(coordinator.query(*request).await?)
            }
            Question::Scroll(mut request, skip) => {
                request.info = request_info(&parameters)?;
                encode::unscored(coordinator.scroll(*request).await?, skip)
            }
        }
    };
    clock.reply(outcome.await)
}

/// `POST /collections/{collection}/points/query/batch`
pub async fn query_batch(
    State(coordinator): State<Coordinator>,
    Path(collection): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let mut request = decoded(body, |body| decode::query::batch(body, &collection))?;
        let info = request_info(&parameters)?;
        request.queries.iter_mut().for_each(|query| query.info = info.clone());
        let answers = coordinator.query_batch(request).await?.answers;
        answers.into_iter().map(encode::answer).collect::<Result<Vec<_>, _>>()
    };
    clock.reply(outcome.await)
}
