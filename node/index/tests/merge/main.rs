//! What does a merge keep, leave out and survive? Schema changes, damage, a caller that gives up, and others at work
//! meanwhile: a merge asks its caller every few rows whether to go on, so a test writes and seals right there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use granum_index::{Document, MergeError, MergePolicy, OpenError, SegmentId, verify};
use granum_model::{Dense, DocId, Filter, Vector};

mod derived;
mod held;
use held::{Held, ROWS, dense, document, names, schema, sealed, values};

#[test]
fn a_merged_segment_holds_every_live_document_bit_for_bit_and_none_that_was_dead() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = sealed(directory.path());
    let (before, old) = (held.documents(), held.index.view());
    held.merge(&|_| false).unwrap();
    assert_eq!(held.documents(), before);
    let rows = old.scan(&Filter::default(), None, 10_000, &|| false).unwrap();
    let seen_before = rows.into_iter().map(|(_, row)| old.document(row).unwrap());
    assert!(
        seen_before.eq(before.iter().cloned()),
        "a view that was pinned before changes"
    );
    let [merged] = &held.manifest[..] else {
        panic!("{:?}", held.manifest)
    };
    assert_eq!((merged.rows, merged.deleted), (before.len() as u32, None));
    assert_eq!(verify(directory.path(), &held.manifest).problems, Vec::<String>::new());
    let named: BTreeSet<String> = merged.files.iter().map(|file| file.name.clone()).collect();
    assert_eq!(names(directory.path()), named);
}

#[test]
fn the_largest_source_comes_first_in_its_own_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::new(directory.path(), schema());
    for range in [0..3, 10..17, 20..24] {
        range.for_each(|number| held.put(document(number, 1)));
        held.seal();
    }
    held.merge(&|_| false).unwrap();
    let ids = held
        .index
        .view()
        .sealed_ids()
        .map(|entry| entry.unwrap().0)
        .collect::<Vec<_>>();
    let expected = (10..17).chain(0..3).chain(20..24).map(DocId::Number);
    assert!(expected.eq(ids));
}

#[test]
fn others_write_and_seal_while_a_merge_runs() {
    let directory = tempfile::tempdir().unwrap();
    let held = RefCell::new(sealed(directory.path()));
    let plan = held.borrow().all();
    let next = held.borrow_mut().id();
    let (asked, sealed_documents) = (Cell::new(0), RefCell::new(Vec::new()));
    let work = |_: u64| {
        let round = asked.get();
        asked.set(round + 1);
        let mut held = held.borrow_mut();
        held.delete(round * 5 + 1);
        held.put(document(round * 5 + 2, 100 + round));
        held.put(document(ROWS + round, 100));
        if round < 3 {
            held.seal();
            *sealed_documents.borrow_mut() = held.documents();
        }
        false
    };
    let index = held.borrow().index.clone();
    let merged = index.merge(&plan, next, &work).unwrap();
    assert!(asked.get() > 3, "asked {} times", asked.get());
    let mut held = held.into_inner();
    let expected = held.documents();
    held.publish(merged);
    assert_eq!(held.documents(), expected);
    assert_eq!(held.manifest[0].id, next);
    assert!(
        held.manifest[0].deleted.is_some(),
        "rows died between the seal that was pinned and the last"
    );
    held.reopen(directory.path());
    assert_eq!(held.documents(), sealed_documents.into_inner());
    assert_eq!(verify(directory.path(), &held.manifest).problems, Vec::<String>::new());
}

#[test]
fn a_source_that_a_seal_drops_meanwhile_leaves_only_dead_rows() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::new(directory.path(), schema());
    for range in [0..10, 10..20] {
        range.for_each(|number| held.put(document(number, 1)));
        held.seal();
    }
    let (plan, next) = (held.all(), held.id());
    let merged = held.index.merge(&plan, next, &|_| false).unwrap();
    (0..10).for_each(|number| held.delete(number));
    held.seal();
    assert_eq!(held.manifest.len(), 1);
    let expected = held.documents();
    held.publish(merged);
    assert_eq!((held.manifest[0].rows, held.manifest[0].live_rows), (20, 10));
    assert_eq!(held.documents(), expected);
    held.reopen(directory.path());
    assert_eq!(held.documents(), expected);
}

#[test]
fn a_merge_of_nothing_but_dead_rows_leaves_no_segment() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::new(directory.path(), schema());
    (0..10).for_each(|number| held.put(document(number, 1)));
    held.seal();
    let (plan, next) = (held.all(), held.id());
    let merged = held.index.merge(&plan, next, &|_| false).unwrap();
    (0..10).for_each(|number| held.delete(number));
    (20..30).for_each(|number| held.put(document(number, 1)));
    held.seal();
    let expected = held.documents();
    held.publish(merged);
    assert_eq!(held.manifest.len(), 1);
    assert_eq!(held.documents(), expected);
    held.reopen(directory.path());
    assert_eq!(held.documents(), expected);
}

#[test]
fn a_caller_that_gives_up_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = sealed(directory.path());
    let (before, files) = (held.documents(), names(directory.path()));
    let mut finished = false;
    for asks in 0.. {
        let asked = Cell::new(0);
        let give_up = |_| asked.replace(asked.get() + 1) == asks;
        match held.merge(&give_up) {
            Err(MergeError::Stopped) => assert_eq!(names(directory.path()), files),
            other => {
                other.unwrap();
                finished = true;
                break;
            }
        }
        assert_eq!(held.documents(), before);
    }
    assert!(finished && held.manifest.len() == 1);
    assert_eq!(held.documents(), before);
}

#[test]
fn one_merge_runs_at_a_time_and_a_plan_may_be_out_of_date() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = sealed(directory.path());
    let (plan, next) = (held.all(), held.id());
    let merged = held.index.merge(&plan, next, &|_| false).unwrap();
    let second = held.index.merge(&plan, SegmentId(next.0 + 1), &|_| false);
    assert!(matches!(second, Err(MergeError::Busy)));
    drop(merged);
    held.merge(&|_| false).unwrap();
    let gone = held.index.merge(&plan, SegmentId(next.0 + 9), &|_| false);
    assert!(matches!(gone, Err(MergeError::Gone { segment }) if segment == plan.segments[0]));
}

/// A page of each file in turn is damaged, after all of them were read: what was found sound once is checked again.
#[test]
fn a_damaged_source_ends_the_merge_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::new(directory.path(), schema());
    for range in [0..ROWS / 4, ROWS / 4..ROWS / 2] {
        range.for_each(|number| held.put(document(number, 1)));
        held.seal();
    }
    (0..ROWS / 2).step_by(9).for_each(|number| held.delete(number));
    held.seal();
    let before = held.documents();
    for file in held.manifest.clone().iter().flat_map(|segment| &segment.files) {
        if file.name.contains(".deleted.") {
            continue; // The merge reads it from memory.
        }
        let path = directory.path().join(&file.name);
        let sound = std::fs::read(&path).unwrap();
        let files = names(directory.path());
        for page in [0, sound.len() / 4096 / 2, sound.len() / 4096 - 1] {
            let mut damaged = sound.clone();
            damaged[page * 4096 + 9] ^= 4;
            // A file of its own: the one that is mapped stays as it is.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, damaged).unwrap();
            match held.merge(&|_| false) {
                Err(MergeError::Source(OpenError::Read(error))) => assert!(error.to_string().contains(&file.name)),
                other => panic!("{}: page {page}: {other:?}", file.name),
            }
            assert_eq!(names(directory.path()), files);
        }
        std::fs::write(&path, sound).unwrap();
    }
    assert_eq!(held.documents(), before);
    held.merge(&|_| false).unwrap();
    assert_eq!(held.documents(), before);
}

#[test]
fn dropped_vectors_are_left_behind_and_meanings_are_not_mixed() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::new(directory.path(), schema());
    (0..20).for_each(|number| held.put(document(number, 1)));
    held.seal();
    // "sparse" goes, "added" comes, and "dense" comes back with another dimension.
    let mut altered = schema();
    altered.vectors.retain(|field| field.name == "multi");
    held.index.alter(altered.clone());
    altered.vectors.extend([dense("added", 2), dense("dense", 3)]);
    held.index.alter(altered);
    let own = |name: &str, count| (name.to_owned(), Vector::Dense(Dense::F32(values(1, count))));
    for number in 20..25 {
        let vectors = vec![own("added", 2), own("dense", 3)];
        held.put(Document {
            vectors,
            ..document(number, 2)
        });
    }
    held.seal();
    held.merge(&|_| false).unwrap();
    assert_eq!(held.manifest.len(), 1);
    let has = |document: &Document| {
        document
            .vectors
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<BTreeSet<_>>()
    };
    for document in held.documents() {
        let expected: &[&str] = match &document.id {
            DocId::Number(number) if *number >= 20 => &["added", "dense"],
            DocId::Number(number) if number.is_multiple_of(4) => &[],
            _ => &["multi"],
        };
        assert!(
            has(&document).iter().eq(expected),
            "{:?}: {:?}",
            document.id,
            has(&document)
        );
    }
    assert_eq!(verify(directory.path(), &held.manifest).problems, Vec::<String>::new());
}

/// The manifest stands for the seal, before the field was dropped: so does what it names.
#[test]
fn a_vector_dropped_after_the_seal_is_carried_over_until_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::new(directory.path(), schema());
    for number in 0..20 {
        held.put(document(number, 1));
        if number % 10 == 9 {
            held.seal();
        }
    }
    let before = held.documents();
    let mut altered = schema();
    altered.vectors.pop();
    held.index.alter(altered);
    held.merge(&|_| false).unwrap();
    assert_eq!(held.documents(), before);
    held.seal();
    held.merge(&|_| false).unwrap();
    assert!(
        held.documents()
            .iter()
            .all(|document| document.vector("multi").is_none())
    );
}

#[test]
fn merging_by_plan_comes_to_an_end_with_few_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::new(directory.path(), schema());
    let policy = MergePolicy {
        floor_bytes: 1 << 16,
        ..MergePolicy::default()
    };
    let mut merges = 0;
    for seal in 0..60 {
        (0..8).for_each(|at| held.put(document((seal * 5 + at) % 200, seal)));
        held.seal();
        while let Some(plan) = held.index.plan_merge(&policy) {
            let next = held.id();
            let merged = held.index.merge(&plan, next, &|_| false).unwrap();
            held.publish(merged);
            merges += 1;
        }
        assert!(held.manifest.len() <= policy.segments_max);
    }
    assert!(merges > 5, "{merges} merges");
    assert_eq!(held.documents().len(), 200);
    assert_eq!(held.index.stats().dead_rows, held.index.stats().segment_rows - 200);
}
