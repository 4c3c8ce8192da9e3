//! Documents not yet sealed: kept in memory, searched exactly.
//!
//! A view must not change under its reader and a write must not copy everything, so all of it is copy-on-write in small
//! pieces: rows in chunks, ids in shards, the dead in a bitmap. A writer copies a piece only while a view still holds it,
//! which bounds a write by one chunk, one shard and the bitmap. A death leaves its row in place until the freeze.
//!
//! A chunk that is full changes no more. It gets codes of its vectors, by whoever filled it and beside all locks, and is
//! scanned by those from then on ([`crate::coarse::chunk`]).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use granum_model::{Dense, DocId, Schema, Vector, VectorField};
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

use crate::coarse::chunk::{ChunkCodes, Coder};
use crate::document::Document;
use crate::metric::fits;
use crate::options::Options;

/// Rows of a chunk: what a write copies at most, as pointers.
pub(crate) const CHUNK_ROWS: usize = 256;
/// Shards of the id map: a write copies one at most.
const ID_SHARDS: usize = 256;

#[derive(Default)]
struct Chunk {
    documents: Vec<Arc<Document>>,
    /// By vector, once it is full.
    codes: OnceLock<Vec<(String, ChunkCodes)>>,
}

impl Clone for Chunk {
    /// A copy to be written to: it has no codes yet.
    fn clone(&self) -> Chunk {
        Chunk {
            documents: self.documents.clone(),
            codes: OnceLock::new(),
        }
    }
}

/// Invariants: `by_id` names exactly the rows that are not in `dead`; rows are dense from 0.
#[derive(Clone)]
pub(crate) struct Recent {
    chunks: Vec<Arc<Chunk>>,
    rows: u32,
    dead: Arc<RoaringBitmap>,
    by_id: Vec<Arc<BTreeMap<DocId, u32>>>,
    bytes: u64,
}

impl Recent {
    pub fn new() -> Recent {
        Recent {
            chunks: Vec::new(),
            rows: 0,
            dead: Arc::default(),
            by_id: vec![Arc::default(); ID_SHARDS],
            bytes: 0,
        }
    }

    /// Adds a document whose id has no live row here.
    pub fn push(&mut self, document: Document) {
        let row = self.rows;
        self.bytes += document.memory_bytes();
        let older = Arc::make_mut(&mut self.by_id[shard(&document.id)]).insert(document.id.clone(), row);
        assert!(
            older.is_none(),
            "row {older:?} and row {row} would both be {:?}",
            document.id
        );
        if (self.rows as usize).is_multiple_of(CHUNK_ROWS) {
            self.chunks.push(Arc::default());
        }
        let chunk = self
            .chunks
            .last_mut()
            .expect("a chunk was pushed for the first of its rows");
        Arc::make_mut(chunk).documents.push(Arc::new(document));
        self.rows += 1;
    }

    /// Whether a live row of that id died.
    pub fn remove(&mut self, id: &DocId) -> bool {
        let shard = &mut self.by_id[shard(id)];
        if !shard.contains_key(id) {
            return false;
        }
        let row = Arc::make_mut(shard).remove(id).expect("the key was just seen");
        Arc::make_mut(&mut self.dead).insert(row)
    }

    pub fn get(&self, id: &DocId) -> Option<&Arc<Document>> {
        self.by_id[shard(id)].get(id).map(|row| self.document(*row))
    }

    /// The document at `row`, dead or alive.
    pub fn document(&self, row: u32) -> &Arc<Document> {
        &self.chunks[row as usize / CHUNK_ROWS].documents[row as usize % CHUNK_ROWS]
    }

    /// Live rows in order.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Arc<Document>)> {
        self.live_without(&[])
    }

    /// Live rows in order, but for those of some chunks, by ascending number.
    pub fn live_without(&self, chunks: &[usize]) -> impl Iterator<Item = (u32, &Arc<Document>)> {
        let left = (0..self.chunks.len()).filter(|number| chunks.binary_search(number).is_err());
        let rows = left.flat_map(|number| {
            let first = (number * CHUNK_ROWS) as u32;
            (first..).zip(&self.chunks[number].documents)
        });
        rows.filter(|(row, _)| !self.dead.contains(*row))
    }

    /// Makes the codes that full chunks lack. For the writer, on a pinned copy: readers of others get them too.
    pub fn encode(&self, schema: &Schema, options: Options) {
        let is_full = |chunk: &&Arc<Chunk>| chunk.documents.len() == CHUNK_ROWS;
        let mut full = self.chunks.iter().filter(is_full).rev();
        let lacking: Vec<&Arc<Chunk>> = full.by_ref().take_while(|chunk| chunk.codes.get().is_none()).collect();
        if lacking.is_empty() {
            return;
        }
        let coders: Vec<(&VectorField, Arc<Coder>)> = schema
            .vectors
            .iter()
            .filter_map(|field| Some((field, self.coder(field, options)?)))
            .collect();
        for chunk in lacking.into_iter().rev() {
            chunk.codes.get_or_init(|| {
                let coded = |(field, coder): &(&VectorField, Arc<Coder>)| {
                    let rows: Option<Vec<&Dense>> = chunk.documents.iter().map(|own| dense(own, field)).collect();
                    let codes = ChunkCodes::encode(coder.clone(), rows?.into_iter());
                    Some((field.name.clone(), codes))
                };
                coders.iter().filter_map(coded).collect()
            });
        }
    }

    /// What makes the codes of a field: that of a chunk which has some, where it is the same.
    fn coder(&self, field: &VectorField, options: Options) -> Option<Arc<Coder>> {
        let coder = Coder::new(field, options)?;
        let mut known = self.chunks.iter().filter_map(|chunk| chunk.codes_of(&field.name));
        let known = known.find(|codes| codes.coder().is_same(&coder));
        Some(known.map_or_else(|| Arc::new(coder), |codes| codes.coder().clone()))
    }

    /// Chunks that have codes of a vector, all of one coder: their numbers, and those.
    pub fn coded(&self, name: &str) -> (Vec<usize>, Vec<&ChunkCodes>) {
        let mut coder: Option<&Arc<Coder>> = None;
        let chunks = self.chunks.iter().enumerate();
        let coded = chunks.filter_map(|(number, chunk)| Some((number, chunk.codes_of(name)?)));
        let alike = coded.filter(|(_, codes)| coder.get_or_insert(codes.coder()).is_same(codes.coder()));
        alike.unzip()
    }

    /// Rows, dead ones included.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    pub fn dead(&self) -> &Arc<RoaringBitmap> {
        &self.dead
    }

    pub fn live_rows(&self) -> u64 {
        u64::from(self.rows) - self.dead.len()
    }

    /// Memory of all rows, dead ones and codes included, about.
    pub fn bytes(&self) -> u64 {
        let codes = self.chunks.iter().filter_map(|chunk| chunk.codes.get()).flatten();
        self.bytes + codes.map(|(_, codes)| codes.bytes()).sum::<u64>()
    }
}

impl Chunk {
    fn codes_of(&self, name: &str) -> Option<&ChunkCodes> {
        let mut codes = self.codes.get()?.iter();
        codes.find(|(own, _)| own == name).map(|(_, codes)| codes)
    }
}

/// The dense vector of a document in that field, if it is as the field says.
fn dense<'a>(document: &'a Document, field: &VectorField) -> Option<&'a Dense> {
    match document.vector(&field.name)? {
        vector @ Vector::Dense(dense) if fits(field, vector) => Some(dense),
        _ => None,
    }
}

fn shard(id: &DocId) -> usize {
    xxh3_64(&id.encode()) as usize % ID_SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: u64, version: u64) -> Document {
        Document {
            id: DocId::Number(id),
            version,
            payload: Arc::from(&b"{}"[..]),
            vectors: Vec::new(),
        }
    }

    #[test]
    fn a_pinned_copy_does_not_see_later_writes() {
        let mut recent = Recent::new();
        for id in 0..600 {
            recent.push(document(id, id));
        }
        let pinned = recent.clone();
        assert!(recent.remove(&DocId::Number(5)) && !recent.remove(&DocId::Number(5)));
        recent.push(document(5, 1000));
        recent.push(document(601, 1001));
        assert_eq!(pinned.live_rows(), 600);
        assert_eq!(pinned.get(&DocId::Number(5)).unwrap().version, 5);
        assert!(pinned.get(&DocId::Number(601)).is_none());
        assert_eq!(recent.live_rows(), 601);
        assert_eq!(recent.get(&DocId::Number(5)).unwrap().version, 1000);
        assert_eq!(recent.live().count(), 601);
    }
}
