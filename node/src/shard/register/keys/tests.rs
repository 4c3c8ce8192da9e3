//! Does the register compare, swap, remember and tell watchers as it says?

use granum_proto::internal::{Compare, Put};

use super::*;

fn swap(compares: &[(&str, u64)], puts: &[(&str, &str)], deletes: &[&str]) -> Swap {
    let compare = |(key, revision): &(&str, u64)| Compare {
        key: (*key).into(),
        revision: *revision,
    };
    let put = |(key, value): &(&str, &str)| Put {
        key: (*key).into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    Swap {
        compares: compares.iter().map(compare).collect(),
        puts: puts.iter().map(put).collect(),
        deletes: deletes.iter().map(|key| (*key).into()).collect(),
        request_id: Bytes::new(),
    }
}

#[track_caller]
fn swapped(keys: &mut Keys, swap: Swap) -> u64 {
    let result = keys.swap(swap, 0).unwrap();
    assert!(result.swapped);
    result.revision
}

fn names(entries: &[KeyValue]) -> Vec<(&str, u64)> {
    entries
        .iter()
        .map(|entry| (entry.key.as_str(), entry.revision))
        .collect()
}

#[test]
fn all_compares_hold_or_nothing_happens() {
    let mut keys = Keys::default();
    assert_eq!(swapped(&mut keys, swap(&[("a", 0)], &[("a", "1"), ("b", "1")], &[])), 1);
    let refused = keys
        .swap(swap(&[("a", 1), ("b", 0)], &[("c", "1")], &["a"]), 0)
        .unwrap();
    assert!(!refused.swapped);
    assert_eq!(
        (refused.revision, names(&refused.current)),
        (1, vec![("a", 1), ("b", 1)])
    );
    assert_eq!(names(&keys.read(&["".into()])), [("a", 1), ("b", 1)]);
    assert_eq!(swapped(&mut keys, swap(&[("a", 1)], &[("a", "2")], &["b"])), 2);
    assert_eq!(names(&keys.read(&["".into()])), [("a", 2)]);
}

#[test]
fn repeating_a_swap_gives_the_first_answer_and_another_swap_under_its_id_is_refused() {
    let mut keys = Keys::default();
    let first = Swap {
        request_id: vec![7; 16].into(),
        ..swap(&[("a", 0)], &[("a", "1")], &[])
    };
    let answer = keys.swap(first.clone(), 1).unwrap();
    assert_eq!(keys.swap(first.clone(), 1).unwrap(), answer);
    assert_eq!(keys.revision(), 1);
    assert!(keys.swap(first, 2).is_err());
}

#[test]
fn a_watcher_sees_changes_deletions_and_nothing_outside_its_prefixes() {
    let mut keys = Keys::default();
    swapped(&mut keys, swap(&[], &[("n/1", "x"), ("n/2", "x"), ("m/1", "x")], &[]));
    swapped(&mut keys, swap(&[], &[("n/1", "y"), ("o", "y")], &["n/2", "m/1"]));
    let events = keys.events_since(&["n/".into()], 1);
    assert_eq!(
        (events.revision, events.reset, names(&events.puts)),
        (2, false, vec![("n/1", 2)])
    );
    assert_eq!(events.deletes, ["n/2"]);
    swapped(&mut keys, swap(&[], &[("n/2", "z")], &[]));
    let events = keys.events_since(&["n/".into(), "n/1".into()], 1);
    assert_eq!(
        (names(&events.puts), events.deletes.len()),
        (vec![("n/1", 2), ("n/2", 3)], 0)
    );
    assert_eq!(keys.events_since(&["".into()], 3).puts, []);
}

#[test]
fn a_watcher_from_before_the_remembered_deletions_starts_over() {
    let mut keys = Keys::default();
    for _ in 0..DELETED_KEYS_MAX + 1 {
        swapped(&mut keys, swap(&[], &[("a", "")], &[]));
        swapped(&mut keys, swap(&[], &[], &["a"]));
    }
    assert!(keys.events_since(&["".into()], 1).reset);
    assert!(!keys.events_since(&["".into()], 2).reset);
    assert!(keys.events_since(&["".into()], keys.revision() + 1).reset);
}

#[test]
fn limits_are_named() {
    let check_refused = |swap: Swap, said: &str| {
        let mut keys = Keys::default();
        let error = keys.swap(swap, 0).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(keys.revision(), 0);
    };
    check_refused(swap(&[], &[("", "x")], &[]), "key: must not be empty");
    check_refused(
        swap(&[], &[(&"k".repeat(513), "x")], &[]),
        "key: 513 bytes, at most 512",
    );
    check_refused(
        swap(&[], &[("k", &"x".repeat(VALUE_BYTES_MAX + 1))], &[]),
        "k.value: 1048577 bytes",
    );
    check_refused(swap(&[], &[("k", "x")], &["k"]), "key: \"k\" is changed twice");
    let many: Vec<String> = (0..257).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
    check_refused(swap(&[], &many, &[]), "puts: 257 keys, at most 256");
}

#[test]
fn a_full_register_refuses_what_would_make_it_larger() {
    let mut keys = Keys::default();
    let value = "x".repeat(VALUE_BYTES_MAX);
    let full = (0..).map(|number| keys.swap(swap(&[], &[(&number.to_string(), &value)], &[]), 0));
    let taken = full.take_while(Result::is_ok).count();
    assert_eq!(taken, REGISTER_BYTES_MAX / VALUE_BYTES_MAX - 1);
    swapped(&mut keys, swap(&[], &[("0", &value)], &[]));
    swapped(&mut keys, swap(&[], &[("new", &value)], &["0"]));
    let bytes: usize = keys
        .read(&["".into()])
        .iter()
        .map(|entry| entry.key.len() + entry.value.len())
        .sum();
    assert_eq!(keys.bytes, bytes);
}

#[test]
fn a_register_reads_back() {
    let mut keys = Keys::default();
    swapped(
        &mut keys,
        Swap {
            request_id: vec![7; 16].into(),
            ..swap(&[], &[("a", "1"), ("b", "2")], &[])
        },
    );
    swapped(&mut keys, swap(&[], &[], &["a"]));
    let read = Keys::read_state(keys.write()).unwrap();
    assert_eq!(read.write(), keys.write());
    assert_eq!(read.bytes, keys.bytes);
    let mut hostile = keys.write();
    hostile.entries[0].revision = 99;
    assert!(Keys::read_state(hostile).is_err());
}

#[test]
fn a_state_that_no_register_wrote_is_refused() {
    let answer = RegisterAnswer {
        request_id: vec![7; 16].into(),
        ..RegisterAnswer::default()
    };
    let twice = RegisterState {
        answers: vec![answer.clone(), answer],
        ..RegisterState::default()
    };
    assert!(Keys::read_state(twice).unwrap_err().ends_with("stands twice"));
    let last = RegisterState {
        revision: u64::MAX,
        ..RegisterState::default()
    };
    assert!(Keys::read_state(last).is_err());
}
