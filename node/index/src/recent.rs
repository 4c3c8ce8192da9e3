//! Documents not yet sealed: kept in memory, searched exactly.
//!
//! A view must not change under its reader and a write must not copy everything, so all of it is copy-on-write in small
//! pieces: rows in chunks, ids in shards, the dead in a bitmap. A writer copies a piece only while a view still holds it,
//! which bounds a write by one chunk, one shard and the bitmap. A death leaves its row in place until the freeze.

use std::collections::BTreeMap;
use std::sync::Arc;

use granum_model::DocId;
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

use crate::document::Document;

/// Rows of a chunk: what a write copies at most, as pointers.
const CHUNK_ROWS: usize = 256;
/// Shards of the id map: a write copies one at most.
const ID_SHARDS: usize = 256;

type Chunk = Vec<Arc<Document>>;

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
            self.chunks.push(Arc::new(Vec::with_capacity(CHUNK_ROWS)));
        }
        let chunk = self
            .chunks
            .last_mut()
            .expect("a chunk was pushed for the first of its rows");
        Arc::make_mut(chunk).push(Arc::new(document));
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
        &self.chunks[row as usize / CHUNK_ROWS][row as usize % CHUNK_ROWS]
    }

    /// Live rows in order.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Arc<Document>)> {
        let rows = self.chunks.iter().flat_map(|chunk| chunk.iter());
        (0..).zip(rows).filter(|(row, _)| !self.dead.contains(*row))
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

    /// Memory of all rows, dead ones included, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
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
