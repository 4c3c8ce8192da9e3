//! Which values of a field do most documents have, over all shards?
//!
//! Each shard names its most frequent values, with exact counts, and how frequent a value may be that it did not name. So
//! each sum has a bound, and the merged answer knows whether it is certain ([`Merged::is_exact`]); where it has to be, shards
//! are asked again for more of their values. All that any answer says is of one view a shard.

use std::collections::HashMap;
use std::time::Instant;

use granum_model::{FacetHit, FacetValue, PayloadKind};
use granum_proto::internal::ShardFacetRequest;
use granum_proto::limits::{self, FACET_VALUES_MAX, LIMIT_MAX};
use granum_proto::status::Failure;
use granum_proto::{convert, v1};

use super::fan_out::{add_index, fan_out};
use super::level;
use super::read::timed;
use crate::context::Context;
use crate::map::Collection;

/// Values where a request names no number.
const VALUES_DEFAULT: u32 = 10;
/// Values that a shard is asked for, as multiples of those wanted, and beside: values that are frequent in all are among the most
/// frequent of each.
const SHARE: u32 = 2;
const BESIDE: u32 = 100;
/// How many times as many values are asked for the next time.
const GROWTH: u32 = 16;

/// The values of a field that most documents have.
pub(crate) async fn facet(context: &Context, request: v1::FacetRequest) -> Result<v1::FacetResponse, Failure> {
    let begun = Instant::now();
    let budget = context.budget(request.info.as_ref())?;
    let collection = context.collection(&request.collection, budget.deadline).await?;
    let limit = match request.limit {
        0 => VALUES_DEFAULT,
        limit => limit,
    };
    limits::at_most("limit", limit as usize, LIMIT_MAX as usize, "values")?;
    convert::filter::read(request.filter.as_ref())?;
    let read = level::wanted(request.read.as_ref(), &collection);
    let mut values = (limit * SHARE + BESIDE).min(FACET_VALUES_MAX);
    loop {
        let asked = ShardFacetRequest {
            call: None,
            key: request.key.clone(),
            limit: values,
            filter: request.filter.clone(),
        };
        let calls = collection.shards.iter().map(|shard| (shard.clone(), asked.clone()));
        let gathered = fan_out(context, calls.collect(), &read, false, budget).await;
        let mut gathered = gathered.map_err(|failure| with_command(failure, &collection, &request.key))?;
        let mut lists = Vec::with_capacity(gathered.answers.len());
        for (shard, reply) in std::mem::take(&mut gathered.answers) {
            let hits = reply.hits.into_iter().map(convert::facet::read);
            let hits: Vec<FacetHit> = hits
                .collect::<Result<_, _>>()
                .map_err(|invalid| Failure::Fault(format!("shard {} sent a broken count: {invalid}", shard.id)))?;
            lists.push(List { hits, rest: reply.rest });
        }
        let merged = Merged::of(lists, limit as usize);
        if merged.is_exact || !request.exact || values == FACET_VALUES_MAX {
            gathered.warn(collection.name());
            return Ok(v1::FacetResponse {
                hits: merged.hits.into_iter().map(convert::facet::write).collect(),
                exact: merged.is_exact,
                info: Some(timed(gathered.info, begun)),
            });
        }
        values = values.saturating_mul(GROWTH).min(FACET_VALUES_MAX);
    }
}

/// A refusal with the command that would help, where there is no index over the field.
fn with_command(failure: Failure, collection: &Collection, key: &str) -> Failure {
    let is_indexed = collection.schema.payload.iter().any(|field| field.key == key);
    match failure {
        Failure::Invalid(problem) if !is_indexed && problem.starts_with("key: ") => {
            let command = add_index(collection.name(), key, PayloadKind::Keyword.name());
            Failure::Invalid(format!("{problem}; add one: {command}"))
        }
        failure => failure,
    }
}

/// What one shard said.
struct List {
    /// With exact counts.
    hits: Vec<FacetHit>,
    /// No other value is of more documents.
    rest: u64,
}

/// What all said.
#[derive(Debug, PartialEq)]
struct Merged {
    /// Most documents first, then the smaller value.
    hits: Vec<FacetHit>,
    /// These are the values that most documents have, their counts and their order.
    is_exact: bool,
}

impl Merged {
    /// The first `limit` of what those shards hold together.
    fn of(lists: Vec<List>, limit: usize) -> Merged {
        // Of a value that no shard named, so many documents may have it.
        let unnamed: u64 = lists.iter().map(|list| list.rest).sum();
        let mut sums: HashMap<FacetValue, (u64, u64)> = HashMap::new();
        for list in lists {
            for hit in list.hits {
                let (count, named) = sums.entry(hit.value).or_default();
                *count += hit.count;
                *named += list.rest;
            }
        }
        let hit = |(value, (count, named))| FacetHit {
            value,
            count,
            error: unnamed - named,
        };
        let mut hits: Vec<FacetHit> = sums.into_iter().map(hit).collect();
        hits.sort_unstable_by(FacetHit::rank);
        let left_out = hits.split_off(limit.min(hits.len()));
        let worst = hits.last();
        let is_behind = |hit: &FacetHit| {
            worst.is_some_and(|worst| {
                let most = FacetHit {
                    count: hit.count + hit.error,
                    ..hit.clone()
                };
                worst.rank(&most).is_lt()
            })
        };
        let is_exact = hits.iter().all(|hit| hit.error == 0)
            && left_out.iter().all(is_behind)
            && (unnamed == 0 || (hits.len() == limit && worst.is_some_and(|worst| unnamed < worst.count)));
        Merged { hits, is_exact }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn hit(value: i64, count: u64) -> FacetHit {
        FacetHit {
            value: FacetValue::Integer(value),
            count,
            error: 0,
        }
    }

    /// What a shard with those counts says when it is asked for so many values.
    fn list(counts: &BTreeMap<i64, u64>, values: usize) -> List {
        let mut hits: Vec<FacetHit> = counts.iter().map(|(value, count)| hit(*value, *count)).collect();
        hits.sort_by(FacetHit::rank);
        let rest = hits.get(values).map_or(0, |hit| hit.count);
        hits.truncate(values);
        List { hits, rest }
    }

    #[test]
    fn an_answer_knows_whether_it_is_certain() {
        let of = |lists: &[(&[(i64, u64)], u64)], limit| {
            let lists = lists.iter().map(|(hits, rest)| List {
                hits: hits.iter().map(|(value, count)| hit(*value, *count)).collect(),
                rest: *rest,
            });
            Merged::of(lists.collect(), limit)
        };
        assert!(of(&[(&[(1, 9), (2, 5)], 0), (&[(2, 5)], 0)], 1).is_exact);
        assert_eq!(of(&[(&[(1, 9), (2, 5)], 0), (&[(2, 5)], 0)], 1).hits, [hit(2, 10)]);
        // The value 3 may have 4 documents in each: fewer than the worst hit, 9.
        assert!(of(&[(&[(1, 9), (2, 5)], 4), (&[(1, 4), (2, 4)], 4)], 2).is_exact);
        assert!(!of(&[(&[(1, 9), (2, 5)], 5), (&[(1, 4), (2, 4)], 4)], 2).is_exact);
        // The second shard may have 3 more documents of value 1.
        let unsure = of(&[(&[(1, 9)], 0), (&[(2, 3)], 3)], 1);
        assert_eq!((unsure.hits[0].error, unsure.is_exact), (3, false));
        assert!(of(&[], 1).is_exact);
        assert!(of(&[(&[], 0)], 1).is_exact);
    }

    proptest! {
        #[test]
        fn sums_are_bounded_and_what_is_called_exact_is(
            shards in prop::collection::vec(prop::collection::btree_map(0i64..12, 1u64..20, 0..12), 0..5),
            values in 1usize..12,
            limit in 1usize..6,
        ) {
            let mut sums: BTreeMap<i64, u64> = BTreeMap::new();
            for (value, count) in shards.iter().flatten() {
                *sums.entry(*value).or_default() += count;
            }
            let found = Merged::of(shards.iter().map(|counts| list(counts, values)).collect(), limit);
            for hit in &found.hits {
                let FacetValue::Integer(value) = hit.value else { panic!("{hit:?}") };
                prop_assert!((hit.count..=hit.count + hit.error).contains(&sums[&value]), "{:?}", hit);
            }
            if found.is_exact {
                prop_assert_eq!(found.hits, list(&sums, limit).hits);
            }
            let all = Merged::of(shards.iter().map(|counts| list(counts, 12)).collect(), limit);
            prop_assert!(all.is_exact);
        }
    }
}
