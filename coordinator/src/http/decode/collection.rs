//! The body of `PUT /collections/{name}`.

use granum_proto::limits::Invalid;
use granum_proto::v1;

use crate::http::json::{Node, Object};

/// Keys that tune another engine's storage: taken, and without effect.
const WITHOUT_EFFECT: [&str; 8] = [
    "hnsw_config",
    "wal_config",
    "optimizers_config",
    "quantization_config",
    "on_disk_payload",
    "write_consistency_factor",
    "payload",
    "id_tracker",
];

/// Reads a collection's description.
pub fn create(body: Node<'_>, name: String) -> Result<v1::CreateCollectionRequest, Invalid> {
    let mut known = vec!["vectors", "sparse_vectors", "shard_number", "replication_factor"];
    known.extend(["sharding_method", "strict_mode_config", "metadata", "init_from"]);
    known.extend(WITHOUT_EFFECT);
    let body = body.object(&known)?;
    body.refuse(
        &["sharding_method", "strict_mode_config", "metadata", "init_from"],
        "not supported by Granum",
    )?;
    let mut vectors = Vec::new();
    if let Some(dense) = body.get("vectors") {
        read_vectors(&dense, &mut vectors)?;
    }
    if let Some(sparse) = body.get("sparse_vectors") {
        for (name, params) in sparse.any_object()?.entries() {
            vectors.push(sparse_vector(name, &params)?);
        }
    }
    Ok(v1::CreateCollectionRequest {
        info: None,
        name,
        schema: Some(v1::Schema {
            vectors,
            payload: Vec::new(),
        }),
        shards: body.get("shard_number").map_or(Ok(0), |shards| shards.whole_u32())?,
        replication_factor: body
            .get("replication_factor")
            .map_or(Ok(0), |factor| factor.whole_u32())?,
        if_not_exists: false,
    })
}

/// One unnamed vector (`{"size": ..}`), or an object of named ones.
fn read_vectors(dense: &Node<'_>, vectors: &mut Vec<v1::VectorField>) -> Result<(), Invalid> {
    let object = dense.any_object()?;
    if object.get("size").is_some_and(|size| size.value.is_number()) {
        vectors.push(dense_vector("", dense)?);
        return Ok(());
    }
    for (name, params) in object.entries() {
        vectors.push(dense_vector(name, &params)?);
    }
    Ok(())
}

fn dense_vector(name: &str, params: &Node<'_>) -> Result<v1::VectorField, Invalid> {
    let known = ["size", "distance", "datatype", "multivector_config", "embedder"];
    let tuning = ["hnsw_config", "quantization_config", "on_disk", "memory"];
    let object = params.object(&[&known[..], &tuning[..]].concat())?;
    let kind = match object.get("multivector_config") {
        Some(config) => multi_vector(&config)?,
        None => v1::VectorKind::Dense,
    };
    Ok(v1::VectorField {
        name: name.to_owned(),
        kind: kind.into(),
        dimension: object.want("size")?.whole_u32()?,
        distance: distance(&object)?.into(),
        fine: fine(&object)?.into(),
        embedder: object
            .get("embedder")
            .map_or(Ok(""), |embedder| embedder.text())?
            .to_owned(),
        embedder_version: 0,
    })
}

fn multi_vector(config: &Node<'_>) -> Result<v1::VectorKind, Invalid> {
    match config.object(&["comparator"])?.get("comparator") {
        Some(comparator) if comparator.text()? != "max_sim" => {
            Err(comparator.not("max_sim, the one comparator there is"))
        }
        _ => Ok(v1::VectorKind::Multi),
    }
}

fn distance(object: &Object<'_>) -> Result<v1::Distance, Invalid> {
    let distance = object.want("distance")?;
    match distance.text()? {
        "Cosine" => Ok(v1::Distance::Cosine),
        "Dot" => Ok(v1::Distance::Dot),
        "Euclid" => Ok(v1::Distance::Euclid),
        "Manhattan" => Ok(v1::Distance::Manhattan),
        _ => Err(distance.not("one of Cosine, Dot, Euclid, Manhattan")),
    }
}

fn fine(object: &Object<'_>) -> Result<v1::Fine, Invalid> {
    let Some(datatype) = object.get("datatype") else {
        return Ok(v1::Fine::Unspecified);
    };
    match datatype.text()? {
        "float32" => Ok(v1::Fine::F32),
        "float16" => Ok(v1::Fine::F16),
        "int8" => Ok(v1::Fine::I8),
        _ => Err(datatype.not("one of float32, float16, int8")),
    }
}

fn sparse_vector(name: &str, params: &Node<'_>) -> Result<v1::VectorField, Invalid> {
    let object = params.object(&["index", "modifier"])?;
    if let Some(modifier) = object.get("modifier").filter(|modifier| modifier.value != "none") {
        return Err(modifier.not("none, the one modifier there is"));
    }
    Ok(v1::VectorField {
        name: name.to_owned(),
        kind: v1::VectorKind::Sparse.into(),
        distance: v1::Distance::Dot.into(),
        ..Default::default()
    })
}
