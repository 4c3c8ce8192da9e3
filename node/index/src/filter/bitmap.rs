//! Which rows of a segment pass a filter: remembered, since neither a segment nor a filter changes.
//!
//! Bounded by entries and by bytes; the entry that was asked for longest ago goes first. Dead rows are in the bitmaps
//! too: the view takes them out.

use std::sync::{Arc, Mutex, PoisonError};

use granum_model::Filter;
use roaring::RoaringBitmap;

/// Most filters remembered for one segment.
const ENTRIES_MAX: usize = 32;
/// Most bytes of their bitmaps for one segment, serialized.
const BYTES_MAX: usize = 4 << 20;

struct Entry {
    filter: Filter,
    rows: Arc<RoaringBitmap>,
    bytes: usize,
}

/// Newest last.
#[derive(Default)]
pub(crate) struct FilterCache {
    entries: Mutex<Vec<Entry>>,
}

impl FilterCache {
    pub fn get(&self, filter: &Filter) -> Option<Arc<RoaringBitmap>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|entry| entry.filter == *filter)?;
        entries[at..].rotate_left(1);
        entries.last().map(|entry| entry.rows.clone())
    }

    pub fn put(&self, filter: &Filter, rows: Arc<RoaringBitmap>) {
        let bytes = rows.serialized_size();
        if bytes > BYTES_MAX {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.filter != *filter);
        entries.push(Entry {
            filter: filter.clone(),
            rows,
            bytes,
        });
        while entries.len() > ENTRIES_MAX || entries.iter().map(|entry| entry.bytes).sum::<usize>() > BYTES_MAX {
            entries.remove(0);
        }
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
