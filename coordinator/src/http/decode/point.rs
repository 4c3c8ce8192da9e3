//! Points: ids, vectors, payloads, and the bodies that write, fetch and delete them.

use granum_model::DocId;
use granum_proto::convert;
use granum_proto::limits::Invalid;
use granum_proto::v1::{self, document_write::condition::Kind as ConditionKind};
use serde_json::Value;

use crate::http::decode::filter;
use crate::http::json::{Node, Object};

/// Names under which Qdrant's `{"text", "model"}` may ask for the built-in embedder.
const BUILTIN_MODELS: [&str; 4] = [
    "builtin",
    "builtin/all-minilm-l6-v2",
    "all-minilm-l6-v2",
    "sentence-transformers/all-minilm-l6-v2",
];

/// An id: a number, or a text (a spelling of a UUID is that UUID).
pub fn id(node: &Node<'_>) -> Result<v1::DocId, Invalid> {
    let id = match node.value {
        Value::Number(_) => DocId::Number(node.whole()?),
        Value::String(text) => DocId::from_text(text).map_err(|error| node.problem(error.to_string()))?,
        _ => return Err(node.not("an id: a whole number >= 0 or a text")),
    };
    Ok(convert::id::write(&id))
}

/// The body of `PUT .../points`: a list of points, or a batch of columns.
pub fn upsert(body: Node<'_>, collection: String) -> Result<v1::UpsertRequest, Invalid> {
    let object = body.object(&["points", "batch", "shard_key", "update_filter", "update_mode"])?;
    object.refuse(&["shard_key", "update_filter"], "not supported by Granum")?;
    let condition = object
        .get("update_mode")
        .map(|mode| update_mode(&mode))
        .transpose()?
        .flatten();
    let documents = match (object.get("points"), object.get("batch")) {
        (Some(points), None) => points
            .list()?
            .map(|point| document(&point))
            .collect::<Result<Vec<_>, _>>()?,
        (None, Some(batch)) => columns(&batch)?,
        _ => return Err(body.problem("exactly one of points and batch")),
    };
    let condition = condition.map(|kind| v1::document_write::Condition { kind: Some(kind) });
    let write = |document| v1::DocumentWrite {
        document: Some(document),
        condition,
    };
    Ok(v1::UpsertRequest {
        info: None,
        collection,
        documents: documents.into_iter().map(write).collect(),
    })
}

fn update_mode(node: &Node<'_>) -> Result<Option<ConditionKind>, Invalid> {
    match node.text()? {
        "upsert" => Ok(None),
        "insert_only" => Ok(Some(ConditionKind::InsertOnly(true))),
        "update_only" => Ok(Some(ConditionKind::UpdateOnly(true))),
        _ => Err(node.not("one of upsert, insert_only, update_only")),
    }
}

fn document(point: &Node<'_>) -> Result<v1::Document, Invalid> {
    let object = point.object(&["id", "vector", "payload"])?;
    Ok(v1::Document {
        id: Some(id(&object.want("id")?)?),
        payload_json: object
            .get("payload")
            .map(|node| payload(&node))
            .transpose()?
            .unwrap_or_default(),
        vectors: object
            .get("vector")
            .map(|node| vectors(&node))
            .transpose()?
            .unwrap_or_default(),
    })
}

/// `{"ids": [..], "vectors": [..] | {name: [..]}, "payloads": [..]}`, columns of equal length.
fn columns(batch: &Node<'_>) -> Result<Vec<v1::Document>, Invalid> {
    let object = batch.object(&["ids", "vectors", "payloads"])?;
    let ids = object.want("ids")?;
    let mut documents = Vec::new();
    for node in ids.list()? {
        documents.push(v1::Document {
            id: Some(id(&node)?),
            ..Default::default()
        });
    }
    let column = object.want("vectors")?;
    if column.value.is_array() {
        same_length(&column, documents.len())?;
        for (document, node) in documents.iter_mut().zip(column.list()?) {
            document.vectors = vectors(&node)?;
        }
    } else {
        for (name, column) in column.any_object()?.entries() {
            same_length(&column, documents.len())?;
            for (document, node) in documents.iter_mut().zip(column.list()?) {
                document.vectors.push(v1::NamedVector {
                    name: name.to_owned(),
                    vector: Some(vector(&node)?),
                });
            }
        }
    }
    if let Some(column) = object.get("payloads") {
        same_length(&column, documents.len())?;
        for (document, node) in documents.iter_mut().zip(column.list()?) {
            document.payload_json = payload(&node)?;
        }
    }
    Ok(documents)
}

fn same_length(column: &Node<'_>, ids: usize) -> Result<(), Invalid> {
    match column.list()?.count() {
        length if length == ids => Ok(()),
        length => Err(column.problem(format!("{length} elements for {ids} ids"))),
    }
}

fn payload(node: &Node<'_>) -> Result<bytes::Bytes, Invalid> {
    match node.value {
        Value::Null => Ok(bytes::Bytes::new()),
        Value::Object(_) => Ok(node.value.to_string().into()),
        _ => Err(node.not("an object")),
    }
}

/// A point's vectors: the unnamed one as it is, or an object of named ones.
fn vectors(node: &Node<'_>) -> Result<Vec<v1::NamedVector>, Invalid> {
    let unnamed = !node.value.is_object() || is_text(node.value);
    if unnamed {
        return Ok(vec![v1::NamedVector {
            name: String::new(),
            vector: Some(vector(node)?),
        }]);
    }
    let named = |(name, node): (&str, Node<'_>)| {
        Ok(v1::NamedVector {
            name: name.to_owned(),
            vector: Some(vector(&node)?),
        })
    };
    node.any_object()?.entries().map(named).collect()
}

fn is_text(value: &Value) -> bool {
    value.get("text").is_some_and(Value::is_string)
}

/// One vector: `[..]`, `[[..], ..]`, `{"indices", "values"}` or `{"text"}`.
pub fn vector(node: &Node<'_>) -> Result<v1::Vector, Invalid> {
    let kind = match node.value {
        Value::Array(rows) if rows.first().is_some_and(Value::is_array) => v1::vector::Kind::Multi(multi(node)?),
        Value::Array(_) => v1::vector::Kind::Dense(v1::DenseVector {
            f32: node.singles()?,
            f16: Default::default(),
        }),
        Value::Object(_) if is_text(node.value) => v1::vector::Kind::Text(text(node)?),
        Value::Object(_) => v1::vector::Kind::Sparse(sparse(&node.object(&["indices", "values"])?)?),
        _ => return Err(node.not("a vector")),
    };
    Ok(v1::Vector { kind: Some(kind) })
}

fn multi(node: &Node<'_>) -> Result<v1::MultiVector, Invalid> {
    let mut multi = v1::MultiVector::default();
    for row in node.list()? {
        let row_values = row.singles()?;
        let dimension = row_values.len() as u32;
        if multi.dimension != 0 && multi.dimension != dimension {
            return Err(row.problem(format!(
                "{dimension} components, the rows before have {}",
                multi.dimension
            )));
        }
        multi.dimension = dimension;
        multi.f32.extend(row_values);
    }
    Ok(multi)
}

fn sparse(object: &Object<'_>) -> Result<v1::SparseVector, Invalid> {
    let indices = object.want("indices")?;
    let indices = indices
        .list()?
        .map(|index| index.whole_u32())
        .collect::<Result<_, _>>()?;
    Ok(v1::SparseVector {
        indices,
        values: object.want("values")?.singles()?,
    })
}

/// `{"text", "model"}`: embedded by the embedder of the vector's field.
fn text(node: &Node<'_>) -> Result<String, Invalid> {
    let object = node.object(&["text", "model", "options"])?;
    if let Some(model) = object.get("model") {
        let name = model.text()?.to_lowercase();
        if !name.is_empty() && !BUILTIN_MODELS.contains(&name.as_str()) {
            return Err(model.not("an embedder here; leave it out to use the field's own"));
        }
    }
    Ok(object.want("text")?.text()?.to_owned())
}

/// The body of `POST .../points`.
pub fn retrieve(body: Node<'_>, collection: String) -> Result<v1::GetRequest, Invalid> {
    let object = body.object(&[
        "ids",
        "with_payload",
        "with_vector",
        "with_vectors",
        "shard_key",
        "read",
    ])?;
    object.refuse(&["shard_key"], "not supported by Granum")?;
    Ok(v1::GetRequest {
        info: None,
        collection,
        ids: object
            .want("ids")?
            .list()?
            .map(|node| id(&node))
            .collect::<Result<_, _>>()?,
        with_payload: with_payload(object.get("with_payload"), true)?,
        with_vectors: with_vectors(&object)?,
        read: object.get("read").map(|node| read_level(&node)).transpose()?,
    })
}

/// The body of `POST .../points/delete`: ids, or a filter.
pub fn delete(body: Node<'_>, collection: String) -> Result<v1::DeleteRequest, Invalid> {
    let object = body.object(&["points", "filter", "shard_key"])?;
    object.refuse(&["shard_key"], "not supported by Granum")?;
    let mut request = v1::DeleteRequest {
        collection,
        ..Default::default()
    };
    match (object.get("points"), object.get("filter")) {
        (Some(points), None) => request.ids = points.list()?.map(|node| id(&node)).collect::<Result<_, _>>()?,
        (None, Some(wanted)) => request.filter = Some(filter::filter(&wanted)?),
        _ => return Err(body.problem("exactly one of points and filter")),
    }
    Ok(request)
}

/// `true`, `false`, a list of paths, or `{"include" | "exclude": [..]}`.
pub fn with_payload(node: Option<Node<'_>>, default: bool) -> Result<Option<v1::PayloadSelector>, Invalid> {
    let all = v1::PayloadSelector {
        all: true,
        ..Default::default()
    };
    let Some(node) = node else {
        return Ok(default.then_some(all));
    };
    match node.value {
        Value::Bool(wanted) => Ok(wanted.then_some(all)),
        Value::Array(_) => Ok(Some(v1::PayloadSelector {
            include: node.texts()?,
            ..Default::default()
        })),
        _ => {
            let object = node.object(&["include", "exclude"])?;
            let include = object.get("include").map(|paths| paths.texts()).transpose()?;
            let exclude = object
                .get("exclude")
                .map(|paths| paths.texts())
                .transpose()?
                .unwrap_or_default();
            let all = include.is_none();
            Ok(Some(v1::PayloadSelector {
                all,
                include: include.unwrap_or_default(),
                exclude,
            }))
        }
    }
}

/// `with_vector` (or its other spelling `with_vectors`): `true`, `false` or a list of names.
pub fn with_vectors(object: &Object<'_>) -> Result<Option<v1::VectorSelector>, Invalid> {
    let Some(node) = object.get("with_vector").or_else(|| object.get("with_vectors")) else {
        return Ok(None);
    };
    match node.value {
        Value::Bool(all) => Ok(all.then_some(v1::VectorSelector {
            all: true,
            names: Vec::new(),
        })),
        _ => Ok(Some(v1::VectorSelector {
            all: false,
            names: node.texts()?,
        })),
    }
}

/// Granum's `read`: `"linearizable"`, `"any"`, `{"bounded": {"max_lag_ms", "max_lag_entries"}}` or `{"session": {shard: sequence}}`.
pub fn read_level(node: &Node<'_>) -> Result<v1::ReadLevel, Invalid> {
    use v1::read_level::{Any, Bounded, Kind, Linearizable};
    let kind = match node.value.as_str() {
        Some("linearizable") => Kind::Linearizable(Linearizable {}),
        Some("any") => Kind::Any(Any {}),
        Some(_) => return Err(node.not("linearizable or any")),
        None => {
            let object = node.object(&["bounded", "session"])?;
            if let Some(bounded) = object.get("bounded") {
                let object = bounded.object(&["max_lag_ms", "max_lag_entries"])?;
                let bound = |name| object.get(name).map_or(Ok(0), |bound| bound.whole());
                Kind::Bounded(Bounded {
                    max_lag_ms: bound("max_lag_ms")?,
                    max_lag_entries: bound("max_lag_entries")?,
                })
            } else {
                Kind::Session(session(&object.want("session")?)?)
            }
        }
    };
    Ok(v1::ReadLevel { kind: Some(kind) })
}

fn session(node: &Node<'_>) -> Result<v1::SessionToken, Invalid> {
    let entry = |(shard, sequence): (&str, Node<'_>)| {
        let shard = shard
            .parse()
            .map_err(|_| sequence.problem(format!("{shard:?} is no shard id")))?;
        Ok((shard, sequence.whole()?))
    };
    Ok(v1::SessionToken {
        sequences: node
            .any_object()?
            .entries()
            .map(entry)
            .collect::<Result<_, Invalid>>()?,
    })
}
