//! How is a question to one shard answered? Fresh enough? Then pin a view, and ask it on a worker.
//!
//! The level of freshness is met or the call fails; it is never lowered. What an answer says of itself (applied index,
//! sequence) is that of the view it was made from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use granum_index::{RowRef, SearchError};
use granum_model::{DocId, Filter, PayloadField, hit};
use granum_proto::convert;
use granum_proto::internal::{
    ShardAnswer, ShardCall, ShardCountRequest, ShardCountResponse, ShardDocuments, ShardGetRequest, ShardHits,
    ShardScrollRequest, ShardSearchRequest, ShardSearchResponse,
};
use granum_proto::limits::{BATCH_DOCUMENTS_MAX, BATCH_QUERIES_MAX, Invalid, LIMIT_MAX, at_most};
use granum_proto::status::Failure;
use granum_proto::v1::{self, read_level};

use super::convert::{Outgoing, read_query, usage};
use super::replicas::{Context, Replica};
use super::select::Selected;
use crate::raft::Barrier;
use crate::shard::Pinned;

/// Sealed rows of a shard from which a missing payload index is worth a word.
const UNINDEXED_ROWS_MIN: u64 = 2_000;

/// The k best of each query.
pub async fn search(context: &Context, request: ShardSearchRequest) -> Result<ShardSearchResponse, Failure> {
    let queries = request.queries;
    if queries.is_empty() {
        return Err(Invalid::new("queries", "must not be empty").into());
    }
    at_most("queries", queries.len(), BATCH_QUERIES_MAX, "queries")?;
    let shard = request.call.as_ref().map_or(0, |call| call.shard);
    let reading = Reading::begin(context, request.call).await?;
    let recall = context.recall.clone();
    reading
        .answer(context, move |pinned, stop| {
            if pinned.epoch.epoch == 0 {
                let lists = vec![ShardHits::default(); queries.len()];
                return Ok((lists, Told::default()));
            }
            let read = |(at, query)| read_query(query).map_err(|error| error.within(&format!("queries[{at}]")));
            let asked = queries.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
            let mut told = Told::of_filters(pinned, asked.iter().map(|query| &query.filter), stop)?;
            let found = pinned.view.search(&asked, stop).map_err(search_failure)?;
            for (query, found) in asked.iter().zip(&found) {
                recall.answered(Instant::now(), shard, pinned, query, found);
            }
            let mut outgoing = Outgoing::default();
            let mut lists = Vec::with_capacity(found.len());
            for (query, found) in queries.iter().zip(found) {
                assert!(
                    found.hits.windows(2).all(|pair| {
                        let (left, right) = (&pair[0].hit, &pair[1].hit);
                        hit::rank((left.score, &left.id), (right.score, &right.id)).is_lt()
                    }),
                    "hits leave in their promised order, none twice"
                );
                usage::add(&mut told.usage, found.usage);
                let selected = Selected::new(query.with_payload.as_ref(), query.with_vectors.as_ref())?;
                let hits = found
                    .hits
                    .iter()
                    .map(|found| outgoing.hit(&pinned.view, found, &selected));
                lists.push(ShardHits {
                    hits: hits.collect::<Result<_, _>>()?,
                    delta: found.delta.map(|delta| delta as f32),
                });
            }
            Ok((lists, told))
        })
        .await
        .map(|(answer, lists)| ShardSearchResponse {
            answer: Some(answer),
            lists,
            view: 0,
        })
}

/// Documents by id, those that exist, in the order asked.
pub async fn get(context: &Context, request: ShardGetRequest) -> Result<ShardDocuments, Failure> {
    at_most("ids", request.ids.len(), BATCH_DOCUMENTS_MAX, "ids")?;
    let read = |(at, id)| convert::id::read(Some(id)).map_err(|error| error.within(&format!("ids[{at}]")));
    let ids = request
        .ids
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<Vec<DocId>, Invalid>>()?;
    let selected = Selected::new(request.with_payload.as_ref(), request.with_vectors.as_ref())?;
    let reading = Reading::begin(context, request.call).await?;
    reading
        .answer(context, move |pinned, stop| {
            let mut outgoing = Outgoing::default();
            let mut documents = Vec::new();
            for id in &ids {
                if stop() {
                    return Err(out_of_time());
                }
                let hint = pinned.documents.as_ref().and_then(|table| table.get(id).ok().flatten());
                if let Some(document) = pinned.view.get(id, hint).map_err(read_failure)? {
                    documents.push(outgoing.document(document, &selected)?);
                }
            }
            Ok((documents, Told::default()))
        })
        .await
        .map(|(answer, documents)| ShardDocuments {
            answer: Some(answer),
            documents,
        })
}

/// A page of documents in the order of their encoded ids.
pub async fn scroll(context: &Context, request: ShardScrollRequest) -> Result<ShardDocuments, Failure> {
    let limit = request.limit as usize;
    if limit == 0 {
        return Err(Invalid::new("limit", "must be at least 1").into());
    }
    at_most("limit", limit, LIMIT_MAX as usize + 1, "documents")?;
    let from = request
        .from
        .as_ref()
        .map(|id| convert::id::read(Some(id)))
        .transpose()?;
    let filter = convert::filter::read(request.filter.as_ref())?;
    let selected = Selected::new(request.with_payload.as_ref(), request.with_vectors.as_ref())?;
    let reading = Reading::begin(context, request.call).await?;
    reading
        .answer(context, move |pinned, stop| {
            let told = Told::of_filters(pinned, [&filter], stop)?;
            let rows = pinned
                .view
                .scan(&filter, from.as_ref(), limit, stop)
                .map_err(search_failure)?;
            assert!(
                rows.windows(2).all(|pair| pair[0].0 < pair[1].0),
                "documents leave by id, none twice"
            );
            let mut outgoing = Outgoing::default();
            let mut documents = Vec::with_capacity(rows.len());
            for (_, row) in rows {
                if stop() {
                    return Err(out_of_time());
                }
                documents.push(outgoing.row(&pinned.view, row, &selected)?);
            }
            Ok((documents, told))
        })
        .await
        .map(|(answer, documents)| ShardDocuments {
            answer: Some(answer),
            documents,
        })
}

/// How many documents the filter wants, exactly.
pub async fn count(context: &Context, request: ShardCountRequest) -> Result<ShardCountResponse, Failure> {
    let filter = convert::filter::read(request.filter.as_ref())?;
    let reading = Reading::begin(context, request.call).await?;
    reading
        .answer(context, move |pinned, stop| {
            let told = Told::of_filters(pinned, [&filter], stop)?;
            let count = pinned.view.count(&filter, stop).map_err(search_failure)?;
            Ok((count, told))
        })
        .await
        .map(|(answer, count)| ShardCountResponse {
            answer: Some(answer),
            count,
        })
}

/// A page of the rows that a filter wants, with id and version; what a delete by filter is made of.
pub(super) fn matching(
    pinned: &Pinned,
    filter: &Filter,
    from: Option<&DocId>,
    limit: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<(DocId, u64)>, Failure> {
    let rows = pinned.view.scan(filter, from, limit, stop).map_err(search_failure)?;
    let with_version = |(_, row): (DocId, RowRef)| pinned.view.id(row).map_err(read_failure);
    rows.into_iter().map(with_version).collect()
}

/// What an answer tells about how it was found.
#[derive(Default)]
pub(super) struct Told {
    usage: v1::Usage,
    /// Fields without an index because of which documents are read, where those are many.
    unindexed: Vec<PayloadField>,
}

impl Told {
    /// Before those filters are evaluated.
    pub fn of_filters<'a>(
        pinned: &Pinned,
        filters: impl IntoIterator<Item = &'a Filter>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Told, Failure> {
        let mut told = Told::default();
        if pinned.view.sealed_rows() < UNINDEXED_ROWS_MIN {
            return Ok(told);
        }
        let mut last = None;
        for filter in filters {
            if last != Some(filter) {
                let missing = pinned.view.unindexed(filter, stop).map_err(search_failure)?;
                told.unindexed.extend(missing);
            }
            last = Some(filter);
        }
        told.unindexed.sort_by(|left, right| left.key.cmp(&right.key));
        told.unindexed.dedup_by(|left, right| left.key == right.key);
        Ok(told)
    }
}

/// A read that has its view.
pub(super) struct Reading {
    pub pinned: Pinned,
    pub deadline: Instant,
    barrier: Barrier,
}

impl Reading {
    /// Waits until the replica is as fresh as the call asks, and pins it.
    pub async fn begin(context: &Context, call: Option<ShardCall>) -> Result<Reading, Failure> {
        let (replica, call) = context.called(call)?;
        let deadline = Instant::now() + Duration::from_millis(call.timeout_ms);
        Reading::of(&replica, &call, deadline).await
    }

    /// As [`begin`](Self::begin), of a replica already found.
    pub async fn of(replica: &Replica, call: &ShardCall, deadline: Instant) -> Result<Reading, Failure> {
        let level = call.read.clone().unwrap_or_default();
        let barrier = replica.group.read_barrier(&level, deadline).await?;
        if let Some(read_level::Kind::Session(token)) = &level.kind {
            let wanted = token.sequences.get(&call.shard).copied().unwrap_or(0);
            wait_for_sequence(replica, call.shard, wanted, deadline).await?;
        }
        let pinned = replica.machine.pin();
        replica.check_epoch(call, &pinned.epoch)?;
        assert!(
            pinned.applied_index >= barrier.applied_index,
            "shard {}: the view is at {}, behind its barrier {}",
            call.shard,
            pinned.applied_index,
            barrier.applied_index
        );
        Ok(Reading {
            pinned,
            deadline,
            barrier,
        })
    }

    /// Runs `ask` on a worker; it is told to stop when the deadline has passed or the caller has gone.
    pub async fn answer<T, F>(self, context: &Context, ask: F) -> Result<(ShardAnswer, T), Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Pinned, &dyn Fn() -> bool) -> Result<(T, Told), Failure> + Send + 'static,
    {
        let Reading {
            pinned,
            deadline,
            barrier,
        } = self;
        let mut answer = ShardAnswer {
            applied_index: pinned.applied_index,
            sequence: pinned.sequence,
            staleness_ms: barrier.staleness_ms,
            level: barrier.level.into(),
            node: context.node,
            ..ShardAnswer::default()
        };
        let caller = Caller::default();
        let gone = caller.gone.clone();
        let job = move || ask(&pinned, &|| gone.load(Ordering::Relaxed) || Instant::now() >= deadline);
        let (answered, told) = context.workers.run(deadline, job).await??;
        answer.usage = Some(told.usage);
        answer.unindexed = told
            .unindexed
            .iter()
            .map(convert::schema::write_payload_field)
            .collect();
        Ok((answer, answered))
    }
}

/// Says that nobody waits any more when it is dropped.
#[derive(Default)]
struct Caller {
    gone: Arc<AtomicBool>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

async fn wait_for_sequence(replica: &Replica, shard: u64, wanted: u64, deadline: Instant) -> Result<(), Failure> {
    let mut sequences = replica.machine.sequences();
    let reached = tokio::time::timeout_at(deadline.into(), sequences.wait_for(|sequence| *sequence >= wanted)).await;
    match reached {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Failure::Stale(format!(
            "shard {shard}: sequence {wanted} was not reached in time"
        ))),
    }
}

fn out_of_time() -> Failure {
    Failure::Unavailable("the deadline passed while the shard was searched".into())
}

/// What a failed search means to the caller.
pub(super) fn search_failure(error: SearchError) -> Failure {
    match error {
        SearchError::Stopped => out_of_time(),
        SearchError::Read(damage) => read_failure(damage),
        error => Failure::Invalid(error.to_string()),
    }
}

/// Damaged bytes are never answered from.
pub(super) fn read_failure(error: granum_index::ReadError) -> Failure {
    tracing::error!(%error, "a segment is damaged");
    Failure::Fault(error.to_string())
}
