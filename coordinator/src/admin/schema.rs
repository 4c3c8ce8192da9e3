//! The schema of a collection as it is asked for: checked, embedders resolved to their full name and version.

use granum_model::schema::{Embedder, PAYLOAD_INDEXES_MAX};
use granum_model::{Schema, VectorField, VectorKind};
use granum_proto::limits::{self, Invalid};
use granum_proto::{convert, v1};

use crate::embedders::Embedders;

/// Most names of dropped vectors that a collection remembers.
const DROPPED_VECTORS_MAX: usize = 1_024;

/// The schema of a new collection.
pub(super) fn wished(schema: Option<&v1::Schema>, embedders: &Embedders) -> Result<v1::Schema, Invalid> {
    let none = v1::Schema::default();
    let mut schema = schema.unwrap_or(&none).clone();
    for field in &mut schema.vectors {
        fill_dimension(field, embedders).map_err(|error| within(error, &field.name))?;
    }
    let mut schema = convert::schema::read(Some(&schema)).map_err(|error| error.within("schema"))?;
    for field in &mut schema.vectors {
        resolve(field, embedders).map_err(|error| within(error, &field.name).within("schema"))?;
    }
    Ok(convert::schema::write(&schema))
}

/// What stands, without the vectors and payload indexes to be dropped and with those to be added. A name that was `dropped`
/// before is not given again: what its vectors were is still in segments that no merge has rewritten since.
pub(super) fn altered(
    stands: &Schema,
    dropped: &[String],
    request: &v1::AlterCollectionRequest,
    embedders: &Embedders,
) -> Result<v1::Schema, Invalid> {
    let mut vectors = stands.vectors.clone();
    for name in &request.drop_vectors {
        let at = vectors.iter().position(|field| field.name == *name);
        let at = at.ok_or_else(|| Invalid::new("drop_vectors", format!("{name:?} is no vector of the collection")))?;
        vectors.remove(at);
    }
    let remembered = dropped.len() + request.drop_vectors.len();
    limits::at_most(
        "drop_vectors",
        remembered,
        DROPPED_VECTORS_MAX,
        "vectors dropped from one collection",
    )?;
    for field in &request.add_vectors {
        if dropped
            .iter()
            .chain(&request.drop_vectors)
            .any(|name| *name == field.name)
        {
            let problem = format!(
                "{:?} was dropped from this collection, and its name is not given again: choose another",
                field.name
            );
            return Err(Invalid::new("add_vectors", problem));
        }
        if vectors.iter().any(|stands| stands.name == field.name) {
            return Err(Invalid::new(
                "add_vectors",
                format!("{:?} is there already", field.name),
            ));
        }
        let added = added(field.clone(), embedders);
        vectors.push(added.map_err(|error| error.within(&format!("add_vectors[{:?}]", field.name)))?);
    }
    limits::at_most("vectors", vectors.len(), limits::VECTORS_MAX, "vectors")?;
    let mut payload = stands.payload.clone();
    payload.retain(|field| !request.drop_payload.contains(&field.key));
    for field in &request.add_payload {
        let added = convert::schema::read_payload_field(field);
        let added = added.map_err(|error| error.within(&format!("add_payload[{:?}]", field.key)))?;
        match payload.iter_mut().find(|stands| stands.key == added.key) {
            Some(stands) => *stands = added,
            None => payload.push(added),
        }
    }
    limits::at_most("payload", payload.len(), PAYLOAD_INDEXES_MAX, "indexes")?;
    Ok(convert::schema::write(&Schema { vectors, payload }))
}

fn added(mut field: v1::VectorField, embedders: &Embedders) -> Result<VectorField, Invalid> {
    fill_dimension(&mut field, embedders)?;
    let mut field = convert::schema::read_field(&field)?;
    resolve(&mut field, embedders)?;
    Ok(field)
}

fn within(error: Invalid, name: &str) -> Invalid {
    error.within(&format!("vectors[{name:?}]"))
}

/// A dimension that is not named is the embedder's.
fn fill_dimension(field: &mut v1::VectorField, embedders: &Embedders) -> Result<(), Invalid> {
    if !field.embedder.is_empty() && field.dimension == 0 {
        let dimension = embedders.resolve(&field.embedder)?.dimension();
        field.dimension = u32::try_from(dimension).expect("an embedder's dimension is small");
    }
    Ok(())
}

/// The embedder's own name and version; its vectors must fit the field.
fn resolve(field: &mut VectorField, embedders: &Embedders) -> Result<(), Invalid> {
    let Some(wanted) = &field.embedder else {
        return Ok(());
    };
    let embedder = embedders.resolve(&wanted.name)?;
    let given = u32::try_from(embedder.dimension()).expect("an embedder's dimension is small");
    match field.kind {
        VectorKind::Dense { dimension } if dimension == given => {}
        VectorKind::Dense { dimension } => {
            let problem = format!("{dimension}, and {} makes vectors of {given}", embedder.name());
            return Err(Invalid::new("dimension", problem));
        }
        VectorKind::Sparse | VectorKind::Multi { .. } => {
            return Err(Invalid::new(
                "kind",
                format!("must be dense: {} makes dense vectors", embedder.name()),
            ));
        }
    }
    field.embedder = Some(Embedder {
        name: embedder.name().to_owned(),
        version: embedder.version(),
    });
    Ok(())
}
