//! Questions: the k best, by id, how many (in order: `scroll`; of each value: `facet`). The meaning of each word is the cluster's;
//! here are only its shape, what a caller need not repeat, and the checks of what comes back.

use granum_model::Filter;
use granum_proto::convert;
use granum_proto::status::Failure;
use granum_proto::v1::search_client::SearchClient;
use granum_proto::{limits, v1};
use tonic::transport::Channel;

use crate::call::{Effect, new_request_id};
use crate::client::Client;
use crate::document::{Hit, Id, StoredDocument};
use crate::error::SearchError;
use crate::filter::{self, FilterError};
use crate::read_level::ReadLevel;

/// What a question brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Best first; equal scores by id.
    pub hits: Vec<Hit>,
    /// Coverage, session token, work done, warnings, and stages where `explain` was asked for.
    pub info: v1::ReplyInfo,
    /// Hits, scores and order are exact but with this probability; `None`: that is not certified.
    pub delta: Option<f32>,
}

/// A question being put together; [`send`](Query::send) asks it.
#[derive(Clone, Debug)]
pub struct Query {
    client: Client,
    request: v1::QueryRequest,
}

impl Client {
    /// A question to one collection. Say what to look for: [`text`](Query::text), [`vector`](Query::vector) or
    /// [`like`](Query::like).
    pub fn query(&self, collection: impl Into<String>) -> Query {
        let request = v1::QueryRequest {
            collection: collection.into(),
            ..Default::default()
        };
        Query {
            client: self.clone(),
            request,
        }
    }

    /// Several questions of one collection at once: 1..=1,000, answered in their order.
    pub async fn query_batch(&self, queries: Vec<Query>) -> Result<Vec<Answer>, SearchError> {
        let queries: Vec<v1::QueryRequest> = queries.into_iter().map(|query| query.ready()).collect();
        let wanted = queries.len();
        let message = |info: v1::RequestInfo| {
            let mut queries = queries.clone();
            for query in &mut queries {
                query.info = Some(info.clone());
            }
            v1::QueryBatchRequest { queries }
        };
        let send = |channel, request| async move { search(channel).query_batch(request).await };
        let reply = self.call(Effect::Read, new_request_id(), message, send).await?;
        if reply.answers.len() != wanted {
            let text = format!("{} answers to {wanted} questions", reply.answers.len());
            return Err(SearchError::Fault(Failure::Fault(text)));
        }
        reply
            .answers
            .into_iter()
            .map(|answer| self.read_answer(answer))
            .collect()
    }

    /// Documents by id, with their payload, in the order asked; ids that don't exist are left out. At most 10,000 ids.
    pub async fn get<I: Into<Id>>(
        &self,
        collection: impl Into<String>,
        ids: impl IntoIterator<Item = I>,
        with_vectors: bool,
    ) -> Result<Vec<StoredDocument>, SearchError> {
        let asked = v1::GetRequest {
            collection: collection.into(),
            ids: ids.into_iter().map(|id| id.into().0).collect(),
            with_payload: Some(all_payload()),
            with_vectors: with_vectors.then(all_vectors),
            read: self.read_level(),
            ..Default::default()
        };
        let message = |info| v1::GetRequest {
            info: Some(info),
            ..asked.clone()
        };
        let send = |channel, request| async move { search(channel).get(request).await };
        let reply = self.call(Effect::Read, new_request_id(), message, send).await?;
        self.saw(reply.info.as_ref());
        read_documents(reply.documents)
    }

    /// How many documents the filter lets through, exactly.
    pub async fn count(&self, collection: impl Into<String>, filter: &Filter) -> Result<u64, SearchError> {
        let asked = v1::CountRequest {
            collection: collection.into(),
            filter: on_wire(filter),
            read: self.read_level(),
            ..Default::default()
        };
        let message = |info| v1::CountRequest {
            info: Some(info),
            ..asked.clone()
        };
        let send = |channel, request| async move { search(channel).count(request).await };
        let reply = self.call(Effect::Read, new_request_id(), message, send).await?;
        self.saw(reply.info.as_ref());
        Ok(reply.count)
    }

    /// The level of a read that names none: the session's.
    pub(crate) fn read_level(&self) -> Option<v1::ReadLevel> {
        let session = self.session.as_ref()?;
        Some(ReadLevel::Session(session.token()).into_wire())
    }

    pub(crate) fn saw(&self, info: Option<&v1::ReplyInfo>) {
        if let Some(session) = &self.session {
            session.saw(info.and_then(|info| info.token.as_ref()));
        }
    }

    fn read_answer(&self, answer: v1::QueryResponse) -> Result<Answer, SearchError> {
        self.saw(answer.info.as_ref());
        let hits = answer.hits.into_iter().map(Hit::read).collect::<Result<Vec<_>, _>>();
        let hits = hits.map_err(|invalid| broken(&invalid))?;
        if !in_order(&hits) {
            return Err(SearchError::Fault(Failure::Fault("hits came out of order".into())));
        }
        Ok(Answer {
            hits,
            info: answer.info.unwrap_or_default(),
            delta: answer.certified.then_some(answer.delta),
        })
    }
}

impl Query {
    /// The documents that mean what this text means; the field's embedder reads it.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.nearest(v1::vector::Kind::Text(text.into()))
    }

    /// The documents nearest to this vector, of as many components as the field has.
    pub fn vector(self, components: impl Into<Vec<f32>>) -> Self {
        let dense = v1::DenseVector {
            f32: components.into(),
            ..Default::default()
        };
        self.nearest(v1::vector::Kind::Dense(dense))
    }

    /// The documents nearest to this sparse vector.
    pub fn sparse(self, indices: impl Into<Vec<u32>>, values: impl Into<Vec<f32>>) -> Self {
        let sparse = v1::SparseVector {
            indices: indices.into(),
            values: values.into(),
        };
        self.nearest(v1::vector::Kind::Sparse(sparse))
    }

    /// The documents nearest to this one, which is left out itself.
    pub fn like(mut self, id: impl Into<Id>) -> Self {
        let kind = v1::query::Kind::NearestId(id.into().0);
        self.request.query = Some(v1::Query { kind: Some(kind) });
        self
    }

    /// Which vector field; needed where a collection has several and none is unnamed.
    pub fn using(mut self, name: impl Into<String>) -> Self {
        self.request.using = name.into();
        self
    }

    /// Only documents that the filter lets through, in the language of [`filter`].
    pub fn filter(self, text: &str) -> Result<Self, FilterError> {
        Ok(self.only(&filter::parse(text)?))
    }

    /// Only documents that the filter lets through.
    pub fn only(mut self, filter: &Filter) -> Self {
        self.request.filter = on_wire(filter);
        self
    }

    /// How many hits, 1..=10,000; 10 unless set.
    pub fn limit(mut self, hits: u32) -> Self {
        self.request.limit = hits;
        self
    }

    /// How many of the best to pass over; offset + limit at most 100,000.
    pub fn offset(mut self, hits: u32) -> Self {
        self.request.offset = hits;
        self
    }

    /// Leaves out hits worse than this score.
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.request.score_threshold = Some(score);
        self
    }

    /// Hits come with their whole payload.
    pub fn with_payload(mut self) -> Self {
        self.request.with_payload = Some(all_payload());
        self
    }

    /// Hits come with these fields of their payload.
    pub fn with_fields<T: Into<String>>(mut self, paths: impl IntoIterator<Item = T>) -> Self {
        self.request.with_payload = Some(v1::PayloadSelector {
            include: paths.into_iter().map(Into::into).collect(),
            ..Default::default()
        });
        self
    }

    /// Hits come with all their vectors.
    pub fn with_vectors(mut self) -> Self {
        self.request.with_vectors = Some(all_vectors());
        self
    }

    /// How fresh the answer must be.
    pub fn read(mut self, level: ReadLevel) -> Self {
        self.request.read = Some(level.into_wire());
        self
    }

    /// No approximation.
    pub fn exact(mut self) -> Self {
        self.request.params.get_or_insert_default().exact = true;
        self
    }

    /// Exact hits but with a probability that the answer states, by codes instead of by all rows.
    pub fn certified(mut self) -> Self {
        self.request.params.get_or_insert_default().certified = true;
        self
    }

    /// An answer that misses shards is welcome too; its coverage says so.
    pub fn partial(mut self) -> Self {
        self.request.partial = true;
        self
    }

    /// The reply says where the time went.
    pub fn explain(mut self) -> Self {
        self.request.explain = true;
        self
    }

    /// Asks.
    pub async fn send(self) -> Result<Answer, SearchError> {
        let client = self.client.clone();
        let asked = self.ready();
        let message = |info| v1::QueryRequest {
            info: Some(info),
            ..asked.clone()
        };
        let send = |channel, request| async move { search(channel).query(request).await };
        let reply = client.call(Effect::Read, new_request_id(), message, send).await?;
        client.read_answer(reply)
    }

    fn nearest(mut self, kind: v1::vector::Kind) -> Self {
        let vector = v1::Vector { kind: Some(kind) };
        let kind = v1::query::Kind::Nearest(vector);
        self.request.query = Some(v1::Query { kind: Some(kind) });
        self
    }

    /// The request with the session's level where it names none.
    fn ready(mut self) -> v1::QueryRequest {
        if self.request.read.is_none() {
            self.request.read = self.client.read_level();
        }
        self.request
    }
}

pub(crate) fn search(channel: Channel) -> SearchClient<Channel> {
    SearchClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_OUT_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_IN_BYTES_MAX)
}

pub(crate) fn all_payload() -> v1::PayloadSelector {
    v1::PayloadSelector {
        all: true,
        ..Default::default()
    }
}

pub(crate) fn all_vectors() -> v1::VectorSelector {
    v1::VectorSelector {
        all: true,
        ..Default::default()
    }
}

pub(crate) fn on_wire(filter: &Filter) -> Option<v1::Filter> {
    (!filter.is_empty()).then(|| convert::filter::write(filter))
}

pub(crate) fn read_documents(documents: Vec<v1::StoredDocument>) -> Result<Vec<StoredDocument>, SearchError> {
    let documents = documents.into_iter().map(StoredDocument::read);
    documents.collect::<Result<_, _>>().map_err(|invalid| broken(&invalid))
}

pub(crate) fn broken(invalid: &limits::Invalid) -> SearchError {
    SearchError::Fault(Failure::Fault(format!("broken reply: {invalid}")))
}

/// Best first: scores fall, or rise where lower is better; equal ones come by id.
fn in_order(hits: &[Hit]) -> bool {
    let falls = |pair: &[Hit]| pair[0].score > pair[1].score;
    let rises = |pair: &[Hit]| pair[0].score < pair[1].score;
    let ties = |pair: &[Hit]| pair[0].score == pair[1].score && pair[0].id < pair[1].id;
    hits.windows(2).all(|pair| falls(pair) || ties(pair)) || hits.windows(2).all(|pair| rises(pair) || ties(pair))
}

#[cfg(test)]
mod tests {
    use granum_model::DocId;

    use super::*;

    fn hit(id: u64, score: f32) -> Hit {
        Hit {
            id: DocId::Number(id),
            score,
            version: 1,
            payload_json: Default::default(),
            vectors: Vec::new(),
        }
    }

    #[test]
    fn hits_in_no_order_are_noticed() {
        assert!(in_order(&[]));
        assert!(in_order(&[hit(1, 0.9), hit(2, 0.5), hit(3, 0.5)]));
        assert!(in_order(&[hit(1, 0.1), hit(2, 0.5), hit(3, 0.5)]));
        assert!(!in_order(&[hit(1, 0.9), hit(2, 0.5), hit(3, 0.6)]));
        assert!(!in_order(&[hit(2, 0.5), hit(1, 0.5)]));
    }

    #[tokio::test]
    async fn a_session_asks_for_what_it_has_seen_unless_told_otherwise() {
        let client = Client::builder().url("http://127.0.0.1:1").build().unwrap();
        assert_eq!(client.query("c").ready().read, None);
        let session = client.session();
        let token = v1::SessionToken {
            sequences: [(3, 7)].into(),
        };
        session.saw(Some(&v1::ReplyInfo {
            token: Some(token.clone()),
            ..Default::default()
        }));
        let own = Some(ReadLevel::Session(token).into_wire());
        assert_eq!(session.query("c").ready().read, own);
        let any = session.query("c").read(ReadLevel::Any).ready().read;
        assert_eq!(any, Some(ReadLevel::Any.into_wire()));
        assert_eq!(client.session_token(), None);
    }
}
