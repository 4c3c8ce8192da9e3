//! Which answers are drawn, how long they wait, and what comes of them; time is an argument.

use granum_index::{Document, Inline, Options, Params, SegmentId};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField};
use granum_proto::internal::Epoch;

use super::*;

const SHARD: u64 = 7;
const DOCUMENTS: u64 = 20;

/// Documents, in memory.
struct Made {
    index: Arc<Index>,
    schema: Arc<Schema>,
    vector: fn(u64) -> Vector,
    _directory: tempfile::TempDir,
}

/// On a line.
fn place(number: u64) -> Vector {
    Vector::Dense(Dense::F32(vec![number as f32]))
}

/// Anywhere in a cube.
fn anywhere(number: u64) -> Vector {
    let value = |at: u64| xxh3_64(&(number * 8 + at).to_le_bytes()) as f32 / u64::MAX as f32;
    Vector::Dense(Dense::F32((0..8).map(value).collect()))
}

impl Made {
    fn line() -> Made {
        Made::of(DOCUMENTS, 1, place)
    }

    fn of(documents: u64, dimension: u32, vector: fn(u64) -> Vector) -> Made {
        let field = VectorField::new("v", VectorKind::Dense { dimension }, Distance::Euclid, Fine::F32);
        let schema = Schema {
            vectors: vec![field],
            ..Schema::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let index = Index::open(directory.path(), schema.clone(), Options::default(), &[]).unwrap();
        for number in 0..documents {
            let document = Document {
                id: DocId::Number(number),
                version: number + 1,
                payload: Arc::from(&b"{}"[..]),
                vectors: vec![("v".into(), vector(number))],
            };
            index.insert(document, None).unwrap();
        }
        Made {
            index: Arc::new(index),
            schema: Arc::new(schema),
            vector,
            _directory: directory,
        }
    }

    fn pinned(&self) -> Pinned {
        Pinned {
            view: self.index.view(),
            index: Arc::downgrade(&self.index),
            documents: None,
            applied_index: 1,
            sequence: 1,
            epoch: Epoch::default(),
            schema: self.schema.clone(),
        }
    }

    /// A query for the `k` nearest to the first, and an answer that found only some of them.
    fn answer(&self, k: usize, found: usize) -> (Query, Found) {
        let query = Query {
            using: "v".into(),
            vector: (self.vector)(0),
            filter: Filter::default(),
            k,
            threshold: None,
            exclude: None,
            params: Params::default(),
        };
        let answers = self.index.view().search(std::slice::from_ref(&query), &|| false);
        let mut answer = answers.unwrap().remove(0);
        answer.hits.truncate(found);
        (query, answer)
    }
}

#[test]
fn what_a_walk_missed_widens_later_ones() {
    // More than are scanned.
    let made = Made::of(5_200, 8, anywhere);
    made.index
        .publish(made.index.build(&made.index.freeze(SegmentId(1))).unwrap());
    made.index.derive(&Inline).unwrap();
    let (checks, now) = (checks(1), Instant::now());
    let (query, answer) = made.answer(10, 2);
    assert!(answer.walked);
    checks.answered(now, SHARD, &made.pinned(), &query, &answer);
    checks.check(checks.take(now, true).unwrap()).unwrap().teach();
    let (_, after) = made.answer(10, 10);
    let (before, after) = (answer.usage.rows_scored, after.usage.rows_scored);
    assert!(after > before, "{before}, {after}");
}

fn checks(every: u64) -> Arc<RecallChecks> {
    RecallChecks::new(every, CancellationToken::new()).unwrap()
}

#[test]
fn what_answers_missed_is_the_recall_and_writes_since_are_not() {
    let (line, checks, mut now) = (Made::line(), checks(1), Instant::now());
    let pinned = line.pinned();
    for found in [10, 5, 0] {
        let (query, answer) = line.answer(10, found);
        checks.answered(now, SHARD, &pinned, &query, &answer);
        checks.check(checks.take(now, true).expect("it was drawn"));
        now += DRAW_INTERVAL * 100;
    }
    let recall = ShardRecall {
        shard: SHARD,
        vector: "v".into(),
        recall: 0.5,
    };
    assert_eq!(checks.recalls(|shard| shard == SHARD), [recall]);
    assert_eq!(checks.counts(), (3, 0));
    assert_eq!(checks.recalls(|_| false), [], "the shard has gone");
    assert_eq!(checks.recalls(|_| true), [], "and is forgotten");
}

#[test]
fn one_answer_waits_and_not_for_long() {
    let (line, checks, start) = (Made::line(), checks(1), Instant::now());
    let pinned = line.pinned();
    let (query, answer) = line.answer(1, 1);
    let draw = |now| checks.answered(now, SHARD, &pinned, &query, &answer);
    let at = |millis| start + Duration::from_millis(millis);
    draw(at(0));
    draw(at(2_000));
    assert!(checks.take(at(4_999), false).is_none(), "the node is busy");
    assert!(checks.take(at(5_000), true).is_none(), "it has waited for too long");
    assert_eq!(checks.counts(), (0, 1));
    draw(at(6_000));
    assert!(checks.take(at(6_000), true).is_some());
    draw(at(8_000));
    assert!(
        checks.take(at(8_000), true).is_none(),
        "none is drawn while one is checked"
    );
    checks.rest(at(9_000), Duration::from_secs(3));
    draw(at(11_999));
    assert!(checks.take(at(11_999), true).is_none(), "nor before it has rested");
    draw(at(12_000));
    assert!(checks.take(at(12_000), true).is_some());
}

#[test]
fn only_searches_that_may_miss_are_drawn_and_as_many_as_was_set() {
    let (line, now) = (Made::line(), Instant::now());
    let pinned = line.pinned();
    let (query, answer) = line.answer(1, 1);
    let draws = |every, query: &Query| {
        let checks = checks(every);
        let drawn = (0..10_000).filter(|_| {
            *checks.desk() = Desk::default();
            checks.answered(now, SHARD, &pinned, query, &answer);
            checks.desk().waiting.is_some()
        });
        drawn.count()
    };
    let mut exact = query.clone();
    exact.params.exact = true;
    assert_eq!(draws(0, &query), 0);
    assert_eq!(draws(1, &query), 10_000);
    assert_eq!(draws(1, &exact), 0);
    assert!((70..130).contains(&draws(100, &query)), "{}", draws(100, &query));
}

#[test]
fn a_check_that_is_stopped_is_dropped() {
    let (line, checks, now) = (Made::line(), checks(1), Instant::now());
    let pinned = line.pinned();
    let (query, answer) = line.answer(1, 1);
    checks.answered(now, SHARD, &pinned, &query, &answer);
    checks.stop.cancel();
    assert!(checks.check(checks.take(now, true).unwrap()).is_none());
    assert_eq!(checks.counts(), (0, 1));
    assert_eq!(checks.recalls(|_| true), []);
}

#[test]
fn a_rest_pays_for_time_and_for_bytes() {
    let seconds = Duration::from_secs;
    assert_eq!(rest(Duration::from_millis(1), 0), DRAW_INTERVAL);
    assert_eq!(rest(seconds(2), 0), seconds(18));
    assert_eq!(rest(seconds(2), 100 * READ_BYTES_PER_SECOND), seconds(98));
}

#[test]
fn the_mean_moves_with_the_newest_values() {
    let mut mean = Mean::default();
    (0..4).for_each(|value| mean.add(f64::from(value)));
    assert_eq!(mean.mean, 1.5);
    (0..1000).for_each(|_| mean.add(0.25));
    assert!((mean.mean - 0.25).abs() < 1e-3, "{mean:?}");
}
