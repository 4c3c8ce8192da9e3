//! Which values of a field do most documents have, over all shards?
//!
//! Each shard names its most frequent values, with exact counts, and how frequent a value may be that it did not name. So
//! each sum has a bound, and the merged answer knows whether it is certain ([`Merged::is_exact`]). Where it has to be, shards
//! are asked again for more of their values, anew each time: counts of two rounds would be of two states.
//!
//! Documents are counted by fields with a payload index, because that says what a value is: of which kind. Which field that is
//! the coordinator tells the shards; their own schemas follow the map's in their time.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use granum_model::facet::FACET_KINDS;
use granum_model::{FacetHit, FacetValue, PayloadField, PayloadKind};
use granum_proto::internal::{ShardFacetRequest, ShardFacetResponse};
use granum_proto::limits::{self, FACET_VALUES_MAX, FACET_VALUES_SUM_MAX, Invalid, KEY_BYTES_MAX, LIMIT_MAX};
use granum_proto::status::{Failure, Retry};
use granum_proto::{convert, v1};

use super::fan_out::{add_index, fan_out};
use super::level;
use super::read::timed;
use crate::context::Context;
use crate::map::Collection;

/// Values where a request names no number.
const VALUES_DEFAULT: u32 = 10;
/// Values that a shard is asked for first, as multiples of those wanted, and beside: values that are frequent in all shards are
/// among the most frequent of each.
const SHARE: u32 = 2;
const BESIDE: u32 = 100;
/// How many times as many values are asked for the next time: four rounds at most.
const GROWTH: u32 = 16;

/// The values of a field that most documents have.
pub(crate) async fn facet(context: &Context, request: v1::FacetRequest) -> Result<v1::FacetResponse, Failure> {
    let begun = Instant::now();
    let budget = context.budget(request.info.as_ref())?;
    let collection = context.collection(&request.collection, budget.deadline).await?;
    limits::at_most("key", request.key.len(), KEY_BYTES_MAX, "bytes")?;
    let limit = match request.limit {
        0 => VALUES_DEFAULT,
        limit => limit,
    };
    limits::at_most("limit", limit as usize, LIMIT_MAX as usize, "values")?;
    convert::filter::read(request.filter.as_ref())?;
    let field = context
        .find(budget.deadline, |map| {
            field(map.usable(&request.collection)?, &request.key)
        })
        .await?;
    let read = level::wanted(request.read.as_ref(), &collection);
    let mut round = Round::first(limit, collection.shards.len());
    let mut answer: Option<v1::FacetResponse> = None;
    loop {
        let asked = ShardFacetRequest {
            call: None,
            field: Some(convert::schema::write_payload_field(&field)),
            limit: round.values,
            filter: request.filter.clone(),
        };
        let calls = collection.shards.iter().map(|shard| (shard.clone(), asked.clone()));
        let mut gathered = match (fan_out(context, calls.collect(), &read, false, budget).await, answer) {
            (Ok(gathered), _) => gathered,
            // What is known already says how certain it is.
            (Err(failure), Some(answer)) if failure.retry() != Retry::Never => return Ok(answer),
            (Err(failure), _) => return Err(failure),
        };
        let replies = std::mem::take(&mut gathered.answers);
        let merged = tokio::task::spawn_blocking(move || {
            let lists = replies.into_iter().map(|(shard, reply)| List::read(shard.id.0, reply));
            let lists = lists.collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Failure>((round.next(&lists), Merged::of(lists, limit as usize)))
        });
        let (next, merged) = merged
            .await
            .map_err(|error| Failure::Fault(format!("merging counts failed: {error}")))??;
        gathered.warn(collection.name());
        let is_enough = merged.is_exact || !request.exact;
        let merged = v1::FacetResponse {
            hits: merged.hits.into_iter().map(convert::facet::write).collect(),
            exact: merged.is_exact,
            info: Some(timed(gathered.info, begun)),
        };
        match next {
            Some(next) if !is_enough => round = next,
            _ => return Ok(merged),
        }
        answer = Some(merged);
    }
}

/// How many values each shard is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Round {
    values: u32,
    values_max: u32,
}

impl Round {
    /// For an answer of `limit` values.
    fn first(limit: u32, shards: usize) -> Round {
        let share = FACET_VALUES_SUM_MAX / shards.max(1) as u32;
        let values_max = FACET_VALUES_MAX.min(share.max(limit));
        Round {
            values: (limit * SHARE + BESIDE).min(values_max),
            values_max,
        }
    }

    /// The next one; `None`: asking for more would bring no more than those lists.
    fn next(&self, lists: &[List]) -> Option<Round> {
        let may_more_come = |list: &List| list.rest > 0 && list.hits.len() >= self.values as usize;
        let is_of_use = self.values < self.values_max && lists.iter().any(may_more_come);
        is_of_use.then(|| Round {
            values: self.values.saturating_mul(GROWTH).min(self.values_max),
            values_max: self.values_max,
        })
    }
}

/// The field that documents are counted by.
fn field(collection: &Collection, key: &str) -> Result<PayloadField, Failure> {
    /// Fields named in a refusal.
    const NAMED: usize = 8;
    let indexed = &collection.schema.payload;
    let is_countable = |field: &&PayloadField| FACET_KINDS.contains(&field.kind);
    let kinds = "documents are counted by one of kind keyword, uuid, integer or bool";
    let problem = match indexed.iter().find(|field| field.key == key) {
        Some(field) if is_countable(&field) => return Ok(field.clone()),
        Some(field) => format!("{key:?} has an index of kind {}; {kinds}", field.kind.name()),
        None => {
            let command = add_index(collection.name(), key, PayloadKind::Keyword.name());
            let there: Vec<String> = indexed
                .iter()
                .filter(is_countable)
                .take(NAMED)
                .map(|field| format!("{:?}", field.key))
                .collect();
            let there = match there.is_empty() {
                true => String::new(),
                false => format!(" (there are: {})", there.join(", ")),
            };
            format!("{key:?} has no payload index; {kinds}{there}; add one: {command}")
        }
    };
    Err(Invalid::new("key", problem).into())
}

/// What one shard said.
#[derive(Debug)]
struct List {
    /// With exact counts, in their order.
    hits: Vec<FacetHit>,
    /// No other value is of more documents.
    rest: u64,
}

impl List {
    /// Checks it: a list that is not as promised is a fault of its shard.
    fn read(shard: u64, reply: ShardFacetResponse) -> Result<List, Failure> {
        let fault = |problem: String| Failure::Fault(format!("shard {shard} counted wrongly: {problem}"));
        let hits = reply.hits.into_iter().map(convert::facet::read);
        let hits: Vec<FacetHit> = hits
            .collect::<Result<_, _>>()
            .map_err(|invalid| fault(invalid.to_string()))?;
        let is_ordered = hits.windows(2).all(|pair| pair[0].rank(&pair[1]).is_lt());
        let least = hits.last().map_or(u64::MAX, |hit| hit.count);
        let values: HashSet<&FacetValue> = hits.iter().map(|hit| &hit.value).collect();
        let is_whole = values.len() == hits.len() && hits.iter().all(|hit| hit.error == 0);
        if !is_ordered || !is_whole || least < reply.rest.max(1) {
            return Err(fault("values in no order, twice, or of no documents".into()));
        }
        Ok(List { hits, rest: reply.rest })
    }
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
        let unnamed = lists.iter().map(|list| list.rest).fold(0, u64::saturating_add);
        let mut sums: HashMap<FacetValue, (u64, u64)> = HashMap::new();
        for list in lists {
            for hit in list.hits {
                let (count, named) = sums.entry(hit.value).or_default();
                *count = u64::saturating_add(*count, hit.count);
                *named = u64::saturating_add(*named, list.rest);
            }
        }
        let hit = |(value, (count, named))| FacetHit {
            value,
            count,
            error: unnamed.saturating_sub(named),
        };
        let mut hits: Vec<FacetHit> = sums.into_iter().map(hit).collect();
        hits.sort_unstable_by(FacetHit::rank);
        let left_out = hits.split_off(limit.min(hits.len()));
        let worst = hits.last();
        let is_behind = |hit: &FacetHit| {
            worst.is_some_and(|worst| {
                let most = FacetHit {
                    count: hit.count.saturating_add(hit.error),
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
    fn a_list_that_is_not_as_promised_is_a_fault() {
        let read = |hits: &[(i64, u64)], rest| {
            let hits = hits
                .iter()
                .map(|(value, count)| convert::facet::write(hit(*value, *count)));
            let reply = ShardFacetResponse {
                hits: hits.collect(),
                rest,
                ..Default::default()
            };
            List::read(7, reply)
        };
        assert!(read(&[(2, 9), (1, 5), (3, 5)], 5).is_ok());
        assert!(read(&[], 5).is_ok(), "no value fitted");
        for (hits, rest) in [
            (&[(1, 5), (2, 9)][..], 0),
            (&[(2, 5), (1, 5)], 0),
            (&[(1, 5), (1, 5)], 0),
            (&[(1, 5), (1, 4)], 0),
            (&[(1, 0)], 0),
            (&[(1, 5)], 6),
        ] {
            assert!(matches!(read(hits, rest), Err(Failure::Fault(_))), "{hits:?} {rest}");
        }
    }

    #[test]
    fn shards_are_asked_for_more_while_more_may_come() {
        let list = |values: u32, rest| List {
            hits: (0..values).map(|value| hit(i64::from(value), 9)).collect(),
            rest,
        };
        let mut round = Round::first(10, 3);
        let mut asked = vec![round.values];
        while let Some(next) = round.next(&[list(5, 0), list(round.values, 1)]) {
            asked.push(next.values);
            round = next;
        }
        assert_eq!(asked, [120, 1_920, 30_720, 100_000]);
        assert_eq!(Round::first(10, 3).next(&[list(120, 0)]), None, "those were all");
        assert_eq!(Round::first(10, 3).next(&[list(119, 1)]), None, "more do not fit");
        let many = Round::first(10, 256);
        assert_eq!(many.next(&[list(120, 1)]).unwrap().values, FACET_VALUES_SUM_MAX / 256);
        let most = Round::first(LIMIT_MAX, 256);
        assert_eq!((most.values, most.next(&[list(LIMIT_MAX, 1)])), (LIMIT_MAX, None));
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
