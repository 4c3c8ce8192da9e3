//! Several changes as one: what readers see of a batch is all of it or nothing.

use std::sync::{Arc, RwLockWriteGuard};

use granum_model::{DocId, Schema};

use crate::document::{Document, PAYLOAD_BYTES_MAX, Place};
use crate::error::InsertError;
use crate::metric::fits;
use crate::state::State;

/// Several changes that readers see at once. Holds the write lock: keep it for a batch, not longer.
pub struct Writer<'a> {
    pub(crate) state: RwLockWriteGuard<'a, Arc<State>>,
}

impl Writer<'_> {
    /// As [`Index::insert`](crate::Index::insert).
    pub fn insert(&mut self, document: Document, sealed: Option<Place>) -> Result<bool, InsertError> {
        check_document(&self.state.schema, &document)?;
        Ok(Arc::make_mut(&mut self.state).insert(document, sealed))
    }

    /// As [`Index::delete`](crate::Index::delete).
    pub fn delete(&mut self, id: &DocId, sealed: Option<Place>) -> bool {
        Arc::make_mut(&mut self.state).delete(id, sealed)
    }
}

/// Whether a document is canonical, as far as its shape goes.
fn check_document(schema: &Schema, document: &Document) -> Result<(), InsertError> {
    if document.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(InsertError::Payload {
            bytes: document.payload.len(),
            limit: PAYLOAD_BYTES_MAX,
        });
    }
    for (at, (name, vector)) in document.vectors.iter().enumerate() {
        let unknown = || InsertError::UnknownVector { name: name.clone() };
        let field = schema.vector(name).ok_or_else(unknown)?;
        let is_repeated = document.vectors[..at].iter().any(|(other, _)| other == name);
        if is_repeated || !fits(field, vector) {
            return Err(InsertError::Shape {
                name: name.clone(),
                kind: field.kind,
            });
        }
    }
    Ok(())
}
