//! Is every answer the one that brute force over a `BTreeMap` gives, whatever was written, sealed, merged and reopened
//! before?
//!
//! Components are small multiples of 1/4, so that sums are exact in f32 in any order and hits can be compared bit for bit,
//! ties included.

use std::collections::BTreeMap;

use granum_index::{
    Census, Found, Frozen, Index, MergeError, MergePlan, Merged, Moved, Options, Params, Place, Query, SegmentId,
    SegmentRef, View,
};
use granum_model::DocId;
use proptest::prelude::*;

mod known;
use known::{FIELDS, IDS, Known, Wanted, known, schema, score, values, vector, wanted};

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, Known),
    Delete(u64),
    Freeze,
    Publish,
    Reopen,
    /// Writes the segments at the set bits of the mask as one.
    Merge(u8),
    /// Names the merged segment in the manifest.
    Settle,
    PublishMerged,
    /// Brings the table of places up to date with the merge.
    Move,
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
    /// With whether it is settled.
    merged: Option<(Merged, bool)>,
    moved: Option<Moved>,
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
            merged: None,
            moved: None,
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
            Step::Merge(mask) => self.merge(mask),
            Step::Settle => self.settle(),
            Step::PublishMerged => self.publish_merged(),
            Step::Move => self.move_places(),
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
        let is_settled = matches!(self.merged, Some((_, true)));
        if self.frozen.is_empty() || is_settled {
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
        self.check_census();
        self.index.publish(built);
        self.index.remove_unreferenced(&self.manifest).unwrap();
    }

    /// What the manifest says of its segments is what was sealed.
    fn check_census(&self) {
        let digests = self.sealed.iter().map(|(id, known)| known.document(id).digest());
        let sealed = Census {
            documents: self.sealed.len() as u64,
            digest: digests.fold(0, u64::wrapping_add),
        };
        assert_eq!(Census::of(&self.manifest), sealed);
    }

    fn merge(&mut self, mask: u8) {
        let chosen = (0..).zip(&self.manifest).filter(|(bit, _)| mask >> (bit % 8) & 1 == 1);
        let plan = MergePlan {
            segments: chosen.map(|(_, segment)| segment.id).collect(),
            bytes: 0,
        };
        if plan.segments.is_empty() || self.moved.is_some() {
            return;
        }
        let next = SegmentId(self.next);
        let merged = self.index.merge(&plan, next, &|_| false);
        if self.merged.is_some() {
            assert!(matches!(merged, Err(MergeError::Busy)));
            return;
        }
        self.next += 1;
        self.merged = Some((merged.unwrap(), false));
    }

    fn settle(&mut self) {
        if let Some((merged, false)) = &mut self.merged {
            self.manifest = self.index.settle(merged).unwrap();
            self.check_census();
            self.merged.as_mut().unwrap().1 = true;
        }
    }

    fn publish_merged(&mut self) {
        self.settle();
        if let Some((merged, _)) = self.merged.take() {
            self.moved = Some(self.index.publish_merged(merged));
            self.index.remove_unreferenced(&self.manifest).unwrap();
        }
    }

    fn move_places(&mut self) {
        let Some(moved) = self.moved.take() else { return };
        for entry in moved.places() {
            let (id, old, new) = entry.unwrap();
            if let Some(place) = self.places.get_mut(&id).filter(|place| **place == old) {
                *place = new;
            }
        }
        self.index.forget_moved(moved);
    }

    /// As after a crash: what the manifest names, then the writes since.
    fn reopen(&mut self) {
        (self.merged, self.moved) = (None, None);
        self.index = Index::open(self.directory.path(), schema(), Options::default(), &self.manifest).unwrap();
        self.index.remove_unreferenced(&self.manifest).unwrap();
        self.frozen.clear();
        let sealed_ids = self.index.view().sealed_ids().collect::<Result<_, _>>().unwrap();
        self.places = sealed_ids;
        self.next = self.manifest.iter().map(|segment| segment.id.0).max().unwrap_or(0) + 1;
        let verified = granum_index::verify(self.directory.path(), &self.manifest);
        assert_eq!(verified.problems, Vec::<String>::new());
        assert_eq!(self.index.stats().documents, self.sealed.len() as u64);
        for (id, known) in &self.sealed {
            // A conditional write that is replayed asks for the version as of the seal.
            let version = self.index.view().sealed_id(self.places[id]).unwrap();
            assert_eq!(version, Some((id.clone(), known.version)));
        }
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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..IDS, known()).prop_map(|(id, known)| Step::Insert(id, known)),
        4 => (0..IDS).prop_map(Step::Delete),
        2 => Just(Step::Freeze),
        3 => Just(Step::Publish),
        1 => Just(Step::Reopen),
        3 => any::<u8>().prop_map(Step::Merge),
        1 => Just(Step::Settle),
        2 => Just(Step::PublishMerged),
        2 => Just(Step::Move),
        4 => (0..FIELDS, values(), wanted(), 0usize..8, prop::option::of(-1.0f32..1.0), prop::option::of(0..IDS))
            .prop_map(|(field, query, wanted, k, threshold, exclude)| {
                Step::Ask { field, query, wanted, k, threshold, exclude }
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
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
            vectors: [Some(values), None, None, None, None, None, None],
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
