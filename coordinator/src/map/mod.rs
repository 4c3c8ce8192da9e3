//! Who holds what: collections, their shards, the replicas of each, and the nodes they live on.
//!
//! A [`ShardMap`] is a value, built from the register's entries and never changed; a new revision is a new map. `range`:
//! which hashes a shard owns. `change`: pure functions from a map and a wish to a compare-and-swap. `store`: reads,
//! swaps and watches the register. The keys are those of `granum/internal/v1/map.proto`.
//!
//! Invariants of an active collection: its ranges cover every hash once; the replicas of a shard live on distinct nodes.
//! An entry that can't be read is named in `damaged` and left out: the collection it belongs to is refused, the others work.

pub(crate) mod change;
pub(crate) mod range;
pub(crate) mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use granum_model::{CollectionId, NodeId, ReplicaId, Schema, ShardId};
use granum_proto::convert;
use granum_proto::internal::{CollectionRecord, Counters, KeyValue, Member, NodeRecord, ShardRecord};
use granum_proto::status::Failure;
use granum_proto::v1;
use prost::Message;
use range::HashRange;
use v1::collection_info::State;

/// The cluster as of one revision of the register.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardMap {
    /// Of the register.
    pub revision: u64,
    /// Ids to be given next, and the revision at which the key was written (0: never).
    pub counters: (Counters, u64),
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Nodes given up for good.
    pub removed: BTreeSet<NodeId>,
    /// All of them, those being deleted too.
    pub collections: BTreeMap<CollectionId, Arc<Collection>>,
    /// The register's own replicas, where one of them was ever replaced or added; before, its group knows them.
    pub register: Option<Arc<Shard>>,
    /// Entries that could not be read: key and problem.
    pub damaged: Vec<String>,
    names: BTreeMap<String, (CollectionId, u64)>,
    shards: BTreeMap<ShardId, Arc<Shard>>,
}

/// A collection, as the map has it.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub id: CollectionId,
    pub schema: Schema,
    /// As the register holds it.
    pub record: CollectionRecord,
    /// Revision at which the record was written.
    pub revision: u64,
    /// Those whose records exist, by range.
    pub shards: Vec<Arc<Shard>>,
}

/// A shard, as the map has it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub id: ShardId,
    pub epoch: u64,
    pub range: HashRange,
    pub record: ShardRecord,
    /// Revision at which the record was written.
    pub revision: u64,
}

/// A replica that takes another's place, or a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replacing {
    pub joining: Member,
    /// `None`: nobody leaves, the shard has one replica more afterwards.
    pub leaving: Option<Member>,
}

impl Shard {
    /// Where its replicas live, the first one first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.record.replicas.iter().map(|member| NodeId(member.node))
    }

    /// The replica on a node.
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        let found = self.record.replicas.iter().find(|member| member.node == node.0);
        found.map(|member| ReplicaId(member.replica))
    }

    /// The change of its replicas that is under way.
    pub fn replacing(&self) -> Option<Replacing> {
        let replacing = self.record.replacing.as_ref()?;
        Some(Replacing {
            joining: replacing.joining?,
            leaving: replacing.leaving,
        })
    }

    /// The replica that is on its way into it.
    pub fn joining(&self) -> Option<Member> {
        self.replacing().map(|replacing| replacing.joining)
    }

    /// Whether a replica belongs to it: one that is replaced does, until it is.
    pub fn wants(&self, node: NodeId, replica: ReplicaId) -> bool {
        let joining = self.joining();
        let mut members = self.record.replicas.iter().chain(&joining);
        members.any(|member| member.node == node.0 && member.replica == replica.0)
    }
}

impl Collection {
    /// One shard, for what only needs a collection to be there.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn alone(schema: Schema) -> Collection {
        let shard = Shard {
            id: ShardId(1),
            epoch: 1,
            range: HashRange::of(0, 1),
            record: ShardRecord::default(),
            revision: 1,
        };
        Collection {
            id: CollectionId(1),
            schema,
            record: CollectionRecord::default(),
            revision: 1,
            shards: vec![shard.into()],
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.record.state()
    }

    /// Ids of shards that the record names and that have no record of their own.
    pub fn unplaced(&self) -> Vec<(u32, ShardId)> {
        let placed: BTreeSet<ShardId> = self.shards.iter().map(|shard| shard.id).collect();
        let named = self.record.shards.iter().map(|&id| ShardId(id)).enumerate();
        named
            .filter(|(_, id)| !placed.contains(id))
            .map(|(ordinal, id)| (u32::try_from(ordinal).expect("at most 256 shards"), id))
            .collect()
    }

    /// The shard that owns a hash.
    pub fn shard_of(&self, hash: u64) -> &Arc<Shard> {
        let at = self.shards.partition_point(|shard| shard.range.end < hash);
        &self.shards[at]
    }

    /// Refuses what can't be asked or written: a collection being created, deleted, or damaged in the map.
    fn check_usable(&self) -> Result<(), Failure> {
        let name = self.name();
        match self.state() {
            State::Active => {}
            State::Deleting => return Err(unknown_collection(name)),
            State::Creating | State::Unspecified => {
                return Err(Failure::Unavailable(format!("collection {name:?} is being created")));
            }
        }
        range::check_cover(self.shards.iter().map(|shard| shard.range))
            .map_err(|error| Failure::Fault(format!("collection {name:?}: the map is damaged: {error}")))
    }
}

/// There is no such collection.
pub(crate) fn unknown_collection(name: &str) -> Failure {
    Failure::NotFound(format!("collection {name:?} does not exist"))
}

impl ShardMap {
    /// Builds the map from all entries of the register, as of `revision`.
    pub fn build(revision: u64, entries: &BTreeMap<String, KeyValue>) -> ShardMap {
        let mut map = ShardMap {
            revision,
            ..ShardMap::default()
        };
        let mut records = Vec::new();
        for (key, entry) in entries {
            if let Err(problem) = map.read(key, entry, &mut records) {
                map.damaged.push(format!("{key}: {problem}"));
            }
        }
        for (record, revision) in records {
            if let Err(problem) = map.join(record, revision) {
                map.damaged.push(problem);
            }
        }
        map
    }

    fn read(&mut self, key: &str, entry: &KeyValue, records: &mut Vec<(CollectionRecord, u64)>) -> Result<(), String> {
        let value = entry.value.clone();
        if key == change::COUNTERS {
            self.counters = (decode(value)?, entry.revision);
        } else if key.starts_with(change::NODES) {
            let record: NodeRecord = decode(value)?;
            match record.removed {
                true => drop(self.removed.insert(NodeId(record.node))),
                false => drop(self.nodes.insert(NodeId(record.node), record)),
            }
        } else if key == change::REGISTER {
            self.register = Some(Arc::new(read_shard(decode(value)?, entry.revision)?));
        } else if let Some(name) = key.strip_prefix(change::NAMES) {
            let id = value[..]
                .try_into()
                .map_err(|_| format!("{} bytes, must be 8", value.len()))?;
            let id = CollectionId(u64::from_be_bytes(id));
            self.names.insert(name.to_owned(), (id, entry.revision));
        } else if key.starts_with(change::COLLECTIONS) {
            records.push((decode(value)?, entry.revision));
        } else if key.starts_with(change::SHARDS) {
            let shard = read_shard(decode(value)?, entry.revision)?;
            self.shards.insert(shard.id, Arc::new(shard));
        }
        Ok(())
    }

    /// Joins a collection with its shards.
    fn join(&mut self, record: CollectionRecord, revision: u64) -> Result<(), String> {
        let schema = convert::schema::read(record.schema.as_ref())
            .map_err(|error| format!("collection {:?}: schema: {error}", record.name))?;
        let shards = record.shards.iter();
        let mut shards: Vec<Arc<Shard>> = shards
            .filter_map(|id| self.shards.get(&ShardId(*id)).cloned())
            .collect();
        shards.sort_by_key(|shard| shard.range);
        let collection = Collection {
            id: CollectionId(record.id),
            schema,
            record,
            revision,
            shards,
        };
        self.collections.insert(collection.id, Arc::new(collection));
        Ok(())
    }

    /// The collection of that name, whatever its state.
    pub fn named(&self, name: &str) -> Option<&Arc<Collection>> {
        self.collections.get(&self.names.get(name)?.0)
    }

    /// Names and collections, by name.
    pub fn named_collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.names.values().filter_map(|(id, _)| self.collections.get(id))
    }

    /// Revision at which the name was given (0: it is free).
    pub fn name_revision(&self, name: &str) -> u64 {
        self.names.get(name).map_or(0, |(_, revision)| *revision)
    }

    /// The collection of that name, if it can be asked and written.
    pub fn usable(&self, name: &str) -> Result<&Arc<Collection>, Failure> {
        let collection = self.named(name).ok_or_else(|| unknown_collection(name))?;
        collection.check_usable()?;
        Ok(collection)
    }

    /// A shard by its id.
    pub fn shard(&self, id: ShardId) -> Option<&Arc<Shard>> {
        self.shards.get(&id)
    }

    /// All shards of all collections.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.values()
    }

    /// Where a node answers.
    pub fn address(&self, node: NodeId) -> Option<&str> {
        self.nodes.get(&node).map(|record| record.data_address.as_str())
    }
}

fn decode<M: Message + Default>(value: bytes::Bytes) -> Result<M, String> {
    M::decode(value).map_err(|error| error.to_string())
}

fn read_shard(record: ShardRecord, revision: u64) -> Result<Shard, String> {
    let distinct: BTreeSet<u64> = record.replicas.iter().map(|Member { node, .. }| *node).collect();
    if record.replicas.is_empty() || distinct.len() != record.replicas.len() {
        return Err(format!("shard {}: its replicas must live on distinct nodes", record.id));
    }
    Ok(Shard {
        id: ShardId(record.id),
        epoch: record.epoch,
        range: HashRange {
            start: record.range_start,
            end: record.range_end,
        },
        record,
        revision,
    })
}
