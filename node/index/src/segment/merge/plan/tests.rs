//! The policy, case by case and over long lives.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn policy() -> MergePolicy {
    MergePolicy {
        cap_bytes: 4096 * MIB,
        ..MergePolicy::default()
    }
}

/// Segments of 1,000 rows, numbered from 1 on: MiB and dead rows each. `planned`: numbers in the order of the plan.
#[track_caller]
fn check(segments: &[(u64, u32)], planned: &[u64]) {
    let candidates: Vec<Candidate> = (1..)
        .zip(segments)
        .map(|(number, (mib, dead_rows))| Candidate {
            segment: SegmentId(number),
            rows: 1_000,
            dead_rows: *dead_rows,
            bytes: mib * MIB,
        })
        .collect();
    let plan = policy().plan(&candidates);
    let found: Vec<u64> = plan
        .iter()
        .flat_map(|plan| &plan.segments)
        .map(|segment| segment.0)
        .collect();
    assert_eq!(found, planned, "{segments:?}");
}

#[test]
fn what_is_in_order_stays() {
    check(&[], &[]);
    check(&[(16, 0)], &[]);
    check(&[(16, 0), (16, 0), (16, 0)], &[]);
    check(&[(1024, 0), (256, 0), (64, 0), (16, 0), (4, 0), (1, 0)], &[]);
    check(&[(16, 199)], &[]);
}

#[test]
fn four_of_a_tier_become_one() {
    check(&[(16, 0); 4], &[1, 2, 3, 4]);
    check(&[(64, 0), (16, 0), (16, 0), (16, 0)], &[2, 3, 4, 1]);
    check(&[(65, 0), (16, 0), (16, 0), (16, 0)], &[]);
    // Lighter than the floor is all the same.
    check(&[(0, 0), (1, 0), (0, 0), (1, 0)], &[1, 2, 3, 4]);
}

#[test]
fn too_many_become_fewer_from_the_lightest_up() {
    check(&[(16, 0); 7], &[1, 2, 3, 4, 5, 6, 7]);
    check(
        &[(2000, 0), (500, 0), (100, 0), (40, 0), (16, 0), (4, 0), (1, 0)],
        &[7, 6],
    );
    check(
        &[(1000, 0), (1, 0), (1, 0), (100, 0), (10, 0), (300, 0), (30, 0)],
        &[2, 3],
    );
    check(
        &[(1000, 0), (2, 0), (1, 0), (100, 0), (5, 0), (300, 0), (30, 0)],
        &[3, 2, 5],
    );
}

#[test]
fn a_fifth_of_dead_rows_is_rewritten_but_not_of_dwarfs() {
    check(&[(16, 200)], &[1]);
    check(&[(16, 1_000)], &[1]);
    check(&[(16, 300), (64, 200), (16, 0)], &[2]);
    check(&[(0, 999)], &[]);
}

#[test]
fn full_segments_are_rewritten_but_never_joined() {
    check(&[(2100, 0); 9], &[]);
    check(&[(2100, 0), (2100, 0), (2600, 200)], &[3]);
    check(&[(1500, 0); 4], &[]);
    check(&[(1000, 0); 5], &[1, 2, 3, 4]);
    // Too many, and only two of them fit together.
    check(&[(2000, 0); 7], &[1, 2]);
}

/// A replica's life: what is sealed, what dies, merges until none is due.
struct Life {
    policy: MergePolicy,
    segments: Vec<Candidate>,
    next: u64,
    sealed_bytes: u64,
    merged_bytes: u64,
    died_bytes: u64,
    segments_most: usize,
}

impl Life {
    fn new(policy: MergePolicy) -> Life {
        Life {
            policy,
            segments: Vec::new(),
            next: 1,
            sealed_bytes: 0,
            merged_bytes: 0,
            died_bytes: 0,
            segments_most: 0,
        }
    }

    /// A seal of so many rows, 1 KiB each; `dying`: rows that die, of the segments in turn.
    fn seal(&mut self, rows: u32, dying: &[(usize, u32)]) {
        for (at, rows) in dying {
            let count = self.segments.len().max(1);
            if let Some(own) = self.segments.get_mut(at % count) {
                let dying = (*rows).min(own.rows - own.dead_rows);
                own.dead_rows += dying;
                self.died_bytes += u64::from(dying) << 10;
            }
        }
        self.segments.retain(|own| own.dead_rows < own.rows);
        self.push(rows);
        self.sealed_bytes += u64::from(rows) << 10;
        self.merge();
    }

    fn push(&mut self, rows: u32) {
        let (segment, bytes) = (SegmentId(self.next), u64::from(rows) << 10);
        self.next += 1;
        self.segments.push(Candidate {
            segment,
            rows,
            dead_rows: 0,
            bytes,
        });
    }

    fn merge(&mut self) {
        let steps_most = 2 * self.segments.len() + 1;
        let mut steps = 0;
        while let Some(plan) = self.policy.plan(&self.segments) {
            let (merged, kept): (Vec<_>, Vec<_>) = self
                .segments
                .iter()
                .copied()
                .partition(|own| plan.segments.contains(&own.segment));
            assert_eq!(merged.len(), plan.segments.len(), "{plan:?}");
            assert_eq!(plan.bytes, merged.iter().map(Candidate::live_bytes).sum::<u64>());
            assert!(merged.len() == 1 || plan.bytes <= self.policy.cap_bytes, "{plan:?}");
            self.segments = kept;
            let rows = merged.iter().map(|own| own.live_rows() as u32).sum();
            self.merged_bytes += u64::from(rows) << 10;
            if rows > 0 {
                self.push(rows);
            }
            steps += 1;
            assert!(steps <= steps_most, "merging does not end: {:?}", self.segments);
        }
        let open = self.segments.iter().filter(|own| !self.policy.is_full(own)).count();
        self.segments_most = self.segments_most.max(open);
        assert!(open <= self.policy.segments_max, "{:?}", self.segments);
        assert!(!self.segments.iter().any(|own| self.policy.is_worn(own)));
    }

    fn amplification(&self) -> f64 {
        self.merged_bytes as f64 / self.sealed_bytes as f64
    }
}

/// 4,096 equal seals of 16 MiB, 64 GiB in all.
#[test]
fn a_row_of_64_gib_is_rewritten_less_than_eight_times() {
    let mut life = Life::new(MergePolicy {
        cap_bytes: u64::MAX,
        ..MergePolicy::default()
    });
    for _ in 0..4096 {
        life.seal(16 << 10, &[]);
    }
    assert!(life.amplification() < 8.0, "{}", life.amplification());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_long_life_keeps_few_segments_and_writes_little(
        seals in prop::collection::vec((1u32..40_000, prop::collection::vec((any::<usize>(), 1u32..20_000), 0..4)), 1..600),
        cap_mib in prop_oneof![Just(256u64), Just(4096), Just(1 << 30)],
    ) {
        let mut life = Life::new(MergePolicy { cap_bytes: cap_mib * MIB, ..MergePolicy::default() });
        for (rows, dying) in &seals {
            life.seal(*rows, dying);
        }
        // What joins segments is bounded by what was sealed, what rewrites one by what has died in it.
        let most = 9.0 * life.sealed_bytes as f64 + 5.0 * life.died_bytes as f64;
        prop_assert!(life.merged_bytes as f64 <= most, "{} of {most}", life.merged_bytes);
    }

    #[test]
    fn any_heap_of_segments_is_put_in_order(
        heap in prop::collection::vec((1u32..1 << 22, 0u32..1 << 22), 0..80),
        cap_mib in prop_oneof![Just(1u64), Just(256), Just(1 << 30)],
    ) {
        let mut life = Life::new(MergePolicy { cap_bytes: cap_mib * MIB, ..MergePolicy::default() });
        for (rows, dead) in heap {
            life.push(rows);
            let own = life.segments.last_mut().unwrap();
            own.dead_rows = dead.min(rows);
        }
        life.merge();
    }
}
