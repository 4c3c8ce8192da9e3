//! Do the counts of what is live, cached and closed hold?

use super::*;
use crate::raft::type_config::Command;

fn entry(index: u64) -> Entry {
    Entry {
        log_id: log_id(1, index),
        payload: Payload::Normal(Command(vec![7; 31].into())),
    }
}

fn state_with(entries: std::ops::Range<u64>) -> State {
    let mut state = State::default();
    state.group_or_new(5);
    for index in entries {
        state.push(5, &entry(index));
        state.place(
            5,
            log_id(1, index),
            Place {
                segment: index / 10,
                offset: 0,
            },
        );
    }
    state
}

#[test]
fn purged_entries_count_until_their_purge_is_durable() {
    let mut state = state_with(0..20);
    assert_eq!(state.live_bytes, BTreeMap::from([(0, 1000), (1, 1000)]));
    let released = state.purge(5, log_id(1, 12));
    assert_eq!(state.live_bytes, BTreeMap::from([(0, 1000), (1, 1000)]));
    assert_eq!(state.groups[&5].first, 13);
    state.release(&released);
    assert_eq!(state.live_bytes, BTreeMap::from([(0, 0), (1, 700)]));
    assert_eq!(state.oldest(), Some((5, Place { segment: 1, offset: 0 })));
}

#[test]
fn a_purge_beyond_the_end_leaves_an_empty_log_that_goes_on_behind_it() {
    let mut state = state_with(0..3);
    state.purge(5, log_id(4, 100));
    let group = &state.groups[&5];
    assert_eq!(
        (group.last(), group.next(), group.slots.len()),
        (Some(log_id(4, 100)), Some(101), 0)
    );
}

#[test]
fn the_cache_keeps_the_newest_and_all_that_has_no_place() {
    let mut state = state_with(0..20);
    state.evict(500);
    assert_eq!(state.cached_bytes, 500);
    assert!(state.groups[&5].slot(14).unwrap().payload.is_none());
    assert!(state.groups[&5].slot(15).unwrap().payload.is_some());
    state.push(5, &entry(20));
    state.evict(0);
    assert_eq!(state.cached_bytes, 100);
    assert!(
        state.groups[&5].slot(20).unwrap().payload.is_some(),
        "not on the disk yet"
    );
}

#[test]
fn the_list_of_cached_names_does_not_grow_with_what_was_purged() {
    let mut state = state_with(0..1);
    for index in 1..5_000 {
        state.push(5, &entry(index));
        state.purge(5, log_id(1, index - 1));
        state.evict(1 << 20);
    }
    assert!(state.cached.len() <= 1024 + 2, "{}", state.cached.len());
}

#[test]
fn entries_taken_back_close_the_group_to_their_handle() {
    let mut state = state_with(0..5);
    let generation = state.groups[&5].generation;
    state.push(5, &entry(5));
    state.take_back(5, 5);
    assert_ne!(state.groups[&5].generation, generation);
    assert_eq!(state.groups[&5].last(), Some(log_id(1, 4)));
}

#[test]
fn an_entry_that_is_only_on_the_disk_costs_48_bytes() {
    assert_eq!(std::mem::size_of::<Slot>(), 48);
}
