//! Schemas on the wire.

use granum_model::filter::is_path;
use granum_model::schema::{Embedder, PAYLOAD_INDEXES_MAX, PAYLOAD_KEY_BYTES_MAX};
use granum_model::{Distance, Fine, PayloadField, PayloadKind, Schema, VectorField, VectorKind};

use crate::limits::{self, Invalid};
use crate::v1;

/// Reads a schema; names, kinds, dimensions and distances are checked, embedders only for shape.
pub fn read(schema: Option<&v1::Schema>) -> Result<Schema, Invalid> {
    let fields = schema.map(|schema| &schema.vectors[..]).unwrap_or_default();
    limits::at_most("vectors", fields.len(), limits::VECTORS_MAX, "vectors")?;
    let mut vectors: Vec<VectorField> = Vec::with_capacity(fields.len());
    for field in fields {
        let path = format!("vectors[{:?}]", field.name);
        if vectors.iter().any(|earlier| earlier.name == field.name) {
            return Err(Invalid::new(path, "stands twice"));
        }
        vectors.push(read_field(field).map_err(|error| error.within(&path))?);
    }
    let payload = read_payload(schema.map(|schema| &schema.payload[..]).unwrap_or_default())?;
    Ok(Schema { vectors, payload })
}

fn read_payload(fields: &[v1::PayloadField]) -> Result<Vec<PayloadField>, Invalid> {
    limits::at_most("payload", fields.len(), PAYLOAD_INDEXES_MAX, "indexes")?;
    let mut payload: Vec<PayloadField> = Vec::with_capacity(fields.len());
    for field in fields {
        let path = format!("payload[{:?}]", field.key);
        if payload.iter().any(|earlier| earlier.key == field.key) {
            return Err(Invalid::new(path, "stands twice"));
        }
        payload.push(read_payload_field(field).map_err(|error| error.within(&path))?);
    }
    Ok(payload)
}

/// Reads one payload index.
pub fn read_payload_field(field: &v1::PayloadField) -> Result<PayloadField, Invalid> {
    limits::at_most("key", field.key.len(), PAYLOAD_KEY_BYTES_MAX, "bytes")?;
    if !is_path(&field.key) {
        return Err(Invalid::new("key", format!("{:?} is no path of a field", field.key)));
    }
    let kind = KINDS.iter().find(|(_, kind)| *kind as i32 == field.kind);
    let (kind, _) = kind.ok_or_else(|| Invalid::new("kind", format!("{} is not a kind of index", field.kind)))?;
    Ok(PayloadField {
        key: field.key.clone(),
        kind: *kind,
    })
}

/// One payload index on the wire.
pub fn write_payload_field(field: &PayloadField) -> v1::PayloadField {
    let kind = KINDS.iter().find(|(kind, _)| *kind == field.kind);
    v1::PayloadField {
        key: field.key.clone(),
        kind: kind.expect("the table lists every kind").1.into(),
    }
}

const KINDS: [(PayloadKind, v1::PayloadKind); PayloadKind::ALL.len()] = [
    (PayloadKind::Keyword, v1::PayloadKind::Keyword),
    (PayloadKind::Integer, v1::PayloadKind::Integer),
    (PayloadKind::Float, v1::PayloadKind::Float),
    (PayloadKind::Bool, v1::PayloadKind::Bool),
    (PayloadKind::Datetime, v1::PayloadKind::Datetime),
    (PayloadKind::Uuid, v1::PayloadKind::Uuid),
    (PayloadKind::Geo, v1::PayloadKind::Geo),
    (PayloadKind::Text, v1::PayloadKind::Text),
];

/// Reads one field.
pub fn read_field(field: &v1::VectorField) -> Result<VectorField, Invalid> {
    limits::at_most("name", field.name.len(), limits::VECTOR_NAME_BYTES_MAX, "bytes")?;
    let distance = read_distance(field)?;
    let kind = v1::VectorKind::try_from(field.kind)
        .map_err(|_| Invalid::new("kind", format!("{} is not a kind of vector", field.kind)))?;
    let kind = match kind {
        v1::VectorKind::Unspecified | v1::VectorKind::Dense => VectorKind::Dense {
            dimension: read_dimension(field)?,
        },
        v1::VectorKind::Multi => VectorKind::Multi {
            dimension: read_dimension(field)?,
        },
        v1::VectorKind::Sparse if field.dimension != 0 => {
            return Err(Invalid::new(
                "dimension",
                format!("{}, must be 0 for a sparse vector", field.dimension),
            ));
        }
        v1::VectorKind::Sparse if field.distance() != v1::Distance::Unspecified && distance != Distance::Dot => {
            return Err(Invalid::new("distance", "must be dot for a sparse vector"));
        }
        v1::VectorKind::Sparse => VectorKind::Sparse,
    };
    let distance = if kind == VectorKind::Sparse {
        Distance::Dot
    } else {
        distance
    };
    let fine = v1::Fine::try_from(field.fine)
        .map_err(|_| Invalid::new("fine", format!("{} is not a format of rows", field.fine)))?;
    let fine = match fine {
        // Components of unit vectors fit binary16 with an error below 2^-12; arbitrary ones may overflow it.
        v1::Fine::Unspecified if distance == Distance::Cosine => Fine::F16,
        v1::Fine::Unspecified => Fine::F32,
        v1::Fine::F16 => Fine::F16,
        v1::Fine::F32 => Fine::F32,
        v1::Fine::I8 => Fine::I8,
    };
    let embedder = (!field.embedder.is_empty()).then(|| Embedder {
        name: field.embedder.clone(),
        version: field.embedder_version,
    });
    Ok(VectorField {
        name: field.name.clone(),
        kind,
        distance,
        fine,
        embedder,
    })
}

fn read_distance(field: &v1::VectorField) -> Result<Distance, Invalid> {
    match v1::Distance::try_from(field.distance) {
        Ok(v1::Distance::Unspecified | v1::Distance::Cosine) => Ok(Distance::Cosine),
        Ok(v1::Distance::Dot) => Ok(Distance::Dot),
        Ok(v1::Distance::Euclid) => Ok(Distance::Euclid),
        Ok(v1::Distance::Manhattan) => Ok(Distance::Manhattan),
        Err(_) => Err(Invalid::new(
            "distance",
            format!("{} is not a distance", field.distance),
        )),
    }
}

fn read_dimension(field: &v1::VectorField) -> Result<u32, Invalid> {
    match field.dimension {
        1..=limits::DIMENSION_MAX => Ok(field.dimension),
        other => Err(Invalid::new(
            "dimension",
            format!("{other}, must be 1..={}", limits::DIMENSION_MAX),
        )),
    }
}

/// The schema on the wire.
pub fn write(schema: &Schema) -> v1::Schema {
    v1::Schema {
        vectors: schema.vectors.iter().map(write_field).collect(),
        payload: schema.payload.iter().map(write_payload_field).collect(),
    }
}

/// One field on the wire.
pub fn write_field(field: &VectorField) -> v1::VectorField {
    let (kind, dimension) = match field.kind {
        VectorKind::Dense { dimension } => (v1::VectorKind::Dense, dimension),
        VectorKind::Sparse => (v1::VectorKind::Sparse, 0),
        VectorKind::Multi { dimension } => (v1::VectorKind::Multi, dimension),
    };
    let distance = match field.distance {
        Distance::Cosine => v1::Distance::Cosine,
        Distance::Dot => v1::Distance::Dot,
        Distance::Euclid => v1::Distance::Euclid,
        Distance::Manhattan => v1::Distance::Manhattan,
    };
    let fine = match field.fine {
        Fine::F16 => v1::Fine::F16,
        Fine::F32 => v1::Fine::F32,
        Fine::I8 => v1::Fine::I8,
    };
    let (embedder, embedder_version) = field
        .embedder
        .as_ref()
        .map(|embedder| (embedder.name.clone(), embedder.version))
        .unwrap_or_default();
    v1::VectorField {
        name: field.name.clone(),
        kind: kind.into(),
        dimension,
        distance: distance.into(),
        fine: fine.into(),
        embedder,
        embedder_version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(key: &str, kind: i32) -> v1::PayloadField {
        v1::PayloadField { key: key.into(), kind }
    }

    fn schema(payload: Vec<v1::PayloadField>) -> Result<Schema, Invalid> {
        let vectors = Vec::new();
        read(Some(&v1::Schema { vectors, payload }))
    }

    #[test]
    fn payload_indexes_read_back() {
        let fields = (1..=8).map(|kind| field(&format!("a[].k{kind}"), kind)).collect();
        let read = schema(fields).unwrap();
        assert_eq!(read.payload.len(), PayloadKind::ALL.len());
        assert_eq!(schema(write(&read).payload).unwrap(), read);
    }

    #[test]
    fn a_vector_of_a_later_builds_kind_is_no_dense_one() {
        let known = v1::VectorField {
            dimension: 2,
            ..Default::default()
        };
        assert!(read_field(&known).is_ok());
        let kind = read_field(&v1::VectorField {
            kind: 77,
            ..known.clone()
        })
        .unwrap_err();
        assert_eq!(kind.to_string(), "kind: 77 is not a kind of vector");
        let fine = read_field(&v1::VectorField { fine: 77, ..known }).unwrap_err();
        assert_eq!(fine.to_string(), "fine: 77 is not a format of rows");
    }

    #[test]
    fn indexes_that_cannot_be_are_refused() {
        let refused = |payload, message: &str| assert_eq!(schema(payload).unwrap_err().to_string(), message);
        refused(vec![field("a", 1), field("a", 2)], "payload[\"a\"]: stands twice");
        refused(
            vec![field("a..b", 1)],
            "payload[\"a..b\"].key: \"a..b\" is no path of a field",
        );
        refused(vec![field("a", 0)], "payload[\"a\"].kind: 0 is not a kind of index");
        let many = (0..=PAYLOAD_INDEXES_MAX)
            .map(|at| field(&format!("k{at}"), 1))
            .collect();
        refused(many, "payload: 65 indexes, at most 64");
        let long = "k".repeat(PAYLOAD_KEY_BYTES_MAX + 1);
        assert!(schema(vec![field(&long, 1)]).is_err());
    }
}
