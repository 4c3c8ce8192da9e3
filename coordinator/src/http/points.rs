//! The routes of points: decode, one call, encode. [`answer`] is the shape that all of them have.

use std::collections::HashMap;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use granum_proto::status::Failure;
use granum_proto::{limits::Invalid, v1};
use serde::Serialize;

use crate::Coordinator;
use crate::http::decode::query::Question;
use crate::http::json::{self, Node};
use crate::http::{decode, encode, reply};

type Body = Result<Bytes, BytesRejection>;
type Parameters = Query<HashMap<String, String>>;
/// What arrives at a route of one collection's points.
pub(super) type Asked = (State<Coordinator>, Path<String>, Parameters, Body);
pub(super) type Info = Option<v1::RequestInfo>;

/// One request from its bytes to its answer: the body decoded (with the collection of the path and what the query string
/// says), then `serve`, which makes one call and encodes what comes back.
pub(super) async fn answer<Request, Reply: Serialize>(
    (State(coordinator), Path(collection), parameters, body): Asked,
    decode: impl FnOnce(Node<'_>, String, Info) -> Result<Request, Invalid>,
    serve: impl AsyncFnOnce(Coordinator, Request) -> Result<Reply, Failure>,
) -> Response {
    let clock = reply::Clock::start();
    let outcome = async {
        let value = json::parse(&reply::body(body)?)?;
        let request = decode(Node::root(&value, ""), collection, request_info(&parameters)?)?;
        serve(coordinator, request).await
    };
    clock.reply(outcome.await)
}

/// What the query string says of the request: `timeout` in seconds. (`wait` and `ordering` ask for less than Granum always does.)
fn request_info(Query(parameters): &Parameters) -> Result<Info, Invalid> {
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

/// `PUT /collections/{collection}/points`
pub async fn upsert(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info| {
        Ok(v1::UpsertRequest {
            info,
            ..decode::point::upsert(body, collection)?
        })
    };
    answer(asked, decode, async |coordinator, request| {
        encode::update(coordinator.upsert(request).await?)
    })
    .await
}

/// `POST /collections/{collection}/points/delete`
pub async fn delete(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info| {
        Ok(v1::DeleteRequest {
            info,
            ..decode::point::delete(body, collection)?
        })
    };
    answer(asked, decode, async |coordinator, request| {
        encode::update(coordinator.delete(request).await?)
    })
    .await
}

/// `POST /collections/{collection}/points`
pub async fn retrieve(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info| {
        Ok(v1::GetRequest {
            info,
            ..decode::point::retrieve(body, collection)?
        })
    };
    answer(asked, decode, async |coordinator, request| {
        encode::records(coordinator.get(request).await?.documents)
    })
    .await
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
pub async fn scroll(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info| {
        Ok(v1::ScrollRequest {
            info,
            ..decode::query::scroll(body, collection)?
        })
    };
    answer(asked, decode, async |coordinator, request| {
        encode::page(coordinator.scroll(request).await?)
    })
    .await
}

/// `POST /collections/{collection}/points/count`
pub async fn count(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info| {
        Ok(v1::CountRequest {
            info,
            ..decode::query::count(body, collection)?
        })
    };
    answer(asked, decode, async |coordinator, request| {
        let count = coordinator.count(request).await?.count;
        Ok(encode::Count { count })
    })
    .await
}

/// `POST /collections/{collection}/points/query`
pub async fn query(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info| {
        let mut question = decode::query::query(&body, &collection)?;
        match &mut question {
            Question::Nearest(request) => request.info = info,
            Question::Scroll(request, _) => request.info = info,
        }
        Ok(question)
    };
    answer(asked, decode, async |coordinator, question| match question {
        Question::Nearest(request) => encode::answer(coordinator.query(*request).await?),
        Question::Scroll(request, skip) => encode::unscored(coordinator.scroll(*request).await?, skip),
    })
    .await
}

/// `POST /collections/{collection}/points/query/batch`
pub async fn query_batch(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info: Info| {
        let mut request = decode::query::batch(body, &collection)?;
        request.queries.iter_mut().for_each(|query| query.info = info.clone());
        Ok(request)
    };
    answer(asked, decode, async |coordinator, request| {
        let answers = coordinator.query_batch(request).await?.answers;
        answers.into_iter().map(encode::answer).collect::<Result<Vec<_>, _>>()
    })
    .await
}
