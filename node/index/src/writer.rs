//! Several changes as one: what readers see of a batch is all of it or nothing.

use std::sync::{Arc, RwLockWriteGuard};

use granum_model::{DocId, Schema};

use crate::document::{Document, PAYLOAD_BYTES_MAX, Place};
use crate::error::InsertError;
use crate::metric::fits;
use crate::options::Options;
use crate::state::State;

/// Several changes that readers see at once. Holds the write lock: keep it for a batch, not longer. When it is dropped, readers
/// see the batch; then codes are made of what it has filled.
pub struct Writer<'a> {
    /// There until it is dropped.
    state: Option<RwLockWriteGuard<'a, Arc<State>>>,
    options: Options,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        let pinned = Arc::clone(&state);
        drop(state);
        pinned.recent.encode(&pinned.schema, self.options);
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn new(state: RwLockWriteGuard<'a, Arc<State>>, options: Options) -> Writer<'a> {
        Writer {
            state: Some(state),
            options,
        }
    }

    fn state(&mut self) -> &mut Arc<State> {
        self.state.as_mut().expect("only the drop takes it")
    }

    /// As [`Index::insert`](crate::Index::insert).
    pub fn insert(&mut self, document: Document, sealed: Option<Place>) -> Result<bool, InsertError> {
        check_document(&self.state().schema, &document)?;
        Ok(Arc::make_mut(self.state()).insert(document, sealed))
    }

    /// As [`Index::delete`](crate::Index::delete).
    pub fn delete(&mut self, id: &DocId, sealed: Option<Place>) -> bool {
        Arc::make_mut(self.state()).delete(id, sealed)
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
