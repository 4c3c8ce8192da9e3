//! Where does the sealed version of a document lie? A table id -> place over sled, so that ids need not be in memory.
//!
//! It is a cache of what the segments say. A tag names the manifest it belongs to; when the tag is missing or another, or
//! sled is damaged, the table is cleared and read anew from the segments. It is written when a segment is about to be
//! published, never while a command is applied; a place that runs ahead of the segments or names a dead row is harmless,
//! because whoever uses it asks the index whether that row lives. A merge moves rows: the index follows places of old
//! until the table has been brought up to date, which happens beside everything else, a batch at a time, and never over a
//! place that a seal has entered meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use granum_index::{Place, ReadError, SegmentId};
use granum_model::DocId;

use crate::codec::{self, CodecError};
use crate::disk::tree::{Tree, TreeBatch, TreeError};

/// Key of the tag. Keys of documents are encoded ids, which begin with 1, 2 or 3.
const TAG_KEY: &[u8] = &[0];

/// Entries written to sled together.
const BATCH_ENTRIES: usize = 4096;

/// Names a seal: the shard's sequence then, and the digest of its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The shard's sequence at the seal point.
    pub sequence: u64,
    /// Digest of the manifest's frame.
    pub manifest: u64,
}

/// The table of one shard's replica.
#[derive(Debug)]
pub struct Documents {
    tree: Tree,
    /// Whether it is complete as of its tag; otherwise it is asked for nothing.
    ready: AtomicBool,
    /// Whether some places are still those from before a merge: no tag is set meanwhile.
    moving: AtomicBool,
    /// One batch is entered or moved at a time.
    entering: Mutex<()>,
}

/// Where a document lay and lies.
pub type Move = (DocId, Place, Place);

impl Documents {
    /// Takes a tree that may hold the table of an earlier run.
    pub fn new(tree: Tree) -> Documents {
        Documents {
            tree,
            ready: AtomicBool::new(false),
            moving: AtomicBool::new(false),
            entering: Mutex::default(),
        }
    }

    /// Makes the table that of `tag`: as it is where it carries that tag, otherwise anew from `sealed`, all live sealed
    /// documents. Damage that can't be healed leaves the table unused; damage in `sealed` is an error.
    pub fn open(
        &self,
        tag: Tag,
        sealed: impl Iterator<Item = Result<(DocId, Place), ReadError>>,
    ) -> Result<(), ReadError> {
        self.ready.store(false, Ordering::Release);
        self.moving.store(false, Ordering::Release);
        if !matches!(self.tag(), Ok(Some(found)) if found == tag) {
            let filled = self.refill(sealed)?;
            if let Err(error) = filled.and_then(|()| self.write_tag(tag)) {
                tracing::warn!(%error, "the table of documents is not used");
                return Ok(());
            }
        }
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Where the document may lie. `Err` where the table can't be asked: the segments are to be searched.
    pub fn get(&self, id: &DocId) -> Result<Option<Place>, Unready> {
        if !self.ready.load(Ordering::Acquire) {
            return Err(Unready);
        }
        let value = self.tree.get(&id.encode()).map_err(|error| self.distrust(&error))?;
        let place = value.map(|value| decode(&value)).transpose();
        place.map_err(|error| self.distrust(&error))
    }

    /// Enters the documents of a segment that is about to be published.
    pub fn enter<'a>(&self, places: impl Iterator<Item = (&'a DocId, Place)>) {
        let entered = self
            .remove_tag()
            .and_then(|()| self.insert(places.map(|(id, place)| (id.encode(), place))));
        if let Err(error) = entered {
            self.distrust(&error);
        }
    }

    /// A merge is about to be published: until [`end_moving`](Self::end_moving) the table carries no tag.
    pub fn begin_moving(&self) {
        self.moving.store(true, Ordering::Release);
        if let Err(error) = self.remove_tag() {
            self.distrust(&error);
        }
    }

    /// Moves documents whose entries still name the old places, until `stop`. Whether all were moved; damage in `moves`
    /// leaves the table unused.
    pub fn follow(&self, moves: impl Iterator<Item = Result<Move, ReadError>>, stop: &dyn Fn() -> bool) -> bool {
        let mut moves = moves.peekable();
        while moves.peek().is_some() && self.ready.load(Ordering::Acquire) {
            if stop() {
                return false;
            }
            let batch: Result<Vec<Move>, ReadError> = moves.by_ref().take(BATCH_ENTRIES).collect();
            let moved = match &batch {
                Ok(batch) => self.move_batch(batch).map_err(|error| self.distrust(&error)),
                Err(error) => Err(self.distrust(error)),
            };
            if moved.is_err() {
                break;
            }
        }
        true
    }

    fn move_batch(&self, moves: &[Move]) -> Result<(), TreeError> {
        let _entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = TreeBatch::new();
        for (id, old, new) in moves {
            let key = id.encode();
            let found = self.tree.get(&key)?.and_then(|value| decode(&value).ok());
            if found == Some(*old) {
                batch.insert(&key, &encode(*new));
            }
        }
        self.tree.apply(batch)
    }

    /// All places are moved, and the table belongs to this seal.
    pub fn end_moving(&self, tag: Tag) {
        self.moving.store(false, Ordering::Release);
        self.tag_as(tag);
    }

    /// Says to which seal the table belongs, now that all its segments are entered.
    pub fn tag_as(&self, tag: Tag) {
        if self.moving.load(Ordering::Acquire) || !self.ready.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.write_tag(tag) {
            self.distrust(&error);
        }
    }

    /// Empties the table.
    pub fn clear(&self) {
        self.ready.store(false, Ordering::Release);
        self.moving.store(false, Ordering::Release);
        if let Err(error) = self.tree.clear() {
            self.distrust(&error);
        }
    }

    fn refill(
        &self,
        sealed: impl Iterator<Item = Result<(DocId, Place), ReadError>>,
    ) -> Result<Result<(), TreeError>, ReadError> {
        if let Err(error) = self.tree.clear() {
            return Ok(Err(error));
        }
        let mut damage = None;
        let readable = sealed.map_while(|entry| entry.map_err(|error| damage = Some(error)).ok());
        let filled = self.insert(readable.map(|(id, place)| (id.encode(), place)));
        damage.map_or(Ok(filled), Err)
    }

    fn insert(&self, places: impl Iterator<Item = (Vec<u8>, Place)>) -> Result<(), TreeError> {
        let apply = |batch| {
            let _entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
            self.tree.apply(batch)
        };
        let mut batch = TreeBatch::new();
        let mut entries = 0;
        for (key, place) in places {
            batch.insert(&key, &encode(place));
            entries += 1;
            if entries == BATCH_ENTRIES {
                apply(std::mem::take(&mut batch))?;
                entries = 0;
            }
        }
        apply(batch)
    }

    fn tag(&self) -> Result<Option<Tag>, TreeError> {
        let value = self.tree.get(TAG_KEY)?;
        let tag = value.and_then(|value| codec::decode::<(u64, u64)>(&value).ok());
        Ok(tag.map(|(sequence, manifest)| Tag { sequence, manifest }))
    }

    fn write_tag(&self, tag: Tag) -> Result<(), TreeError> {
        let mut batch = TreeBatch::new();
        batch.insert(
            TAG_KEY,
            &codec::encode(&(tag.sequence, tag.manifest)).expect("two numbers are below the bound"),
        );
        self.tree.apply(batch)
    }

    fn remove_tag(&self) -> Result<(), TreeError> {
        self.tree.remove(TAG_KEY)
    }

    /// The table is wrong or unreadable: it is not asked again before it is opened anew.
    fn distrust(&self, error: &dyn std::error::Error) -> Unready {
        if self.ready.swap(false, Ordering::AcqRel) {
            tracing::warn!(%error, "the table of documents is not used until the next start");
        }
        let _ = self.remove_tag();
        Unready
    }
}

fn encode(place: Place) -> Vec<u8> {
    codec::encode(&(place.segment.0, place.row)).expect("two numbers are below the bound")
}

fn decode(value: &[u8]) -> Result<Place, CodecError> {
    let (segment, row) = codec::decode(value)?;
    Ok(Place {
        segment: SegmentId(segment),
        row,
    })
}

/// The table can't be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unready;

#[cfg(test)]
mod tests {
    use crate::disk::tree::{DEFAULT_CACHE_BYTES, Trees};

    use super::*;

    const FIRST: Tag = Tag {
        sequence: 5,
        manifest: 77,
    };
    const SECOND: Tag = Tag {
        sequence: 9,
        manifest: 78,
    };

    fn place(segment: u64, row: u32) -> Place {
        Place {
            segment: SegmentId(segment),
            row,
        }
    }

    fn sealed(ids: std::ops::Range<u64>) -> impl Iterator<Item = Result<(DocId, Place), ReadError>> {
        ids.map(|id| Ok((DocId::Number(id), place(1, id as u32))))
    }

    #[test]
    fn a_table_of_another_seal_is_made_anew_and_its_own_is_kept() {
        let tree = Trees::temporary(DEFAULT_CACHE_BYTES).unwrap().tree("shard").unwrap();
        let documents = Documents::new(tree.clone());
        assert_eq!(documents.get(&DocId::Number(3)), Err(Unready));
        documents.open(FIRST, sealed(0..10_000)).unwrap();
        assert_eq!(documents.get(&DocId::Number(9_999)), Ok(Some(place(1, 9_999))));
        assert_eq!(documents.get(&DocId::Number(10_000)), Ok(None));

        let again = Documents::new(tree.clone());
        again.open(FIRST, std::iter::from_fn(|| panic!("it is there"))).unwrap();
        assert_eq!(again.get(&DocId::Number(3)), Ok(Some(place(1, 3))));

        let other = Documents::new(tree);
        other.open(SECOND, sealed(0..2)).unwrap();
        assert_eq!(other.get(&DocId::Number(3)), Ok(None));
    }

    #[test]
    fn a_seal_that_did_not_end_leaves_no_tag() {
        let tree = Trees::temporary(DEFAULT_CACHE_BYTES).unwrap().tree("shard").unwrap();
        let documents = Documents::new(tree.clone());
        documents.open(FIRST, sealed(0..2)).unwrap();
        documents.enter([(&DocId::Number(1), place(2, 0))].into_iter());
        assert_eq!(documents.get(&DocId::Number(1)), Ok(Some(place(2, 0))));
        Documents::new(tree.clone()).open(FIRST, sealed(0..2)).unwrap();
        assert_eq!(documents.get(&DocId::Number(1)), Ok(Some(place(1, 1))));
        documents.enter([(&DocId::Number(1), place(2, 0))].into_iter());
        documents.tag_as(SECOND);
        Documents::new(tree)
            .open(SECOND, std::iter::from_fn(|| panic!("it is there")))
            .unwrap();
    }

    #[test]
    fn a_merge_moves_what_no_seal_has_entered_since_and_the_tag_waits_for_it() {
        let tree = Trees::temporary(DEFAULT_CACHE_BYTES).unwrap().tree("shard").unwrap();
        let documents = Documents::new(tree.clone());
        documents.open(FIRST, sealed(0..10_000)).unwrap();
        documents.begin_moving();
        let moves = (0..10_000).map(|id| Ok((DocId::Number(id), place(1, id as u32), place(3, id as u32 + 7))));
        documents.enter([(&DocId::Number(5), place(4, 0))].into_iter());
        documents.tag_as(SECOND);
        assert_eq!(documents.tag().unwrap(), None);
        assert!(!documents.follow(moves.clone(), &|| true));
        assert_eq!(documents.get(&DocId::Number(6)), Ok(Some(place(1, 6))));
        assert!(documents.follow(moves, &|| false));
        assert_eq!(documents.get(&DocId::Number(5)), Ok(Some(place(4, 0))));
        assert_eq!(documents.get(&DocId::Number(6)), Ok(Some(place(3, 13))));
        assert_eq!(documents.get(&DocId::Number(9_999)), Ok(Some(place(3, 10_006))));
        documents.end_moving(SECOND);
        assert_eq!(documents.tag().unwrap(), Some(SECOND));
    }

    #[test]
    fn a_damaged_value_makes_the_table_unused() {
        let tree = Trees::temporary(DEFAULT_CACHE_BYTES).unwrap().tree("shard").unwrap();
        let documents = Documents::new(tree.clone());
        documents.open(FIRST, sealed(0..2)).unwrap();
        let mut batch = TreeBatch::new();
        batch.insert(&DocId::Number(1).encode(), b"nonsense");
        tree.apply(batch).unwrap();
        assert_eq!(documents.get(&DocId::Number(1)), Err(Unready));
        assert_eq!(documents.get(&DocId::Number(0)), Err(Unready));
        Documents::new(tree.clone()).open(FIRST, sealed(0..2)).unwrap();
        let again = Documents::new(tree);
        again
            .open(FIRST, std::iter::from_fn(|| panic!("healed above")))
            .unwrap();
        assert_eq!(again.get(&DocId::Number(1)), Ok(Some(place(1, 1))));
    }
}
