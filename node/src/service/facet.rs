//! How is a shard asked by which values its documents are to be counted? As [`super::search`] has it; the answer is bounded in bytes.

use granum_index::Facet;
use granum_model::FacetHit;
use granum_proto::internal::{ShardFacetRequest, ShardFacetResponse};
use granum_proto::limits::{FACET_BYTES_MAX, FACET_VALUES_MAX, Invalid, at_most};
use granum_proto::status::Failure;
use granum_proto::{convert, v1};
use prost::Message;

use super::replicas::Context;
use super::search::{Reading, Told, search_failure};

/// The values of a field that most documents have, and how many have each, exactly.
pub async fn facet(context: &Context, request: ShardFacetRequest) -> Result<ShardFacetResponse, Failure> {
    let limit = request.limit as usize;
    if limit == 0 {
        return Err(Invalid::new("limit", "must be at least 1").into());
    }
    at_most("limit", limit, FACET_VALUES_MAX as usize, "values")?;
    let field = request.field.ok_or_else(|| Invalid::new("field", "is missing"))?;
    let field = convert::schema::read_payload_field(&field).map_err(|error| error.within("field"))?;
    let filter = convert::filter::read(request.filter.as_ref())?;
    let reading = Reading::begin(context, request.call).await?;
    reading
        .answer(context, move |pinned, stop| {
            let told = Told::of_filters(pinned, [&filter], stop)?;
            let found = pinned.view.facet(&field, &filter, limit, stop);
            Ok((facet_hits(found.map_err(search_failure)?, FACET_BYTES_MAX), told))
        })
        .await
        .map(|(answer, (hits, rest))| ShardFacetResponse {
            answer: Some(answer),
            hits,
            rest,
        })
}

/// As many hits as fit into so many bytes, and what bounds the others.
fn facet_hits(facet: Facet, bytes_max: usize) -> (Vec<v1::FacetHit>, u64) {
    /// Key and length of a message within another.
    const FRAME_BYTES: usize = 6;
    let (mut hits, mut bytes) = (Vec::with_capacity(facet.counts.len()), 0);
    for (value, count) in facet.counts {
        let hit = convert::facet::write(FacetHit { value, count, error: 0 });
        bytes += hit.encoded_len() + FRAME_BYTES;
        if bytes > bytes_max {
            return (hits, count);
        }
        hits.push(hit);
    }
    (hits, facet.rest)
}

#[cfg(test)]
mod tests {
    use granum_model::FacetValue;

    use super::*;

    #[test]
    fn values_that_do_not_fit_are_bounded_by_the_first_of_them() {
        let counts = [("aaaa", 900), ("bbbb", 500), ("cccc", 200)];
        let whole = || Facet {
            counts: counts
                .map(|(text, count)| (FacetValue::Text(text.into()), count))
                .to_vec(),
            rest: 100,
        };
        let (all, _) = facet_hits(whole(), usize::MAX);
        let one = all[0].encoded_len() + 6;
        for (bytes, kept, rest) in [
            (3 * one, 3, 100),
            (3 * one - 1, 2, 200),
            (2 * one - 1, 1, 500),
            (0, 0, 900),
        ] {
            let (hits, bound) = facet_hits(whole(), bytes);
            assert_eq!((&hits[..], bound), (&all[..kept], rest), "{bytes} bytes");
        }
    }
}
