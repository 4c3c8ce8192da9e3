//! Is every rule of the core kept? One row of data a rule, against documents in a map.

use granum_proto::internal::operation;
use granum_proto::v1::document_write::condition::Kind as Condition;

use super::*;
use crate::shard::oracle::MapStore;
use crate::shard::sample::{delete, fence, put, unversioned, with_condition, with_only_if};

const EPOCH: u64 = 3;

/// A shard that has its epoch and schema, and the documents it holds.
fn born() -> (Core, MapStore) {
    let (mut core, mut store) = (Core::unborn(), MapStore::default());
    assert!(core.is_unborn());
    core.apply(&mut store, fence(EPOCH)).unwrap();
    assert_eq!(core.sequence(), 1);
    (core, store)
}

fn write(request: u8, digest: u64, operations: Vec<operation::Kind>) -> Command {
    let operations = (0..)
        .zip(operations)
        .map(|(ordinal, kind)| unversioned(ordinal, kind))
        .collect();
    command::write(
        RequestId([request; 16]),
        EPOCH,
        digest,
        WriteBatch {
            operations,
            ..WriteBatch::default()
        },
    )
}

fn one(operation: granum_proto::internal::Operation) -> Command {
    command::write(
        RequestId([99; 16]),
        EPOCH,
        0,
        WriteBatch {
            operations: vec![operation],
            ..WriteBatch::default()
        },
    )
}

#[track_caller]
fn check(operation: granum_proto::internal::Operation, kind: outcome::Kind, version: u64) {
    let (mut core, mut store) = born();
    core.apply(&mut store, write(1, 0, vec![put(1, 5)])).unwrap();
    let before = (core.sequence(), store.clone());
    let applied = core.apply(&mut store, one(operation)).unwrap().applied;
    let outcome = &applied.outcomes[0];
    assert_eq!((outcome.kind(), outcome.version), (kind, version), "{outcome:?}");
    let taken = kind == outcome::Kind::Taken;
    assert_eq!((core.sequence(), store) == before, !taken);
    assert_eq!(applied.changed, u64::from(taken));
}

#[test]
fn conditions_are_held_against_the_version_that_stands() {
    use outcome::Kind::{NotFound, Refused, Taken};
    let on = |kind, condition| with_condition(unversioned(0, kind), condition);
    check(on(put(1, 6), Condition::IfVersion(2)), Taken, 3);
    check(on(put(1, 6), Condition::IfVersion(1)), Refused, 2);
    check(on(put(2, 6), Condition::IfVersion(1)), Refused, 0);
    check(on(put(1, 6), Condition::InsertOnly(true)), Refused, 2);
    check(on(put(2, 6), Condition::InsertOnly(true)), Taken, 3);
    check(on(put(1, 6), Condition::UpdateOnly(true)), Taken, 3);
    check(on(put(2, 6), Condition::UpdateOnly(true)), Refused, 0);
    check(on(put(1, 6), Condition::InsertOnly(false)), Taken, 3);
    check(unversioned(0, delete(1)), Taken, 3);
    check(unversioned(0, delete(2)), NotFound, 0);
    check(on(delete(1), Condition::IfVersion(2)), Taken, 3);
    check(on(delete(1), Condition::IfVersion(1)), Refused, 2);
    check(on(delete(2), Condition::IfVersion(1)), NotFound, 0);
}

#[test]
fn a_delete_by_filter_asks_the_filter_again_only_of_what_has_changed() {
    use outcome::Kind::{NotFound, Refused, Taken};
    let seen_at = |id, tag, version| {
        with_only_if(
            with_condition(unversioned(0, delete(id)), Condition::IfVersion(version)),
            tag,
        )
    };
    check(seen_at(1, 5, 2), Taken, 3);
    check(seen_at(1, 9, 2), Taken, 3);
    check(seen_at(1, 5, 1), Taken, 3);
    check(seen_at(1, 9, 1), Refused, 2);
    check(seen_at(2, 5, 1), NotFound, 0);
    check(with_only_if(unversioned(0, delete(1)), 9), Refused, 2);
}

#[test]
fn a_repeated_request_is_answered_and_not_applied() {
    let (mut core, mut store) = born();
    let first = core
        .apply(&mut store, write(1, 7, vec![put(1, 5), delete(9)]))
        .unwrap()
        .applied;
    core.apply(&mut store, write(2, 0, vec![put(1, 6)])).unwrap();
    let before = (core.sequence(), store.clone());
    let again = core
        .apply(&mut store, write(1, 7, vec![put(1, 5), delete(9)]))
        .unwrap()
        .applied;
    assert_eq!(again, first);
    let other = core
        .apply(&mut store, write(1, 8, vec![put(1, 4), delete(9)]))
        .unwrap()
        .applied;
    assert_eq!(other.refusal(), Refusal::Reused);
    assert_eq!((core.sequence(), store), before);
}

#[test]
fn a_retry_cut_otherwise_applies_only_what_was_not_applied() {
    let (mut core, mut store) = born();
    core.apply(&mut store, write(1, 7, vec![put(1, 5), put(2, 5)])).unwrap();
    let again = core
        .apply(&mut store, write(1, 8, vec![put(1, 5), put(2, 5), put(3, 5)]))
        .unwrap()
        .applied;
    let versions: Vec<u64> = again.outcomes.iter().map(|outcome| outcome.version).collect();
    assert_eq!(versions, [2, 3, 4]);
    assert_eq!(core.sequence(), 4);
}

#[test]
fn chunks_of_one_request_are_all_applied() {
    let (mut core, mut store) = born();
    for ordinal in 0..3 {
        let operations = vec![unversioned(ordinal, put(u64::from(ordinal), 1))];
        let chunk = WriteBatch {
            operations,
            ..WriteBatch::default()
        };
        let chunk = command::write(RequestId([1; 16]), EPOCH, u64::from(ordinal), chunk);
        assert_eq!(core.apply(&mut store, chunk).unwrap().applied.changed, 1);
    }
    assert_eq!(store.documents.len(), 3);
}

#[test]
fn a_batch_with_one_bad_operation_has_no_effect() {
    let (mut core, mut store) = born();
    let before = (core.sequence(), store.clone());
    let bad = [
        operation::Kind::Put(v1::Document::default()),
        operation::Kind::Delete(v1::DocId::default()),
        match put(2, 1) {
            operation::Kind::Put(mut document) => {
                document.vectors[0].name = "unknown".into();
                operation::Kind::Put(document)
            }
            delete => delete,
        },
    ];
    for bad in bad {
        let applied = core
            .apply(&mut store, write(1, 0, vec![put(1, 5), bad]))
            .unwrap()
            .applied;
        assert_eq!(applied.refusal(), Refusal::Invalid);
        assert!(applied.refused.starts_with("operations[1]."), "{}", applied.refused);
    }
    let twice = vec![unversioned(4, put(1, 1)), unversioned(4, put(2, 1))];
    let twice = command::write(
        RequestId([1; 16]),
        EPOCH,
        0,
        WriteBatch {
            operations: twice,
            ..WriteBatch::default()
        },
    );
    assert!(
        core.apply(&mut store, twice)
            .unwrap()
            .applied
            .refused
            .contains("4 stands twice")
    );
    assert_eq!((core.sequence(), store), before);
}

#[test]
fn another_epoch_is_refused_and_a_fence_moves_it_forward_only() {
    let (mut core, mut store) = born();
    let refused = core
        .apply(
            &mut store,
            Command {
                epoch: 2,
                ..write(1, 0, vec![put(1, 1)])
            },
        )
        .unwrap()
        .applied;
    assert_eq!((refused.refusal(), refused.current_epoch), (Refusal::Epoch, EPOCH));
    assert_eq!(
        core.apply(&mut store, fence(EPOCH)).unwrap().applied.refusal(),
        Refusal::Epoch
    );
    assert!(
        core.apply(&mut store, fence(EPOCH + 1))
            .unwrap()
            .applied
            .refused
            .is_empty()
    );
    assert_eq!(
        core.apply(&mut store, write(1, 0, vec![put(1, 1)]))
            .unwrap()
            .applied
            .current_epoch,
        EPOCH + 1
    );
    let unborn = Core::unborn()
        .apply(&mut store, write(1, 0, vec![put(1, 1)]))
        .unwrap()
        .applied;
    assert_eq!(unborn.refusal(), Refusal::Epoch);
}

#[test]
fn a_document_of_another_range_is_refused() {
    let (mut core, mut store) = born();
    let mut narrow = fence(EPOCH + 1);
    if let Some(Kind::Fence(epoch)) = &mut narrow.kind {
        epoch.range_end = 0;
    }
    core.apply(&mut store, narrow).unwrap();
    let applied = core
        .apply(
            &mut store,
            Command {
                epoch: EPOCH + 1,
                ..write(1, 0, vec![put(1, 1)])
            },
        )
        .unwrap()
        .applied;
    assert!(
        applied.refused.contains("belongs to another shard"),
        "{}",
        applied.refused
    );
}

#[test]
fn a_field_may_come_and_go_but_not_change() {
    let (mut core, mut store) = born();
    let alter = |request: u8, schema: Schema| {
        command::alter_schema(RequestId([request; 16]), EPOCH, convert::schema::write(&schema))
    };
    let mut schema = core.schema().as_ref().clone();
    schema.vectors[0].distance = granum_model::Distance::Manhattan;
    let changed = core.apply(&mut store, alter(1, schema)).unwrap().applied;
    assert_eq!(changed.refusal(), Refusal::Invalid);
    let dropped = core.apply(&mut store, alter(2, Schema::default())).unwrap().applied;
    assert_eq!((dropped.refused.as_str(), dropped.sequence), ("", 2));
    assert!(core.schema().vectors.is_empty());
    assert_eq!(
        core.apply(&mut store, alter(2, Schema::default())).unwrap().applied,
        dropped
    );
    assert_eq!(core.answered(RequestId([2; 16])).unwrap().1, dropped);
}

#[test]
fn a_count_that_the_proposer_made_up_and_the_last_sequence_break_nothing() {
    let (mut core, mut store) = born();
    let mut command = write(1, 0, vec![put(1, 5)]);
    if let Some(Kind::Write(batch)) = &mut command.kind {
        batch.prior_changed = u64::MAX;
    }
    assert_eq!(core.apply(&mut store, command).unwrap().applied.changed, u64::MAX);
    let last = Manifest {
        sequence: u64::MAX,
        ..core.write_manifest()
    };
    assert!(Core::read_manifest(&mut last.clone()).is_err());
}
