//! Are values counted rightly? Whatever parts the documents are in, with columns and without, against a plain count.

use std::collections::{BTreeMap, BTreeSet};

use granum_index::{Facet, Index, Inline, Options, SearchError, SegmentId};
use granum_model::{DocId, FacetValue, Filter, PayloadField, PayloadKind, Schema};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{columns, document, plain, random, schema, seal};

const KEYS: [&str; 6] = ["keyword", "uuid", "integer", "bool", "list[].x", "list[].n"];

/// The value that an index of a field of [`KEYS`] holds of an element.
fn held(key: &str, element: &Value) -> Option<FacetValue> {
    match (key, element) {
        ("bool", Value::Bool(truth)) => Some(FacetValue::Boolean(*truth)),
        ("integer" | "list[].n", Value::Number(number)) => number.as_i64().map(FacetValue::Integer),
        ("uuid", Value::String(text)) => {
            let is_canonical = text.len() == 36 && text.matches('-').count() == 4 && *text == text.to_lowercase();
            is_canonical.then(|| FacetValue::Text(text.clone()))
        }
        ("keyword" | "list[].x", Value::String(text)) => (text.len() <= 1024).then(|| FacetValue::Text(text.clone())),
        _ => None,
    }
}

fn expected<'a>(documents: impl Iterator<Item = (u64, &'a Value)>, key: &str, filter: &Filter, limit: usize) -> Facet {
    let mut counts: BTreeMap<FacetValue, u64> = BTreeMap::new();
    for (number, payload) in documents {
        if plain::passes(number, payload, filter) {
            let values: BTreeSet<FacetValue> = plain::elements(payload, key)
                .into_iter()
                .filter_map(|element| held(key, element))
                .collect();
            values
                .into_iter()
                .for_each(|value| *counts.entry(value).or_default() += 1);
        }
    }
    let mut counts: Vec<(FacetValue, u64)> = counts.into_iter().collect();
    counts.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(&right.0)));
    let rest = counts.get(limit).map_or(0, |(_, count)| *count);
    counts.truncate(limit);
    Facet { counts, rest }
}

fn found(index: &Index, key: &str, filter: &Filter, limit: usize) -> Facet {
    index.view().facet(key, filter, limit, &|| false).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A segment with columns, one without, documents in memory, and some that died in each.
    #[test]
    fn values_are_counted_over_all_parts(
        payloads in prop::collection::vec(random::payload(), 3..60),
        dead in prop::collection::btree_set(0u64..60, 0..8),
        filters in prop::collection::vec(prop_oneof![Just(Filter::default()), random::filter()], 6),
        limit in 1usize..8,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let third = payloads.len() / 3;
        let (index, _) = seal(directory.path(), schema(), &payloads[..third]);
        for number in third..payloads.len() {
            index.insert(document(number as u64, &payloads[number]), None).unwrap();
            if number == 2 * third {
                let built = index.build(&index.freeze(SegmentId(2))).unwrap();
                index.publish(built);
            }
        }
        for number in &dead {
            let id = DocId::Number(*number);
            let place = index.view().find(&id).unwrap();
            index.delete(&id, place);
        }
        let living = || (0u64..).zip(&payloads).filter(|(number, _)| !dead.contains(number));
        for filter in &filters {
            for key in KEYS {
                prop_assert_eq!(found(&index, key, filter, limit), expected(living(), key, filter, limit), "{} {:?}", key, filter);
            }
        }
    }

    /// A damaged column is done without.
    #[test]
    fn a_flipped_bit_changes_no_count(file in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let payloads = random::fixed_payloads();
        let directory = tempfile::tempdir().unwrap();
        let (_, manifest) = seal(directory.path(), schema(), &payloads);
        let columns = columns(directory.path());
        let path = &columns[file.index(columns.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, &bytes).unwrap();
        let index = Index::open(directory.path(), schema(), Options::default(), &manifest).unwrap();
        for key in KEYS {
            let filter = Filter::default();
            let expected = expected((0..).zip(&payloads), key, &filter, 5);
            prop_assert_eq!(found(&index, key, &filter, 5), expected, "{}", key);
        }
    }
}

#[test]
fn few_documents_of_many_values_are_counted_by_their_payloads() {
    let payloads: Vec<Value> = (0..500)
        .map(|number| json!({"keyword": format!("value {number}"), "integer": number % 7}))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let (index, _) = seal(directory.path(), schema(), &payloads);
    let filter = super::must(granum_model::Condition::HasId {
        ids: vec![DocId::Number(3), DocId::Number(400)],
    });
    let text = |text: &str| FacetValue::Text(text.into());
    assert_eq!(
        found(&index, "keyword", &filter, 10),
        Facet {
            counts: vec![(text("value 3"), 1), (text("value 400"), 1)],
            rest: 0
        }
    );
    let all = found(&index, "integer", &Filter::default(), 1);
    assert_eq!((all.counts, all.rest), (vec![(FacetValue::Integer(0), 72)], 72));
}

#[test]
fn what_cannot_be_counted_by_is_refused() {
    let index = Index::open(
        tempfile::tempdir().unwrap().path(),
        Schema {
            payload: vec![PayloadField {
                key: "when".into(),
                kind: PayloadKind::Datetime,
            }],
            ..Schema::default()
        },
        Options::default(),
        &[],
    )
    .unwrap();
    index.derive(&Inline).unwrap();
    let refused = |key: &str| {
        let refused = index.view().facet(key, &Filter::default(), 1, &|| false).unwrap_err();
        assert!(matches!(refused, SearchError::Facet { .. }));
        refused.to_string()
    };
    let kinds = "values are counted by a payload index of kind keyword, uuid, integer or bool";
    assert_eq!(
        refused("when"),
        format!("key: \"when\" is indexed as datetime; {kinds}")
    );
    assert_eq!(refused("what"), format!("key: \"what\" has no payload index; {kinds}"));
    assert_eq!(refused("a..b"), format!("key: \"a..b\" has no payload index; {kinds}"));
}

#[test]
fn counting_gives_up_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let (index, _) = seal(directory.path(), schema(), &random::fixed_payloads());
    let stopped = index.view().facet("keyword", &Filter::default(), 1, &|| true);
    assert!(matches!(stopped, Err(SearchError::Stopped)), "{stopped:?}");
}
