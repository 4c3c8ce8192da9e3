//! Several segments under one query: what is walked, what is scanned, what one part spares another, and how walks are widened.

use granum_index::{Options, Params, Place, Query, RowHit, SegmentId, Verify};
use granum_model::{Distance, DocId, Filter, Schema};

use super::{K, ROWS, Threads, schema, sealed_apart, tenth};

/// More documents than are scanned for a query that does not say how wide a walk should be, none of them in a large segment.
const APART: [u64; 4] = [2000, 1100, 1500, 1200];

#[test]
fn small_segments_of_a_large_index_are_walked_and_all_of_a_small_one_is_scanned() {
    let sealed = sealed_apart(16, Distance::Cosine, Options::default(), &APART);
    sealed.index.derive(&Threads(2)).unwrap();
    let scored = || {
        sealed
            .find(ROWS, Filter::default(), Params::default())
            .usage
            .rows_scored
    };
    let recall = sealed.recall(&Filter::default(), Params::default());
    assert!(recall >= 0.96, "{recall}");
    assert!(scored() < 3_000, "{}", scored());
    // A segment whose graph is not there yet is scanned all the same, whatever its size.
    for number in 90_000..90_600 {
        sealed.index.insert(sealed.document(number), None).unwrap();
    }
    let before = scored();
    sealed
        .index
        .publish(sealed.index.build(&sealed.index.freeze(SegmentId(5))).unwrap());
    assert_eq!(scored(), before, "codes of 600 rows are scanned in memory and on disk");
    for row in 0..1_400 {
        let place = Place {
            segment: SegmentId(3),
            row,
        };
        let (id, _) = sealed.index.view().sealed_id(place).unwrap().unwrap();
        assert!(sealed.index.delete(&id, Some(place)));
    }
    assert_eq!(scored(), APART.iter().sum::<u64>() + 600 - 1_400);
}

#[test]
fn what_one_part_spares_another_is_never_a_hit() {
    for distance in [Distance::Cosine, Distance::Dot, Distance::Euclid, Distance::Manhattan] {
        let sealed = sealed_apart(16, distance, Options::default(), &[1500, 1200, 400]);
        sealed.index.derive(&Threads(2)).unwrap();
        for number in 3100..3400 {
            sealed.index.insert(sealed.document(number), None).unwrap();
        }
        let exact = Params {
            exact: true,
            ..Params::default()
        };
        let walk = Params {
            ef: Some(200),
            ..Params::default()
        };
        let by_bounds = Params {
            verify: Verify::Bound,
            ..walk
        };
        let certified = Params {
            certified: true,
            ..Params::default()
        };
        let ask = |query: &Query| {
            let found = sealed.index.view().search(std::slice::from_ref(query), &|| false);
            found.unwrap().remove(0).hits
        };
        for params in [Params::default(), walk, by_bounds, certified] {
            let (mut found, mut wanted) = (0, 0);
            // Of documents in each part, and of none.
            for number in (0..3600).step_by(97) {
                let plain = sealed.query(number, Filter::default(), exact);
                let eighth = ask(&plain)[7].hit.score;
                let excluding = Query {
                    exclude: Some(DocId::Number(number)),
                    ..plain.clone()
                };
                let bounded = Query {
                    threshold: Some(eighth),
                    ..plain.clone()
                };
                for exactly in [plain, excluding, bounded] {
                    let truth = ask(&exactly);
                    let hits = ask(&Query {
                        params,
                        ..exactly.clone()
                    });
                    // Sums of one score may differ in their last bit, at the threshold too.
                    let is_over = |hit: &RowHit| exactly.threshold.is_none_or(|least| hit.hit.score >= least - 1e-5);
                    assert!(hits.len() <= K && hits.iter().all(is_over));
                    wanted += truth.len();
                    let is_true = |id: &DocId| truth.iter().any(|hit| hit.hit.id == *id);
                    found += hits.iter().filter(|hit| is_true(&hit.hit.id)).count();
                }
            }
            let recall = found as f64 / wanted as f64;
            assert!(recall >= 0.985, "{distance:?} {params:?}: {recall}");
        }
    }
}

#[test]
fn walks_are_widened_while_checked_answers_lack_the_wanted_recall() {
    let sealed = sealed_apart(16, Distance::Cosine, Options::default(), &APART);
    sealed.index.derive(&Threads(2)).unwrap();
    let query = |params| sealed.query(ROWS, Filter::default(), params);
    let scored = |query: &Query| {
        let found = sealed.index.view().search(std::slice::from_ref(query), &|| false);
        found.unwrap().remove(0).usage.rows_scored
    };
    let checked = |found| {
        let exact = Params {
            exact: true,
            ..Params::default()
        };
        let view = sealed.index.view();
        let hits = view.search(&[query(exact)], &|| false).unwrap().remove(0).hits;
        view.check(&query(exact), &hits[..found], &|| false).unwrap()
    };
    let (usual, none, all) = (query(Params::default()), checked(0), checked(K));
    let before = scored(&usual);
    let of_its_own = Params {
        ef: Some(12),
        ..Params::default()
    };
    let filtered = sealed.query(ROWS, tenth(3), Params::default());
    let by_estimates = Params {
        verify: Verify::None,
        ..Params::default()
    };
    for other in [&query(of_its_own), &query(by_estimates), &filtered] {
        (0..30).for_each(|_| sealed.index.learn(other, true, &none));
    }
    assert_eq!(
        scored(&usual),
        before,
        "those tell nothing of walks for a wanted recall"
    );
    sealed.index.learn(&usual, false, &none);
    assert_eq!(
        scored(&usual),
        before,
        "what was scanned lacks nothing that a wider walk would find"
    );
    let modest = query(Params {
        target_recall: Some(0.9),
        ..Params::default()
    });
    let before_modest = scored(&modest);
    sealed.index.learn(&usual, true, &none);
    let widened = scored(&usual);
    assert!(widened > before && widened < APART.iter().sum(), "{before}, {widened}");
    assert_eq!(scored(&modest), before_modest, "another recall is learned apart");
    (0..300).for_each(|_| sealed.index.learn(&usual, false, &all));
    assert_eq!(scored(&usual), before);
    sealed.index.learn(&usual, true, &none);
    sealed.index.alter(Schema::default());
    sealed.index.alter(schema(16, Distance::Cosine));
    assert_eq!(scored(&usual), before, "a vector that was dropped is known no more");
}
