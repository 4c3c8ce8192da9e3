//! How the map changes: each function takes a map and a wish, and returns the compare-and-swap that grants it, or says
//! why not. Pure; nothing here knows a clock, a network or chance. A swap that lost its race is planned anew on a newer map.
//!
//! A collection is created with ids for its shards and no records of them; the control loop places the shards, so that
//! any coordinator can go on where another stopped.

use bytes::Bytes;
use granum_model::{NodeId, ShardId, ids};
use granum_proto::internal::{
    CollectionRecord, Compare, Counters, Member, NodeRecord, Put, Replacement, ShardRecord, Swap,
};
use granum_proto::limits::{self, Invalid};
use granum_proto::status::Failure;
use granum_proto::v1;
use prost::Message;
use v1::collection_info::State;

use super::range::HashRange;
use super::{Collection, Replacing, Shard, ShardMap};

/// Key of the ids to be given next.
pub(crate) const COUNTERS: &str = "counters";
/// Prefix of names; a name's value is the collection's id, 8 bytes big-endian.
pub(crate) const NAMES: &str = "names/";
/// Prefix of collections, by id in 16 hex digits.
pub(crate) const COLLECTIONS: &str = "collections/";
/// Prefix of shards, by id in 16 hex digits.
pub(crate) const SHARDS: &str = "shards/";
/// Key of the register's own replicas.
pub(crate) const REGISTER: &str = "register";
/// Prefix of nodes, by id in 16 hex digits.
pub(crate) const NODES: &str = "nodes/";

/// Most shards placed or forgotten by one swap; the register takes 256 changes at once.
const SHARDS_PER_SWAP: usize = 200;

/// A collection to be.
#[derive(Clone, Debug)]
pub(crate) struct NewCollection {
    pub name: String,
    /// Checked, embedders resolved.
    pub schema: v1::Schema,
    /// 1..=256.
    pub shards: u32,
    /// 1..=7.
    pub replication_factor: u32,
}

/// Refuses what is no name of a collection.
pub(crate) fn check_name(name: &str) -> Result<(), Invalid> {
    limits::at_most("name", name.len(), limits::COLLECTION_NAME_BYTES_MAX, "bytes")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name == "." || name == ".." || !name.bytes().all(plain) {
        let problem = format!("{name:?} must be letters, digits, '_', '-' and '.', and neither \".\" nor \"..\"");
        return Err(Invalid::new("name", problem));
    }
    Ok(())
}

/// Gives a new collection its name and ids.
pub(crate) fn create(map: &ShardMap, new: &NewCollection) -> Result<Swap, Failure> {
    if map.named(&new.name).is_some() {
        return Err(Failure::Exists(format!("collection {:?} exists", new.name)));
    }
    limits::at_most(
        "collections",
        map.collections.len() + 1,
        limits::COLLECTIONS_MAX,
        "collections",
    )?;
    let (mut counters, _) = minted(map);
    let id = counters.next_collection;
    let shards = (0..u64::from(new.shards)).map(|ordinal| counters.next_shard + ordinal);
    let record = CollectionRecord {
        id,
        name: new.name.clone(),
        schema: Some(new.schema.clone()),
        replication_factor: new.replication_factor,
        default_read: None,
        state: State::Creating.into(),
        shards: shards.collect(),
        index: None,
        schema_version: 1,
        dropped_vectors: Vec::new(),
    };
    counters.next_collection += 1;
    counters.next_shard += u64::from(new.shards);
    Ok(Swap {
        compares: vec![
            unchanged(COUNTERS, map.counters.1),
            unchanged(&name_key(&new.name), map.name_revision(&new.name)),
        ],
        puts: vec![
            put(COUNTERS, &counters),
            Put {
                key: name_key(&new.name),
                value: Bytes::copy_from_slice(&id.to_be_bytes()),
            },
            put(&collection_key(id), &record),
        ],
        ..Swap::default()
    })
}

/// Places shards that have no record yet: replicas on distinct nodes of `candidates`, the emptiest first; among those
/// chosen, the one that leads least comes first. `None` if all are placed.
pub(crate) fn place(map: &ShardMap, collection: &Collection, candidates: &[NodeId]) -> Result<Option<Swap>, Failure> {
    let factor = collection.record.replication_factor as usize;
    if candidates.len() < factor {
        return Err(too_few_nodes(factor, candidates.len()));
    }
    let unplaced = collection.unplaced();
    if unplaced.is_empty() {
        return Ok(None);
    }
    let count = u32::try_from(collection.record.shards.len()).expect("at most 256 shards");
    let (mut counters, _) = minted(map);
    let mut loads = loads(map, candidates);
    let mut swap = Swap::default();
    for (ordinal, id) in unplaced.into_iter().take(SHARDS_PER_SWAP) {
        let range = HashRange::of(ordinal, count);
        let record = ShardRecord {
            id: id.0,
            collection: collection.id.0,
            epoch: 1,
            range_start: range.start,
            range_end: range.end,
            replicas: members(&mut loads, factor, &mut counters.next_replica),
            initialized: false,
            parents: Vec::new(),
            schema_version: collection.record.schema_version,
            replacing: None,
        };
        swap.compares.push(unchanged(&shard_key(id), 0));
        swap.puts.push(put(&shard_key(id), &record));
    }
    swap.compares.push(unchanged(COUNTERS, map.counters.1));
    swap.compares.push(collection_unchanged(collection));
    swap.puts.push(put(COUNTERS, &counters));
    Ok(Some(swap))
}

/// Fewer nodes than replicas.
pub(crate) fn too_few_nodes(factor: usize, nodes: usize) -> Failure {
    let nodes = match nodes {
        1 => "1 node can".to_owned(),
        nodes => format!("{nodes} nodes can"),
    };
    Failure::Precondition(format!(
        "replication_factor: {factor}, and only {nodes} be reached; each replica needs a node of its own"
    ))
}

/// How much a node carries already.
struct Load {
    node: NodeId,
    replicas: usize,
    first: usize,
}

fn loads(map: &ShardMap, candidates: &[NodeId]) -> Vec<Load> {
    let load = |&node| Load {
        node,
        replicas: map.shards().filter(|shard| shard.replica_on(node).is_some()).count(),
        first: map.shards().filter(|shard| shard.nodes().next() == Some(node)).count(),
    };
    candidates.iter().map(load).collect()
}

fn members(loads: &mut [Load], factor: usize, next_replica: &mut u64) -> Vec<Member> {
    loads.sort_by_key(|load| (load.replicas, load.first, load.node));
    let chosen = &mut loads[..factor];
    chosen.sort_by_key(|load| (load.first, load.replicas, load.node));
    chosen[0].first += 1;
    let member = |load: &mut Load| {
        load.replicas += 1;
        *next_replica += 1;
        Member {
            replica: *next_replica - 1,
            node: load.node.0,
        }
    };
    chosen.iter_mut().map(member).collect()
}

/// Begins to replace a replica of `shard` by a new one on `node`, or, where nobody is leaving, to add that one; `None`: since the
/// shard was `seen`, its replicas have changed, or another coordinator was faster.
pub(crate) fn begin_replacing(
    map: &ShardMap,
    (seen, shard): (&Shard, &Shard),
    leaving: Option<Member>,
    node: NodeId,
) -> Option<Swap> {
    if shard.record.replicas != seen.record.replicas || shard.record.replacing != seen.record.replacing {
        return None;
    }
    let (mut counters, revision) = minted(map);
    // The register's first replicas were numbered by its founder.
    let known = shard.record.replicas.iter().map(|member| member.replica).max();
    let joining = Member {
        replica: counters.next_replica.max(known.map_or(0, |most| most + 1)),
        node: node.0,
    };
    counters.next_replica = joining.replica + 1;
    let mut swap = note_shard(shard, |record| {
        record.replacing = Some(Replacement {
            leaving,
            joining: Some(joining),
        });
    });
    swap.compares.push(unchanged(COUNTERS, revision));
    swap.puts.push(put(COUNTERS, &counters));
    Some(swap)
}

/// The joining replica of `seen` has a vote: it gets the place of the leaving one, or the last. `None`: it has its place, and another
/// may be on its way.
pub(crate) fn end_replacing((seen, shard): (&Shard, &Shard)) -> Option<Swap> {
    if shard.record.replacing != seen.record.replacing {
        return None;
    }
    let Replacing { joining, leaving } = shard.replacing()?;
    Some(note_shard(shard, |record| {
        record.replacing = None;
        match record.replicas.iter_mut().find(|member| Some(**member) == leaving) {
            Some(place) => *place = joining,
            None => record.replicas.push(joining),
        }
    }))
}

/// Gives a node up. Should it announce itself again, it is back, as one that holds nothing that is still wanted.
pub(crate) fn remove_node(record: &NodeRecord) -> Swap {
    let removed = NodeRecord {
        removed: true,
        ..record.clone()
    };
    Swap {
        puts: vec![put(&format!("{NODES}{:016x}", record.node), &removed)],
        ..Swap::default()
    }
}

/// Notes something about a shard.
pub(crate) fn note_shard(shard: &Shard, note: impl FnOnce(&mut ShardRecord)) -> Swap {
    let mut record = shard.record.clone();
    note(&mut record);
    Swap {
        compares: vec![unchanged(&shard_key(shard.id), shard.revision)],
        puts: vec![put(&shard_key(shard.id), &record)],
        ..Swap::default()
    }
}

/// Changes a collection's record.
pub(crate) fn note_collection(collection: &Collection, note: impl FnOnce(&mut CollectionRecord)) -> Swap {
    let mut record = collection.record.clone();
    note(&mut record);
    Swap {
        compares: vec![collection_unchanged(collection)],
        puts: vec![put(&collection_key(record.id), &record)],
        ..Swap::default()
    }
}

/// Frees the name and marks the collection: from here on nobody reads or writes it, and the control loop drops it.
pub(crate) fn begin_delete(map: &ShardMap, collection: &Collection) -> Swap {
    let mut swap = note_collection(collection, |record| record.set_state(State::Deleting));
    let name = name_key(collection.name());
    swap.compares
        .push(unchanged(&name, map.name_revision(collection.name())));
    swap.deletes.push(name);
    swap
}

/// Forgets a deleted collection, some shards at a time and the collection itself last.
pub(crate) fn forget(collection: &Collection) -> Swap {
    let mut swap = Swap {
        compares: vec![collection_unchanged(collection)],
        ..Swap::default()
    };
    let shards = collection.shards.iter().take(SHARDS_PER_SWAP);
    swap.deletes.extend(shards.map(|shard| shard_key(shard.id)));
    if collection.shards.len() <= SHARDS_PER_SWAP {
        swap.deletes.push(collection_key(collection.id.0));
    }
    swap
}

/// Ids to be given next; the first of each kind is 1 (shard 0 is the register).
fn minted(map: &ShardMap) -> (Counters, u64) {
    let (mut counters, revision) = map.counters;
    counters.next_collection = counters.next_collection.max(1);
    counters.next_shard = counters.next_shard.max(1);
    counters.next_replica = counters.next_replica.max(1);
    (counters, revision)
}

fn name_key(name: &str) -> String {
    format!("{NAMES}{name}")
}

fn collection_key(id: u64) -> String {
    format!("{COLLECTIONS}{id:016x}")
}

fn shard_key(id: ShardId) -> String {
    match id {
        ids::REGISTER => REGISTER.to_owned(),
        id => format!("{SHARDS}{:016x}", id.0),
    }
}

fn unchanged(key: &str, revision: u64) -> Compare {
    Compare {
        key: key.to_owned(),
        revision,
    }
}

fn collection_unchanged(collection: &Collection) -> Compare {
    unchanged(&collection_key(collection.id.0), collection.revision)
}

fn put(key: &str, value: &impl Message) -> Put {
    Put {
        key: key.to_owned(),
        value: value.encode_to_vec().into(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
