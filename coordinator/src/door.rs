//! What do the fuzz targets (tests/fuzz) see of this crate's inside? Requests read from their bytes and checked against a
//! schema as the handlers do it, with no cluster behind them.

use granum_model::Schema;
use granum_proto::internal::{Operation, ShardQuery, operation};
use granum_proto::limits::Invalid;
use granum_proto::status::Failure;
use granum_proto::v1;

use crate::canonical;
use crate::http::decode::query::Question;
use crate::http::decode::{collection, index, point, query};
use crate::http::facet;
use crate::http::json::{self, Node};
use crate::map::Collection;
use crate::query::ask::{Ask, Target};
use crate::write::check;

/// A request that came as JSON.
#[derive(Clone, Debug)]
pub enum Request {
    /// Points to be written.
    Upsert(v1::UpsertRequest),
    /// Points to be removed.
    Delete(v1::DeleteRequest),
    /// Points by their ids.
    Get(v1::GetRequest),
    /// Points in the order of their ids.
    Scroll(v1::ScrollRequest),
    /// How many points.
    Count(v1::CountRequest),
    /// How many points of each value.
    Facet(v1::FacetRequest),
    /// The k best.
    Query(v1::QueryRequest),
    /// Many queries.
    QueryBatch(v1::QueryBatchRequest),
    /// A new collection.
    Create(v1::CreateCollectionRequest),
    /// A new payload index.
    Alter(v1::AlterCollectionRequest),
}

/// Bodies of requests that [`request`] reads.
pub const BODIES: u8 = 10;

/// Reads a body as the route number `which` does.
pub fn request(which: u8, body: &[u8]) -> Result<Request, Invalid> {
    let value = json::parse(body)?;
    let (body, name) = (Node::root(&value, ""), "c".to_owned());
    Ok(match which % BODIES {
        0 => Request::Upsert(point::upsert(body, name)?),
        1 => Request::Delete(point::delete(body, name)?),
        2 => Request::Get(point::retrieve(body, name)?),
        3 => Request::Scroll(query::scroll(body, name)?),
        4 => Request::Count(query::count(body, name)?),
        5 => match query::query(&body, &name)? {
            Question::Nearest(request) => Request::Query(*request),
            Question::Scroll(request, _) => Request::Scroll(*request),
        },
        6 => Request::QueryBatch(query::batch(body, &name)?),
        7 => Request::Create(collection::create(body, name)?),
        8 => Request::Alter(index::create(body, name)?),
        _ => Request::Facet(facet::request(body, name)?),
    })
}

/// Documents as their one shard is sent them; texts are left out.
pub fn operations(documents: Vec<v1::DocumentWrite>, schema: &Schema) -> Result<Vec<Operation>, Invalid> {
    let drafts = check::documents(documents, &Collection::alone(schema.clone()))?;
    let operation = |draft: check::Draft| Operation {
        kind: Some(operation::Kind::Put(draft.document)),
        condition: draft.condition,
        only_if: None,
        ordinal: draft.ordinal,
    };
    Ok(drafts.into_iter().map(operation).collect())
}

/// A query as shards are asked it; without a vector where that is yet to be had.
pub fn question(mut request: v1::QueryRequest, schema: &Schema) -> Result<ShardQuery, Failure> {
    let ask = Ask::read(&mut request, &Collection::alone(schema.clone()))?;
    let nearest = match ask.target {
        Target::Vector(vector) => Some(canonical::asked(vector, &ask.field)?),
        Target::Text(_) | Target::Document(_) => None,
    };
    Ok(ShardQuery { nearest, ..ask.query })
}
