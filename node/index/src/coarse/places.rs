//! Which places of a vector may be hits? A bit each: a walk asks in a nanosecond, a scan takes them in blocks.
//!
//! Made of the rows that pass a filter, less dead ones and those without the vector. A bitmap of rows answers neither
//! question as fast: it finds out first which of its containers a row is in, and what kind that is.

use roaring::RoaringBitmap;

use crate::segment::VectorFile;

const WORD_BITS: usize = u64::BITS as usize;

/// Invariants: a bit for each place, those beyond the last are 0; `count` of them are 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Places {
    words: Vec<u64>,
    count: u64,
}

impl Places {
    /// The places of `rows`.
    pub fn of(file: &VectorFile, rows: &RoaringBitmap) -> Places {
        let empty = Places::none(file.places() as usize);
        match file.present() {
            None => empty.with(rows.iter()),
            Some(present) => {
                let placed = (0u32..).zip(present).filter(|(_, row)| rows.contains(*row));
                empty.with(placed.map(|(place, _)| place))
            }
        }
    }

    /// Without the places of `rows`.
    pub fn less(self, file: &VectorFile, rows: &RoaringBitmap) -> Places {
        self.without(rows.iter().filter_map(|row| file.place(row)).map(|place| place as u32))
    }

    fn without(mut self, places: impl Iterator<Item = u32>) -> Places {
        for place in places {
            let (word, bit) = (
                &mut self.words[place as usize / WORD_BITS],
                1 << (place as usize % WORD_BITS),
            );
            self.count -= u64::from(*word & bit != 0);
            *word &= !bit;
        }
        self
    }

    /// All of so many places but `without`, which are among them.
    pub fn all_but(places: u32, without: impl Iterator<Item = u32>) -> Places {
        Places::none(places as usize).with(0..places).without(without)
    }

    fn none(places: usize) -> Places {
        Places {
            words: vec![0; places.div_ceil(WORD_BITS)],
            count: 0,
        }
    }

    /// `places` ascend and are not in it yet.
    fn with(mut self, places: impl Iterator<Item = u32>) -> Places {
        for place in places {
            self.words[place as usize / WORD_BITS] |= 1 << (place as usize % WORD_BITS);
            self.count += 1;
        }
        self
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    /// The bits, lowest first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether `place`, of which there is a bit, is one of them.
    #[inline]
    pub fn contains(&self, place: u32) -> bool {
        self.words[place as usize / WORD_BITS] >> (place as usize % WORD_BITS) & 1 != 0
    }
}

/// Takes places in ascending order, a block at a time.
#[derive(Clone, Debug)]
pub(super) enum Blocks<'a> {
    /// All from the first number up to the second.
    All(u32, u32),
    /// Of these words, the first of which has this number.
    Some(u32, &'a [u64]),
}

impl<'a> Blocks<'a> {
    /// Of `among`, or of all `places` there are.
    pub fn new(places: u32, among: Option<&'a Places>) -> Blocks<'a> {
        match among {
            None => Blocks::All(0, places),
            Some(among) => Blocks::Some(0, &among.words),
        }
    }

    /// Puts the next at least `least` places, if there are as many, into `block`; at most 63 more than that.
    pub fn next(&mut self, least: usize, block: &mut Vec<u32>) {
        block.clear();
        match self {
            Blocks::All(next, end) => {
                let last = next.saturating_add(least as u32).min(*end);
                block.extend(*next..last);
                *next = last;
            }
            Blocks::Some(number, words) => {
                while block.len() < least
                    && let Some((word, rest)) = words.split_first()
                {
                    let (first, mut left) = (*number * WORD_BITS as u32, *word);
                    while left != 0 {
                        block.push(first + left.trailing_zeros());
                        left &= left - 1;
                    }
                    *number += 1;
                    *words = rest;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn taken(mut blocks: Blocks<'_>, least: usize) -> Vec<u32> {
        let (mut all, mut block) = (Vec::new(), Vec::new());
        loop {
            blocks.next(least, &mut block);
            if block.is_empty() {
                return all;
            }
            assert!(block.len() < least + WORD_BITS);
            all.extend_from_slice(&block);
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(picked in prop::collection::btree_set(0u32..300, 0..200), least in 1usize..100) {
            let places = Places::none(300).with(picked.iter().copied());
            prop_assert_eq!(places.count(), picked.len() as u64);
            let found: BTreeSet<u32> = (0..300).filter(|place| places.contains(*place)).collect();
            prop_assert_eq!(&found, &picked);
            prop_assert_eq!(taken(Blocks::new(300, Some(&places)), least), Vec::from_iter(picked));
            prop_assert_eq!(taken(Blocks::new(300, None), least), Vec::from_iter(0..300));
        }
    }
}
