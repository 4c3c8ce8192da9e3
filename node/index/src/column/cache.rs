//! Bitmaps of a segment's columns, decoded: the ones asked for last, bounded by number and by bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;

/// Most bitmaps remembered for one segment.
const ENTRIES_MAX: usize = 256;
/// Most bytes of them, serialized, for one segment.
const BYTES_MAX: usize = 4 << 20;
/// Smaller ones are decoded again: that is as fast.
const BYTES_MIN: usize = 128;

/// Where a bitmap lies: number of the column, section, first byte.
pub(super) type Key = (u64, usize, u64);

struct Entry {
    bitmap: Arc<RoaringBitmap>,
    bytes: usize,
    asked: u64,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    bytes: usize,
    /// Counts questions: the entry with the smallest number was asked for longest ago.
    asked: u64,
}

/// See the file.
#[derive(Default)]
pub(super) struct BitmapCache {
    entries: Mutex<Entries>,
}

impl BitmapCache {
    pub fn get(&self, key: Key) -> Option<Arc<RoaringBitmap>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.asked += 1;
        let asked = entries.asked;
        let entry = entries.by_key.get_mut(&key)?;
        entry.asked = asked;
        Some(entry.bitmap.clone())
    }

    /// Remembers a bitmap of so many bytes.
    pub fn put(&self, key: Key, bitmap: Arc<RoaringBitmap>, bytes: usize) {
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.asked += 1;
        let asked = entries.asked;
        let entry = Entry { bitmap, bytes, asked };
        entries.bytes += bytes;
        if let Some(replaced) = entries.by_key.insert(key, entry) {
            entries.bytes -= replaced.bytes;
        }
        while entries.by_key.len() > ENTRIES_MAX || entries.bytes > BYTES_MAX {
            let oldest = entries.by_key.iter().min_by_key(|(_, entry)| entry.asked);
            let oldest = *oldest.expect("too many are some").0;
            if let Some(removed) = entries.by_key.remove(&oldest) {
                entries.bytes -= removed.bytes;
            }
        }
    }

    pub fn clear(&self) {
        *self.entries.lock().unwrap_or_else(PoisonError::into_inner) = Entries::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bounds_and_the_least_asked_for_goes_first() {
        let cache = BitmapCache::default();
        let key = |at: usize| (1, 2, at as u64);
        for at in 0..ENTRIES_MAX {
            cache.put(key(at), Arc::default(), BYTES_MIN);
        }
        assert!(cache.get(key(0)).is_some());
        cache.put(key(ENTRIES_MAX), Arc::default(), BYTES_MIN);
        assert!(cache.get(key(0)).is_some() && cache.get(key(1)).is_none() && cache.get(key(2)).is_some());
        cache.put(key(0), Arc::default(), BYTES_MAX);
        assert!(cache.get(key(0)).is_some() && cache.get(key(2)).is_none());
        cache.put(key(3), Arc::default(), BYTES_MAX + 1);
        cache.put(key(4), Arc::default(), BYTES_MIN - 1);
        assert!(cache.get(key(3)).is_none() && cache.get(key(4)).is_none());
    }
}
