//! The k best documents: one query, or many of one collection at once.
//!
//! Steps: check, embed text or fetch the vector of the document meant, make it canonical, ask every shard for its
//! offset + limit best, merge, cut the page out, turn internal scores outward.

use std::sync::Arc;
use std::time::Instant;

use futures::stream::{self, StreamExt, TryStreamExt};
use granum_model::DocId;
use granum_proto::internal::{ShardGetRequest, ShardHits, ShardQuery, ShardSearchRequest};
use granum_proto::limits::{self, Invalid};
use granum_proto::status::Failure;
use granum_proto::v1::{self, ReadLevel};
use granum_proto::{convert, ids};

use super::ask::{Ask, Target};
use super::fan_out::fan_out;
use super::level;
use crate::canonical;
use crate::context::Context;
use crate::map::Collection;
use crate::merge;
use crate::route::call::Budget;

/// Parts of one batch that are under way at once.
const PARTS_AT_ONCE: usize = 4;

/// Answers one query.
pub(crate) async fn query(context: &Context, request: v1::QueryRequest) -> Result<v1::QueryResponse, Failure> {
    let mut answers = query_batch(context, v1::QueryBatchRequest { queries: vec![request] })
        .await
        .map_err(|failure| match failure {
            Failure::Invalid(text) => match text.strip_prefix("queries[0].") {
                Some(text) => Failure::Invalid(text.to_owned()),
                None => Failure::Invalid(text),
            },
            other => other,
        })?
        .answers;
    Ok(answers.pop().expect("one answer a query"))
}

/// Answers many queries of one collection, in the order asked. Queries of one read level share their calls.
pub(crate) async fn query_batch(
    context: &Context,
    request: v1::QueryBatchRequest,
) -> Result<v1::QueryBatchResponse, Failure> {
    let queries = request.queries;
    limits::at_most("queries", queries.len(), limits::BATCH_QUERIES_MAX, "queries")?;
    let Some(first) = queries.first() else {
        return Err(Invalid::new("queries", "none given").into());
    };
    let name = first.collection.clone();
    let deadline = context.budget(first.info.as_ref())?.deadline;
    if let Some(other) = queries.iter().find(|query| query.collection != name) {
        let problem = format!("of {name:?} and {:?}, must be of one collection", other.collection);
        return Err(Invalid::new("queries", problem).into());
    }
    let collection = context.collection(&name, deadline).await?;
    let mut parts: Vec<Part> = Vec::new();
    let count = queries.len();
    for (ordinal, mut query) in queries.into_iter().enumerate() {
        let within = |failure| match failure {
            Failure::Invalid(text) => Failure::Invalid(format!("queries[{ordinal}].{text}")),
            other => other,
        };
        let budget = context.budget(query.info.as_ref()).map_err(within)?;
        let ask = Ask::read(&mut query, &collection).map_err(within)?;
        let level = level::wanted(query.read.as_ref(), &collection);
        let asked = Asked {
            ordinal,
            ask,
            explain: query.explain,
        };
        match parts.iter_mut().find(|part| part.takes(&asked, &level, query.partial)) {
            Some(part) => part.add(asked, budget),
            None => parts.push(Part::new(asked, level, query.partial, budget)),
        }
    }
    let answered: Vec<Vec<(usize, v1::QueryResponse)>> = stream::iter(parts)
        .map(|part| part.answer(context, &collection))
        .buffer_unordered(PARTS_AT_ONCE)
        .try_collect()
        .await?;
    let mut answers = vec![v1::QueryResponse::default(); count];
    for (ordinal, answer) in answered.into_iter().flatten() {
        answers[ordinal] = answer;
    }
    Ok(v1::QueryBatchResponse { answers })
}

/// A checked query and its place in the batch.
struct Asked {
    ordinal: usize,
    ask: Ask,
    explain: bool,
}

/// Queries that share their calls.
struct Part {
    asked: Vec<Asked>,
    level: ReadLevel,
    partial: bool,
    budget: Budget,
    begun: Instant,
}

impl Part {
    fn new(asked: Asked, level: ReadLevel, partial: bool, budget: Budget) -> Part {
        Part {
            asked: vec![asked],
            level,
            partial,
            budget,
            begun: Instant::now(),
        }
    }

    /// Whether a query fits: same freshness, and replies that stay bounded.
    fn takes(&self, asked: &Asked, level: &ReadLevel, partial: bool) -> bool {
        let hits: usize = self
            .asked
            .iter()
            .chain([asked])
            .map(|asked| asked.ask.query.k as usize)
            .sum();
        self.level == *level && self.partial == partial && hits <= limits::WINDOW_MAX as usize
    }

    fn add(&mut self, asked: Asked, budget: Budget) {
        self.budget.deadline = self.budget.deadline.min(budget.deadline);
        self.asked.push(asked);
    }

    async fn answer(
        self,
        context: &Context,
        collection: &Arc<Collection>,
    ) -> Result<Vec<(usize, v1::QueryResponse)>, Failure> {
        let mut stages = Stages::begin();
        let mut queries: Vec<ShardQuery> = Vec::with_capacity(self.asked.len());
        let vectors = self.vectors(context, collection).await?;
        for (asked, vector) in self.asked.iter().zip(vectors) {
            let mut query = asked.ask.query.clone();
            query.nearest = Some(vector);
            queries.push(query);
        }
        stages.end("vectors", queries.len());
        let calls = collection.shards.iter().map(|shard| {
            let request = ShardSearchRequest {
                call: None,
                queries: queries.clone(),
            };
            (shard.clone(), request)
        });
        let mut gathered = fan_out(context, calls.collect(), &self.level, self.partial, self.budget).await?;
        gathered.warn(collection.name());
        let coverage = gathered.info.coverage.unwrap_or_default();
        let covered = (coverage.answered == coverage.asked).then_some(0.0);
        let mut deltas: Vec<Option<f32>> = vec![covered; queries.len()];
        let mut lists: Vec<Vec<Vec<merge::RankedHit>>> = (0..queries.len()).map(|_| Vec::new()).collect();
        let mut candidates = 0;
        for (shard, reply) in gathered.answers {
            if reply.lists.len() != queries.len() {
                let counts = (reply.lists.len(), queries.len());
                return Err(Failure::Fault(format!(
                    "shard {} answered {} of {} queries",
                    shard.id, counts.0, counts.1
                )));
            }
            for ((lists, total), ShardHits { hits, delta }) in lists.iter_mut().zip(&mut deltas).zip(reply.lists) {
                *total = sum(*total, delta);
                candidates += hits.len();
                lists.push(merge::read_hits(shard.id.0, hits)?);
            }
        }
        stages.end("shards", candidates);
        let pages: Vec<Vec<v1::Hit>> = self
            .asked
            .iter()
            .zip(lists)
            .map(|(asked, lists)| page(&asked.ask, lists))
            .collect();
        stages.end("merge", candidates);
        let mut info = gathered.info;
        stages.list.append(&mut info.stages);
        info.micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let answer = |((asked, hits), delta): ((Asked, Vec<v1::Hit>), Option<f32>)| {
            let mut info = info.clone();
            if asked.explain {
                info.stages = stages.list.clone();
            }
            let response = v1::QueryResponse {
                hits,
                info: Some(info),
                certified: delta.is_some(),
                delta: delta.unwrap_or(0.0),
            };
            (asked.ordinal, response)
        };
        Ok(self.asked.into_iter().zip(pages).zip(deltas).map(answer).collect())
    }

    /// The canonical vector of each query.
    async fn vectors(&self, context: &Context, collection: &Arc<Collection>) -> Result<Vec<v1::Vector>, Failure> {
        let mut vectors = Vec::with_capacity(self.asked.len());
        let mut embedded = self.embed(context).await?.into_iter();
        for asked in &self.asked {
            let Ask { target, field, .. } = &asked.ask;
            let vector = match target {
                Target::Vector(vector) => vector.clone(),
                Target::Text(_) => dense(embedded.next().expect("one vector a text")),
                Target::Document(id) => self.vector_of(context, collection, id, &field.name).await?,
            };
            let vector = canonical::asked(vector, field);
            let path = format!("queries[{}].query.nearest", asked.ordinal);
            vectors.push(vector.map_err(|error| error.within(&path))?);
        }
        Ok(vectors)
    }

    /// Vectors of all texts asked for, in their order; texts of one field are embedded together.
    async fn embed(&self, context: &Context) -> Result<Vec<Vec<f32>>, Failure> {
        let mut by_field: Vec<(usize, Vec<usize>, Vec<String>)> = Vec::new();
        let mut count = 0;
        for (at, asked) in self.asked.iter().enumerate() {
            let Target::Text(text) = &asked.ask.target else {
                continue;
            };
            let same =
                |(first, ..): &&mut (usize, Vec<usize>, Vec<String>)| self.asked[*first].ask.field == asked.ask.field;
            match by_field.iter_mut().find(same) {
                Some((_, places, texts)) => {
                    places.push(count);
                    texts.push(text.clone());
                }
                None => by_field.push((at, vec![count], vec![text.clone()])),
            }
            count += 1;
        }
        let mut vectors = vec![Vec::new(); count];
        for (first, places, texts) in by_field {
            context.metrics.texts_embedded.inc_by(texts.len() as u64);
            let field = &self.asked[first].ask.field;
            let embedded = context.embedders.embed(field, texts, self.budget.deadline).await?;
            for (place, vector) in places.into_iter().zip(embedded) {
                vectors[place] = vector;
            }
        }
        Ok(vectors)
    }

    /// The vector of a stored document, as fresh as the query asks for.
    async fn vector_of(
        &self,
        context: &Context,
        collection: &Arc<Collection>,
        id: &DocId,
        name: &str,
    ) -> Result<v1::Vector, Failure> {
        let shard = collection.shard_of(ids::placement_hash(id));
        let request = ShardGetRequest {
            call: None,
            ids: vec![convert::id::write(id)],
            with_payload: None,
            with_vectors: Some(v1::VectorSelector {
                all: false,
                names: vec![name.to_owned()],
            }),
        };
        let level = level::for_shard(&self.level, shard);
        let answered = context.caller.read(shard.id, request, &level, self.budget).await?;
        let Some(document) = answered.documents.into_iter().next() else {
            let problem = format!(
                "query.nearest_id: document {id} does not exist in {:?}",
                collection.name()
            );
            return Err(Failure::NotFound(problem));
        };
        let vector = document.vectors.into_iter().find(|vector| vector.name == name);
        vector
            .and_then(|vector| vector.vector)
            .ok_or_else(|| Invalid::new("query.nearest_id", format!("document {id} has no vector {name:?}")).into())
    }
}

/// Exact lists make an exact one, unless one of them is not: the probabilities of that add up.
fn sum(delta: Option<f32>, other: Option<f32>) -> Option<f32> {
    Some((delta? + other?).min(1.0))
}

fn dense(f32: Vec<f32>) -> v1::Vector {
    let dense = v1::DenseVector {
        f32,
        ..v1::DenseVector::default()
    };
    v1::Vector {
        kind: Some(v1::vector::Kind::Dense(dense)),
    }
}

/// The page asked for, scores in the distance's own terms.
fn page(ask: &Ask, lists: Vec<Vec<merge::RankedHit>>) -> Vec<v1::Hit> {
    let merged = merge::merge(lists, ask.offset + ask.limit);
    let outward = |merge::RankedHit { hit, .. }| v1::Hit {
        id: hit.id,
        score: ask.field.distance.outward(hit.score),
        version: hit.version,
        payload_json: hit.payload_json,
        vectors: hit.vectors,
    };
    merged.into_iter().skip(ask.offset).map(outward).collect()
}

/// Time by stage.
struct Stages {
    since: Instant,
    list: Vec<v1::Stage>,
}

impl Stages {
    fn begin() -> Self {
        Stages {
            since: Instant::now(),
            list: Vec::new(),
        }
    }

    fn end(&mut self, name: &str, candidates: usize) {
        self.list.push(v1::Stage {
            name: name.to_owned(),
            micros: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            candidates: candidates as u64,
        });
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_certified_if_every_shard_is() {
        assert_eq!(sum(Some(0.0), Some(0.0)), Some(0.0));
        assert_eq!(sum(Some(0.25), Some(0.5)), Some(0.75));
        assert_eq!(sum(Some(0.75), Some(0.5)), Some(1.0));
        assert_eq!(sum(Some(0.25), None), None);
        assert_eq!(sum(None, Some(0.0)), None);
    }
}
