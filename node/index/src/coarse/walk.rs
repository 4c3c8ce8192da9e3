//! Best-first search along a graph's links, on codes: which places are near, having looked at few?
//!
//! The beam search of HNSW's lowest layer (Malkov and Yashunin 2016, algorithm 2) and Vamana, begun at the best few of many
//! entries. A hop takes the best places not yet walked from, gathers their links that were not seen, scores those together
//! and merges what is good enough into the beam. Everything is asked for ahead of its use: codes once a hop, links when a place
//! enters the beam. Nothing is promised of places that it did not see.
//!
//! Places that may be no hits are walked through all the same, where most may be; the caller widens the beam and leaves them
//! out afterwards. Where few may be, only places that [pass](Terrain::passing) are scored, and a link to one that does not
//! is replaced by the links of that one (ACORN-1, SIGMOD 2024): the graph of those that pass need not hang together.

use super::beam::Beam;
use crate::simd::{self, BEYOND, of_key};

/// Fills a list of links that is shorter than the degree.
pub(super) const NO_LINK: u32 = u32::MAX;
/// Places walked from at a time: their links are in flight together. More see places that fewer would not have needed.
const STRIDE: usize = 2;
/// Places scored a hop and place walked from, where only some pass.
const DETOURS: usize = 32;

/// What is walked: a graph and a query.
pub(super) trait Terrain {
    /// Number of places.
    fn places(&self) -> u32;

    /// Where `place` leads to; filled with [`NO_LINK`].
    fn links(&self, place: u32) -> &[u32];

    /// A bit for each place, set if it may be scored; `None`: all may.
    #[inline]
    fn passing(&self) -> Option<&[u64]> {
        None
    }

    /// Appends to `keys` those ([`simd::key`]) of the places that score above `worst`, or what is no number; of all of them if
    /// `worst` is none. Higher scores are better.
    fn rank(&self, places: &[u32], worst: f32, keys: &mut Vec<u64>);

    /// The links of `place` will be read soon.
    fn expect_links(&self, place: u32);

    /// These will be ranked soon.
    fn expect_ranks(&self, places: &[u32]);
}

/// A walk's memory, reused from walk to walk.
#[derive(Debug, Default)]
pub(super) struct Walker {
    beam: Beam,
    seen: Seen,
    ahead: Vec<u32>,
    detours: Vec<u32>,
    fresh: Vec<u64>,
    /// Places scored by the last walk.
    pub scored: u64,
}

/// A byte a place, equal to `mark` where a walk has seen it: the next walk takes the next mark, and all bytes are cleared
/// once in 255 walks. [`BEYOND`] bytes more than places.
#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    mark: u8,
}

impl Seen {
    fn begin(&mut self, places: usize) {
        if self.bytes.len() < places + BEYOND {
            self.bytes.resize(places + BEYOND, 0);
        }
        self.mark = self.mark.wrapping_add(1);
        if self.mark == 0 {
            self.bytes.fill(0);
            self.mark = 1;
        }
    }

    /// Whether it is new.
    fn add(&mut self, place: u32) -> bool {
        std::mem::replace(&mut self.bytes[place as usize], self.mark) != self.mark
    }
}

impl Walker {
    /// Walks from the best `starts` of `entries` until nothing ahead is better than the worst of the `width` best.
    pub fn walk(&mut self, terrain: &impl Terrain, entries: &[u32], starts: usize, width: usize) {
        self.beam.begin(width);
        self.seen.begin(terrain.places() as usize);
        self.scored = entries.len() as u64;
        self.fresh.clear();
        terrain.rank(entries, f32::NAN, &mut self.fresh);
        keep_best(&mut self.fresh, starts);
        for at in 0..self.fresh.len() {
            let (_, place) = of_key(self.fresh[at]);
            self.seen.add(place);
            terrain.expect_links(place);
        }
        self.beam.merge(&mut self.fresh);
        while self.hop(terrain) {}
    }

    /// Score and place of the best, best first.
    pub fn best(&self) -> impl Iterator<Item = (f32, u32)> + '_ {
        self.beam.best()
    }

    /// One step; whether there was one to take.
    #[inline]
    fn hop(&mut self, terrain: &impl Terrain) -> bool {
        self.ahead.clear();
        let mut walked = 0;
        while walked < STRIDE
            && let Some(place) = self.beam.pop()
        {
            walked += 1;
            self.gather(terrain, place);
        }
        if walked == 0 {
            return false;
        }
        terrain.expect_ranks(&self.ahead);
        self.scored += self.ahead.len() as u64;
        self.fresh.clear();
        terrain.rank(&self.ahead, self.beam.worst(), &mut self.fresh);
        self.fresh.iter().for_each(|key| terrain.expect_links(of_key(*key).1));
        self.beam.merge(&mut self.fresh);
        true
    }

    /// Adds what `place` leads to and was not seen.
    #[inline]
    fn gather(&mut self, terrain: &impl Terrain, place: u32) {
        let before = self.ahead.len();
        simd::sift(
            terrain.links(place),
            &mut self.seen.bytes,
            self.seen.mark,
            &mut self.ahead,
        );
        if let Some(passing) = terrain.passing() {
            self.detour(terrain, passing, before);
        }
    }

    /// Puts in the stead of places, from number `first` on, that do not pass what they lead to and passes.
    #[inline]
    fn detour(&mut self, terrain: &impl Terrain, passing: &[u64], first: usize) {
        self.detours.clear();
        simd::divide(&mut self.ahead, first, passing, &mut self.detours);
        self.detours.iter().for_each(|place| terrain.expect_links(*place));
        for place in &self.detours {
            if self.ahead.len() - first >= DETOURS {
                break;
            }
            let links = listed(terrain.links(*place));
            simd::sift_passing(links, passing, &mut self.seen.bytes, self.seen.mark, &mut self.ahead);
        }
    }
}

/// Leaves the `most` best of `keys`, best first: few of not many.
fn keep_best(keys: &mut Vec<u64>, most: usize) {
    for at in 1..keys.len() {
        let (key, kept) = (keys[at], at.min(most));
        let to = keys[..kept].partition_point(|better| *better < key);
        if to < most {
            keys.copy_within(to..at.min(most - 1), to + 1);
            keys[to] = key;
        }
    }
    keys.truncate(most);
}

/// Links without what fills the list up.
#[inline]
fn listed(links: &[u32]) -> &[u32] {
    match links.last() {
        Some(&NO_LINK) => &links[..links.partition_point(|link| *link != NO_LINK)],
        _ => links,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_are_kept_in_order(keys in prop::collection::vec(0u64..50, 0..40), most in 1usize..9) {
            let (mut kept, mut sorted) = (keys.clone(), keys);
            keep_best(&mut kept, most);
            sorted.sort_unstable();
            sorted.truncate(most);
            prop_assert_eq!(kept, sorted);
        }
    }

    /// What stands for none in a small graph is a place of a larger one.
    #[test]
    fn what_a_small_graph_leaves_behind_hides_no_place_of_a_larger_one() {
        let mut seen = Seen::default();
        for walk in 0..600 {
            let places = if walk % 2 == 0 { 20 } else { 20 + walk as u32 };
            seen.begin(places as usize);
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let links: Vec<u32> = (0..places).chain([NO_LINK; 3]).collect();
            simd::sift(&links, &mut seen.bytes, seen.mark, &mut first);
            assert_eq!(first[..places as usize], links[..places as usize], "walk {walk}");
            simd::sift(&links, &mut seen.bytes, seen.mark, &mut second);
            assert!(second.is_empty(), "walk {walk}: {second:?}");
        }
    }
}
