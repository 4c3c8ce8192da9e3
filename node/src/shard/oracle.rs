//! Does a shard's machine do what a map would do? Random commands against [`MapStore`], through seals, merges, crashes,
//! restarts and snapshots; and the small documents that the shard's other tests are made of.
//!
//! Over 400 lines because the model, the replicas that are driven beside it and what they must agree on belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use granum_index::{Document, MergePolicy};
use granum_model::{DocId, Filter, RequestId, Schema};
use granum_proto::internal::{self, Command, EnsureReplicaRequest, Operation, SealCensus, WriteBatch, operation};
use granum_proto::v1::document_write::{Condition, condition};
use proptest::prelude::*;
use prost::Message;

use super::core::{Core, Store};
use super::sample::{delete, fence, put, schema, tagged, unversioned};
use super::{Budget, Entry, Fault, LogPosition, Options, ShardMachine, StateMachine, command};
use crate::disk::RealDisk;
use crate::disk::tree::{DEFAULT_CACHE_BYTES, Trees};

/// Documents in a map: what any shard must be equal to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MapStore {
    pub documents: BTreeMap<DocId, Document>,
}

impl Store for MapStore {
    fn version(&self, id: &DocId) -> Result<Option<u64>, Fault> {
        Ok(self.documents.get(id).map(|document| document.version))
    }

    fn matches(&self, id: &DocId, filter: &Filter) -> Result<bool, Fault> {
        let matches = |document| granum_index::matches(document, filter).map_err(Fault::new);
        self.documents.get(id).map_or(Ok(false), matches)
    }

    fn put(&mut self, document: Document) -> Result<(), Fault> {
        self.documents.insert(document.id.clone(), document);
        Ok(())
    }

    fn delete(&mut self, id: &DocId) -> Result<bool, Fault> {
        Ok(self.documents.remove(id).is_some())
    }

    fn alter(&mut self, _schema: &Schema) -> Result<(), Fault> {
        Ok(())
    }
}

/// Merges whenever there is more than one segment, or a dead row.
pub(super) fn eager() -> MergePolicy {
    MergePolicy {
        segments_max: 1,
        dead_percent: 1,
        floor_bytes: 0,
        ..MergePolicy::default()
    }
}

/// What happens to a replica.
#[derive(Clone, Debug)]
enum Event {
    /// A command is committed.
    Commit(Command),
    /// The worker seals what is to be sealed.
    Seal,
    /// Workers merge what is to be merged; meanwhile these commands are committed, and sealed where they say so.
    Merge(Vec<Command>),
    /// The process dies and comes back, with the table of documents or without.
    Restart { keeps_table: bool },
    /// The replica is replaced by a snapshot of the one that never restarts.
    Install,
}

fn operations() -> impl Strategy<Value = Operation> {
    let kind = prop_oneof![4 => (0u64..8, 0u64..3).prop_map(|(id, tag)| put(id, tag)), 2 => (0u64..8).prop_map(delete)];
    let condition = prop_oneof![
        6 => Just(None),
        2 => (1u64..40).prop_map(|version| Some(condition::Kind::IfVersion(version))),
        1 => Just(Some(condition::Kind::InsertOnly(true))),
        1 => Just(Some(condition::Kind::UpdateOnly(true))),
    ];
    let only_if = prop_oneof![4 => Just(None), 1 => (0u64..3).prop_map(|tag| Some(tagged(tag)))];
    (kind, condition, only_if).prop_map(|(kind, condition, only_if)| {
        let is_delete = matches!(kind, operation::Kind::Delete(_));
        Operation {
            kind: Some(kind),
            condition: condition.map(|kind| Condition { kind: Some(kind) }),
            only_if: only_if.filter(|_| is_delete),
            ordinal: 0,
        }
    })
}

fn commands() -> impl Strategy<Value = Command> {
    let batch = (0u8..12, 0u64..2, 1u64..3, prop::collection::vec(operations(), 0..5));
    let batch = batch.prop_map(|(request, digest, epoch, mut operations)| {
        for (ordinal, operation) in (0..).zip(&mut operations) {
            operation.ordinal = ordinal;
        }
        command::write(
            RequestId([request; 16]),
            epoch,
            digest,
            WriteBatch {
                operations,
                ..WriteBatch::default()
            },
        )
    });
    prop_oneof![
        12 => batch,
        3 => Just(command::seal()),
        1 => (0u64..9).prop_map(command::tick),
        1 => (1u64..3).prop_map(fence),
        1 => Just(command::alter_schema(RequestId([200; 16]), 1, schema())),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        20 => commands().prop_map(Event::Commit),
        3 => Just(Event::Seal),
        3 => prop::collection::vec(commands(), 0..4).prop_map(Event::Merge),
        2 => any::<bool>().prop_map(|keeps_table| Event::Restart { keeps_table }),
        1 => Just(Event::Install),
    ];
    prop::collection::vec(event, 1..60)
}

/// A replica in a folder, and the log behind it.
pub(super) struct Replica {
    directory: tempfile::TempDir,
    trees: Option<Trees>,
    machine: Option<Arc<ShardMachine>>,
}

impl Replica {
    pub(super) fn new(with_trees: bool) -> Replica {
        let trees = with_trees.then(|| Trees::temporary(DEFAULT_CACHE_BYTES).unwrap());
        let mut replica = Replica {
            directory: tempfile::tempdir().unwrap(),
            trees,
            machine: None,
        };
        replica.restart(&[]);
        replica
    }

    fn options(&self) -> Options {
        let budget = Arc::new(Budget::new(1 << 30));
        Options {
            budget,
            merge: eager(),
            ..Options::new(Arc::new(RealDisk), self.trees.clone())
        }
    }

    pub(super) fn machine(&self) -> &Arc<ShardMachine> {
        self.machine.as_ref().unwrap()
    }

    /// Opens the last seal and replays the log behind it.
    fn restart(&mut self, log: &[Command]) {
        self.machine = None;
        let opened = ShardMachine::open(&EnsureReplicaRequest::default(), self.directory.path(), &self.options());
        let machine = opened.unwrap();
        replay(&machine, log);
        self.machine = Some(machine);
    }
}

/// Applies what `machine` does not contain of the log.
pub(super) fn replay(machine: &ShardMachine, log: &[Command]) {
    let sealed = machine.sealed().last.map_or(0, |last| last.index);
    for (index, command) in (1..).zip(log).skip(sealed as usize) {
        apply(machine, index, command);
    }
}

/// Applies the log's command at `index`.
pub(super) fn apply(machine: &ShardMachine, index: u64, command: &Command) -> internal::Applied {
    let position = LogPosition {
        term: 1,
        replica: 0,
        index,
    };
    let entry = Entry::Command(command::encode(command).unwrap());
    internal::Applied::decode(machine.apply(position, entry).unwrap().reply).unwrap()
}

/// Everything that replicas must agree on, bar the documents.
pub(super) fn state(machine: &ShardMachine) -> Vec<u8> {
    machine.lock_core().core.write_manifest().encode_to_vec()
}

/// All documents, found in each of the ways there are.
pub(super) fn documents(machine: &ShardMachine) -> BTreeMap<DocId, Document> {
    let pinned = machine.pin();
    let rows = pinned.view.scan(&Filter::default(), None, 1000, &|| false).unwrap();
    let documents = rows
        .into_iter()
        .map(|(id, row)| (id, pinned.view.document(row).unwrap()));
    let documents: BTreeMap<DocId, Document> = documents.collect();
    assert_eq!(
        pinned.view.count(&Filter::default(), &|| false).unwrap(),
        documents.len() as u64
    );
    for id in (0..8).map(DocId::Number) {
        let hint = pinned
            .documents
            .as_ref()
            .and_then(|table| table.get(&id).ok().flatten());
        assert_eq!(pinned.view.get(&id, hint).unwrap().as_ref(), documents.get(&id));
    }
    documents
}

fn file_names(directory: &Path) -> BTreeSet<String> {
    let state = super::sealing::standing_directory(&RealDisk, directory)
        .unwrap()
        .unwrap();
    std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// What was committed, and what it must come to.
struct World {
    core: Core,
    model: MapStore,
    log: Vec<Command>,
}

impl World {
    fn commit(&mut self, command: Command, replicas: &[&Replica]) {
        self.log.push(command.clone());
        let expected = self.core.apply(&mut self.model, command.clone()).unwrap().applied;
        for replica in replicas {
            assert_eq!(apply(replica.machine(), self.log.len() as u64, &command), expected);
        }
    }
}

/// Of every seal that both speak of they say the same, and of one more what the model holds.
fn check_censuses(world: &mut World, steady: &Replica, unlucky: &Replica) {
    // Only the last of two seals tells: the first may have found too many pending.
    for _ in 0..2 {
        world.commit(command::seal(), &[steady, unlucky]);
        steady.machine().seal().unwrap();
        unlucky.machine().seal().unwrap();
    }
    let digests = world.model.documents.values().map(Document::digest);
    let held = SealCensus {
        index: world.log.len() as u64,
        documents: world.model.documents.len() as u64,
        digest: digests.fold(0, u64::wrapping_add),
    };
    let of_steady = steady.machine().stats().seals;
    let of_unlucky = unlucky.machine().stats().seals;
    assert_eq!((of_steady.last(), of_unlucky.last()), (Some(&held), Some(&held)));
    for seal in of_steady {
        let other = of_unlucky.iter().find(|other| other.index == seal.index);
        assert!(other.is_none_or(|other| *other == seal), "{seal:?}, {other:?}");
    }
}

/// Runs `events` on a model, a replica that never restarts and one that does; they must agree all the way.
fn check_events(events: Vec<Event>) {
    let mut world = World {
        core: Core::unborn(),
        model: MapStore::default(),
        log: Vec::new(),
    };
    let (steady, mut unlucky) = (Replica::new(true), Replica::new(false));
    for event in [Event::Commit(fence(1))].into_iter().chain(events) {
        match event {
            Event::Commit(command) => {
                world.commit(command, &[&steady, &unlucky]);
            }
            Event::Seal => {
                unlucky.machine().seal().unwrap();
            }
            Event::Merge(meanwhile) => {
                let (waiting, shared) = (Mutex::new(meanwhile.into_iter()), Mutex::new(&mut world));
                for merging in [&unlucky, &steady] {
                    let pace = |_| {
                        let command = waiting.lock().unwrap().next();
                        if let Some(command) = command {
                            shared.lock().unwrap().commit(command, &[&steady, &unlucky]);
                            merging.machine().seal().unwrap();
                        }
                        false
                    };
                    merging.machine().merge(&pace).unwrap();
                }
            }
            Event::Restart { keeps_table } => {
                if !keeps_table {
                    unlucky.trees = Some(Trees::temporary(DEFAULT_CACHE_BYTES).unwrap());
                }
                unlucky.restart(&world.log);
            }
            Event::Install => {
                steady.machine().seal().unwrap();
                if let Some(snapshot) = steady.machine().snapshot().unwrap() {
                    unlucky
                        .machine()
                        .install(&snapshot.directory, snapshot.sealed.clone())
                        .unwrap();
                    replay(unlucky.machine(), &world.log);
                }
            }
        }
        assert_eq!(state(unlucky.machine()), world.core.write_manifest().encode_to_vec());
    }
    check_censuses(&mut world, &steady, &unlucky);
    for replica in [&steady, &unlucky] {
        assert_eq!(documents(replica.machine()), world.model.documents);
        assert_eq!(state(replica.machine()), world.core.write_manifest().encode_to_vec());
        replica.machine().seal().unwrap();
        assert_eq!(documents(replica.machine()), world.model.documents);
    }
    unlucky.restart(&world.log);
    assert_eq!(documents(unlucky.machine()), world.model.documents);
    for replica in [&steady, &unlucky] {
        while replica.machine().merge(&|_| false).unwrap().is_some() {}
        assert_eq!(documents(replica.machine()), world.model.documents);
        assert!(replica.machine().stats().index.segments <= 1);
    }
    let named: BTreeSet<String> = match super::manifest::read(&RealDisk, &unlucky.machine().state_directory()).unwrap()
    {
        Some(opened) => opened
            .segments
            .iter()
            .flat_map(|segment| &segment.files)
            .map(|file| file.name.clone())
            .collect(),
        None => BTreeSet::new(),
    };
    let mut present = file_names(unlucky.directory.path());
    present.remove(super::manifest::MANIFEST_FILE);
    assert_eq!(present, named, "files that no manifest names");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_shard_is_equal_to_a_map_through_seals_merges_crashes_and_snapshots(events in events()) {
        check_events(events);
    }
}

#[test]
fn several_seal_points_are_made_durable_by_one_seal() {
    let replica = Replica::new(true);
    apply(replica.machine(), 1, &fence(1));
    let mut index = 1;
    for number in 0..super::machine::PENDING_SEALS_MAX as u64 + 3 {
        let operations = vec![unversioned(0, put(number, 0))];
        let batch = WriteBatch {
            operations,
            ..WriteBatch::default()
        };
        apply(
            replica.machine(),
            index + 1,
            &command::write(RequestId([number as u8; 16]), 1, 0, batch),
        );
        apply(replica.machine(), index + 2, &command::seal());
        index += 2;
    }
    assert_eq!(replica.machine().seal().unwrap().last.unwrap().index, index);
    assert_eq!(replica.machine().stats().index.recent_documents, 0);
    assert_eq!(replica.machine().seal().unwrap().last.unwrap().index, index);
}

#[test]
fn an_entry_already_contained_changes_nothing() {
    let replica = Replica::new(false);
    apply(replica.machine(), 1, &fence(1));
    let batch = WriteBatch {
        operations: vec![unversioned(0, put(1, 0))],
        ..WriteBatch::default()
    };
    let write = command::write(RequestId([1; 16]), 1, 0, batch);
    apply(replica.machine(), 2, &write);
    let before = state(replica.machine());
    assert_eq!(apply(replica.machine(), 2, &write), internal::Applied::default());
    assert_eq!(state(replica.machine()), before);
}

#[test]
fn a_newer_command_stops_the_replica_for_good() {
    let replica = Replica::new(false);
    let newer = Command {
        version: 9,
        ..command::seal()
    };
    let at = |index| LogPosition {
        term: 1,
        replica: 0,
        index,
    };
    assert!(
        replica
            .machine()
            .apply(at(1), Entry::Command(newer.encode_to_vec().into()))
            .is_err()
    );
    assert!(replica.machine().apply(at(1), Entry::Blank).is_err());
}
