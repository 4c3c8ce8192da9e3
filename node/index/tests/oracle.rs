//! Is every answer the one that brute force over a `BTreeMap` gives, whatever was written, sealed and reopened before?
//!
//! Components are small multiples of 1/4, so that sums are exact in f32 in any order and hits can be compared bit for bit,
//! ties included.

use std::collections::BTreeMap;
use std::sync::Arc;

use granum_index::{Document, Found, Frozen, Index, Options, Params, Place, Query, SegmentId, SegmentRef, View};
use granum_model::filter::Bounds;
use granum_model::{Condition, Dense, Distance, DocId, Filter, Fine, Scalar, Schema, Vector, VectorField, VectorKind};
use half::f16;
use proptest::prelude::*;

const SECTIONS: [&str; 3] = ["games", "admin", "science"];

fn schema() -> Schema {
    let field = |name: &str, kind, distance, fine| VectorField {
        name: name.into(),
        kind,
        distance,
        fine,
        embedder: None,
    };
    Schema {
        vectors: vec![
            field("dot", VectorKind::Dense { dimension: 5 }, Distance::Dot, Fine::F16),
            field(
                "euclid",
                VectorKind::Dense { dimension: 3 },
                Distance::Euclid,
                Fine::F32,
            ),
            field(
                "manhattan",
                VectorKind::Dense { dimension: 3 },
                Distance::Manhattan,
                Fine::F16,
            ),
            field("sparse", VectorKind::Sparse, Distance::Dot, Fine::F32),
            field("multi", VectorKind::Multi { dimension: 2 }, Distance::Dot, Fine::F16),
        ],
    }
}

/// A document as the oracle knows it: vectors in f32, each present or not.
#[derive(Clone, Debug)]
struct Known {
    section: usize,
    size: i64,
    version: u64,
    vectors: [Option<Vec<f32>>; 5],
}

fn halves(values: &[f32]) -> Dense {
    Dense::F16(values.iter().map(|value| f16::from_f32(*value).to_bits()).collect())
}

/// The vector that field number `field` makes of plain values; sparse: value at index 3 * i + 1, zeros left out.
fn vector(field: usize, values: &[f32]) -> Vector {
    match field {
        0 => Vector::Dense(halves(&values[..5])),
        1 => Vector::Dense(Dense::F32(values[..3].to_vec())),
        2 => Vector::Dense(halves(&values[..3])),
        3 => {
            let pairs = (0u32..).zip(values).filter(|(_, value)| **value != 0.0);
            let (indices, values) = pairs.map(|(at, value)| (at * 3 + 1, *value)).unzip();
            Vector::Sparse { indices, values }
        }
        _ => Vector::Multi {
            dimension: 2,
            rows: halves(&values[..values.len() / 2 * 2]),
        },
    }
}

fn score(field: usize, query: &[f32], row: &[f32]) -> f32 {
    let dot = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(left, right)| left * right).sum::<f32>();
    let differences = || query[..3].iter().zip(&row[..3]).map(|(left, right)| left - right);
    match field {
        0 => dot(&query[..5], &row[..5]),
        1 => -differences()
            .map(|difference| difference * difference)
            .sum::<f32>()
            .sqrt(),
        2 => -differences().map(f32::abs).sum::<f32>(),
        3 => dot(query, row),
        _ => {
            let best = |own: &[f32]| row.chunks_exact(2).map(|row| dot(own, row)).fold(f32::MIN, f32::max);
            query.chunks_exact(2).map(best).sum()
        }
    }
}

impl Known {
    fn document(&self, id: &DocId) -> Document {
        let payload = format!(
            r#"{{"section": "{}", "of": {{"size": [{}]}}}}"#,
            SECTIONS[self.section], self.size
        );
        let fields = schema().vectors;
        let vectors = self.vectors.iter().enumerate().filter_map(|(at, values)| {
            values
                .as_ref()
                .map(|values| (fields[at].name.clone(), vector(at, values)))
        });
        Document {
            id: id.clone(),
            version: self.version,
            payload: Arc::from(payload.as_bytes()),
            vectors: vectors.collect(),
        }
    }
}

/// A filter and what it means to the oracle.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    All,
    Section(usize),
    SizeBelow(i64),
    NotBoth(usize, i64),
}

impl Wanted {
    fn filter(self) -> Filter {
        let section = |section: usize| Condition::MatchAny {
            key: "section".into(),
            any: vec![Scalar::Text(SECTIONS[section].into())],
        };
        let below = |size: i64| Condition::Range {
            key: "of.size[]".into(),
            bounds: Bounds {
                lt: Some(size as f64),
                ..Bounds::default()
            },
        };
        match self {
            Wanted::All => Filter::default(),
            Wanted::Section(wanted) => Filter {
                must: vec![section(wanted)],
                ..Filter::default()
            },
            Wanted::SizeBelow(size) => Filter {
                should: vec![below(size)],
                ..Filter::default()
            },
            Wanted::NotBoth(wanted, size) => {
                let both = Filter {
                    must: vec![section(wanted), below(size)],
                    ..Filter::default()
                };
                Filter {
                    must_not: vec![Condition::Filter(both)],
                    ..Filter::default()
                }
            }
        }
    }

    fn passes(self, known: &Known) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Section(wanted) => known.section == wanted,
            Wanted::SizeBelow(size) => known.size < size,
            Wanted::NotBoth(wanted, size) => known.section != wanted || known.size >= size,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, Known),
    Delete(u64),
    Freeze,
    Publish,
    Reopen,
    Ask {
        field: usize,
        query: Vec<f32>,
        wanted: Wanted,
        k: usize,
        threshold: Option<f32>,
        exclude: Option<u64>,
    },
}

fn id(number: u64) -> DocId {
    if number.is_multiple_of(3) {
        DocId::Text(format!("t{number}"))
    } else {
        DocId::Number(number)
    }
}

type Model = BTreeMap<DocId, Known>;

/// The index as a node drives it: with a table id -> place, a manifest, and a log behind the manifest.
struct Driver {
    directory: tempfile::TempDir,
    index: Index,
    model: Model,
    places: BTreeMap<DocId, Place>,
    manifest: Vec<SegmentRef>,
    next: u64,
    /// Frozen and not yet published, each with the model as of then.
    frozen: Vec<(Frozen, Model)>,
    /// The model that the manifest stands for.
    sealed: Model,
}

impl Driver {
    fn new() -> Driver {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::open(directory.path(), schema(), Options::default(), &[]).unwrap();
        let (model, places, manifest) = (Model::new(), BTreeMap::new(), Vec::new());
        Driver {
            directory,
            index,
            sealed: model.clone(),
            model,
            places,
            manifest,
            next: 1,
            frozen: Vec::new(),
        }
    }

    fn step(&mut self, step: Step, version: u64) {
        match step {
            Step::Insert(number, known) => {
                let (id, known) = (id(number), Known { version, ..known });
                let replaced = self.index.insert(known.document(&id), self.places.remove(&id)).unwrap();
                assert_eq!(replaced, self.model.insert(id, known).is_some());
            }
            Step::Delete(number) => {
                let id = id(number);
                let died = self.index.delete(&id, self.places.remove(&id));
                assert_eq!(died, self.model.remove(&id).is_some());
            }
            Step::Freeze => {
                self.frozen
                    .push((self.index.freeze(SegmentId(self.next)), self.model.clone()));
                self.next += 1;
            }
            Step::Publish => self.publish(),
            Step::Reopen => self.reopen(),
            Step::Ask {
                field,
                query,
                wanted,
                k,
                threshold,
                exclude,
            } => {
                let view = self.index.view();
                let ask = Query {
                    using: schema().vectors[field].name.clone(),
                    vector: vector(field, &query),
                    filter: wanted.filter(),
                    k,
                    threshold,
                    exclude: exclude.map(id),
                    params: Params::default(),
                };
                for _ in 0..2 {
                    let found = &view.search(std::slice::from_ref(&ask), &|| false).unwrap()[0];
                    self.check_hits(&view, found, field, &query, wanted, &ask);
                    self.check_scan(&view, wanted, ask.exclude.as_ref(), k);
                }
            }
        }
    }

    fn publish(&mut self) {
        if self.frozen.is_empty() {
            return;
        }
        let (frozen, model) = self.frozen.remove(0);
        let built = self.index.build(&frozen).unwrap();
        let ids: Vec<DocId> = built.ids().map(|(id, _)| id.clone()).collect();
        for (id, place) in built.ids() {
            self.places.insert(id.clone(), place);
        }
        assert!(ids.iter().all(|id| model.contains_key(id)));
        self.manifest = built.segments().to_vec();
        self.sealed = model;
        self.index.publish(built);
        self.index.remove_unreferenced(&self.manifest).unwrap();
    }

    /// As after a crash: what the manifest names, then the writes since.
    fn reopen(&mut self) {
        self.index = Index::open(self.directory.path(), schema(), Options::default(), &self.manifest).unwrap();
        self.index.remove_unreferenced(&self.manifest).unwrap();
        self.frozen.clear();
        let sealed_ids = self.index.view().sealed_ids().collect::<Result<_, _>>().unwrap();
        self.places = sealed_ids;
        self.next = self.manifest.iter().map(|segment| segment.id.0).max().unwrap_or(0) + 1;
        assert_eq!(self.index.stats().documents, self.sealed.len() as u64);
        for (id, known) in &self.model {
            if self.sealed.get(id).is_none_or(|sealed| sealed.version != known.version) {
                self.index.insert(known.document(id), self.places.remove(id)).unwrap();
            }
        }
        for id in self.sealed.keys().filter(|id| !self.model.contains_key(*id)) {
            assert!(self.index.delete(id, self.places.remove(id)));
        }
    }

    fn check_hits(&self, view: &View, found: &Found, field: usize, query: &[f32], wanted: Wanted, ask: &Query) {
        let passing = self
            .model
            .iter()
            .filter(|(id, known)| wanted.passes(known) && ask.exclude.as_ref() != Some(*id));
        let scored = passing.filter_map(|(id, known)| {
            known.vectors[field]
                .as_ref()
                .map(|row| (score(field, query, row), id, known.version))
        });
        let mut expected: Vec<_> = scored
            .filter(|(score, ..)| ask.threshold.is_none_or(|least| *score >= least))
            .collect();
        expected.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(right.1)));
        expected.truncate(ask.k);
        let hits: Vec<_> = found
            .hits
            .iter()
            .map(|row| (row.hit.score, &row.hit.id, row.hit.version))
            .collect();
        assert_eq!(hits, expected, "{ask:?}");
        for row in &found.hits {
            assert_eq!(
                view.document(row.row).unwrap(),
                self.model[&row.hit.id].document(&row.hit.id)
            );
        }
    }

    fn check_scan(&self, view: &View, wanted: Wanted, from: Option<&DocId>, limit: usize) {
        let passing = self.model.iter().filter(|(_, known)| wanted.passes(known));
        assert_eq!(
            view.count(&wanted.filter(), &|| false).unwrap(),
            passing.clone().count() as u64
        );
        let page = passing
            .map(|(id, _)| id)
            .filter(|id| from.is_none_or(|from| *id >= from))
            .take(limit);
        let found = view.scan(&wanted.filter(), from, limit, &|| false).unwrap();
        assert!(
            found.iter().map(|(id, _)| id).eq(page),
            "{wanted:?} from {from:?}, {limit}"
        );
        for (id, row) in found {
            assert_eq!(view.id(row).unwrap(), (id.clone(), self.model[&id].version));
        }
    }

    fn check_all(&self) {
        let view = self.index.view();
        for number in 0..IDS {
            let id = id(number);
            let expected = self.model.get(&id).map(|known| known.document(&id));
            assert_eq!(view.get(&id, self.places.get(&id).copied()).unwrap(), expected);
            assert_eq!(view.get(&id, None).unwrap(), expected);
            let wrong = Place {
                segment: SegmentId(number % 4),
                row: number as u32,
            };
            assert_eq!(view.get(&id, Some(wrong)).unwrap(), expected);
        }
        assert_eq!(self.index.stats().documents, self.model.len() as u64);
    }
}

const IDS: u64 = 24;

fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-4i8..5).prop_map(|quarters| f32::from(quarters) / 4.0), 6)
}

fn known() -> impl Strategy<Value = Known> {
    let vector = || prop::option::weighted(0.8, values());
    (
        0..SECTIONS.len(),
        0i64..10,
        [vector(), vector(), vector(), vector(), vector()],
    )
        .prop_map(|(section, size, vectors)| Known {
            section,
            size,
            version: 0,
            vectors,
        })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        Just(Wanted::All),
        (0..SECTIONS.len()).prop_map(Wanted::Section),
        (0i64..10).prop_map(Wanted::SizeBelow),
        (0..SECTIONS.len(), 0i64..10).prop_map(|(section, size)| Wanted::NotBoth(section, size)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..IDS, known()).prop_map(|(id, known)| Step::Insert(id, known)),
        4 => (0..IDS).prop_map(Step::Delete),
        2 => Just(Step::Freeze),
        2 => Just(Step::Publish),
        1 => Just(Step::Reopen),
        4 => (0usize..5, values(), wanted(), 0usize..8, prop::option::of(-1.0f32..1.0), prop::option::of(0..IDS))
            .prop_map(|(field, query, wanted, k, threshold, exclude)| {
                Step::Ask { field, query, wanted, k, threshold, exclude }
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_answer_is_that_of_brute_force(steps in prop::collection::vec(step(), 1..120)) {
        let mut driver = Driver::new();
        for (version, step) in (1..).zip(steps) {
            driver.step(step, version);
        }
        driver.check_all();
    }
}

/// Enough rows that a rare filter goes through best-first, over to all rows, and on to the remembered rows.
#[test]
fn a_rare_filter_finds_the_same_on_every_way() {
    let mut driver = Driver::new();
    for number in 0..3000 {
        let value = |at: u64| ((number * 31 + at * 17) % 9) as f32 / 4.0 - 1.0;
        let values: Vec<f32> = (0..6).map(value).collect();
        let (section, size) = ((number % 500 == 499) as usize, (number % 50) as i64);
        let known = Known {
            section,
            size,
            version: 0,
            vectors: [Some(values), None, None, None, None],
        };
        driver.step(Step::Insert(number, known), number + 1);
        if number == 2000 {
            driver.step(Step::Freeze, 0);
        }
    }
    driver.step(Step::Publish, 0);
    for number in (0..3000).step_by(7) {
        driver.step(Step::Delete(number), 0);
    }
    for wanted in [
        Wanted::Section(1),
        Wanted::SizeBelow(25),
        Wanted::SizeBelow(1),
        Wanted::All,
    ] {
        let query = vec![1.0, -0.5, 0.25, 0.75, -1.0, 0.0];
        driver.step(
            Step::Ask {
                field: 0,
                query,
                wanted,
                k: 10,
                threshold: None,
                exclude: None,
            },
            0,
        );
    }
}
