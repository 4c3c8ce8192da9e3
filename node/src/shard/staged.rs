//! What does a command read, and what is to be written once it has been decided? The index as the core's [`Store`].
//!
//! Reads go to a pinned view and to what the same command has staged before; effects are only collected. They reach the
//! index together ([`Effects::commit`]), so readers see all of a batch or nothing, and a fault half way changes nothing.

use std::collections::HashMap;

use granum_index::{Document, Index, Place, View};
use granum_model::{DocId, Filter, Schema};

use super::Fault;
use super::core::Store;
use super::documents::{Documents, Unready};

/// Reads and stages for one command.
pub struct Staged<'a> {
    view: View,
    documents: Option<&'a Documents>,
    effects: Effects,
    /// Position in `effects.changes` of the last change of each id.
    last: HashMap<DocId, usize>,
}

/// What a command does to the index, in order.
#[derive(Default)]
pub struct Effects {
    changes: Vec<Change>,
    schema: Option<Schema>,
}

/// `sealed`: the place of the document's sealed version, where it has one.
enum Change {
    Put { document: Document, sealed: Option<Place> },
    Delete { id: DocId, sealed: Option<Place> },
}

/// The live version of a document before this command.
struct Standing {
    version: u64,
    sealed: Option<Place>,
}

impl<'a> Staged<'a> {
    /// Reads from `view`. Nothing may be published until the effects are committed.
    pub fn new(view: View, documents: Option<&'a Documents>) -> Staged<'a> {
        Staged {
            view,
            documents,
            effects: Effects::default(),
            last: HashMap::new(),
        }
    }

    /// What is to be written; lets go of the view, which a writer would have to copy around.
    pub fn into_effects(self) -> Effects {
        self.effects
    }

    fn standing(&self, id: &DocId) -> Result<Option<Standing>, Fault> {
        if let Some(document) = self.view.recent(id) {
            return Ok(Some(Standing {
                version: document.version,
                sealed: None,
            }));
        }
        let place = match self.documents.map_or(Err(Unready), |documents| documents.get(id)) {
            Ok(place) => place,
            Err(Unready) => self.view.find(id)?,
        };
        let Some(place) = place else { return Ok(None) };
        match self.view.sealed_id(place)? {
            Some((found, version)) if found == *id => Ok(Some(Standing {
                version,
                sealed: Some(place),
            })),
            Some((found, _)) => Err(Fault::new(format!("the table of documents names {found} for {id}"))),
            None => Ok(None),
        }
    }

    fn stage(&mut self, id: DocId, change: Change) {
        self.last.insert(id, self.effects.changes.len());
        self.effects.changes.push(change);
    }

    fn staged(&self, id: &DocId) -> Option<&Change> {
        self.last.get(id).map(|at| &self.effects.changes[*at])
    }

    /// Where the version lies that this change is the first of the command to replace.
    fn sealed(&self, id: &DocId) -> Result<Option<Place>, Fault> {
        match self.last.contains_key(id) {
            true => Ok(None),
            false => Ok(self.standing(id)?.and_then(|standing| standing.sealed)),
        }
    }
}

impl Store for Staged<'_> {
    fn version(&self, id: &DocId) -> Result<Option<u64>, Fault> {
        match self.staged(id) {
            Some(Change::Put { document, .. }) => Ok(Some(document.version)),
            Some(Change::Delete { .. }) => Ok(None),
            None => Ok(self.standing(id)?.map(|standing| standing.version)),
        }
    }

    fn matches(&self, id: &DocId, filter: &Filter) -> Result<bool, Fault> {
        let matches = |document: &Document| granum_index::matches(document, filter).map_err(Fault::new);
        match self.staged(id) {
            Some(Change::Put { document, .. }) => return matches(document),
            Some(Change::Delete { .. }) => return Ok(false),
            None => {}
        }
        let hint = self.documents.and_then(|documents| documents.get(id).ok().flatten());
        match self.view.get(id, hint)? {
            Some(document) => matches(&document),
            None => Ok(false),
        }
    }

    fn put(&mut self, document: Document) -> Result<(), Fault> {
        let sealed = self.sealed(&document.id)?;
        self.stage(document.id.clone(), Change::Put { document, sealed });
        Ok(())
    }

    fn delete(&mut self, id: &DocId) -> Result<bool, Fault> {
        let (existed, sealed) = match self.staged(id) {
            Some(Change::Put { .. }) => (true, None),
            Some(Change::Delete { .. }) => (false, None),
            None => match self.standing(id)? {
                Some(standing) => (true, standing.sealed),
                None => (false, None),
            },
        };
        if existed {
            self.stage(id.clone(), Change::Delete { id: id.clone(), sealed });
        }
        Ok(existed)
    }

    fn alter(&mut self, schema: &Schema) -> Result<(), Fault> {
        self.effects.schema = Some(schema.clone());
        Ok(())
    }
}

impl Effects {
    /// Brings the effects into the index, where readers see them together.
    pub fn commit(self, index: &Index) -> Result<(), Fault> {
        if let Some(schema) = self.schema {
            index.alter(schema);
        }
        if self.changes.is_empty() {
            return Ok(());
        }
        let mut writer = index.write();
        for change in self.changes {
            match change {
                Change::Put { document, sealed } => {
                    writer
                        .insert(document, sealed)
                        .map_err(|error| Fault::new(format!("a checked document: {error}")))?;
                }
                Change::Delete { id, sealed } => {
                    writer.delete(&id, sealed);
                }
            }
        }
        Ok(())
    }
}
