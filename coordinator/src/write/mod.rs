//! How a write becomes log entries of shards, and their outcomes one answer.
//!
//! `check`: documents against limits and schema, vectors made canonical, texts set aside. `payload`: what passes as
//! JSON. `split`: operations by shard, in entries of bounded size. `send`: one leader per shard at once, the entries of
//! a shard one after the other, an outcome for every document in the order written. This file: the two requests.

pub(crate) mod check;
mod payload;
mod send;
mod split;

use std::sync::Arc;
use std::time::Instant;

use granum_model::DocId;
use granum_proto::internal::{Operation, ShardDeleteByFilterRequest, operation};
use granum_proto::limits::{self, Invalid};
use granum_proto::status::Failure;
use granum_proto::{convert, ids, v1};
use xxhash_rust::xxh3::xxh3_64;

use crate::context::Context;
use crate::map::Collection;
use crate::route::call::Budget;
use check::Draft;
use split::Placed;

/// Batches from this size on are checked on a worker thread.
const INLINE_DOCUMENTS_MAX: usize = 16;

/// Writes documents.
pub(crate) async fn upsert(context: &Context, request: v1::UpsertRequest) -> Result<v1::WriteResponse, Failure> {
    let begun = Instant::now();
    let budget = context.budget(request.info.as_ref())?;
    let collection = context.collection(&request.collection, budget.deadline).await?;
    limits::at_most(
        "documents",
        request.documents.len(),
        limits::BATCH_DOCUMENTS_MAX,
        "documents",
    )?;
    if request.documents.is_empty() {
        return Err(Invalid::new("documents", "none given").into());
    }
    let drafts = check_all(request.documents, collection.clone()).await?;
    let drafts = embed(context, drafts, &collection, budget).await?;
    let placed = drafts.into_iter().map(|draft| Placed {
        shard: draft.shard,
        digest: draft.digest,
        operation: Operation {
            kind: Some(operation::Kind::Put(draft.document)),
            condition: draft.condition,
            only_if: None,
            ordinal: draft.ordinal,
        },
    });
    let split = split::split(placed, &collection)?;
    let answer = send::send(context, split, budget).await?;
    Ok(finished(context, &collection, answer, begun))
}

/// Deletes documents by id, or all that a filter lets through.
pub(crate) async fn delete(context: &Context, request: v1::DeleteRequest) -> Result<v1::WriteResponse, Failure> {
    let begun = Instant::now();
    let budget = context.budget(request.info.as_ref())?;
    let collection = context.collection(&request.collection, budget.deadline).await?;
    let answer = match (request.ids.is_empty(), request.filter) {
        (true, None) | (false, Some(_)) => {
            return Err(Invalid::new("delete", "exactly one of ids and filter must be given").into());
        }
        (false, None) => delete_ids(context, &collection, &request.ids, budget).await?,
        (true, Some(filter)) => delete_by_filter(context, &collection, filter, budget).await?,
    };
    Ok(finished(context, &collection, answer, begun))
}

async fn delete_ids(
    context: &Context,
    collection: &Collection,
    ids: &[v1::DocId],
    budget: Budget,
) -> Result<v1::WriteResponse, Failure> {
    limits::at_most("ids", ids.len(), limits::BATCH_DOCUMENTS_MAX, "ids")?;
    let mut placed = Vec::with_capacity(ids.len());
    for (ordinal, id) in ids.iter().enumerate() {
        let id = convert::id::read(Some(id)).map_err(|error| error.within(&format!("ids[{ordinal}]")))?;
        placed.push(deletion(collection, &id, ordinal));
    }
    let split = split::split(placed.into_iter(), collection)?;
    send::send(context, split, budget).await
}

fn deletion(collection: &Collection, id: &DocId, ordinal: usize) -> Placed {
    Placed {
        shard: collection.shard_of(ids::placement_hash(id)).id,
        digest: xxh3_64(&id.encode()),
        operation: Operation {
            kind: Some(operation::Kind::Delete(convert::id::write(id))),
            ordinal: u32::try_from(ordinal).expect("checked against BATCH_DOCUMENTS_MAX"),
            ..Operation::default()
        },
    }
}

async fn delete_by_filter(
    context: &Context,
    collection: &Collection,
    filter: v1::Filter,
    budget: Budget,
) -> Result<v1::WriteResponse, Failure> {
    convert::filter::read(Some(&filter))?;
    let call = |shard: u64| {
        let request = ShardDeleteByFilterRequest {
            call: None,
            filter: Some(filter.clone()),
        };
        async move {
            (
                shard,
                context
                    .caller
                    .write(granum_model::ShardId(shard), request, budget)
                    .await,
            )
        }
    };
    let shards = collection.shards.iter().map(|shard| call(shard.id.0));
    let mut answer = v1::WriteResponse::default();
    let mut failed = None;
    for (shard, answered) in futures::future::join_all(shards).await {
        match answered {
            Ok(reply) => {
                answer.changed += reply.changed;
                answer
                    .token
                    .get_or_insert_default()
                    .sequences
                    .insert(shard, reply.sequence);
            }
            Err(failure) => failed = Some(failure),
        }
    }
    match failed {
        None => Ok(answer),
        // Some of what matched may be gone: of other shards, or before the shard failed.
        Some(failure) => Err(failure.of_a_write_in_doubt()),
    }
}

fn finished(
    context: &Context,
    collection: &Collection,
    mut answer: v1::WriteResponse,
    begun: Instant,
) -> v1::WriteResponse {
    let written = context
        .metrics
        .documents_written
        .with_label_values(&[collection.name()]);
    written.inc_by(answer.changed);
    answer.micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    answer
}

/// Checks documents; many of them on a worker thread.
async fn check_all(documents: Vec<v1::DocumentWrite>, collection: Arc<Collection>) -> Result<Vec<Draft>, Failure> {
    if documents.len() <= INLINE_DOCUMENTS_MAX {
        return Ok(check::documents(documents, &collection)?);
    }
    let checked = tokio::task::spawn_blocking(move || check::documents(documents, &collection)).await;
    Ok(checked.map_err(|error| Failure::Fault(format!("checking documents failed: {error}")))??)
}

/// Turns the texts that were set aside into vectors, those of one field together.
async fn embed(
    context: &Context,
    mut drafts: Vec<Draft>,
    collection: &Collection,
    budget: Budget,
) -> Result<Vec<Draft>, Failure> {
    for field in &collection.schema.vectors {
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for (place, draft) in drafts.iter_mut().enumerate() {
            if let Some(at) = draft.texts.iter().position(|(name, _)| *name == field.name) {
                places.push(place);
                texts.push(draft.texts.swap_remove(at).1);
            }
        }
        if texts.is_empty() {
            continue;
        }
        context.metrics.texts_embedded.inc_by(texts.len() as u64);
        let vectors = context.embedders.embed(field, texts, budget.deadline).await?;
        for (place, vector) in places.into_iter().zip(vectors) {
            drafts[place].add_embedded(field, vector)?;
        }
    }
    Ok(drafts)
}
