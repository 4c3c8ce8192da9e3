//! Does the register survive seals, power cuts and snapshots?

use std::sync::Arc;

use granum_proto::internal::{Put, Swap};

use crate::disk::{Faults, MemoryDisk, Survival};

use super::*;

const DIRECTORY: &str = "/groups/0";

fn open(disk: &MemoryDisk) -> RegisterMachine {
    RegisterMachine::open(Arc::new(disk.clone()), Path::new(DIRECTORY)).unwrap()
}

fn at(index: u64) -> LogPosition {
    LogPosition {
        term: 1,
        replica: 0,
        index,
    }
}

fn put(key: &str, value: &str) -> Entry {
    let put = Put {
        key: key.into(),
        value: value.as_bytes().to_vec().into(),
    };
    let swap = Swap {
        puts: vec![put],
        ..Swap::default()
    };
    Entry::Command(command::encode(&command::swap(swap)).unwrap())
}

fn all(machine: &RegisterMachine) -> Vec<KeyValue> {
    machine.read(&[String::new()]).1
}

#[test]
fn seal_and_replay_give_the_same_register() {
    let disk = MemoryDisk::new();
    let machine = open(&disk);
    machine.apply(at(0), Entry::Membership(b"members"[..].into())).unwrap();
    for index in 1..=10 {
        machine
            .apply(at(index), put(&format!("k{}", index % 4), &index.to_string()))
            .unwrap();
        if index == 6 {
            let sealed = machine.seal().unwrap();
            assert_eq!(sealed.last, Some(at(6)));
            assert_eq!(sealed.membership, Some((at(0), b"members"[..].into())));
        }
    }
    let reopened = open(&disk.crash(Survival::Synced));
    assert_eq!(reopened.sealed().last, Some(at(6)));
    for index in 3..=10 {
        reopened
            .apply(at(index), put(&format!("k{}", index % 4), &index.to_string()))
            .unwrap();
    }
    assert_eq!(reopened.read(&["".into()]), machine.read(&["".into()]));
}

#[test]
fn a_power_cut_while_sealing_leaves_the_old_seal_or_the_new() {
    for changes in 0..8 {
        for survival in [
            Survival::Synced,
            Survival::Prefix(3),
            Survival::Scattered(5),
            Survival::Everything,
        ] {
            let disk = MemoryDisk::new();
            let machine = open(&disk);
            machine.apply(at(1), put("a", "1")).unwrap();
            machine.seal().unwrap();
            machine.apply(at(2), put("a", "2")).unwrap();
            disk.set_faults(Faults {
                power_cut_after: Some(changes),
                ..Faults::default()
            });
            let durable = machine.seal().is_ok();
            let reopened = open(&disk.crash(survival));
            let last = reopened.sealed().last.unwrap().index;
            assert!(last == 2 || (last == 1 && !durable), "{changes} {survival:?}");
            assert_eq!(all(&reopened)[0].value, last.to_string().as_bytes());
        }
    }
}

#[test]
fn a_snapshot_makes_another_replica_equal_and_goes_when_it_is_dropped() {
    let disk = MemoryDisk::new();
    let machine = open(&disk);
    assert!(machine.snapshot().unwrap().is_none());
    machine.apply(at(1), put("a", "1")).unwrap();
    machine.seal().unwrap();
    let snapshot = machine.snapshot().unwrap().unwrap();
    machine.apply(at(2), put("a", "2")).unwrap();
    machine.seal().unwrap();

    let other = RegisterMachine::open(Arc::new(disk.clone()), Path::new("/groups/other")).unwrap();
    let mut revisions = other.revisions();
    assert!(
        other.install(&snapshot.directory, Sealed::default()).is_err(),
        "not what was announced"
    );
    other.install(&snapshot.directory, snapshot.sealed.clone()).unwrap();
    assert_eq!(other.sealed(), snapshot.sealed);
    assert_eq!(all(&other)[0].value, "1");
    assert!(revisions.has_changed().unwrap() && *revisions.borrow_and_update() == 1);
    other.apply(at(2), put("a", "2")).unwrap();
    assert_eq!(all(&other), all(&machine));

    let directory = snapshot.directory.clone();
    assert!(disk.exists(&directory).unwrap());
    drop(snapshot);
    assert!(!disk.exists(&directory).unwrap());
}

#[test]
fn what_is_no_swap_is_refused_and_what_is_newer_stops_the_replica() {
    let machine = open(&MemoryDisk::new());
    let apply = |index, bytes: Vec<u8>| machine.apply(at(index), Entry::Command(bytes.into()));
    let decoded = |applied: Applied| internal::Applied::decode(applied.reply).unwrap();
    assert_eq!(decoded(apply(1, vec![0xff; 9]).unwrap()).refusal(), Refusal::Invalid);
    assert_eq!(
        decoded(apply(2, command::tick(1).encode_to_vec()).unwrap()).refusal(),
        Refusal::Invalid
    );
    assert!(apply(3, command::seal().encode_to_vec()).unwrap().seal_point);
    let newer = internal::Command {
        version: 9,
        ..command::seal()
    };
    assert!(apply(4, newer.encode_to_vec()).is_err());
}

#[test]
fn a_damaged_file_never_opens() {
    let disk = MemoryDisk::new();
    let machine = open(&disk);
    machine.apply(at(1), put("a", "1")).unwrap();
    machine.seal().unwrap();
    disk.flip(&Path::new(DIRECTORY).join(REGISTER_FILE), 40, 1);
    assert!(RegisterMachine::open(Arc::new(disk.clone()), Path::new(DIRECTORY)).is_err());
    assert!(verify(&disk, Path::new(DIRECTORY)).is_err());
}
