//! A merged segment takes the place of its sources.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::carry::Carried;
use super::{Live, Saved, Sealing, State};
use crate::document::{Place, SegmentId};
use crate::segment::Segment;
use crate::segment::merge::{RowMap, Source};

/// Where the rows of a merged segment went, for callers whose tables still name them.
#[derive(Clone)]
pub(crate) struct Forward {
    pub from: SegmentId,
    pub to: SegmentId,
    pub new_rows: Arc<RowMap>,
}

/// What a merge brings: prepared while nobody waited, up to deaths that came after.
pub(crate) struct Incoming<'a> {
    pub id: SegmentId,
    pub sources: &'a [Source],
    /// `None`: no row lived at the seal.
    pub segment: Option<Arc<Segment>>,
    /// What the manifest says of it.
    pub saved: Saved,
    /// Deaths up to the preparation,
    pub now: Carried,
    /// and up to the freeze of each part that was sealing then.
    pub frozen: Vec<(SegmentId, Carried)>,
}

impl State {
    /// Whether a segment is among the sources.
    fn is_source(sources: &[Source], id: SegmentId) -> bool {
        sources.iter().any(|source| source.segment.id == id)
    }

    /// Segments with `merged` in the place of the first of its sources.
    pub fn replaced<'a, T>(
        &'a self,
        sources: &[Source],
        mut merged: Option<T>,
        other: impl Fn(&'a Live) -> T,
    ) -> Vec<T> {
        let mut segments = Vec::with_capacity(self.segments.len());
        for live in &self.segments {
            match Self::is_source(sources, live.segment.id) {
                true => segments.extend(merged.take()),
                false => segments.push(other(live)),
            }
        }
        segments.extend(merged);
        segments
    }

    /// The merged segment takes over: its dead rows, and those that sealing parts remember, are the sources'.
    pub fn publish_merged(&mut self, incoming: Incoming<'_>) {
        let (id, sources) = (incoming.id, incoming.sources);
        let at_freeze = |part: &Sealing| {
            let known = incoming.frozen.iter().find(|(id, _)| *id == part.id);
            let captured = |source: &Source| part.captured_of(source.segment.id).cloned();
            match known {
                Some((_, carried)) => carried.dead.clone(),
                None => incoming.now.and(sources, captured).dead,
            }
        };
        let captured: Vec<RoaringBitmap> = self.sealing.iter().map(at_freeze).collect();
        for (part, dead) in self.sealing.iter_mut().zip(captured) {
            part.captured.retain(|(own, _)| !Self::is_source(sources, *own));
            if incoming.segment.is_some() {
                part.captured.push((id, Arc::new(dead)));
            }
        }
        let dead = incoming.now.and(sources, |source| self.dead_now(source)).dead;
        let live = incoming.segment.map(|segment| Live {
            segment,
            dead: Arc::new(dead),
            saved: incoming.saved,
        });
        self.segments = self.replaced(sources, live, Live::clone);
        self.forwards.extend(sources.iter().map(|source| Forward {
            from: source.segment.id,
            to: id,
            new_rows: source.new_rows.clone(),
        }));
        self.merges += 1;
    }

    /// Where a row is now, if merges have moved it.
    pub fn follow(&self, mut place: Place) -> Place {
        // Each step leads to a segment merged later; so it ends.
        while let Some(forward) = self.forwards.iter().find(|forward| forward.from == place.segment) {
            let Some(row) = forward.new_rows.new_row(place.row) else {
                break;
            };
            place = Place {
                segment: forward.to,
                row,
            };
        }
        place
    }

    /// Nobody names rows of the sources of `merged` any more.
    pub fn forget_moved(&mut self, merged: SegmentId) {
        let is_needed = |own: &Forward| self.forwards.iter().any(|earlier| earlier.to == own.from);
        let kept = self.forwards.iter().filter(|own| own.to != merged || is_needed(own));
        self.forwards = kept.cloned().collect();
    }
}
