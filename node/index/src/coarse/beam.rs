//! The best places seen on a walk, in order, with where to go on: one sorted array of numbers.
//!
//! A place and its score are one [key](crate::simd::key), whose lowest bit says that the place was walked from; so what enters
//! from one hop is merged in one pass instead of one insertion each.

use crate::simd::of_key;

/// Of a key: its place was walked from.
const WALKED: u64 = 1;

/// Invariants: `keys` is sorted without the marks and at most `width` long; all before `next` are marked.
#[derive(Debug, Default)]
pub(super) struct Beam {
    keys: Vec<u64>,
    width: usize,
    next: usize,
}

impl Beam {
    /// Empties it for a walk that keeps the `width` best.
    pub fn begin(&mut self, width: usize) {
        assert!(width > 0, "a beam of no width");
        self.keys.clear();
        self.width = width;
        self.next = 0;
    }

    /// Below this score nothing enters.
    #[inline]
    pub fn worst(&self) -> f32 {
        if self.keys.len() < self.width {
            f32::NEG_INFINITY
        } else {
            of_key(self.keys[self.width - 1]).0
        }
    }

    /// Takes in what may be among the best; `fresh` is left in any order.
    #[inline]
    pub fn merge(&mut self, fresh: &mut [u64]) {
        sort(fresh);
        let before = self.keys.len();
        // Those beyond the width never enter: drop them now, so that the pass below moves nothing for them.
        let mut entering = fresh.len();
        let full = (before + entering).min(self.width);
        let mut kept = before;
        while kept + entering > full {
            let is_older_worse = entering == 0 || (kept > 0 && self.keys[kept - 1] >= fresh[entering - 1]);
            if is_older_worse {
                kept -= 1;
            } else {
                entering -= 1;
            }
        }
        self.keys.resize(full, 0);
        let mut at = full;
        while entering > 0 {
            at -= 1;
            if kept > 0 && self.keys[kept - 1] > fresh[entering - 1] {
                kept -= 1;
                self.keys[at] = self.keys[kept];
            } else {
                entering -= 1;
                self.keys[at] = fresh[entering];
            }
        }
        self.next = self.next.min(at);
    }

    /// The best place not yet walked from, which is marked; `None`: the walk is over.
    #[inline]
    pub fn pop(&mut self) -> Option<u32> {
        while let Some(key) = self.keys.get_mut(self.next) {
            self.next += 1;
            if *key & WALKED == 0 {
                *key |= WALKED;
                return Some(of_key(*key).1);
            }
        }
        None
    }

    /// Score and place of all, best first.
    pub fn best(&self) -> impl Iterator<Item = (f32, u32)> + '_ {
        self.keys.iter().map(|key| of_key(*key))
    }
}

/// Few, mostly: by insertion.
#[inline]
fn sort(keys: &mut [u64]) {
    const FEW: usize = 24;
    if keys.len() > FEW {
        return keys.sort_unstable();
    }
    for at in 1..keys.len() {
        let key = keys[at];
        let mut to = at;
        while to > 0 && keys[to - 1] > key {
            keys[to] = keys[to - 1];
            to -= 1;
        }
        keys[to] = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::key;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_beam_is_the_best_of_all_and_pops_each_once(
            hops in prop::collection::vec(prop::collection::vec(0u32..1000, 0..40), 1..12),
            width in 1usize..50,
        ) {
            let mut beam = Beam::default();
            beam.begin(width);
            let (mut all, mut place) = (Vec::new(), 0);
            for hop in hops {
                let mut fresh = Vec::new();
                for score in hop {
                    if score as f32 >= beam.worst() {
                        fresh.push(key(score as f32, place));
                    }
                    all.push(key(score as f32, place));
                    place += 1;
                }
                beam.merge(&mut fresh);
                all.sort_unstable();
                let expected: Vec<_> = all.iter().take(width).map(|key| of_key(*key)).collect();
                prop_assert_eq!(beam.best().collect::<Vec<_>>(), expected);
                beam.pop();
            }
            let mut popped = Vec::new();
            while let Some(place) = beam.pop() {
                popped.push(place);
            }
            let count = popped.len();
            popped.sort_unstable();
            popped.dedup();
            prop_assert_eq!(popped.len(), count);
            prop_assert!(beam.keys.iter().all(|key| key & WALKED == WALKED));
        }
    }
}
