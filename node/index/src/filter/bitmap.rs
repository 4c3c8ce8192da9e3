//! Which rows of a segment pass a filter: remembered, since neither a segment nor a filter changes.
//!
//! A bitmap of rows, dead ones included, and for each vector that was searched under the filter the [`Places`] that may be
//! hits: without dead rows, hence made again when more have died. Bounded by entries and by bytes; the entry that was asked
//! for longest ago goes first.

use std::sync::{Arc, Mutex, PoisonError};

use granum_model::Filter;
use roaring::RoaringBitmap;

use crate::coarse::Places;
use crate::segment::VectorFile;

/// Most filters remembered for one segment.
const ENTRIES_MAX: usize = 32;
/// Most bytes of their bitmaps, serialized, and places for one segment: about 8 filters of a segment of 4 million rows.
const BYTES_MAX: usize = 8 << 20;

struct Entry {
    filter: Filter,
    rows: Arc<RoaringBitmap>,
    made: Vec<Made>,
}

/// Made for the vector of that number when those rows were dead.
#[derive(Clone)]
struct Made {
    vector: usize,
    dead: Arc<RoaringBitmap>,
    places: Arc<Places>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.rows.serialized_size() + self.made.iter().map(|made| made.places.bytes()).sum::<usize>()
    }
}

/// Newest last.
#[derive(Default)]
pub(crate) struct FilterCache {
    entries: Mutex<Vec<Entry>>,
}

impl FilterCache {
    pub fn get(&self, filter: &Filter) -> Option<Arc<RoaringBitmap>> {
        self.with(filter, |entry| entry.rows.clone())
    }

    pub fn put(&self, filter: &Filter, rows: Arc<RoaringBitmap>) {
        let made = Vec::new();
        let entry = Entry {
            filter: filter.clone(),
            rows,
            made,
        };
        if entry.bytes() > BYTES_MAX {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.filter != *filter);
        entries.push(entry);
        shrink(&mut entries);
    }

    /// Places of a vector whose rows pass a filter that is remembered, and are not `dead`.
    pub fn places(&self, filter: &Filter, file: &VectorFile, dead: &Arc<RoaringBitmap>) -> Option<Arc<Places>> {
        let vector = file.number();
        let (rows, made) = self.with(filter, |entry| {
            let made = entry.made.iter().find(|made| made.vector == vector);
            (entry.rows.clone(), made.cloned())
        })?;
        let places = match made {
            Some(made) if Arc::ptr_eq(&made.dead, dead) || *made.dead == **dead => return Some(made.places),
            // Rows die and never come back, but a view may be older than what another one has left here.
            Some(made) if made.dead.is_subset(dead) => Places::clone(&made.places).less(file, &(&**dead - &*made.dead)),
            _ => Places::of(file, &(&*rows - &**dead)),
        };
        let places = Arc::new(places);
        let (dead, kept) = (dead.clone(), places.clone());
        let made = Made {
            vector,
            dead,
            places: kept,
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.filter == *filter) {
            entry.made.retain(|made| made.vector != vector);
            entry.made.push(made);
            shrink(&mut entries);
        }
        Some(places)
    }

    /// What `take` takes of a filter's entry, which becomes the newest.
    fn with<T>(&self, filter: &Filter, take: impl FnOnce(&Entry) -> T) -> Option<T> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|entry| entry.filter == *filter)?;
        entries[at..].rotate_left(1);
        entries.last().map(take)
    }
}

/// Forgets the oldest until all are within the bounds.
fn shrink(entries: &mut Vec<Entry>) {
    while entries.len() > ENTRIES_MAX || entries.iter().map(Entry::bytes).sum::<usize>() > BYTES_MAX {
        entries.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use granum_model::Condition;

    #[test]
    fn the_least_asked_for_goes_first() {
        let filter = |at: usize| Filter {
            must: vec![Condition::IsNull { key: format!("k{at}") }],
            ..Filter::default()
        };
        let cache = FilterCache::default();
        for at in 0..ENTRIES_MAX {
            cache.put(&filter(at), Arc::new(RoaringBitmap::from_iter([at as u32])));
        }
        assert!(cache.get(&filter(0)).unwrap().contains(0));
        cache.put(&filter(ENTRIES_MAX), Arc::default());
        assert!(cache.get(&filter(0)).is_some() && cache.get(&filter(1)).is_none() && cache.get(&filter(2)).is_some());
    }
}
