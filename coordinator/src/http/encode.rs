//! Messages out: `granum.v1` answers as Qdrant's JSON.

use std::collections::BTreeMap;

use granum_model::{Dense, DocId, Vector};
use granum_proto::status::Failure;
use granum_proto::{convert, v1};
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::payload::Payload;

/// An id: a number, or a text.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Id {
    Number(u64),
    Text(String),
}

/// One answer of a query.
#[derive(Serialize)]
pub struct ScoredPoint {
    id: Id,
    version: u64,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vectors>,
}

/// One point.
#[derive(Serialize)]
pub struct Record {
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vectors>,
}

/// A point's vectors: the unnamed one as it is, named ones as an object.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Vectors {
    Unnamed(OneVector),
    Named(BTreeMap<String, OneVector>),
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum OneVector {
    Dense(Vec<f32>),
    Sparse { indices: Vec<u32>, values: Vec<f32> },
    Multi(Vec<Vec<f32>>),
}

/// Answers of one query, and what Granum adds: what they were made from.
#[derive(Serialize)]
pub struct Answer {
    points: Vec<ScoredPoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    granum: Option<Value>,
}

/// A page of points.
#[derive(Serialize)]
pub struct Page {
    points: Vec<Record>,
    next_page_offset: Option<Id>,
}

#[derive(Serialize)]
pub struct Count {
    pub count: u64,
}

#[derive(Serialize)]
pub struct Exists {
    pub exists: bool,
}

/// What became of a write.
#[derive(Serialize)]
pub struct Update {
    operation_id: u64,
    status: &'static str,
}

fn id(id: Option<&v1::DocId>) -> Result<Id, Failure> {
    Ok(match convert::id::read(id).map_err(damaged)? {
        DocId::Number(number) => Id::Number(number),
        other => Id::Text(other.to_string()),
    })
}

/// A shard's answer that is no valid message.
fn damaged(error: impl std::fmt::Display) -> Failure {
    Failure::Fault(format!("an answer could not be read: {error}"))
}

fn payload(json: &bytes::Bytes) -> Result<Option<Payload>, Failure> {
    if json.is_empty() {
        return Ok(None);
    }
    Payload::new(json.clone()).map(Some).map_err(damaged)
}

fn vectors(named: &[v1::NamedVector]) -> Result<Option<Vectors>, Failure> {
    if let [only] = named
        && only.name.is_empty()
    {
        return Ok(Some(Vectors::Unnamed(one_vector(only)?)));
    }
    let one = |named: &v1::NamedVector| Ok((named.name.clone(), one_vector(named)?));
    let all = named.iter().map(one).collect::<Result<BTreeMap<_, _>, Failure>>()?;
    Ok((!all.is_empty()).then_some(Vectors::Named(all)))
}

fn one_vector(named: &v1::NamedVector) -> Result<OneVector, Failure> {
    let vector = named.vector.as_ref().ok_or_else(|| damaged("a vector is missing"))?;
    Ok(match convert::vector::read(vector).map_err(damaged)? {
        None => return Err(damaged("a vector is text")),
        Some(Vector::Dense(dense)) => OneVector::Dense(singles(&dense)),
        Some(Vector::Sparse { indices, values }) => OneVector::Sparse { indices, values },
        Some(Vector::Multi { dimension, rows }) => {
            OneVector::Multi(singles(&rows).chunks(dimension as usize).map(<[f32]>::to_vec).collect())
        }
    })
}

fn singles(dense: &Dense) -> Vec<f32> {
    match dense {
        Dense::F16(bits) => bits.iter().map(|bits| half::f16::from_bits(*bits).to_f32()).collect(),
        Dense::F32(values) => values.clone(),
    }
}

/// The hits of a query.
pub fn answer(response: v1::QueryResponse) -> Result<Answer, Failure> {
    let point = |hit: v1::Hit| {
        Ok(ScoredPoint {
            id: id(hit.id.as_ref())?,
            version: hit.version,
            score: hit.score,
            payload: payload(&hit.payload_json)?,
            vector: vectors(&hit.vectors)?,
        })
    };
    let points = response.hits.into_iter().map(point).collect::<Result<_, Failure>>()?;
    let mut granum = response.info.as_ref().map(about);
    if let Some(about) = &mut granum {
        about["certified"] = json!(response.certified);
        about["delta"] = json!(response.certified.then_some(response.delta));
    }
    Ok(Answer { points, granum })
}

/// A page of points as answers that have no score, the first `skip` left out.
pub fn unscored(response: v1::ScrollResponse, skip: u32) -> Result<Answer, Failure> {
    let point = |document: v1::StoredDocument| {
        let version = document.version;
        let Record { id, payload, vector } = record(document)?;
        Ok(ScoredPoint {
            id,
            version,
            score: 0.0,
            payload,
            vector,
        })
    };
    let documents = response.documents.into_iter().skip(skip as usize);
    let points = documents.map(point).collect::<Result<_, Failure>>()?;
    Ok(Answer {
        points,
        granum: response.info.as_ref().map(about),
    })
}

/// Coverage, token, usage, warnings and, where asked for, stages.
fn about(info: &v1::ReplyInfo) -> Value {
    let coverage = info.coverage.unwrap_or_default();
    let token: BTreeMap<String, u64> = info
        .token
        .iter()
        .flat_map(|token| {
            token
                .sequences
                .iter()
                .map(|(shard, sequence)| (shard.to_string(), *sequence))
        })
        .collect();
    let usage = info.usage.unwrap_or_default();
    let stages: Vec<Value> = info
        .stages
        .iter()
        .map(|stage| json!({"name": stage.name, "micros": stage.micros, "candidates": stage.candidates}))
        .collect();
    json!({
        "coverage": {"asked": coverage.asked, "answered": coverage.answered},
        "token": token,
        "usage": {
            "rows_scored": usage.rows_scored,
            "rows_read": usage.rows_read,
            "bytes_read": usage.bytes_read,
            "rows_filtered": usage.rows_filtered,
        },
        "stages": stages,
        "warnings": info.warnings,
    })
}

fn record(document: v1::StoredDocument) -> Result<Record, Failure> {
    Ok(Record {
        id: id(document.id.as_ref())?,
        payload: payload(&document.payload_json)?,
        vector: vectors(&document.vectors)?,
    })
}

/// Points as they are stored.
pub fn records(documents: Vec<v1::StoredDocument>) -> Result<Vec<Record>, Failure> {
    documents.into_iter().map(record).collect()
}

/// A page and where the next begins.
pub fn page(response: v1::ScrollResponse) -> Result<Page, Failure> {
    let next_page_offset = response.next.as_ref().map(|next| id(Some(next))).transpose()?;
    Ok(Page {
        points: records(response.documents)?,
        next_page_offset,
    })
}

/// A write is done, or it is not known to be: then it is an error that says so.
pub fn update(response: v1::WriteResponse) -> Result<Update, Failure> {
    let unknown = response
        .outcomes
        .iter()
        .filter(|outcome| outcome.kind() == v1::outcome::Kind::Unknown);
    if let Some(first) = unknown.clone().next() {
        let (unknown, all) = (unknown.count(), response.outcomes.len());
        let problem = format!(
            "{unknown} of {all} points: not known to be written, ask again: {}",
            first.reason
        );
        return Err(Failure::Unknown(problem));
    }
    let sequences = response.token.iter().flat_map(|token| token.sequences.values());
    Ok(Update {
        operation_id: sequences.max().copied().unwrap_or(0),
        status: "completed",
    })
}

/// A change of a collection that stands.
pub fn completed() -> Update {
    Update {
        operation_id: 0,
        status: "completed",
    }
}

/// The names of all collections.
pub fn names(collections: &[v1::CollectionInfo]) -> Value {
    let names: Vec<Value> = collections
        .iter()
        .map(|collection| json!({"name": collection.name}))
        .collect();
    json!({ "collections": names })
}

/// A collection as Qdrant describes one. There is no graph (`m` is 0: every search is exact) and no optimizer to wait for.
///
/// `filled`: how many points have a value in each indexed field.
pub fn collection(collection: &v1::CollectionInfo, filled: &BTreeMap<String, u64>) -> Value {
    let active = collection.state() == v1::collection_info::State::Active;
    let segments: u64 = collection
        .shards
        .iter()
        .flat_map(|shard| shard.replicas.iter().filter(|replica| replica.leader))
        .map(|replica| replica.segments)
        .sum();
    let fields = collection
        .schema
        .as_ref()
        .map(|schema| &schema.vectors[..])
        .unwrap_or_default();
    json!({
        "status": if active { "green" } else { "yellow" },
        "optimizer_status": "ok",
        "points_count": collection.documents,
        "indexed_vectors_count": 0,
        "segments_count": segments,
        "payload_schema": payload_schema(collection, filled),
        "config": {
            "params": {
                "vectors": dense_params(fields),
                "sparse_vectors": sparse_params(fields),
                "shard_number": collection.shards.len(),
                "replication_factor": collection.replication_factor,
                "write_consistency_factor": collection.replication_factor / 2 + 1,
                "on_disk_payload": true,
            },
            "hnsw_config": {"m": 0, "ef_construct": 0, "full_scan_threshold": 0},
            "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 0},
        },
        "granum": {"embedders": embedders(fields)},
    })
}

/// Which fields of the payload have an index, and how many points have a value there; 0 where that could not be counted.
fn payload_schema(collection: &v1::CollectionInfo, filled: &BTreeMap<String, u64>) -> Value {
    let fields = collection.schema.iter().flat_map(|schema| &schema.payload);
    let known = fields.filter_map(|field| convert::schema::read_payload_field(field).ok());
    let by_key = known.map(|field| {
        let schema = json!({"data_type": field.kind.name(), "points": filled.get(&field.key).unwrap_or(&0)});
        (field.key, schema)
    });
    Value::Object(by_key.collect())
}

/// The one unnamed vector as it is, else all of them by name.
fn dense_params(fields: &[v1::VectorField]) -> Value {
    let dense: Vec<&v1::VectorField> = fields
        .iter()
        .filter(|field| field.kind() != v1::VectorKind::Sparse)
        .collect();
    match dense[..] {
        [only] if only.name.is_empty() => vector_params(only),
        _ => Value::Object(
            dense
                .iter()
                .map(|field| (field.name.clone(), vector_params(field)))
                .collect(),
        ),
    }
}

fn vector_params(field: &v1::VectorField) -> Value {
    let distance = match field.distance() {
        v1::Distance::Unspecified | v1::Distance::Cosine => "Cosine",
        v1::Distance::Dot => "Dot",
        v1::Distance::Euclid => "Euclid",
        v1::Distance::Manhattan => "Manhattan",
    };
    let mut params = json!({"size": field.dimension, "distance": distance, "on_disk": true});
    match field.fine() {
        v1::Fine::F32 => params["datatype"] = "float32".into(),
        v1::Fine::F16 | v1::Fine::Unspecified => params["datatype"] = "float16".into(),
        // Clients know no word for it; what they are sent are floats.
        v1::Fine::I8 => {}
    }
    if field.kind() == v1::VectorKind::Multi {
        params["multivector_config"] = json!({"comparator": "max_sim"});
    }
    params
}

/// Which vectors come from text, and through what. (Clients refuse unknown keys inside `vectors`.)
fn embedders(fields: &[v1::VectorField]) -> Value {
    let embedded = fields.iter().filter(|field| !field.embedder.is_empty());
    let by_name = embedded.map(|field| (field.name.clone(), json!(field.embedder)));
    Value::Object(by_name.collect())
}

fn sparse_params(fields: &[v1::VectorField]) -> Value {
    let sparse = fields.iter().filter(|field| field.kind() == v1::VectorKind::Sparse);
    let params: serde_json::Map<String, Value> = sparse.map(|field| (field.name.clone(), json!({}))).collect();
    if params.is_empty() {
        Value::Null
    } else {
        Value::Object(params)
    }
}
