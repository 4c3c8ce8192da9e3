//! Which values of a field do most documents have, and how many have each?

use granum_model::{FacetHit, Filter};
use granum_proto::status::Failure;
use granum_proto::{convert, v1};

use crate::call::{Effect, new_request_id};
use crate::client::Client;
use crate::error::SearchError;
use crate::search::{broken, on_wire, search};

/// The values of a field that most documents have.
#[derive(Clone, Debug, PartialEq)]
pub struct Facet {
    /// Most documents first, then the smaller value.
    pub hits: Vec<FacetHit>,
    /// Values, counts and order are exact: always, but where a field has so many values, about equally frequent, that shards may
    /// not name enough of them, or where they fail when they are asked for more.
    pub is_exact: bool,
}

impl Client {
    /// The `limit` values at `key`, the path of a payload index of kind keyword, uuid, integer or bool, that most of the documents
    /// that pass the filter have. At most 10,000 values.
    pub async fn facet(
        &self,
        collection: impl Into<String>,
        key: impl Into<String>,
        filter: &Filter,
        limit: u32,
    ) -> Result<Facet, SearchError> {
        let asked = v1::FacetRequest {
            collection: collection.into(),
            key: key.into(),
            limit,
            filter: on_wire(filter),
            exact: true,
            read: self.read_level(),
            ..Default::default()
        };
        let message = |info| v1::FacetRequest {
            info: Some(info),
            ..asked.clone()
        };
        let send = |channel, request| async move { search(channel).facet(request).await };
        let reply = self.call(Effect::Read, new_request_id(), message, send).await?;
        self.saw(reply.info.as_ref());
        read(reply)
    }
}

fn read(reply: v1::FacetResponse) -> Result<Facet, SearchError> {
    let hits = reply.hits.into_iter().map(convert::facet::read);
    let hits: Vec<FacetHit> = hits.collect::<Result<_, _>>().map_err(|invalid| broken(&invalid))?;
    let is_ordered = hits.windows(2).all(|pair| pair[0].rank(&pair[1]).is_lt());
    if !is_ordered || reply.exact && hits.iter().any(|hit| hit.error > 0) {
        let text = "broken reply: values in no order, or exact ones with errors";
        return Err(SearchError::Fault(Failure::Fault(text.into())));
    }
    Ok(Facet {
        hits,
        is_exact: reply.exact,
    })
}

#[cfg(test)]
mod tests {
    use granum_model::FacetValue;

    use super::*;

    #[test]
    fn replies_in_no_order_are_noticed() {
        let reply = |hits: &[(i64, u64, u64)], exact| {
            let hits = hits.iter().map(|(value, count, error)| {
                convert::facet::write(FacetHit {
                    value: FacetValue::Integer(*value),
                    count: *count,
                    error: *error,
                })
            });
            read(v1::FacetResponse {
                hits: hits.collect(),
                exact,
                info: None,
            })
        };
        assert!(reply(&[(2, 9, 0), (1, 5, 0), (3, 5, 0)], true).unwrap().is_exact);
        assert!(!reply(&[(2, 9, 1)], false).unwrap().is_exact);
        assert!(reply(&[(2, 9, 1)], true).is_err());
        assert!(reply(&[(1, 5, 0), (2, 9, 0)], false).is_err());
        assert!(reply(&[(1, 5, 0), (1, 5, 0)], true).is_err());
    }
}
