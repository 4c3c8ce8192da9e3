//! Documents by id, documents in the order of their ids, and how many there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use granum_model::{DocId, ShardId};
use granum_proto::internal::{ShardCountRequest, ShardGetRequest, ShardScrollRequest};
use granum_proto::limits;
use granum_proto::status::Failure;
use granum_proto::{convert, ids, v1};

use super::ask::check_vectors;
use super::fan_out::fan_out;
use super::level;
use crate::context::Context;
use crate::map::Shard;
use crate::merge;

/// Documents of a page where a request names no number.
const PAGE_DEFAULT: u32 = 10;
/// Time to count the documents of a field, for the description of a collection.
const COUNT_TIMEOUT_MS: u64 = 2_000;

/// Documents by id, in the order asked; those that don't exist are left out.
pub(crate) async fn get(context: &Context, request: v1::GetRequest) -> Result<v1::GetResponse, Failure> {
    let begun = Instant::now();
    let budget = context.budget(request.info.as_ref())?;
    let collection = context.collection(&request.collection, budget.deadline).await?;
    limits::at_most("ids", request.ids.len(), limits::BATCH_DOCUMENTS_MAX, "ids")?;
    check_vectors(request.with_vectors.as_ref(), &collection.schema)?;
    let mut asked: Vec<DocId> = Vec::with_capacity(request.ids.len());
    let mut by_shard: HashMap<ShardId, (Arc<Shard>, Vec<v1::DocId>)> = HashMap::new();
    for (at, id) in request.ids.iter().enumerate() {
        let id = convert::id::read(Some(id)).map_err(|error| error.within(&format!("ids[{at}]")))?;
        let shard = collection.shard_of(ids::placement_hash(&id));
        let (_, ids) = by_shard.entry(shard.id).or_insert_with(|| (shard.clone(), Vec::new()));
        ids.push(convert::id::write(&id));
        asked.push(id);
    }
    let calls = by_shard.into_values().map(|(shard, ids)| {
        let request = ShardGetRequest {
            call: None,
            ids,
            with_payload: request.with_payload.clone(),
            with_vectors: request.with_vectors.clone(),
        };
        (shard, request)
    });
    let read = level::wanted(request.read.as_ref(), &collection);
    let gathered = fan_out(context, calls.collect(), &read, false, budget).await?;
    let mut found: HashMap<DocId, v1::StoredDocument> = HashMap::with_capacity(asked.len());
    for (shard, reply) in gathered.answers {
        for document in reply.documents {
            let id = convert::id::read(document.id.as_ref());
            let id = id.map_err(|error| {
                Failure::Fault(format!("shard {} sent a document without an id: {error}", shard.id))
            })?;
            found.insert(id, document);
        }
    }
    Ok(v1::GetResponse {
        documents: asked.iter().filter_map(|id| found.get(id).cloned()).collect(),
        info: Some(timed(gathered.info, begun)),
    })
}

/// A page of documents in the order of their ids.
pub(crate) async fn scroll(context: &Context, request: v1::ScrollRequest) -> Result<v1::ScrollResponse, Failure> {
    let begun = Instant::now();
    let budget = context.budget(request.info.as_ref())?;
    let collection = context.collection(&request.collection, budget.deadline).await?;
    let limit = if request.limit == 0 {
        PAGE_DEFAULT
    } else {
        request.limit
    };
    limits::at_most("limit", limit as usize, limits::LIMIT_MAX as usize, "documents")?;
    convert::filter::read(request.filter.as_ref())?;
    check_vectors(request.with_vectors.as_ref(), &collection.schema)?;
    let from = match &request.offset {
        None => None,
        Some(offset) => {
            let from = convert::id::read(Some(offset)).map_err(|error| error.within("offset"))?;
            Some(convert::id::write(&from))
        }
    };
    let page = ShardScrollRequest {
        call: None,
        from,
        limit: limit + 1,
        filter: request.filter,
        with_payload: request.with_payload,
        with_vectors: request.with_vectors,
    };
    let read = level::wanted(request.read.as_ref(), &collection);
    let calls = collection
        .shards
        .iter()
        .map(|shard| (shard.clone(), page.clone()))
        .collect();
    let mut gathered = fan_out(context, calls, &read, false, budget).await?;
    gathered.warn(collection.name());
    let mut lists = Vec::with_capacity(gathered.answers.len());
    for (shard, reply) in gathered.answers {
        lists.push(merge::read_documents(shard.id.0, reply.documents)?);
    }
    let mut merged = merge::merge(lists, limit as usize + 1);
    let next = if merged.len() > limit as usize {
        merged.pop()
    } else {
        None
    };
    Ok(v1::ScrollResponse {
        documents: merged.into_iter().map(|ranked| ranked.document).collect(),
        next: next.map(|ranked| convert::id::write(&ranked.id)),
        info: Some(timed(gathered.info, begun)),
    })
}

/// How many documents a filter lets through.
pub(crate) async fn count(context: &Context, request: v1::CountRequest) -> Result<v1::CountResponse, Failure> {
    let begun = Instant::now();
    let budget = context.budget(request.info.as_ref())?;
    let collection = context.collection(&request.collection, budget.deadline).await?;
    convert::filter::read(request.filter.as_ref())?;
    let read = level::wanted(request.read.as_ref(), &collection);
    let asked = ShardCountRequest {
        call: None,
        filter: request.filter,
    };
    let calls = collection
        .shards
        .iter()
        .map(|shard| (shard.clone(), asked.clone()))
        .collect();
    let mut gathered = fan_out(context, calls, &read, false, budget).await?;
    gathered.warn(collection.name());
    Ok(v1::CountResponse {
        count: gathered.answers.iter().map(|(_, reply)| reply.count).sum(),
        info: Some(timed(gathered.info, begun)),
    })
}

/// How many documents have a value in each indexed field of the payload; fields that could not be counted in a moment are
/// left out.
pub(crate) async fn count_filled(context: &Context, collection: &v1::CollectionInfo) -> BTreeMap<String, u64> {
    let fields = collection.schema.iter().flat_map(|schema| &schema.payload);
    let counts = fields.map(|field| async {
        let is_empty = v1::Condition {
            kind: Some(v1::condition::Kind::IsEmpty(field.key.clone())),
        };
        let request = v1::CountRequest {
            info: Some(v1::RequestInfo {
                timeout_ms: COUNT_TIMEOUT_MS,
                ..v1::RequestInfo::default()
            }),
            collection: collection.name.clone(),
            filter: Some(v1::Filter {
                must_not: vec![is_empty],
                ..v1::Filter::default()
            }),
            read: None,
        };
        let counted = count(context, request).await.ok()?;
        Some((field.key.clone(), counted.count))
    });
    join_all(counts).await.into_iter().flatten().collect()
}

pub(super) fn timed(mut info: v1::ReplyInfo, begun: Instant) -> v1::ReplyInfo {
    info.micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    info.stages.clear();
    info
}
