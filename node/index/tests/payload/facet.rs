//! Are values counted rightly? Whatever parts the documents are in, with columns and without, against a plain count.

use std::collections::{BTreeMap, BTreeSet};

use granum_index::{Facet, Index, Options, SearchError, SegmentId};
use granum_model::{DocId, FacetValue, Filter, PayloadField, PayloadKind};
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

/// As the schema of this test has it.
fn field(key: &str) -> PayloadField {
    let fields = schema().payload;
    fields.into_iter().find(|field| field.key == key).unwrap()
}

fn found(index: &Index, key: &str, filter: &Filter, limit: usize) -> Facet {
    index.view().facet(&field(key), filter, limit, &|| false).unwrap()
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
        for (number, payload) in payloads.iter().enumerate().skip(third) {
            index.insert(document(number as u64, payload), None).unwrap();
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

/// By payloads, or by the column: which is taken depends on their number.
#[test]
fn few_and_many_documents_of_many_values_are_counted() {
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
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), schema(), Options::default(), &[]).unwrap();
    let refused = |key: &str, kind| {
        let field = PayloadField { key: key.into(), kind };
        let refused = index.view().facet(&field, &Filter::default(), 1, &|| false);
        refused.unwrap_err().to_string()
    };
    let kinds = "documents are counted by fields of kind keyword, uuid, integer or bool";
    for kind in [
        PayloadKind::Datetime,
        PayloadKind::Text,
        PayloadKind::Float,
        PayloadKind::Geo,
    ] {
        let expected = format!("field: \"when\" of kind {}: {kinds}", kind.name());
        assert_eq!(refused("when", kind), expected);
    }
    let no_path = refused("a..b", PayloadKind::Keyword);
    assert_eq!(no_path, format!("field: \"a..b\" of kind keyword: {kinds}"));
}

/// Also while it passes over values that no document which passes has, and within the documents of one value.
#[test]
fn counting_gives_up_as_soon_as_it_is_told_to() {
    let payloads: Vec<Value> = (0..6_000)
        .map(|number| json!({"keyword": format!("value {number}"), "integer": 1, "bool": number < 500}))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let (index, _) = seal(directory.path(), schema(), &payloads);
    let some = super::must(granum_model::Condition::MatchAny {
        key: "bool".into(),
        any: vec![granum_model::Scalar::Boolean(true)],
    });
    for (key, filter) in [
        ("keyword", Filter::default()),
        ("keyword", some),
        ("integer", Filter::default()),
    ] {
        let asked = std::cell::Cell::new(0);
        let count = |until: usize| {
            asked.set(0);
            let stop = || {
                asked.set(asked.get() + 1);
                asked.get() >= until
            };
            index.view().facet(&field(key), &filter, 3, &stop).map(|_| ())
        };
        // The second time, which documents pass is remembered.
        count(usize::MAX).unwrap();
        count(usize::MAX).unwrap();
        let looks = asked.get();
        assert!(looks >= 6_000 / 1024, "{looks} looks at the deadline for {key}");
        for until in 1..=looks {
            assert!(matches!(count(until), Err(SearchError::Stopped)));
            assert_eq!(asked.get(), until);
        }
    }
}
