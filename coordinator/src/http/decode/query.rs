//! Questions: the bodies of `points/query`, `points/query/batch`, `points/scroll` and `points/count`.

use granum_proto::limits::Invalid;
use granum_proto::v1::{self, query::Kind};
use serde_json::Value;

use crate::http::decode::{filter, point};
use crate::http::json::Node;

/// A question, or, where no `query` is given, the points in the order of their ids: Qdrant answers that with a scroll.
pub enum Question {
    /// The k best.
    Nearest(Box<v1::QueryRequest>),
    /// Just points.
    Scroll(Box<v1::ScrollRequest>, u32),
}

const QUERY_KEYS: [&str; 18] = [
    "query",
    "using",
    "filter",
    "params",
    "limit",
    "offset",
    "with_payload",
    "with_vector",
    "with_vectors",
    "score_threshold",
    "prefetch",
    "lookup_from",
    "shard_key",
    "read",
    "partial",
    "explain",
    "timeout",
    "mmr",
];

/// Reads one question.
pub fn query(body: &Node<'_>, collection: &str) -> Result<Question, Invalid> {
    let object = body.object(&QUERY_KEYS)?;
    object.refuse(
        &["prefetch", "lookup_from", "shard_key", "mmr"],
        "not supported by Granum",
    )?;
    let wanted = object.get("filter").map(|node| filter::filter(&node)).transpose()?;
    let limit = object.get("limit").map_or(Ok(10), |limit| limit.whole_u32())?;
    let offset = object.get("offset").map_or(Ok(0), |offset| offset.whole_u32())?;
    let with_payload = point::with_payload(object.get("with_payload"), false)?;
    let with_vectors = point::with_vectors(&object)?;
    let read = object.get("read").map(|node| point::read_level(&node)).transpose()?;
    if limit == 0 {
        return Err(object.want("limit")?.problem("0, must be at least 1"));
    }
    let Some(question) = object.get("query") else {
        let request = v1::ScrollRequest {
            collection: collection.to_owned(),
            limit: limit.saturating_add(offset),
            filter: wanted,
            with_payload,
            with_vectors,
            read,
            ..Default::default()
        };
        return Ok(Question::Scroll(Box::new(request), offset));
    };
    Ok(Question::Nearest(Box::new(v1::QueryRequest {
        info: None,
        collection: collection.to_owned(),
        query: Some(v1::Query {
            kind: Some(nearest(&question)?),
        }),
        using: object.get("using").map_or(Ok(""), |using| using.text())?.to_owned(),
        filter: wanted,
        limit,
        offset,
        score_threshold: object
            .get("score_threshold")
            .map(|threshold| threshold.single())
            .transpose()?,
        with_payload,
        with_vectors,
        params: object.get("params").map(|node| params(&node)).transpose()?,
        read,
        partial: object.get("partial").map_or(Ok(false), |partial| partial.boolean())?,
        explain: object.get("explain").map_or(Ok(false), |explain| explain.boolean())?,
    })))
}

/// A vector, an id, a text, or `{"nearest": one of these}`.
fn nearest(node: &Node<'_>) -> Result<Kind, Invalid> {
    match node.value {
        Value::Number(_) | Value::String(_) => Ok(Kind::NearestId(point::id(node)?)),
        Value::Object(fields) if fields.contains_key("nearest") => {
            let object = node.object(&["nearest", "mmr"])?;
            object.refuse(&["mmr"], "not supported by Granum")?;
            nearest(&object.want("nearest")?)
        }
        Value::Object(fields) if !fields.contains_key("indices") && !fields.contains_key("text") => {
            Err(node.problem("of all query kinds only nearest is supported: a vector, an id, or {\"text\"}"))
        }
        _ => Ok(Kind::Nearest(point::vector(node)?)),
    }
}

fn params(node: &Node<'_>) -> Result<v1::SearchParams, Invalid> {
    let known = ["hnsw_ef", "exact", "target_recall", "certified"];
    let without_effect = ["quantization", "indexed_only", "acorn"];
    let object = node.object(&[&known[..], &without_effect[..], &["idf"]].concat())?;
    object.refuse(&["idf"], "not supported by Granum")?;
    Ok(v1::SearchParams {
        exact: object.get("exact").map_or(Ok(false), |exact| exact.boolean())?,
        ef: object.get("hnsw_ef").map_or(Ok(0), |ef| ef.whole_u32())?,
        target_recall: object.get("target_recall").map_or(Ok(0.0), |recall| recall.single())?,
        verify: v1::search_params::Verify::Unspecified.into(),
        certified: object
            .get("certified")
            .map_or(Ok(false), |certified| certified.boolean())?,
    })
}

/// Reads `{"searches": [..]}`.
pub fn batch(body: Node<'_>, collection: &str) -> Result<v1::QueryBatchRequest, Invalid> {
    let object = body.object(&["searches"])?;
    let mut queries = Vec::new();
    for search in object.want("searches")?.list()? {
        match query(&search, collection)? {
            Question::Nearest(request) => queries.push(*request),
            Question::Scroll(..) => return Err(search.problem("field \"query\" is missing, which a batch needs")),
        }
    }
    Ok(v1::QueryBatchRequest { queries })
}

/// Reads the body of a scroll.
pub fn scroll(body: Node<'_>, collection: String) -> Result<v1::ScrollRequest, Invalid> {
    let known = [
        "offset",
        "limit",
        "filter",
        "with_payload",
        "with_vector",
        "with_vectors",
        "order_by",
        "shard_key",
        "read",
    ];
    let object = body.object(&known)?;
    object.refuse(&["order_by", "shard_key"], "not supported by Granum")?;
    let limit = object.get("limit").map_or(Ok(10), |limit| limit.whole_u32())?;
    if limit == 0 {
        return Err(object.want("limit")?.problem("0, must be at least 1"));
    }
    Ok(v1::ScrollRequest {
        info: None,
        collection,
        offset: object.get("offset").map(|node| point::id(&node)).transpose()?,
        limit,
        filter: object.get("filter").map(|node| filter::filter(&node)).transpose()?,
        with_payload: point::with_payload(object.get("with_payload"), true)?,
        with_vectors: point::with_vectors(&object)?,
        read: object.get("read").map(|node| point::read_level(&node)).transpose()?,
    })
}

/// Reads the body of a count. Counts are exact, also where only an estimate is asked for.
pub fn count(body: Node<'_>, collection: String) -> Result<v1::CountRequest, Invalid> {
    let object = body.object(&["filter", "exact", "shard_key", "read"])?;
    object.refuse(&["shard_key"], "not supported by Granum")?;
    Ok(v1::CountRequest {
        info: None,
        collection,
        filter: object.get("filter").map(|node| filter::filter(&node)).transpose()?,
        read: object.get("read").map(|node| point::read_level(&node)).transpose()?,
    })
}
