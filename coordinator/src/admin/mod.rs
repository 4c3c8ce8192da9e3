//! Collections: created, altered, deleted, described. A change is a swap of the map; the control loop carries it out, and
//! the answer waits until it has.
//!
//! `schema`: a schema as asked for, with its embedders resolved. `info`: what a collection and the cluster look like.

mod info;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use granum_model::NodeId;
use granum_proto::limits::{Invalid, REPLICATION_FACTOR_MAX, SHARDS_MAX};
use granum_proto::status::Failure;
use granum_proto::v1::{self, collection_info::State};
use tokio::time::{Instant, timeout_at};

use crate::context::Context;
use crate::control::{Control, plan};
use crate::map::change::{self, NewCollection};
use crate::map::{Collection, ShardMap, unknown_collection};

/// Replicas of a shard where a request names no number and there are as many nodes.
const REPLICATION_FACTOR_DEFAULT: usize = 3;
/// How long the answer to a delete waits for the disk to be given back; it goes on without being waited for.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a new collection waits for nodes that are just joining.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks for them.
const JOIN_POLL: Duration = Duration::from_millis(100);

/// Creates a collection; answers when every shard of it has a leader.
pub(crate) async fn create(
    context: &Context,
    control: &Control,
    request: v1::CreateCollectionRequest,
) -> Result<v1::CollectionInfo, Failure> {
    let deadline = context.budget(request.info.as_ref())?.deadline;
    change::check_name(&request.name)?;
    let wished = schema::wished(request.schema.as_ref(), &context.embedders)?;
    let shards = match request.shards {
        0 => context.default_shards,
        shards if shards <= SHARDS_MAX => shards,
        shards => return Err(Invalid::new("shards", format!("{shards}, at most {SHARDS_MAX}")).into()),
    };
    let nodes = nodes_to_place_on(context, control, request.replication_factor as usize, deadline).await?;
    let replication_factor = match request.replication_factor {
        0 => u32::try_from(nodes.clamp(1, REPLICATION_FACTOR_DEFAULT)).expect("at most 3"),
        factor if factor <= REPLICATION_FACTOR_MAX => factor,
        factor => {
            let problem = format!("{factor}, at most {REPLICATION_FACTOR_MAX}");
            return Err(Invalid::new("replication_factor", problem).into());
        }
    };
    let new = NewCollection {
        name: request.name,
        schema: wished,
        shards,
        replication_factor,
    };
    let map = context.store.swap(deadline, |map| match map.named(&new.name) {
        Some(stands) if request.if_not_exists && is_as_wished(stands, &new, &request.shards) => Ok(None),
        Some(_) if request.if_not_exists => Err(Failure::Exists(format!(
            "collection {:?} exists with another schema",
            new.name
        ))),
        None if nodes < replication_factor as usize => Err(change::too_few_nodes(replication_factor as usize, nodes)),
        _ => change::create(map, &new).map(Some),
    });
    let map = map.await?;
    let id = map.named(&new.name).ok_or_else(|| unknown_collection(&new.name))?.id;
    control.wake();
    let active = |map: &ShardMap| match map.collections.get(&id) {
        Some(collection) if collection.state() == State::Active => Some(Ok(collection.clone())),
        Some(collection) if collection.state() == State::Creating => None,
        _ => Some(Err(unknown_collection(&new.name))),
    };
    let late = || Failure::Unknown(format!("collection {:?} is still being created", new.name));
    let collection = wait(context, deadline, active).await.ok_or_else(late)??;
    let reports = control.observe().await?;
    Ok(info::collection(&collection, &reports))
}

/// How many nodes can take replicas. A cluster just founded or restarted gets [`JOIN_PATIENCE`] to bring as many as the
/// `replication_factor` asks for.
async fn nodes_to_place_on(
    context: &Context,
    control: &Control,
    replication_factor: usize,
    deadline: Instant,
) -> Result<usize, Failure> {
    let wanted = replication_factor.clamp(1, REPLICATION_FACTOR_MAX as usize);
    let give_up = deadline.min(Instant::now() + JOIN_PATIENCE);
    loop {
        let reports = control.observe().await?;
        let nodes = plan::candidates(&*context.store.map()?, &reports).len();
        if nodes >= wanted || Instant::now() >= give_up {
            return Ok(nodes);
        }
        tokio::time::sleep(JOIN_POLL).await;
    }
}

/// Whether what stands is what is wished for; a number of shards or replicas not named is as wished.
fn is_as_wished(stands: &Collection, new: &NewCollection, shards: &u32) -> bool {
    let same_shards = *shards == 0 || stands.record.shards.len() == *shards as usize;
    same_shards && stands.record.schema.as_ref() == Some(&new.schema)
}

/// Adds and drops named vectors and payload indexes, changes the default read level; answers when every shard has taken it.
pub(crate) async fn alter(
    context: &Context,
    control: &Control,
    request: v1::AlterCollectionRequest,
) -> Result<v1::CollectionInfo, Failure> {
    let deadline = context.budget(request.info.as_ref())?.deadline;
    let map = context.store.swap(deadline, |map| {
        let collection = map.usable(&request.name)?;
        let dropped = &collection.record.dropped_vectors;
        let altered = schema::altered(&collection.schema, dropped, &request, &context.embedders)?;
        Ok(Some(change::note_collection(collection, |record| {
            if record.schema.as_ref() != Some(&altered) {
                record.schema = Some(altered);
                record.schema_version += 1;
            }
            record.dropped_vectors.extend_from_slice(&request.drop_vectors);
            if request.default_read.is_some() {
                record.default_read.clone_from(&request.default_read);
            }
        })))
    });
    let map = map.await?;
    let wanted = map.usable(&request.name)?;
    let (id, version) = (wanted.id, wanted.record.schema_version);
    control.wake();
    let taken = |map: &ShardMap| {
        let collection = map.collections.get(&id)?;
        let taken = collection
            .shards
            .iter()
            .all(|shard| shard.record.schema_version >= version);
        taken.then(|| collection.clone())
    };
    let late = || {
        Failure::Unknown(format!(
            "not every shard of {:?} has taken the new schema yet",
            request.name
        ))
    };
    let collection = wait(context, deadline, taken).await.ok_or_else(late)?;
    let reports = control.observe().await?;
    Ok(info::collection(&collection, &reports))
}

/// Deletes a collection. From the answer on nobody reads or writes it; a node that is down drops it when it is back.
pub(crate) async fn delete(
    context: &Context,
    control: &Control,
    request: v1::DeleteCollectionRequest,
) -> Result<v1::DeleteCollectionResponse, Failure> {
    let deadline = context.budget(request.info.as_ref())?.deadline;
    let id = match context.find(deadline, |map| named(map, &request.name)).await {
        Ok(collection) => collection.id,
        Err(Failure::NotFound(_)) => return Ok(v1::DeleteCollectionResponse { existed: false }),
        Err(failed) => return Err(failed),
    };
    let deleted = context.store.swap(deadline, |map| {
        let collection = map.named(&request.name).filter(|collection| collection.id == id);
        Ok(collection.map(|collection| change::begin_delete(map, collection)))
    });
    deleted.await?;
    control.wake();
    let patience = deadline.min(Instant::now() + DROP_PATIENCE);
    wait(context, patience, |map| {
        (!map.collections.contains_key(&id)).then_some(())
    })
    .await;
    Ok(v1::DeleteCollectionResponse { existed: true })
}

/// The collection of that name, whatever its state.
fn named(map: &ShardMap, name: &str) -> Result<Arc<Collection>, Failure> {
    map.named(name).cloned().ok_or_else(|| unknown_collection(name))
}

/// One collection as it stands.
pub(crate) async fn get(
    context: &Context,
    control: &Control,
    request: v1::GetCollectionRequest,
) -> Result<v1::CollectionInfo, Failure> {
    let deadline = context.budget(None)?.deadline;
    let collection = context.find(deadline, |map| named(map, &request.name)).await?;
    let reports = control.observe().await?;
    Ok(info::collection(&collection, &reports))
}

/// All collections that have a name.
pub(crate) async fn list(context: &Context, control: &Control) -> Result<v1::ListCollectionsResponse, Failure> {
    let map = context.store.map()?;
    let reports = control.observe().await?;
    let collections = map
        .named_collections()
        .map(|collection| info::collection(collection, &reports));
    Ok(v1::ListCollectionsResponse {
        collections: collections.collect(),
    })
}

/// Nodes, collections, shards, leaders, lag.
pub(crate) async fn status(context: &Context, control: &Control) -> Result<v1::ClusterStatusResponse, Failure> {
    let map = context.store.map()?;
    let reports = control.observe().await?;
    Ok(info::cluster(&map, &reports, context.store.cluster()))
}

/// Gives a node up for good. Its replicas are made anew on others, one after the other, while reads and writes go on.
pub(crate) async fn remove_node(
    context: &Context,
    control: &Control,
    request: v1::RemoveNodeRequest,
) -> Result<v1::RemoveNodeResponse, Failure> {
    let deadline = context.budget(request.info.as_ref())?.deadline;
    let node = NodeId(request.node);
    // As `granum status` shows it.
    let name = format!("{:016x}", request.node);
    let reports = control.observe().await?;
    if reports.node(node).is_some() {
        return Err(Failure::Precondition(format!(
            "node: {name} answers, and only a dead one can be given up; stop it first"
        )));
    }
    let map = context.store.map()?;
    let mut held = map.shards().filter(|shard| shard.replica_on(node).is_some());
    if let Some(shard) = held.find(|shard| reports.leader(shard).is_none()) {
        return Err(Failure::Precondition(format!(
            "node: shard {} has no leader without {name}, and what only that node knows would be lost; bring it back",
            shard.id
        )));
    }
    let removed = context.store.swap(deadline, |map| match map.nodes.get(&node) {
        Some(record) => Ok(Some(change::remove_node(record))),
        None if map.removed.contains(&node) => Ok(None),
        None => Err(Failure::NotFound(format!("node {name} is not known to this cluster"))),
    });
    let map = removed.await?;
    control.wake();
    let held = map.shards().filter(|shard| shard.replica_on(node).is_some());
    Ok(v1::RemoveNodeResponse {
        replicas: held.count() as u64,
    })
}

/// Waits until the map shows what is looked for.
async fn wait<T>(context: &Context, deadline: Instant, look: impl Fn(&ShardMap) -> Option<T>) -> Option<T> {
    let mut revisions = context.store.revisions();
    loop {
        revisions.mark_unchanged();
        let map: Arc<ShardMap> = context.store.map().ok()?;
        if let Some(found) = look(&map) {
            return Some(found);
        }
        timeout_at(deadline, revisions.changed()).await.ok()?.ok()?;
    }
}
