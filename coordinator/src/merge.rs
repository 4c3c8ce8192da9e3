//! Many lists into one: hits by rank, documents by id. Lists arrive in the promised order and leave in it; one that does
//! not is a fault of its shard, not something to be sorted away.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use granum_model::DocId;
use granum_model::hit::rank;
use granum_proto::convert;
use granum_proto::internal::ShardHit;
use granum_proto::status::Failure;
use granum_proto::v1::StoredDocument;

/// What is merged: an order, and where a list breaks it.
pub(crate) trait Ranked: Sized {
    /// `Less` if `self` comes first. `None` never comes twice from distinct shards.
    fn order(&self, other: &Self) -> Ordering;
}

/// A hit with its id read once.
#[derive(Clone, Debug)]
pub(crate) struct RankedHit {
    pub id: DocId,
    pub hit: ShardHit,
}

impl Ranked for RankedHit {
    fn order(&self, other: &Self) -> Ordering {
        rank((self.hit.score, &self.id), (other.hit.score, &other.id))
    }
}

/// A document with its id read once.
#[derive(Clone, Debug)]
pub(crate) struct RankedDocument {
    pub id: DocId,
    pub document: StoredDocument,
}

impl Ranked for RankedDocument {
    fn order(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

/// A shard's hits, checked: ids readable, scores finite, in the promised order.
pub(crate) fn read_hits(shard: u64, hits: Vec<ShardHit>) -> Result<Vec<RankedHit>, Failure> {
    let read = |hit: ShardHit| match convert::id::read(hit.id.as_ref()) {
        Ok(id) if hit.score.is_finite() => Ok(RankedHit { id, hit }),
        Ok(id) => Err(Failure::Fault(format!(
            "shard {shard} scored document {id} as {}",
            hit.score
        ))),
        Err(error) => Err(Failure::Fault(format!(
            "shard {shard} sent a hit without an id: {error}"
        ))),
    };
    check_order(shard, hits.into_iter().map(read).collect::<Result<_, _>>()?)
}

/// A shard's documents, checked: ids readable, in their order.
pub(crate) fn read_documents(shard: u64, documents: Vec<StoredDocument>) -> Result<Vec<RankedDocument>, Failure> {
    let read = |document: StoredDocument| match convert::id::read(document.id.as_ref()) {
        Ok(id) => Ok(RankedDocument { id, document }),
        Err(error) => Err(Failure::Fault(format!(
            "shard {shard} sent a document without an id: {error}"
        ))),
    };
    check_order(shard, documents.into_iter().map(read).collect::<Result<_, _>>()?)
}

fn check_order<T: Ranked>(shard: u64, list: Vec<T>) -> Result<Vec<T>, Failure> {
    match list
        .windows(2)
        .position(|pair| pair[0].order(&pair[1]) != Ordering::Less)
    {
        None => Ok(list),
        Some(at) => Err(Failure::Fault(format!(
            "shard {shard} sent a list out of order at {at}"
        ))),
    }
}

/// Merges sorted lists and keeps the first `limit`.
pub(crate) fn merge<T: Ranked>(lists: Vec<Vec<T>>, limit: usize) -> Vec<T> {
    let total: usize = lists.iter().map(Vec::len).sum();
    let mut merged: Vec<T> = Vec::with_capacity(total.min(limit));
    let mut heads: BinaryHeap<Head<T>> = lists
        .into_iter()
        .filter_map(|list| Head::of(list.into_iter()))
        .collect();
    while merged.len() < limit
        && let Some(Head { first, rest }) = heads.pop()
    {
        if let Some(last) = merged.last() {
            assert!(
                last.order(&first) != Ordering::Greater,
                "lists were checked when they arrived"
            );
        }
        merged.push(first);
        heads.extend(Head::of(rest));
    }
    merged
}

/// A list under way; the heap's greatest is the one whose first element comes first.
struct Head<T> {
    first: T,
    rest: std::vec::IntoIter<T>,
}

impl<T> Head<T> {
    fn of(mut rest: std::vec::IntoIter<T>) -> Option<Self> {
        rest.next().map(|first| Head { first, rest })
    }
}

impl<T: Ranked> Ord for Head<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.first.order(&self.first)
    }
}

impl<T: Ranked> PartialOrd for Head<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ranked> PartialEq for Head<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T: Ranked> Eq for Head<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hit(id: u64, score: f32) -> ShardHit {
        ShardHit {
            id: Some(convert::id::write(&DocId::Number(id))),
            score,
            ..ShardHit::default()
        }
    }

    proptest! {
        #[test]
        fn merging_is_sorting_everything_and_taking_the_first(
            scores in proptest::collection::vec((0u8..6, 0usize..5), 0..60), limit in 0usize..70
        ) {
            let mut lists = vec![Vec::new(); 5];
            let mut all = Vec::new();
            for (id, (score, list)) in scores.into_iter().enumerate() {
                let hit = RankedHit { id: DocId::Number(id as u64), hit: hit(id as u64, f32::from(score)) };
                lists[list].push(hit.clone());
                all.push(hit);
            }
            lists.iter_mut().for_each(|list| list.sort_by(Ranked::order));
            all.sort_by(Ranked::order);
            all.truncate(limit);
            let ids = |list: Vec<RankedHit>| list.into_iter().map(|hit| hit.id).collect::<Vec<_>>();
            prop_assert_eq!(ids(merge(lists, limit)), ids(all));
        }
    }

    #[test]
    fn a_list_out_of_order_is_a_fault_of_its_shard() {
        assert!(read_hits(3, vec![hit(1, 0.5), hit(2, 0.5), hit(3, -1.0)]).is_ok());
        for broken in [
            vec![hit(2, 0.5), hit(1, 0.5)],
            vec![hit(1, 0.5), hit(2, 0.75)],
            vec![hit(1, 0.5), hit(1, 0.5)],
            vec![hit(1, f32::NAN)],
            vec![ShardHit::default()],
        ] {
            let failed = read_hits(3, broken.clone());
            assert!(matches!(failed, Err(Failure::Fault(_))), "{broken:?}");
        }
    }
}
