//! Deaths follow the rows: dead rows of a merge's sources, told in rows of the merged segment.
//!
//! Bitmaps of dead rows only grow, so what was carried once need not be carried again.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::{Live, State};
use crate::segment::merge::Source;

/// Which dead rows of each source have been carried over, and what they are called now.
#[derive(Clone)]
pub(crate) struct Carried {
    /// One a source.
    seen: Vec<Arc<RoaringBitmap>>,
    pub dead: RoaringBitmap,
}

impl Carried {
    /// What the merge left out needs no carrying.
    pub fn none(sources: &[Source]) -> Carried {
        Carried {
            seen: sources.iter().map(|source| source.excluded.clone()).collect(),
            dead: RoaringBitmap::new(),
        }
    }

    /// With the dead rows that `dead_of` tells of each source; `None`: all of them.
    pub fn and(&self, sources: &[Source], dead_of: impl Fn(&Source) -> Option<Arc<RoaringBitmap>>) -> Carried {
        let mut carried = self.clone();
        for (source, seen) in sources.iter().zip(&mut carried.seen) {
            let dead = dead_of(source).unwrap_or_else(|| Arc::new((0..source.segment.rows).collect()));
            if !Arc::ptr_eq(&dead, seen) {
                let died = &*dead - &**seen;
                carried
                    .dead
                    .extend(died.iter().filter_map(|row| source.new_rows.new_row(row)));
                *seen = dead;
            }
        }
        carried
    }
}

impl State {
    /// Dead rows of a source as of the newest seal; `None`: the seal found all of them dead and dropped it.
    pub fn dead_at_seal(&self, source: &Source) -> Option<Arc<RoaringBitmap>> {
        self.live(source).map(|live| live.saved.dead.clone())
    }

    /// Dead rows of a source now.
    pub fn dead_now(&self, source: &Source) -> Option<Arc<RoaringBitmap>> {
        self.live(source).map(|live| live.dead.clone())
    }

    fn live(&self, source: &Source) -> Option<&Live> {
        self.segments.iter().find(|live| live.segment.id == source.segment.id)
    }
}
