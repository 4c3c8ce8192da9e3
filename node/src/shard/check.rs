//! May this be written at all? Operations against schema and range, all of a batch before the first is applied; and what
//! a condition says to the version that stands.

use std::collections::HashSet;
use std::sync::Arc;

use granum_index::Document;
use granum_model::{Dense, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind, scaled};
use granum_proto::convert;
use granum_proto::internal::operation::Kind as OperationKind;
use granum_proto::internal::{Epoch, Operation};
use granum_proto::limits::{Invalid, PAYLOAD_BYTES_MAX, at_most};
use granum_proto::v1::document_write::condition::Kind as Condition;
use granum_proto::v1::{self, Outcome, outcome};

use super::Fault;

/// An operation that the schema allows.
pub(super) struct Checked {
    pub change: Change,
    condition: Option<Condition>,
    only_if: Option<Arc<Filter>>,
}

pub(super) enum Change {
    /// Boxed: a document is large beside an id. Its version is set when it is applied.
    Put(Box<Document>),
    Delete(DocId),
}

impl Change {
    pub fn id(&self) -> &DocId {
        match self {
            Change::Put(document) => &document.id,
            Change::Delete(id) => id,
        }
    }
}

impl Checked {
    pub fn is_conditional(&self) -> bool {
        self.condition.is_some() || self.only_if.is_some()
    }

    /// Why the operation is not taken, where the document stands at version `standing`.
    ///
    /// A delete by filter carries the version at which its document was seen to match, and the filter: the filter is
    /// asked again only where the document has changed since.
    pub fn refusal(
        &self,
        standing: Option<u64>,
        matches: impl FnOnce(&Filter) -> Result<bool, Fault>,
    ) -> Result<Option<Outcome>, Fault> {
        let refused = |reason: String| Outcome {
            kind: outcome::Kind::Refused.into(),
            version: standing.unwrap_or(0),
            reason,
        };
        if standing.is_none() && matches!(self.change, Change::Delete(_)) {
            return Ok(Some(Outcome {
                kind: outcome::Kind::NotFound.into(),
                ..Outcome::default()
            }));
        }
        let seen_version = match self.condition {
            Some(Condition::IfVersion(wanted)) => Some(wanted),
            _ => None,
        };
        if let Some(only_if) = &self.only_if {
            let unchanged = seen_version.is_some() && seen_version == standing;
            let wanted = unchanged || matches(only_if)?;
            return Ok((!wanted).then(|| refused("only_if: the document no longer matches".into())));
        }
        Ok(match self.condition {
            Some(Condition::IfVersion(wanted)) if standing != Some(wanted) => Some(refused(format!(
                "if_version: {wanted}, it is {}",
                standing.unwrap_or(0)
            ))),
            Some(Condition::InsertOnly(true)) if standing.is_some() => Some(refused("insert_only: it exists".into())),
            Some(Condition::UpdateOnly(true)) if standing.is_none() => {
                Some(refused("update_only: there is no such document".into()))
            }
            _ => None,
        })
    }
}

/// Checks every operation before the first is applied. `only_if` is that of operations without one of their own.
pub(super) fn check_batch(
    schema: &Schema,
    epoch: &Epoch,
    operations: Vec<Operation>,
    only_if: Option<v1::Filter>,
) -> Result<Vec<Checked>, Invalid> {
    let only_if = read_only_if(only_if.as_ref())?;
    let mut ordinals = HashSet::with_capacity(operations.len());
    let check = |(at, operation): (usize, Operation)| {
        let within = |error: Invalid| error.within(&format!("operations[{at}]"));
        if !ordinals.insert(operation.ordinal) {
            return Err(within(Invalid::new(
                "ordinal",
                format!("{} stands twice", operation.ordinal),
            )));
        }
        let mut checked = check_operation(schema, epoch, operation).map_err(within)?;
        checked.only_if = checked.only_if.or_else(|| only_if.clone());
        Ok(checked)
    };
    operations.into_iter().enumerate().map(check).collect()
}

fn check_operation(schema: &Schema, epoch: &Epoch, operation: Operation) -> Result<Checked, Invalid> {
    let change = match operation.kind {
        Some(OperationKind::Put(document)) => Change::Put(Box::new(check_document(schema, document)?)),
        Some(OperationKind::Delete(id)) => Change::Delete(convert::id::read(Some(&id))?),
        None => return Err(Invalid::new("kind", "missing")),
    };
    let hash = granum_proto::ids::placement_hash(change.id());
    if !(epoch.range_start..=epoch.range_end).contains(&hash) {
        return Err(Invalid::new("id", format!("{} belongs to another shard", change.id())));
    }
    Ok(Checked {
        change,
        condition: operation.condition.and_then(|condition| condition.kind),
        only_if: read_only_if(operation.only_if.as_ref())?,
    })
}

fn read_only_if(only_if: Option<&v1::Filter>) -> Result<Option<Arc<Filter>>, Invalid> {
    let Some(message) = only_if else { return Ok(None) };
    let filter = convert::filter::read(Some(message)).map_err(|error| error.within("only_if"))?;
    granum_index::check_filter(&filter).map_err(|error| Invalid::new("only_if", error.to_string()))?;
    Ok(Some(Arc::new(filter)))
}

/// Reads a document to be written and checks that the schema allows it: its vectors are canonical, of known fields, and
/// of their shape. Its version is 0.
pub fn check_document(schema: &Schema, document: v1::Document) -> Result<Document, Invalid> {
    let id = convert::id::read(document.id.as_ref())?;
    at_most("payload_json", document.payload_json.len(), PAYLOAD_BYTES_MAX, "bytes")?;
    let mut vectors: Vec<(String, Vector)> = Vec::with_capacity(document.vectors.len());
    for named in document.vectors {
        let path = format!("vectors[{:?}]", named.name);
        let field = schema
            .vector(&named.name)
            .ok_or_else(|| Invalid::new(&path, "no such vector in the collection"))?;
        if vectors.iter().any(|(name, _)| *name == named.name) {
            return Err(Invalid::new(path, "stands twice"));
        }
        let message = named.vector.as_ref().ok_or_else(|| Invalid::new(&path, "missing"))?;
        let vector = convert::vector::read(message).map_err(|error| error.within(&path))?;
        let vector = vector.ok_or_else(|| Invalid::new(&path, "text, which is to be embedded before"))?;
        check_vector(field, &vector).map_err(|error| error.within(&path))?;
        vectors.push((named.name, vector));
    }
    Ok(Document {
        id,
        version: 0,
        payload: Arc::from(&document.payload_json[..]),
        vectors,
    })
}

/// Refuses a vector that has not its field's kind, dimension and format.
pub fn check_vector(field: &VectorField, vector: &Vector) -> Result<(), Invalid> {
    match (field.kind, vector) {
        (VectorKind::Dense { dimension }, Vector::Dense(dense)) => {
            check_dimension(dimension, dense.len() as u64)?;
            check_fine(field.fine, dimension, dense)
        }
        (VectorKind::Multi { dimension }, Vector::Multi { dimension: found, rows }) => {
            check_dimension(dimension, u64::from(*found))?;
            check_fine(field.fine, dimension, rows)
        }
        (VectorKind::Sparse, Vector::Sparse { .. }) => Ok(()),
        (kind, _) => Err(Invalid::new("kind", format!("must be {kind:?}"))),
    }
}

fn check_dimension(wanted: u32, found: u64) -> Result<(), Invalid> {
    match found == u64::from(wanted) {
        true => Ok(()),
        false => Err(Invalid::new(
            "dimension",
            format!("{found}, the collection's is {wanted}"),
        )),
    }
}

fn check_fine(fine: Fine, dimension: u32, dense: &Dense) -> Result<(), Invalid> {
    if dense.fine() != fine.in_memory() {
        return Err(Invalid::new("format", format!("must be {:?}", fine.in_memory())));
    }
    let is_rounded = |row: &[f32]| fine != Fine::I8 || scaled::is_round(row);
    match dense {
        Dense::F32(values) if !values.chunks(dimension as usize).all(is_rounded) => {
            Err(Invalid::new("format", format!("its rows must be rounded to {fine:?}")))
        }
        _ => Ok(()),
    }
}

/// A schema may gain and lose fields; a field that stays must stay as it is.
pub(super) fn check_alteration(present: &Schema, new: Schema) -> Result<Schema, Invalid> {
    let changed = |field: &&VectorField| present.vector(&field.name).is_some_and(|standing| standing != *field);
    match new.vectors.iter().find(changed) {
        Some(field) => Err(Invalid::new(
            format!("vectors[{:?}]", field.name),
            "a field can't be changed, only dropped",
        )),
        None => Ok(new),
    }
}

#[cfg(test)]
mod tests {
    use granum_model::Distance;

    use super::*;

    #[test]
    fn rows_that_a_segment_would_round_are_refused() {
        let kind = VectorKind::Multi { dimension: 2 };
        let field = VectorField::new("v", kind, Distance::Dot, Fine::I8);
        let rows = |values: &[f32]| Vector::Multi {
            dimension: 2,
            rows: Dense::F32(values.to_vec()),
        };
        assert_eq!(check_vector(&field, &rows(&[127.0, 1.0, 0.0, 63.5])), Ok(()));
        let refused = check_vector(&field, &rows(&[127.0, 1.0, 1.0, 0.3])).unwrap_err();
        assert!(refused.to_string().contains("must be rounded to I8"), "{refused}");
        let half = Vector::Multi {
            dimension: 2,
            rows: Dense::F16(vec![0; 2]),
        };
        let refused = check_vector(&field, &half).unwrap_err();
        assert!(refused.to_string().contains("must be F32"), "{refused}");
    }
}
