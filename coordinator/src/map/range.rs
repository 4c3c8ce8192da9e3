//! Which hashes belong to which shard: ranges of `xxh3_64(encoded id)` that cover every hash once.

use granum_proto::limits::Invalid;

/// Hashes `start..=end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HashRange {
    pub start: u64,
    pub end: u64,
}

impl HashRange {
    /// The `ordinal`th of `count` ranges of equal size (to within one hash).
    pub fn of(ordinal: u32, count: u32) -> HashRange {
        assert!(ordinal < count, "range {ordinal} of {count}");
        let boundary = |ordinal: u32| (u128::from(ordinal) << 64) / u128::from(count);
        let last = boundary(ordinal + 1) - 1;
        HashRange {
            start: u64::try_from(boundary(ordinal)).expect("a range begins below 2^64"),
            end: u64::try_from(last).expect("a range ends below 2^64"),
        }
    }
}

/// Checks that ranges in their order cover every hash once, and says where they do not.
pub(crate) fn check_cover(ranges: impl IntoIterator<Item = HashRange>) -> Result<(), Invalid> {
    let broken = |problem| Err(Invalid::new("ranges", problem));
    let mut next = Some(0);
    for range in ranges {
        match next {
            Some(next) if range.start == next && range.start <= range.end => {}
            Some(next) => return broken(format!("{:x}..={:x} where {next:x} must start", range.start, range.end)),
            None => return broken(format!("{:x}..={:x} after the last hash", range.start, range.end)),
        }
        next = range.end.checked_add(1);
    }
    match next {
        None => Ok(()),
        Some(next) => broken(format!("nobody has {next:x} and above")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equal_ranges_cover_every_hash_once(count in 1u32..=256, hash: u64) {
            let ranges: Vec<HashRange> = (0..count).map(|ordinal| HashRange::of(ordinal, count)).collect();
            prop_assert_eq!(check_cover(ranges.iter().copied()), Ok(()));
            let owners = ranges.iter().filter(|range| range.start <= hash && hash <= range.end).count();
            prop_assert_eq!(owners, 1);
        }

        #[test]
        fn a_gap_or_an_overlap_is_noticed(count in 2u32..=16, at in 0u32..16, by in 1u64..1000, gap: bool) {
            let mut ranges: Vec<HashRange> = (0..count).map(|ordinal| HashRange::of(ordinal, count)).collect();
            let range = &mut ranges[(at % count) as usize];
            range.start = if gap { range.start.saturating_add(by) } else { range.start.wrapping_sub(by) };
            prop_assert!(check_cover(ranges).is_err());
        }

        #[test]
        fn a_missing_range_is_noticed(count in 1u32..=16, at in 0u32..16) {
            let mut ranges: Vec<HashRange> = (0..count).map(|ordinal| HashRange::of(ordinal, count)).collect();
            ranges.remove((at % count) as usize);
            prop_assert!(check_cover(ranges).is_err());
        }
    }
}
