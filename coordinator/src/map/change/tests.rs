//! Changes of the map, taken by a register that is a model: a sorted map under one revision.

use std::collections::BTreeMap;

use granum_proto::internal::{KeyValue, NodeRecord};
use proptest::prelude::*;

use super::*;
use crate::map::range::check_cover;

/// The register, as a model: keys under one revision.
#[derive(Default)]
pub(crate) struct Register {
    pub revision: u64,
    pub entries: BTreeMap<String, KeyValue>,
}

impl Register {
    pub fn with_nodes(count: u64) -> Register {
        let mut register = Register::default();
        (1..=count).for_each(|node| register.add_node(node));
        register
    }

    /// A node announces itself.
    pub fn add_node(&mut self, node: u64) {
        let record = NodeRecord {
            node,
            data_address: format!("127.0.0.1:{node}"),
            ..NodeRecord::default()
        };
        let swap = Swap {
            puts: vec![put(&format!("{NODES}{node:016x}"), &record)],
            ..Swap::default()
        };
        assert!(self.swap(&swap));
    }

    pub fn swap(&mut self, swap: &Swap) -> bool {
        let changes = [swap.compares.len(), swap.puts.len(), swap.deletes.len()];
        assert!(changes.iter().all(|&count| count <= 256), "{changes:?}");
        let holds =
            |compare: &Compare| self.entries.get(&compare.key).map_or(0, |entry| entry.revision) == compare.revision;
        if !swap.compares.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        for Put { key, value } in swap.puts.iter().cloned() {
            let entry = KeyValue {
                key: key.clone(),
                value,
                revision: self.revision,
            };
            self.entries.insert(key, entry);
        }
        for key in &swap.deletes {
            self.entries.remove(key);
        }
        true
    }

    pub fn map(&self) -> ShardMap {
        let map = ShardMap::build(self.revision, &self.entries);
        assert_eq!(map.damaged, Vec::<String>::new());
        map
    }
}

pub(crate) fn wish(name: &str, shards: u32, replication_factor: u32) -> NewCollection {
    NewCollection {
        name: name.into(),
        schema: v1::Schema::default(),
        shards,
        replication_factor,
    }
}

proptest! {
    #[test]
    fn placed_shards_cover_all_hashes_on_distinct_and_evenly_filled_nodes(
        nodes in 1u64..8, factor in 1u32..4, counts in proptest::collection::vec(1u32..=256, 1..4)
    ) {
        prop_assume!(u64::from(factor) <= nodes);
        let mut register = Register::with_nodes(nodes);
        let candidates: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        for (at, count) in counts.iter().enumerate() {
            let name = format!("c{at}");
            let swap = create(&register.map(), &wish(&name, *count, factor)).unwrap();
            prop_assert!(register.swap(&swap));
            while let Some(swap) = place(&register.map(), register.map().named(&name).unwrap(), &candidates).unwrap() {
                prop_assert!(register.swap(&swap));
            }
            let map = register.map();
            let collection = map.named(&name).unwrap();
            prop_assert_eq!(check_cover(collection.shards.iter().map(|shard| shard.range)), Ok(()));
            for hash in [0, 1, u64::MAX / 3, u64::MAX] {
                let range = collection.shard_of(hash).range;
                prop_assert!(range.start <= hash && hash <= range.end);
            }
        }
        let map = register.map();
        let replicas: Vec<u64> = map.shards().flat_map(|shard| shard.record.replicas.iter().map(|member| member.replica)).collect();
        let distinct: std::collections::BTreeSet<u64> = replicas.iter().copied().collect();
        prop_assert_eq!(distinct.len(), replicas.len(), "a replica id was given twice");
        let loads = loads(&map, &candidates);
        let spread = |of: fn(&Load) -> usize| loads.iter().map(of).max().unwrap() - loads.iter().map(of).min().unwrap();
        prop_assert!(spread(|load| load.replicas) <= 1, "replicas are spread");
        prop_assert!(spread(|load| load.first) <= 2, "leaders are spread");
    }
}

#[test]
fn two_who_create_at_once_get_one_collection() {
    let mut register = Register::with_nodes(3);
    let map = register.map();
    let (one, other) = (
        create(&map, &wish("a", 2, 1)).unwrap(),
        create(&map, &wish("a", 4, 1)).unwrap(),
    );
    assert!(register.swap(&one));
    assert!(!register.swap(&other));
    let again = create(&register.map(), &wish("a", 4, 1));
    assert!(matches!(again, Err(Failure::Exists(_))), "{again:?}");
}

#[test]
fn a_deleted_name_is_free_and_its_ids_are_never_given_again() {
    let mut register = Register::with_nodes(1);
    for shards in [250, 3] {
        assert!(register.swap(&create(&register.map(), &wish("a", shards, 1)).unwrap()));
        let map = register.map();
        let collection = map.named("a").unwrap().clone();
        assert!(register.swap(&place(&map, &collection, &[NodeId(1)]).unwrap().unwrap()));
        let map = register.map();
        assert!(register.swap(&begin_delete(&map, map.named("a").unwrap())));
        assert!(register.map().named("a").is_none());
        while let Some(collection) = register.map().collections.get(&collection.id) {
            assert!(register.swap(&forget(collection)));
        }
    }
    let map = register.map();
    assert_eq!(map.shards().count(), 0);
    assert_eq!((map.counters.0.next_collection, map.counters.0.next_shard), (3, 254));
}

#[test]
fn too_few_nodes_are_said() {
    let mut register = Register::with_nodes(2);
    assert!(register.swap(&create(&register.map(), &wish("a", 1, 3)).unwrap()));
    let map = register.map();
    let refused = place(&map, map.named("a").unwrap(), &[NodeId(1), NodeId(2)])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("replication_factor: 3, and only 2 nodes can be reached"),
        "{refused}"
    );
}

#[test]
fn a_damaged_entry_is_named_and_the_others_work() {
    let mut register = Register::with_nodes(1);
    assert!(register.swap(&create(&register.map(), &wish("a", 1, 1)).unwrap()));
    let entry = KeyValue {
        key: "shards/0000000000000009".into(),
        value: Bytes::from_static(b"\xff\xff"),
        revision: 9,
    };
    register.entries.insert(entry.key.clone(), entry);
    let map = ShardMap::build(register.revision, &register.entries);
    assert!(
        map.damaged[0].starts_with("shards/0000000000000009"),
        "{:?}",
        map.damaged
    );
    assert!(map.named("a").is_some());
}

#[test]
fn names_of_collections_are_plain() {
    for name in ["packages", "a.b-c_9", "..."] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    for name in ["", ".", "..", "a/b", "é", "a b", &"x".repeat(256)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}
