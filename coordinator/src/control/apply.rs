//! Takes one step of the plan: a swap of the map, or a call to a node. All of them may be repeated, and one that the map
//! has overtaken is no failure.

use std::sync::Arc;
use std::time::Duration;

use granum_model::ids::REGISTER;
use granum_model::{CollectionId, NodeId, ShardId};
use granum_proto::internal::shard_client::ShardClient;
use granum_proto::internal::{
    AlterSchemaRequest, DropReplicaRequest, EnsureReplicaRequest, InitializeShardRequest, ReplaceMemberRequest, Swap,
    TransferLeaderRequest,
};
use granum_proto::status::Failure;
use granum_proto::v1::collection_info::State;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::plan::Step;
use crate::context::new_request_id;
use crate::map::{Collection, Replacing, Shard, ShardMap, change};
use crate::pool::failure_of;
use crate::route::call::{Budget, Caller};

/// Time for one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes a step.
pub(crate) async fn apply(caller: &Caller, step: &Step) -> Result<(), Failure> {
    match step {
        Step::Place(collection, candidates) => {
            creating(caller, collection.id, |map, found| {
                change::place(map, found, candidates)
            })
            .await
        }
        Step::Activate(collection) => {
            let activate =
                |found: &Collection| change::note_collection(found, |record| record.set_state(State::Active));
            creating(caller, collection.id, |_, found| Ok(Some(activate(found)))).await
        }
        Step::NoteInitialized(shard) => {
            let noted = |shard: &Shard| shard.record.initialized;
            note(caller, shard.id, noted, |shard| {
                change::note_shard(shard, |record| record.initialized = true)
            })
            .await
        }
        Step::Forget(collection) => {
            let forget = |map: &ShardMap| map.collections.get(&collection.id).map(|found| change::forget(found));
            swap(caller, |map| Ok(forget(map))).await
        }
        Step::AlterSchema(collection, shard) => alter_schema(caller, collection, shard).await,
        Step::Ensure(collection, shard, node, replica) => {
            let request = EnsureReplicaRequest {
                cluster: caller.store.cluster(),
                shard: shard.id.0,
                replica: replica.0,
                epoch: shard.epoch,
                range_start: shard.range.start,
                range_end: shard.range.end,
                ..collection
                    .as_ref()
                    .map_or_else(EnsureReplicaRequest::default, |own| born_in(own))
            };
            on(caller, *node, async |mut client| client.ensure_replica(request).await).await
        }
        Step::Initialize(shard, node) => {
            let request = InitializeShardRequest {
                shard: shard.id.0,
                members: shard.record.replicas.clone(),
            };
            on(caller, *node, async |mut client| client.initialize_shard(request).await).await
        }
        Step::TransferLeader(shard, node, replica) => {
            let request = TransferLeaderRequest {
                shard: shard.id.0,
                to_replica: replica.0,
            };
            on(caller, *node, async |mut client| client.transfer_leader(request).await).await
        }
        Step::BeginReplacing(shard, leaving, node) => {
            let begin = |map: &ShardMap| {
                let stands = standing(map, shard)?;
                change::begin_replacing(map, (shard, &stands), *leaving, *node)
            };
            swap(caller, |map| Ok(begin(map))).await
        }
        Step::AddLearner(shard, node, joining) => {
            let request = ReplaceMemberRequest {
                shard: shard.id.0,
                joining: Some(*joining),
                ..ReplaceMemberRequest::default()
            };
            on(caller, *node, async |mut client| client.replace_member(request).await).await
        }
        Step::Promote(shard, node, Replacing { joining, leaving }) => {
            let staying = shard.record.replicas.iter().filter(|member| Some(**member) != *leaving);
            let request = ReplaceMemberRequest {
                voters: staying.chain([joining]).map(|member| member.replica).collect(),
                shard: shard.id.0,
                joining: Some(*joining),
                leaving: leaving.map_or(0, |leaving| leaving.replica),
                promote: true,
            };
            on(caller, *node, async |mut client| client.replace_member(request).await).await
        }
        Step::EndReplacing(shard) => {
            let end = |map: &ShardMap| change::end_replacing((shard, &*standing(map, shard)?));
            swap(caller, |map| Ok(end(map))).await
        }
        Step::Drop(node, shard, replica) => {
            let request = DropReplicaRequest {
                shard: shard.0,
                replica: replica.0,
            };
            on(caller, *node, async |mut client| client.drop_replica(request).await).await
        }
    }
}

/// What a replica of a shard of this collection is told of it.
fn born_in(collection: &Collection) -> EnsureReplicaRequest {
    EnsureReplicaRequest {
        collection: collection.id.0,
        collection_name: collection.name().to_owned(),
        schema: collection.record.schema.clone(),
        index: collection.record.index.clone(),
        ..EnsureReplicaRequest::default()
    }
}

/// A shard as the newest map has it, if it still does; the register's replicas, where no map has them yet, as they were seen.
pub(super) fn standing(map: &ShardMap, seen: &Arc<Shard>) -> Option<Arc<Shard>> {
    match seen.id {
        REGISTER => Some(map.register.as_ref().unwrap_or(seen).clone()),
        id => map.shard(id).cloned(),
    }
}

/// Puts the collection's schema into a shard's log, then notes its version.
async fn alter_schema(caller: &Caller, collection: &Collection, shard: &Shard) -> Result<(), Failure> {
    let budget = Budget {
        request_id: new_request_id(),
        deadline: Instant::now() + STEP_TIMEOUT,
    };
    let request = AlterSchemaRequest {
        call: None,
        schema: collection.record.schema.clone(),
    };
    caller.write(shard.id, request, budget).await?;
    let version = collection.record.schema_version;
    let noted = |shard: &Shard| shard.record.schema_version >= version;
    note(caller, shard.id, noted, |shard| {
        change::note_shard(shard, |record| record.schema_version = version)
    })
    .await
}

/// Changes a collection that is still being created.
async fn creating(
    caller: &Caller,
    id: CollectionId,
    change: impl Fn(&ShardMap, &Collection) -> Result<Option<Swap>, Failure>,
) -> Result<(), Failure> {
    let planned = |map: &ShardMap| match map.collections.get(&id) {
        Some(found) if found.state() == State::Creating => change(map, found),
        _ => Ok(None),
    };
    swap(caller, planned).await
}

/// Notes something about a shard, unless it is noted already.
async fn note(
    caller: &Caller,
    id: ShardId,
    noted: impl Fn(&Shard) -> bool,
    change: impl Fn(&Shard) -> Swap,
) -> Result<(), Failure> {
    let planned = |map: &ShardMap| Ok(map.shard(id).filter(|shard| !noted(shard)).map(|shard| change(shard)));
    swap(caller, planned).await
}

async fn swap(caller: &Caller, change: impl Fn(&ShardMap) -> Result<Option<Swap>, Failure>) -> Result<(), Failure> {
    caller.store.swap(Instant::now() + STEP_TIMEOUT, change).await.map(drop)
}

/// Makes one call to a node.
async fn on<T>(
    caller: &Caller,
    node: NodeId,
    call: impl AsyncFnOnce(ShardClient<Channel>) -> Result<Response<T>, Status>,
) -> Result<(), Failure> {
    let map = caller.store.map()?;
    let address = map.address(node);
    let address = address.ok_or_else(|| Failure::Unavailable(format!("node {node} has no address")))?;
    let client = ShardClient::new(caller.pool.channel(address)?);
    match timeout(STEP_TIMEOUT, call(client)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(failure_of(&status)),
        Err(_) => Err(Failure::Unknown(format!("node {node} did not answer in time"))),
    }
}
