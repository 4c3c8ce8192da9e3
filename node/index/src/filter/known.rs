//! What is known of a filter without looking at rows: those that certainly pass, and those of which nobody can tell yet.
//!
//! Conditions that an index answers are certain; one without an index leaves every row in doubt. Both combine by Kleene's
//! logic on bitmaps, so that only rows that the indexed conditions leave in doubt are ever evaluated, and their number is
//! known before.

use roaring::RoaringBitmap;

/// Two sets of rows without a row in common; every row in neither does not pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub certain: RoaringBitmap,
    pub doubtful: RoaringBitmap,
}

impl Known {
    /// All rows pass.
    pub fn all(rows: u32) -> Known {
        let mut certain = RoaringBitmap::new();
        certain.insert_range(0..rows);
        Known::exactly(certain)
    }

    /// These rows pass and no others.
    pub fn exactly(certain: RoaringBitmap) -> Known {
        let doubtful = RoaringBitmap::new();
        Known { certain, doubtful }
    }

    /// These rows may pass, and no others.
    pub fn at_most(doubtful: RoaringBitmap) -> Known {
        let certain = RoaringBitmap::new();
        Known { certain, doubtful }
    }

    /// Nothing is known of any row.
    pub fn nothing(rows: u32) -> Known {
        Known::at_most(Known::all(rows).certain)
    }

    /// Whether there is nothing to evaluate.
    pub fn is_exact(&self) -> bool {
        self.doubtful.is_empty()
    }

    /// Rows that may pass.
    pub fn possible(&self) -> RoaringBitmap {
        &self.certain | &self.doubtful
    }

    /// The least and the greatest number of rows that pass.
    pub fn cardinality(&self) -> std::ops::RangeInclusive<u64> {
        self.certain.len()..=self.certain.len() + self.doubtful.len()
    }

    /// Both hold.
    pub fn and(self, other: &Known) -> Known {
        if self.is_exact() && other.is_exact() {
            return Known::exactly(self.certain & &other.certain);
        }
        let certain = &self.certain & &other.certain;
        let doubtful = (self.possible() & other.possible()) - &certain;
        Known { certain, doubtful }
    }

    /// One of them holds.
    pub fn or(self, other: &Known) -> Known {
        let certain = self.certain | &other.certain;
        if self.doubtful.is_empty() && other.is_exact() {
            return Known::exactly(certain);
        }
        let doubtful = (self.doubtful | &other.doubtful) - &certain;
        Known { certain, doubtful }
    }

    /// It does not hold.
    pub fn not(self, rows: u32) -> Known {
        let certain = Known::all(rows).certain - &self.certain - &self.doubtful;
        let doubtful = self.doubtful;
        Known { certain, doubtful }
    }

    /// At least `least` of them hold.
    pub fn at_least(least: usize, of: &[Known], rows: u32) -> Known {
        if least > of.len() {
            return Known::default();
        }
        match least {
            0 => Known::all(rows),
            1 => of.iter().fold(Known::default(), Known::or),
            _ => {
                let reach = |sets: &mut dyn Iterator<Item = RoaringBitmap>| {
                    let mut held = vec![0u32; rows as usize];
                    for set in sets {
                        set.iter().for_each(|row| held[row as usize] += 1);
                    }
                    let reached = (0u32..).zip(held).filter(|(_, held)| *held as usize >= least);
                    reached.map(|(row, _)| row).collect::<RoaringBitmap>()
                };
                let certain = reach(&mut of.iter().map(|known| known.certain.clone()));
                let doubtful = reach(&mut of.iter().map(Known::possible)) - &certain;
                Known { certain, doubtful }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROWS: u32 = 20;

    /// A truth a row, and what is known of it.
    fn known() -> impl Strategy<Value = (Vec<bool>, Known)> {
        prop::collection::vec((any::<bool>(), any::<bool>()), ROWS as usize).prop_map(|rows| {
            let mut known = Known::default();
            for (row, (truth, is_known)) in (0..).zip(&rows) {
                if !is_known {
                    known.doubtful.insert(row);
                } else if *truth {
                    known.certain.insert(row);
                }
            }
            (rows.iter().map(|(truth, _)| *truth).collect(), known)
        })
    }

    #[track_caller]
    fn check(known: &Known, truth: impl Fn(usize) -> bool) {
        assert!(known.certain.is_disjoint(&known.doubtful));
        for row in 0..ROWS {
            match known.doubtful.contains(row) {
                true => {}
                false => assert_eq!(
                    known.certain.contains(row),
                    truth(row as usize),
                    "row {row} of {known:?}"
                ),
            }
        }
        let passing = (0..ROWS as usize).filter(|row| truth(*row)).count() as u64;
        assert!(known.cardinality().contains(&passing));
    }

    proptest! {
        #[test]
        fn what_is_known_is_true(sets in prop::collection::vec(known(), 2..6), least in 0usize..7) {
            let (left, right) = (&sets[0], &sets[1]);
            check(&left.1.clone().and(&right.1), |row| left.0[row] && right.0[row]);
            check(&left.1.clone().or(&right.1), |row| left.0[row] || right.0[row]);
            check(&left.1.clone().not(ROWS), |row| !left.0[row]);
            let known: Vec<Known> = sets.iter().map(|(_, known)| known.clone()).collect();
            let held = |row: usize| sets.iter().filter(|(truths, _)| truths[row]).count();
            check(&Known::at_least(least, &known, ROWS), |row| held(row) >= least);
            let exact: Vec<Known> = known.iter().map(|known| Known::exactly(known.certain.clone())).collect();
            prop_assert!(Known::at_least(least, &exact, ROWS).is_exact());
        }
    }
}
