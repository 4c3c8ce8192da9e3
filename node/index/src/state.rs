//! What an index holds at one moment: `recent`, the sealing parts, the segments with their dead rows. How does it change?
//!
//! A state is copy-on-write in small pieces, so that a view is one `Arc` and a write copies little. Pure memory: files are
//! written by `Index::build` and `Index::merge` from a pinned state, and enter by [`State::publish`] and
//! [`State::publish_merged`].

pub(crate) mod carry;
pub(crate) mod merged;

use std::collections::BTreeMap;
use std::sync::Arc;

use granum_model::{DocId, Schema};
use roaring::RoaringBitmap;

use crate::coarse::Widening;
use crate::document::{Document, Place, SegmentId};
use crate::recent::Recent;
use crate::segment::{FileRef, Segment, SegmentRef};
use merged::Forward;

/// Invariant: of all parts' rows of one id, at most one is alive, provided that callers' places are right.
#[derive(Clone)]
pub(crate) struct State {
    pub schema: Arc<Schema>,
    pub recent: Recent,
    /// In the order of freezing, which is the order of building.
    pub sealing: Vec<Sealing>,
    pub segments: Vec<Live>,
    /// The schema at the newest seal.
    pub sealed_schema: Arc<Schema>,
    /// Rows that merges have moved, until the caller's table of places is up to date.
    pub forwards: Vec<Forward>,
    /// What was learned of walks, by vector and wanted recall in thousandths; not kept on disk.
    pub widenings: Arc<BTreeMap<String, BTreeMap<u16, Widening>>>,
    /// Parts and merges published: what was prepared before one of them was published may not be published after it.
    pub seals: u64,
    pub merges: u64,
}

/// A `recent` that takes no more documents, on its way to become a segment. Deaths still reach it.
#[derive(Clone)]
pub(crate) struct Sealing {
    pub id: SegmentId,
    pub recent: Recent,
    /// Rows that were dead at the freeze: no part of the segment.
    pub dead_at_freeze: Arc<RoaringBitmap>,
    pub schema: Arc<Schema>,
    /// Dead rows of each segment (and of each earlier sealing part, by the rows it had then) at the freeze.
    pub captured: Vec<(SegmentId, Arc<RoaringBitmap>)>,
}

/// A segment and its dead rows.
#[derive(Clone)]
pub(crate) struct Live {
    pub segment: Arc<Segment>,
    pub dead: Arc<RoaringBitmap>,
    /// What of them is on disk, and where.
    pub saved: Saved,
}

/// What the newest seal says: which rows were dead, and the file that holds them. Bitmaps only grow, so their length says
/// whether it is up to date.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    pub dead: Arc<RoaringBitmap>,
    /// Sum of the digests of those.
    pub dead_digest: u64,
    /// With its generation; `None`: no row was dead.
    pub file: Option<(u64, FileRef)>,
}

impl Saved {
    /// The segment as of the seal, for a manifest.
    pub fn reference(&self, segment: &Segment) -> SegmentRef {
        let (deleted, file) = self.file.clone().unzip();
        SegmentRef {
            id: segment.id,
            rows: segment.rows,
            live_rows: segment.rows - self.dead.len() as u32,
            digest: segment.digest,
            dead_digest: self.dead_digest,
            deleted,
            files: segment.files.iter().cloned().chain(file).collect(),
        }
    }
}

impl Live {
    pub fn live_rows(&self) -> u64 {
        u64::from(self.segment.rows) - self.dead.len()
    }

    fn kill(&mut self, row: u32) -> bool {
        row < self.segment.rows && !self.dead.contains(row) && Arc::make_mut(&mut self.dead).insert(row)
    }
}

impl Sealing {
    /// Dead rows of a segment at the freeze.
    pub fn captured_of(&self, segment: SegmentId) -> Option<&Arc<RoaringBitmap>> {
        let captured = self.captured.iter().find(|(id, _)| *id == segment);
        captured.map(|(_, dead)| dead)
    }

    /// Documents of the segment to be, in the order of its rows.
    pub fn documents(&self) -> Vec<Arc<Document>> {
        let rows = 0..self.recent.rows();
        rows.filter(|row| !self.dead_at_freeze.contains(*row))
            .map(|row| self.recent.document(row).clone())
            .collect()
    }

    /// Dead rows of the segment to be, out of the dead rows of the sealing part.
    fn dead_in_segment(&self, dead: &RoaringBitmap) -> RoaringBitmap {
        let died_since = dead - &*self.dead_at_freeze;
        died_since
            .iter()
            .map(|row| row - self.dead_at_freeze.rank(row) as u32)
            .collect()
    }
}

impl State {
    pub fn insert(&mut self, document: Document, sealed: Option<Place>) -> bool {
        let replaced = self.delete(&document.id, sealed);
        self.recent.push(document);
        replaced
    }

    /// Whether a live row died.
    pub fn delete(&mut self, id: &DocId, sealed: Option<Place>) -> bool {
        let mut died = self.recent.remove(id);
        for part in &mut self.sealing {
            died |= part.recent.remove(id);
        }
        if let Some(place) = sealed.map(|place| self.follow(place)) {
            let segment = self.segments.iter_mut().find(|live| live.segment.id == place.segment);
            died |= segment.is_some_and(|live| live.kill(place.row));
        }
        died
    }

    pub fn freeze(&mut self, id: SegmentId) {
        let newest = self
            .segments
            .iter()
            .map(|live| live.segment.id)
            .chain(self.sealing.iter().map(|part| part.id));
        assert!(newest.max() < Some(id), "segment {id} is not newer than all others");
        let segments = self.segments.iter().map(|live| (live.segment.id, live.dead.clone()));
        let sealing = self.sealing.iter().map(|part| (part.id, part.recent.dead().clone()));
        let captured = segments.chain(sealing).collect();
        let recent = std::mem::replace(&mut self.recent, Recent::new());
        let (dead_at_freeze, schema) = (recent.dead().clone(), self.schema.clone());
        self.sealing.push(Sealing {
            id,
            recent,
            dead_at_freeze,
            schema,
            captured,
        });
    }

    /// The oldest sealing part becomes `built`, with the deaths that came since its freeze; `saved` are the files of dead
    /// rows written with it, `dropped` the segments that had no live row left.
    pub fn publish(&mut self, built: Option<Arc<Segment>>, saved: &[(SegmentId, Saved)], dropped: &[SegmentId]) {
        let part = self.sealing.remove(0);
        self.sealed_schema = part.schema.clone();
        self.seals += 1;
        for later in &mut self.sealing {
            for (id, dead) in &mut later.captured {
                if *id == part.id {
                    *dead = Arc::new(part.dead_in_segment(dead));
                }
            }
        }
        for live in &mut self.segments {
            if let Some((_, saved)) = saved.iter().find(|(id, _)| *id == live.segment.id) {
                live.saved = saved.clone();
            }
        }
        self.segments.retain(|live| !dropped.contains(&live.segment.id));
        if let Some(segment) = built {
            assert_eq!(segment.id, part.id, "another part's segment");
            let dead = Arc::new(part.dead_in_segment(part.recent.dead()));
            self.segments.push(Live {
                segment,
                dead,
                saved: Saved::default(),
            });
        }
    }
}
