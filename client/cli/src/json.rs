//! The words of the cluster as JSON for programs; docs/reference/cli.md documents these shapes, and they stay.

use granum_client::{DocId, Facet, FacetValue, Hit, StoredDocument, v1};
use granum_model::{Dense, Vector};
use half::f16;
use serde_json::{Map, Value, json};

/// A number, or a text.
pub fn id(id: &DocId) -> Value {
    match id {
        DocId::Number(number) => json!(number),
        other => json!(other.to_string()),
    }
}

/// The payload's object; null where there is none, or what came is no JSON.
pub fn payload(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

/// A hit: `id`, `score`, `version`, and `payload` and `vectors` where they were asked for.
pub fn hit(hit: &Hit) -> Value {
    let mut object = document_parts(&hit.id, hit.version, &hit.payload_json, &hit.vectors);
    object.insert("score".into(), json!(hit.score));
    Value::Object(object)
}

/// The values that most documents have: `hits` with `value`, `count` and `error`, and `exact`.
pub fn facet(facet: &Facet) -> Value {
    let hits = facet.hits.iter().map(|hit| {
        let value = match &hit.value {
            FacetValue::Boolean(boolean) => json!(boolean),
            FacetValue::Integer(integer) => json!(integer),
            FacetValue::Text(text) => json!(text),
        };
        json!({"value": value, "count": hit.count, "error": hit.error})
    });
    json!({"hits": hits.collect::<Vec<_>>(), "exact": facet.is_exact})
}

/// A stored document: `id`, `version`, and `payload` and `vectors` where they were asked for.
pub fn document(document: &StoredDocument) -> Value {
    let parts = document_parts(
        &document.id,
        document.version,
        &document.payload_json,
        &document.vectors,
    );
    Value::Object(parts)
}

fn document_parts(doc: &DocId, version: u64, bytes: &[u8], vectors: &[(String, Vector)]) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("id".into(), id(doc));
    object.insert("version".into(), json!(version));
    if !bytes.is_empty() {
        object.insert("payload".into(), payload(bytes));
    }
    if !vectors.is_empty() {
        let named = vectors.iter().map(|(name, values)| (name.clone(), vector(values)));
        object.insert("vectors".into(), Value::Object(named.collect()));
    }
    object
}

fn vector(vector: &Vector) -> Value {
    match vector {
        Vector::Dense(values) => json!(dense(values)),
        Vector::Sparse { indices, values } => json!({"indices": indices, "values": values}),
        Vector::Multi { dimension, rows } => {
            let rows = dense(rows);
            json!(rows.chunks(*dimension as usize).collect::<Vec<_>>())
        }
    }
}

fn dense(values: &Dense) -> Vec<f32> {
    match values {
        Dense::F32(values) => values.clone(),
        Dense::F16(bits) => bits.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect(),
    }
}

/// What a reply says about itself: coverage, time, work, stages, warnings.
pub fn reply(info: &v1::ReplyInfo) -> Value {
    let coverage = info.coverage.unwrap_or_default();
    let usage = info.usage.unwrap_or_default();
    let stage = |stage: &v1::Stage| json!({"name": stage.name, "micros": stage.micros, "candidates": stage.candidates});
    let shard = |shard: &v1::ShardReport| {
        json!({
            "shard": shard.shard, "node": node_id(shard.node), "level": shard.level, "applied_index": shard.applied_index,
            "sequence": shard.sequence, "staleness_ms": shard.staleness_ms, "complete": shard.complete, "error": shard.error,
        })
    };
    json!({
        "coverage": {"asked": coverage.asked, "answered": coverage.answered},
        "micros": info.micros,
        "usage": {
            "rows_scored": usage.rows_scored, "rows_read": usage.rows_read, "bytes_read": usage.bytes_read,
            "rows_filtered": usage.rows_filtered,
        },
        "stages": info.stages.iter().map(stage).collect::<Vec<_>>(),
        "shards": info.shards.iter().map(shard).collect::<Vec<_>>(),
        "warnings": info.warnings,
    })
}

/// A collection: name, vectors, replication, state, shards with their replicas.
pub fn collection(info: &v1::CollectionInfo) -> Value {
    let vector = |field: &v1::VectorField| {
        json!({
            "name": field.name, "kind": kind(field), "dimension": field.dimension, "distance": distance(field),
            "fine": fine(field), "embedder": field.embedder, "embedder_version": field.embedder_version,
        })
    };
    let vectors = info.schema.iter().flat_map(|schema| &schema.vectors);
    let indexes = info.schema.iter().flat_map(|schema| &schema.payload);
    json!({
        "name": info.name,
        "id": info.id,
        "vectors": vectors.map(vector).collect::<Vec<_>>(),
        "indexes": indexes.map(|field| json!({"key": field.key, "kind": index_kind(field)})).collect::<Vec<_>>(),
        "replication_factor": info.replication_factor,
        "state": state(info),
        "documents": info.documents,
        "shards": info.shards.iter().map(shard).collect::<Vec<_>>(),
    })
}

/// What an index takes values for.
pub fn index_kind(field: &v1::PayloadField) -> &'static str {
    match field.kind() {
        v1::PayloadKind::Unspecified => "unknown",
        v1::PayloadKind::Keyword => "keyword",
        v1::PayloadKind::Integer => "integer",
        v1::PayloadKind::Float => "float",
        v1::PayloadKind::Bool => "bool",
        v1::PayloadKind::Datetime => "datetime",
        v1::PayloadKind::Uuid => "uuid",
        v1::PayloadKind::Geo => "geo",
        v1::PayloadKind::Text => "text",
    }
}

/// The group that holds the cluster's map, which is to have so many replicas.
pub fn register(info: &v1::ShardInfo, wanted: u32) -> Value {
    json!({
        "replicas": info.replicas.iter().map(replica).collect::<Vec<_>>(),
        "joining": info.joining.as_ref().map(replica),
        "wanted": wanted,
    })
}

fn replica(replica: &v1::ReplicaInfo) -> Value {
    json!({
        "replica": replica.replica, "node": node_id(replica.node), "reachable": replica.reachable,
        "leader": replica.leader, "term": replica.term, "applied_index": replica.applied_index,
        "lag_entries": replica.lag_entries, "documents": replica.documents,
        "recent_documents": replica.recent_documents, "segments": replica.segments, "disk_bytes": replica.disk_bytes,
    })
}

fn shard(info: &v1::ShardInfo) -> Value {
    json!({
        "id": info.id,
        "epoch": info.epoch,
        "range": [format!("{:016x}", info.range_start), format!("{:016x}", info.range_end)],
        "replicas": info.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

/// A node's id: 16 hex digits, because JSON's numbers can't hold it everywhere.
pub fn node_id(node: u64) -> String {
    format!("{node:016x}")
}

/// `dense`, `sparse` or `multi`.
pub fn kind(field: &v1::VectorField) -> &'static str {
    match field.kind() {
        v1::VectorKind::Sparse => "sparse",
        v1::VectorKind::Multi => "multi",
        v1::VectorKind::Dense | v1::VectorKind::Unspecified => "dense",
    }
}

/// `cosine`, `dot`, `euclid` or `manhattan`.
pub fn distance(field: &v1::VectorField) -> &'static str {
    match field.distance() {
        v1::Distance::Dot => "dot",
        v1::Distance::Euclid => "euclid",
        v1::Distance::Manhattan => "manhattan",
        v1::Distance::Cosine | v1::Distance::Unspecified => "cosine",
    }
}

/// `f16`, `f32` or `i8`; what is not said follows from the distance, as granum.v1 has it.
pub fn fine(field: &v1::VectorField) -> &'static str {
    match field.fine() {
        v1::Fine::F32 => "f32",
        v1::Fine::F16 => "f16",
        v1::Fine::I8 => "i8",
        v1::Fine::Unspecified if distance(field) == "cosine" => "f16",
        v1::Fine::Unspecified => "f32",
    }
}

/// `creating`, `active` or `deleting`.
pub fn state(info: &v1::CollectionInfo) -> &'static str {
    use v1::collection_info::State;
    match info.state() {
        State::Creating => "creating",
        State::Deleting => "deleting",
        State::Active | State::Unspecified => "active",
    }
}
