//! Which segments should become one? Arithmetic over sizes alone, so that a test can play a long life through.
//!
//! A segment weighs what its live rows take on disk. The first rule that applies decides:
//!
//! 1. **Too many.** More than `segments_max`: the lightest become one, from the two lightest up to where the next is twice
//!    as heavy as all of them. So weights come to grow geometrically, and a row is rewritten about as seldom as a bound on
//!    segments allows (played through: 7.95 times in the mean over 4,096 seals; 1.5 or 3 in place of twice cost more).
//! 2. **Dead rows.** `dead_percent` of a segment's rows are dead: it is rewritten alone, most dead bytes first. Every byte
//!    written that way is paid for by the death of a quarter of it, at 20 %.
//! 3. **A tier.** `factor` segments whose weights lie within `factor` of each other become one, before they are too many.
//!
//! A segment above half of the cap is *full*: it is no longer joined with others nor counted by rule 1. What is dead is
//! what the seal that stands calls dead: a merge may leave out no row that a replay of the log still needs.

use crate::document::SegmentId;

/// When to merge. The default is what a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergePolicy {
    /// Segments that may stay, full ones not counted; at least 1.
    pub segments_max: usize,
    /// How far weights of one tier lie apart, and how many of one tier are joined; at least 2.
    pub factor: u64,
    /// Share of dead rows from which a segment is rewritten, in percent, 1..=100.
    pub dead_percent: u64,
    /// Lighter segments count as this heavy, in bytes: what is below is too little to be worth telling apart.
    pub floor_bytes: u64,
    /// No merged segment is planned to be heavier, in bytes.
    pub cap_bytes: u64,
}

/// Most live rows of a merged segment: half of what a row number can tell apart.
const ROWS_MAX: u64 = 1 << 31;

impl Default for MergePolicy {
    fn default() -> MergePolicy {
        MergePolicy {
            segments_max: 6,
            factor: 4,
            dead_percent: 20,
            floor_bytes: 1 << 20,
            cap_bytes: 32 << 30,
        }
    }
}

/// A segment as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub segment: SegmentId,
    /// Rows, dead ones included; at least 1.
    pub rows: u32,
    /// Rows that were dead at the seal that stands.
    pub dead_rows: u32,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Segments that should become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePlan {
    /// Which, at least one.
    pub segments: Vec<SegmentId>,
    /// Bytes of their live rows: about what the merge will write.
    pub bytes: u64,
}

impl Candidate {
    fn live_rows(&self) -> u64 {
        u64::from(self.rows - self.dead_rows)
    }

    /// Bytes of the live rows, about.
    fn live_bytes(&self) -> u64 {
        (u128::from(self.bytes) * u128::from(self.live_rows()) / u128::from(self.rows.max(1))) as u64
    }
}

impl MergePolicy {
    /// The merge that is due; `None`: none is.
    pub fn plan(&self, segments: &[Candidate]) -> Option<MergePlan> {
        let mut joinable: Vec<Candidate> = segments.iter().filter(|own| !self.is_full(own)).copied().collect();
        joinable.sort_by_key(|own| (self.weight(own), own.segment));
        let picked = match joinable.len() > self.segments_max {
            true => self.lightest_run(&joinable).to_vec(),
            false => match self.most_dead(segments) {
                Some(own) => vec![own],
                None => self.lightest_tier(&joinable)?.to_vec(),
            },
        };
        Some(MergePlan {
            segments: picked.iter().map(|own| own.segment).collect(),
            bytes: picked.iter().map(Candidate::live_bytes).sum(),
        })
    }

    /// Whether so many of a segment's rows are dead that it should be rewritten. Of light ones it isn't asked: they are
    /// joined with others soon.
    pub fn is_worn(&self, own: &Candidate) -> bool {
        own.bytes >= self.floor_bytes && u64::from(own.dead_rows) * 100 >= u64::from(own.rows) * self.dead_percent
    }

    fn is_full(&self, own: &Candidate) -> bool {
        own.live_bytes() > self.cap_bytes / 2 || own.live_rows() > ROWS_MAX / 2
    }

    fn weight(&self, own: &Candidate) -> u64 {
        own.live_bytes().max(self.floor_bytes)
    }

    fn fits(&self, run: &[Candidate]) -> bool {
        run.iter().map(Candidate::live_bytes).sum::<u64>() <= self.cap_bytes
            && run.iter().map(Candidate::live_rows).sum::<u64>() <= ROWS_MAX
    }

    /// Two lightest always fit together.
    fn lightest_run<'a>(&self, sorted: &'a [Candidate]) -> &'a [Candidate] {
        let weight = |run: &[Candidate]| run.iter().map(|own| u128::from(self.weight(own))).sum::<u128>();
        let is_apart = |end: &usize| {
            let next = sorted.get(*end);
            next.is_none_or(|next| weight(&sorted[..*end]) * 2 <= u128::from(self.weight(next)))
        };
        let end = (2..=sorted.len()).find(is_apart).unwrap_or(sorted.len());
        let fitting = (2..=end).rev().find(|end| self.fits(&sorted[..*end]));
        &sorted[..fitting.unwrap_or(2)]
    }

    fn most_dead(&self, segments: &[Candidate]) -> Option<Candidate> {
        let worn = segments.iter().filter(|own| self.is_worn(own)).copied();
        worn.max_by_key(|own| (own.bytes - own.live_bytes(), own.segment))
    }

    fn lightest_tier<'a>(&self, sorted: &'a [Candidate]) -> Option<&'a [Candidate]> {
        (0..sorted.len()).find_map(|start| {
            let heaviest = self.weight(&sorted[start]).saturating_mul(self.factor);
            let end = start + sorted[start..].partition_point(|own| self.weight(own) <= heaviest);
            let ends = (start + self.factor as usize..=end).rev();
            ends.map(|end| &sorted[start..end]).find(|run| self.fits(run))
        })
    }
}

#[cfg(test)]
mod tests;
