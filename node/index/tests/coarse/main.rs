//! Codes and graphs against the exact scan: is what they find right, complete enough, and never changed by damage?
//! Over 400 lines because every test asks the one sealed index that is made here.

mod apart;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use granum_index::{
    Bits, Builder, Document, Executor, Found, Index, Inline, Options, Params, Place, Query, SegmentId, SegmentRef,
    Verify,
};
use granum_model::{
    Condition, Dense, Distance, DocId, Filter, Fine, PayloadField, PayloadKind, Scalar, Schema, Vector, VectorField,
    VectorKind,
};
use hnsw_rs::prelude::{DistL2, Hnsw};

const ROWS: u64 = 2500;
const K: usize = 10;
const QUERIES: u64 = 40;

/// A mixture of 30 clusters: not hard, not trivial. Of unit length where the distance asks for it, else of three lengths.
fn vector(dimension: usize, distance: Distance, number: u64) -> Vec<f32> {
    let noise = |seed: u64| {
        let hash = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((hash ^ hash >> 32) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let value = |at: u64| noise((number % 30) * 10_000 + at + 1) + 0.7 * noise(1_000_000 + number * 10_000 + at);
    let values: Vec<f32> = (0..dimension as u64).map(value).collect();
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
    let size = if distance == Distance::Cosine {
        1.0
    } else {
        0.5 + (number % 3) as f32
    };
    values.iter().map(|value| value / length * size).collect()
}

fn schema(dimension: usize, distance: Distance) -> Schema {
    let field = VectorField::new(
        "v",
        VectorKind::Dense {
            dimension: dimension as u32,
        },
        distance,
        Fine::F32,
    );
    Schema {
        vectors: vec![field],
        ..Schema::default()
    }
}

struct Sealed {
    index: Index,
    manifest: Vec<SegmentRef>,
    dimension: usize,
    distance: Distance,
    _directory: tempfile::TempDir,
}

/// So many threads.
struct Threads(usize);

impl Executor for Threads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| {
                    while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < tasks)
                    {
                        task(number);
                    }
                });
            }
        });
    }
}

fn document(dimension: usize, distance: Distance, number: u64) -> Document {
    let vector = Vector::Dense(Dense::F32(vector(dimension, distance, number)));
    Document {
        id: DocId::Number(number),
        version: number + 1,
        payload: Arc::from(format!("{{\"tenth\":{},\"rare\":{}}}", number % 10, number % 500 == 7).as_bytes()),
        vectors: vec![("v".into(), vector)],
    }
}

fn sealed(dimension: usize, distance: Distance, options: Options) -> Sealed {
    sealed_apart(dimension, distance, options, &[ROWS])
}

/// As many rows a segment as `sizes` say.
fn sealed_apart(dimension: usize, distance: Distance, options: Options, sizes: &[u64]) -> Sealed {
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), schema(dimension, distance), options, &[]).unwrap();
    let (mut numbers, mut manifest) = (0.., Vec::new());
    for (segment, size) in (1..).map(SegmentId).zip(sizes) {
        for number in numbers.by_ref().take(*size as usize) {
            index.insert(document(dimension, distance, number), None).unwrap();
        }
        let built = index.build(&index.freeze(segment)).unwrap();
        manifest = built.segments().to_vec();
        index.publish(built);
    }
    Sealed {
        index,
        manifest,
        dimension,
        distance,
        _directory: directory,
    }
}

impl Sealed {
    fn document(&self, number: u64) -> Document {
        document(self.dimension, self.distance, number)
    }

    fn find(&self, number: u64, filter: Filter, params: Params) -> Found {
        let query = self.query(number, filter, params);
        self.index.view().search(&[query], &|| false).unwrap().remove(0)
    }

    fn query(&self, number: u64, filter: Filter, params: Params) -> Query {
        Query {
            using: "v".into(),
            vector: Vector::Dense(Dense::F32(vector(self.dimension, self.distance, number))),
            filter,
            k: K,
            threshold: None,
            exclude: None,
            params,
        }
    }

    /// Share of the exact k best that is found; checks that what is found is told truly.
    #[track_caller]
    fn recall(&self, filter: &Filter, params: Params) -> f64 {
        let exact = Params {
            exact: true,
            ..Params::default()
        };
        let (mut hits, mut all) = (0, 0);
        for number in ROWS..ROWS + QUERIES {
            let truth = self.find(number, filter.clone(), exact);
            let found = self.find(number, filter.clone(), params);
            assert_eq!(found.hits.len(), truth.hits.len(), "as many hits as there are");
            let scores: HashSet<(u64, u32)> = self
                .find(number, filter.clone(), exact)
                .hits
                .iter()
                .map(|hit| (hit.hit.version, hit.hit.score.to_bits()))
                .collect();
            for hit in &found.hits {
                if hit.interval.error == 0.0 && truth.hits.iter().any(|other| other.hit.id == hit.hit.id) {
                    let told = (hit.hit.version, hit.hit.score.to_bits());
                    assert!(scores.contains(&told), "{told:?} is no exact score");
                }
            }
            let wanted: HashSet<&DocId> = truth.hits.iter().map(|hit| &hit.hit.id).collect();
            hits += found.hits.iter().filter(|hit| wanted.contains(&hit.hit.id)).count();
            all += truth.hits.len();
        }
        hits as f64 / all as f64
    }
}

fn options(builder: Builder, bits: Bits) -> Options {
    Options {
        builder,
        bits,
        seed: 5,
        ..Options::default()
    }
}

fn tenth(value: i64) -> Filter {
    Filter {
        must: vec![Condition::MatchAny {
            key: "tenth".into(),
            any: vec![Scalar::Integer(value)],
        }],
        ..Filter::default()
    }
}

#[test]
fn queries_asked_together_are_answered_as_each_alone() {
    let sealed = sealed(96, Distance::Cosine, Options::default());
    let tenth = |value| Filter {
        must: vec![Condition::MatchAny {
            key: "tenth".into(),
            any: vec![Scalar::Integer(value)],
        }],
        ..Filter::default()
    };
    let (exact, walk) = (
        Params {
            exact: true,
            ..Params::default()
        },
        Params {
            ef: Some(20),
            ..Params::default()
        },
    );
    let certified = Params {
        certified: true,
        ..Params::default()
    };
    let queries: Vec<Query> = (ROWS..ROWS + QUERIES)
        .map(|number| match number % 8 {
            0 => sealed.query(number, tenth(3), exact),
            1 => sealed.query(number, Filter::default(), walk),
            2 => sealed.query(number, tenth(3), Params::default()),
            3 => sealed.query(number, tenth(4), Params::default()),
            4 => sealed.query(number, tenth(4), certified),
            5 => Query {
                k: 3,
                threshold: Some(0.2),
                ..sealed.query(number, Filter::default(), Params::default())
            },
            6 => sealed.query(number, Filter::default(), Params::default()),
            _ => sealed.query(number, Filter::default(), exact),
        })
        .collect();
    let check = |what: &str| {
        let view = sealed.index.view();
        // Remembered, so that the first to ask does no more than the others.
        for query in &queries {
            view.search(std::slice::from_ref(query), &|| false).unwrap();
        }
        let together = view.search(&queries, &|| false).unwrap();
        assert_eq!(together.len(), queries.len());
        for (query, found) in queries.iter().zip(together) {
            let alone = view.search(std::slice::from_ref(query), &|| false).unwrap().remove(0);
            assert_eq!(found, alone, "{what}: {:?}", query.params);
        }
    };
    check("codes scanned");
    sealed.index.derive(&Inline).unwrap();
    check("with a graph");
    for row in (0..ROWS as u32).step_by(7) {
        let place = Place {
            segment: SegmentId(1),
            row,
        };
        let (id, _) = sealed.index.view().sealed_id(place).unwrap().unwrap();
        assert!(sealed.index.delete(&id, Some(place)));
    }
    check("with dead rows");
    for number in ROWS..ROWS + 600 {
        sealed.index.insert(sealed.document(number), None).unwrap();
    }
    check("with documents in memory");
}

#[test]
fn graphs_of_both_builders_find_nearly_all_and_score_few_rows() {
    for builder in [Builder::Granum, Builder::HnswRs] {
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclid, Distance::Manhattan] {
            if builder == Builder::HnswRs && distance == Distance::Dot {
                continue;
            }
            let sealed = sealed(40, distance, options(builder, Bits::Four));
            assert_eq!(
                sealed.index.derive(&Inline).unwrap(),
                1,
                "a graph: codes are there since the seal"
            );
            assert_eq!(sealed.index.derive(&Inline).unwrap(), 0, "nothing is missing any more");
            let params = Params {
                ef: Some(32),
                ..Params::default()
            };
            let recall = sealed.recall(&Filter::default(), params);
            let least = if distance == Distance::Dot { 0.95 } else { 0.97 };
            assert!(recall >= least, "{builder:?} {distance:?}: recall {recall}");
            let usage = sealed.find(ROWS, Filter::default(), params).usage;
            assert!(usage.rows_scored < ROWS, "{builder:?} {distance:?}: {usage:?}");
            assert!(usage.rows_read < ROWS / 10, "{builder:?} {distance:?}: {usage:?}");
        }
    }
}

/// The graph of the product must be no worse than what the field's own library builds with the same number of links.
#[test]
fn our_graph_finds_as_much_as_hnsw_rs() {
    let sealed = sealed(40, Distance::Euclid, options(Builder::Granum, Bits::Eight));
    sealed.index.derive(&Threads(2)).unwrap();
    let oracle: Hnsw<'_, f32, DistL2> = Hnsw::new(16, ROWS as usize, 16, 200, DistL2);
    for number in 0..ROWS {
        oracle.insert((&vector(40, Distance::Euclid, number), number as usize));
    }
    let exact = Params {
        exact: true,
        ..Params::default()
    };
    let mut theirs = 0;
    for number in ROWS..ROWS + QUERIES {
        let truth = sealed.find(number, Filter::default(), exact);
        let neighbours = oracle.search(&vector(40, Distance::Euclid, number), K, 32);
        let is_true = |id: usize| truth.hits.iter().any(|hit| hit.hit.id == DocId::Number(id as u64));
        theirs += neighbours.iter().filter(|near| is_true(near.d_id)).count();
    }
    let params = Params {
        ef: Some(32),
        ..Params::default()
    };
    let ours = sealed.recall(&Filter::default(), params);
    let theirs = theirs as f64 / (QUERIES * K as u64) as f64;
    assert!(ours + 0.01 >= theirs, "ours {ours}, hnsw_rs {theirs}");
}

#[test]
fn a_scan_of_codes_is_exact_once_proved() {
    for bits in Bits::ALL {
        for (distance, dimension) in [
            (Distance::Cosine, 40),
            (Distance::Cosine, 96),
            (Distance::Dot, 1),
            (Distance::Euclid, 65),
            (Distance::Manhattan, 20),
        ] {
            let sealed = sealed(dimension, distance, options(Builder::Codes, bits));
            assert_eq!(
                sealed.index.derive(&Threads(2)).unwrap(),
                0,
                "they are there since the seal"
            );
            let recall = sealed.recall(&Filter::default(), Params::default());
            // Bounds of 2.5 deviations; so few dimensions at one bit are not Gaussian. Manhattan reads all that is named.
            let least = if bits == Bits::One { 0.97 } else { 0.99 };
            assert!(recall >= least, "{bits:?} {distance:?} {dimension}: recall {recall}");
        }
    }
}

#[test]
fn a_wanted_recall_is_had_and_a_higher_one_costs_more() {
    let sealed = sealed(40, Distance::Cosine, options(Builder::Granum, Bits::Four));
    sealed.index.derive(&Threads(2)).unwrap();
    let mut last = 0;
    for target in [0.7, 0.95, 0.999, 1.0] {
        let params = Params {
            target_recall: Some(target),
            ..Params::default()
        };
        let recall = sealed.recall(&Filter::default(), params);
        assert!(recall >= f64::from(target) - 0.02, "wanted {target}, found {recall}");
        let scored =
            (ROWS..ROWS + QUERIES).map(|number| sealed.find(number, Filter::default(), params).usage.rows_scored);
        let scored = scored.sum::<u64>();
        assert!(scored >= last, "{target}: {scored} rows scored, {last} for less");
        last = scored;
    }
    assert_eq!(last, QUERIES * ROWS, "all is not left to a walk");
}

#[test]
fn a_certified_answer_is_the_exact_one_and_others_say_that_they_are_not() {
    let certified = Params {
        certified: true,
        ef: Some(1),
        verify: Verify::None,
        ..Params::default()
    };
    let exact = Params {
        exact: true,
        ..Params::default()
    };
    for bits in Bits::ALL {
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclid, Distance::Manhattan] {
            let sealed = sealed(40, distance, options(Builder::Granum, bits));
            sealed.index.derive(&Threads(2)).unwrap();
            for filter in [Filter::default(), tenth(3)] {
                sealed.index.view().count(&filter, &|| false).unwrap();
                for number in ROWS..ROWS + QUERIES / 4 {
                    let truth = sealed.find(number, filter.clone(), exact);
                    let walked = sealed.find(number, filter.clone(), Params::default());
                    let found = sealed.find(number, filter.clone(), certified);
                    if distance == Distance::Manhattan {
                        assert_eq!([truth.delta, walked.delta, found.delta], [None; 3]);
                        continue;
                    }
                    assert_eq!([truth.delta, walked.delta, found.delta], [Some(0.0), None, Some(1e-3)]);
                    assert_eq!(found.hits, truth.hits, "{bits:?} {distance:?} {number}");
                    if bits == Bits::Eight {
                        assert!(found.usage.rows_read < ROWS / 4, "{distance:?}: {:?}", found.usage);
                    }
                }
            }
        }
    }
}

#[test]
fn a_field_without_an_index_is_named_while_documents_must_be_read_for_it() {
    let sealed = sealed(8, Distance::Cosine, options(Builder::Scan, Bits::Four));
    let view = sealed.index.view();
    let unindexed = |filter: &Filter| view.unindexed(filter, &|| false).unwrap();
    let missing = PayloadField {
        key: "tenth".into(),
        kind: PayloadKind::Integer,
    };
    assert_eq!(unindexed(&Filter::default()), []);
    assert_eq!(unindexed(&tenth(3)), [missing]);
    assert_eq!(view.count(&tenth(3), &|| false).unwrap(), ROWS / 10);
    assert_eq!(unindexed(&tenth(3)), [], "the rows that pass are remembered");
    let nobody = Condition::HasId {
        ids: vec![DocId::Text("nobody".into())],
    };
    let mut both = tenth(4);
    both.must.push(nobody);
    assert_eq!(unindexed(&both), [], "the other condition tells");
}

#[test]
fn fewer_proofs_read_fewer_rows() {
    let sealed = sealed(96, Distance::Cosine, options(Builder::Granum, Bits::Two));
    sealed.index.derive(&Inline).unwrap();
    let read = |verify| {
        let params = Params {
            verify,
            ..Params::default()
        };
        let recall = sealed.recall(&Filter::default(), params);
        let usage = |number| sealed.find(number, Filter::default(), params).usage.rows_read;
        (recall, (ROWS..ROWS + QUERIES).map(usage).sum::<u64>())
    };
    let (all, bound, none) = (read(Verify::All), read(Verify::Bound), read(Verify::None));
    assert!(all.0 >= 0.97 && bound.0 >= 0.97, "{all:?} {bound:?}");
    assert!(bound.1 < all.1 && none.1 == 0, "{all:?} {bound:?} {none:?}");
    assert!(none.0 > 0.6 && none.0 < bound.0, "{none:?} {bound:?}");
}

/// Recall as [`granum_index::View::check`] has it, held against a count over all documents; documents that are not among
/// those asked of are written while the answers are checked.
#[track_caller]
fn checked_recall(sealed: &Sealed, filter: &Filter, params: Params) -> f64 {
    let field = &schema(sealed.dimension, sealed.distance).vectors[0];
    let of = |number| Vector::Dense(Dense::F32(vector(sealed.dimension, sealed.distance, number)));
    let score = |query: &Query, number| granum_index::score(field, &query.vector, &of(number)).unwrap().unwrap();
    let (mut wanted, mut found) = (0, 0);
    for number in ROWS..ROWS + QUERIES {
        let query = sealed.query(number, filter.clone(), params);
        let view = sealed.index.view();
        let hits = view
            .search(std::slice::from_ref(&query), &|| false)
            .unwrap()
            .remove(0)
            .hits;
        let passing = view.scan(filter, None, ROWS as usize, &|| false).unwrap();
        let number_of = |id: &DocId| match id {
            DocId::Number(number) => *number,
            other => panic!("{other:?} is no number"),
        };
        let mut scores: Vec<f32> = passing.iter().map(|(id, _)| score(&query, number_of(id))).collect();
        scores.sort_by(|left, right| right.total_cmp(left));
        let best = K.min(scores.len());
        let has_found = hits
            .iter()
            .filter(|hit| score(&query, number_of(&hit.hit.id)) >= scores[best - 1])
            .count();

        let gone = passing[number as usize % passing.len()].0.clone();
        let place = view.find(&gone).unwrap();
        assert!(
            sealed.index.delete(&gone, place),
            "deletes between answer and check are no misses"
        );
        let checked = view.check(&query, &hits, &|| false).unwrap();
        assert_eq!((checked.wanted, checked.found), (best, has_found));
        (wanted, found) = (wanted + best, found + has_found);
    }
    found as f64 / wanted as f64
}

#[test]
fn a_check_sees_what_was_missed_and_only_that() {
    let sealed = sealed(96, Distance::Cosine, options(Builder::Granum, Bits::One));
    sealed.index.derive(&Threads(2)).unwrap();
    let exact = Params {
        exact: true,
        ..Params::default()
    };
    let narrow = Params {
        ef: Some(1),
        ..Params::default()
    };
    let unproved = Params {
        verify: Verify::None,
        ..Params::default()
    };
    for filter in [Filter::default(), tenth(3)] {
        assert_eq!(checked_recall(&sealed, &filter, exact), 1.0);
        let recall = checked_recall(&sealed, &filter, unproved);
        assert!(recall > 0.1 && recall < 0.95, "{filter:?}: {recall}");
    }
    let recall = checked_recall(&sealed, &Filter::default(), narrow);
    assert!(recall > 0.1 && recall < 0.99, "{recall}");
}

#[test]
fn of_equal_scores_any_document_is_right() {
    let equal = vector(8, Distance::Cosine, 1);
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), schema(8, Distance::Cosine), Options::default(), &[]).unwrap();
    for number in 0..20 {
        let document = Document {
            id: DocId::Number(number),
            version: number + 1,
            payload: Arc::from(&b"{}"[..]),
            vectors: vec![("v".into(), Vector::Dense(Dense::F32(equal.clone())))],
        };
        index.insert(document, None).unwrap();
    }
    let view = index.view();
    let ask = |k| Query {
        using: "v".into(),
        vector: Vector::Dense(Dense::F32(equal.clone())),
        filter: Filter::default(),
        k,
        threshold: None,
        exclude: None,
        params: Params::default(),
    };
    let all = view.search(&[ask(20)], &|| false).unwrap().remove(0).hits;
    let check = |hits: &[granum_index::RowHit]| view.check(&ask(5), hits, &|| false).unwrap().recall();
    assert_eq!(check(&all[15..]), Some(1.0));
    assert_eq!(check(&all[15..18]), Some(0.6), "but each counts once");
    let none = view.check(&ask(0), &[], &|| false).unwrap();
    assert_eq!(none.recall(), None, "there was nothing to find");
    assert!(matches!(
        view.check(&ask(5), &all[..5], &|| true),
        Err(granum_index::SearchError::Stopped)
    ));
}

#[test]
fn dead_rows_are_never_hits_and_a_filter_loses_none() {
    let sealed = sealed(40, Distance::Cosine, options(Builder::Granum, Bits::Four));
    sealed.index.derive(&Inline).unwrap();
    let kill = |rest: u64| {
        for number in (0..ROWS).filter(|number| number % 6 == rest) {
            let place = sealed.index.view().find(&DocId::Number(number)).unwrap();
            assert!(sealed.index.delete(&DocId::Number(number), place));
        }
    };
    kill(0);
    let rare = Filter {
        must: vec![Condition::MatchAny {
            key: "rare".into(),
            any: vec![Scalar::Boolean(true)],
        }],
        ..Filter::default()
    };
    let filters = [Filter::default(), tenth(3), rare];
    // Once, so that the segment knows which rows pass, and which of them were alive then.
    for filter in &filters {
        sealed.index.view().count(filter, &|| false).unwrap();
        sealed.find(0, filter.clone(), Params::default());
    }
    kill(3);
    for filter in filters {
        let params = Params {
            ef: Some(32),
            ..Params::default()
        };
        let recall = sealed.recall(&filter, params);
        assert!(recall >= 0.97, "{filter:?}: recall {recall}");
        for number in ROWS..ROWS + QUERIES {
            for hit in sealed.find(number, filter.clone(), params).hits {
                let DocId::Number(id) = hit.hit.id else {
                    panic!("all ids are numbers")
                };
                assert!(id % 3 != 0, "{id} is dead");
            }
        }
    }
}

/// Bytes of the derived files.
fn derived(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let is_derived = name.contains(".codes.") || name.contains(".graph.");
            is_derived.then(|| (name, std::fs::read(entry.path()).unwrap()))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn any_number_of_threads_builds_the_same_files() {
    let one = sealed(40, Distance::Cosine, options(Builder::Granum, Bits::Four));
    one.index.derive(&Inline).unwrap();
    let many = sealed(40, Distance::Cosine, options(Builder::Granum, Bits::Four));
    many.index.derive(&Threads(5)).unwrap();
    let (one, many) = (derived(one._directory.path()), derived(many._directory.path()));
    assert_eq!(one.len(), 2);
    assert!(one == many, "files differ");
}

#[test]
fn damage_changes_no_answer_and_is_mended() {
    let sealed = sealed(40, Distance::Cosine, options(Builder::Granum, Bits::Four));
    sealed.index.derive(&Inline).unwrap();
    let directory = sealed._directory.path();
    let whole = derived(directory);
    let exact = Params {
        exact: true,
        ..Params::default()
    };
    let expected = sealed.find(ROWS, Filter::default(), exact).hits;
    for (name, bytes) in &whole {
        // A content page, the checksum table, the footer.
        for at in [100, bytes.len() - 5000, bytes.len() - 100] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(directory.join(name), &damaged).unwrap();
            assert!(
                granum_index::verify(directory, &sealed.manifest).problems_found > 0,
                "{name} at {at}"
            );
            let options = sealed.index.options();
            let reopened = Sealed {
                index: Index::open(directory, schema(40, Distance::Cosine), options, &sealed.manifest).unwrap(),
                manifest: sealed.manifest.clone(),
                dimension: 40,
                distance: Distance::Cosine,
                _directory: tempfile::tempdir().unwrap(),
            };
            let found = reopened.find(ROWS, Filter::default(), Params::default()).hits;
            let missed = expected
                .iter()
                .filter(|hit| !found.iter().any(|other| other.hit == hit.hit))
                .count();
            assert!(missed <= 1, "{name} at {at}: {missed} of the exact hits are missing");
            assert!(
                reopened.index.derive(&Inline).unwrap() > 0,
                "{name} at {at} is built anew"
            );
            assert!(derived(directory) == whole, "{name} at {at}: the same files as before");
            assert_eq!(
                granum_index::verify(directory, &sealed.manifest).problems,
                Vec::<String>::new()
            );
        }
    }
    sealed.index.remove_unreferenced(&sealed.manifest).unwrap();
    assert_eq!(
        derived(directory).len(),
        2,
        "derived files stay while their segment does"
    );
}
