//! `POST /collections/{collection}/facet`: which values of a field do most points have?

use axum::response::Response;
use granum_model::FacetValue;
use granum_proto::limits::Invalid;
use granum_proto::status::Failure;
use granum_proto::{convert, v1};
use serde::Serialize;
use serde_json::{Value, json};

use super::decode::{filter, point};
use super::json::Node;
use super::points::{Asked, answer};

/// Answers it.
pub async fn facet(asked: Asked) -> Response {
    let decode = |body: Node<'_>, collection: String, info| {
        Ok(v1::FacetRequest {
            info,
            ..request(body, collection)?
        })
    };
    answer(asked, decode, async |coordinator, request| {
        reply(coordinator.facet(request).await?)
    })
    .await
}

/// Reads the body.
pub fn request(body: Node<'_>, collection: String) -> Result<v1::FacetRequest, Invalid> {
    let object = body.object(&["key", "limit", "filter", "exact", "shard_key", "read"])?;
    object.refuse(&["shard_key"], "not supported by Granum")?;
    let limit = object.get("limit").map_or(Ok(10), |limit| limit.whole_u32())?;
    if limit == 0 {
        return Err(object.want("limit")?.problem("0, must be at least 1"));
    }
    Ok(v1::FacetRequest {
        info: None,
        collection,
        key: object.want("key")?.text()?.to_owned(),
        limit,
        filter: object.get("filter").map(|node| filter::filter(&node)).transpose()?,
        exact: object.get("exact").map_or(Ok(false), |exact| exact.boolean())?,
        read: object.get("read").map(|node| point::read_level(&node)).transpose()?,
    })
}

#[derive(Serialize)]
struct Facet {
    hits: Vec<Hit>,
    /// What Granum adds, where the answer is not certain: how many more points may have each value.
    #[serde(skip_serializing_if = "Option::is_none")]
    granum: Option<Value>,
}

#[derive(Serialize)]
struct Hit {
    value: Value,
    count: u64,
}

fn reply(response: v1::FacetResponse) -> Result<Facet, Failure> {
    let (mut hits, mut errors) = (Vec::with_capacity(response.hits.len()), Vec::new());
    for hit in response.hits {
        let hit = convert::facet::read(hit).map_err(|invalid| Failure::Fault(invalid.to_string()))?;
        let value = match hit.value {
            FacetValue::Boolean(boolean) => json!(boolean),
            FacetValue::Integer(integer) => json!(integer),
            FacetValue::Text(text) => json!(text),
        };
        hits.push(Hit {
            value,
            count: hit.count,
        });
        errors.push(hit.error);
    }
    Ok(Facet {
        hits,
        granum: (!response.exact).then(|| json!({"exact": false, "errors": errors})),
    })
}

#[cfg(test)]
mod tests {
    use granum_model::FacetHit;

    use super::*;

    #[test]
    fn an_answer_that_is_not_certain_says_so() {
        let answer = |exact, error| {
            let hit = FacetHit {
                value: FacetValue::Text("games".into()),
                count: 7,
                error,
            };
            let response = v1::FacetResponse {
                hits: vec![convert::facet::write(hit)],
                exact,
                info: None,
            };
            serde_json::to_value(reply(response).unwrap()).unwrap()
        };
        assert_eq!(answer(true, 0), json!({"hits": [{"value": "games", "count": 7}]}));
        let granum = json!({"exact": false, "errors": [2]});
        assert_eq!(
            answer(false, 2),
            json!({"hits": [{"value": "games", "count": 7}], "granum": granum})
        );
    }
}
