//! Documents and filters over a small space, so that values meet.

use granum_model::filter::{Bounds, GeoPoint};
use granum_model::{Condition, DocId, Filter, Scalar};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Fields of a payload that are values or lists of them.
const FIELDS: [&str; 9] = [
    "keyword", "integer", "float", "bool", "datetime", "uuid", "geo", "text", "plain",
];
/// Paths that conditions ask about.
const KEYS: [&str; 12] = [
    "keyword",
    "integer",
    "float",
    "bool",
    "datetime",
    "uuid",
    "geo",
    "text",
    "plain",
    "list[].x",
    "list[].n",
    "\"a.b\".c",
];
const TEXTS: [&str; 12] = [
    "a",
    "b",
    "a b",
    "B, c",
    "",
    "日本 a",
    "2024-01-01T00:00:00Z",
    "2024-01-01T01:00:00+01:00",
    "2025-06-30T12:00:00.5Z",
    "00112233-4455-6677-8899-aabbccddeeff",
    "00112233-4455-6677-8899-AABBCCDDEEFF",
    "10112233-4455-6677-8899-aabbccddeeff",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => prop::sample::select(&TEXTS[..]).prop_map(str::to_owned),
        // Too long for a term.
        1 => Just("x".repeat(1500)),
        1 => Just(format!("a {}", "y".repeat(1025))),
    ]
}

fn integer() -> impl Strategy<Value = i64> {
    prop::sample::select(&[-3, 0, 1, 2, 3, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN][..])
}

fn float() -> impl Strategy<Value = f64> {
    prop::sample::select(
        &[
            -3.0,
            -0.0,
            0.5,
            1.0,
            2.0,
            2.5,
            9007199254740992.0,
            9.3e18,
            1.8446744073709552e19,
        ][..],
    )
}

fn element() -> impl Strategy<Value = Value> {
    let degrees = prop::sample::select(&[-91.0, -10.0, 0.0, 5.0, 10.0, 90.0, 170.0][..]);
    prop_oneof![
        6 => text().prop_map(Value::from),
        3 => integer().prop_map(Value::from),
        3 => float().prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
        2 => any::<bool>().prop_map(Value::from),
        2 => Just(Value::Null),
        3 => (degrees.clone(), degrees).prop_map(|(lat, lon)| json!({"lat": lat, "lon": lon})),
        1 => Just(json!({"x": 1})),
        1 => Just(json!([1])),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => element(),
        2 => prop::collection::vec(element(), 0..4).prop_map(Value::from),
    ]
}

pub fn payload() -> impl Strategy<Value = Value> {
    let of_list = || {
        let fields = (prop::option::of(value()), prop::option::of(value()));
        fields.prop_map(|(x, n)| object([("x", x), ("n", n)]))
    };
    let list = prop_oneof![
        3 => prop::collection::vec(prop_oneof![4 => of_list(), 1 => element()], 0..4).prop_map(Value::from),
        1 => of_list(),
        1 => element(),
    ];
    let fields = prop::collection::vec(prop::option::of(value()), FIELDS.len());
    let below = prop::option::of(value()).prop_map(|value| object([("c", value)]));
    (fields, prop::option::of(list), prop::option::of(below)).prop_map(|(values, list, below)| {
        let fields = FIELDS.into_iter().zip(values);
        object(fields.chain([("list", list), ("a.b", below)]))
    })
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let present = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(Map::from_iter(present))
}

/// Payloads that are the same in every run.
pub fn fixed_payloads() -> Vec<Value> {
    let mut payloads = Vec::new();
    for at in 0..60usize {
        let text = |step: usize| TEXTS[(at * step) % TEXTS.len()];
        payloads.push(json!({
            "keyword": [text(1), text(5)],
            "integer": at % 7,
            "float": (at % 9) as f64 / 2.0,
            "bool": at % 3 == 0,
            "datetime": text(7),
            "uuid": text(11),
            "geo": {"lat": (at % 5) as f64 * 5.0 - 10.0, "lon": (at % 4) as f64 * 5.0},
            "text": [text(3), "a b"],
            "plain": text(1),
            "list": [{"x": text(5), "n": at % 4}, {"x": null}],
            "a.b": {"c": at},
        }));
    }
    payloads
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        4 => text().prop_map(Scalar::Text),
        2 => integer().prop_map(Scalar::Integer),
        2 => float().prop_map(Scalar::Float),
        1 => any::<bool>().prop_map(Scalar::Boolean),
    ]
}

fn bounds<T: Clone + std::fmt::Debug>(bound: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = Bounds<T>> {
    let some = || prop::option::weighted(0.4, bound.clone());
    (some(), some(), some(), some()).prop_map(|(gt, gte, lt, lte)| Bounds { gt, gte, lt, lte })
}

fn condition() -> impl Strategy<Value = Condition> {
    let key = || prop::sample::select(&KEYS[..]).prop_map(str::to_owned);
    let scalars = || prop::collection::vec(scalar(), 0..4);
    let numbers = prop::sample::select(&[-3.0, 0.0, 1.0, 2.0, 2.5, 9.1e15, f64::INFINITY][..]);
    let instants = prop::sample::select(&[0i64, 1_704_067_200_000_000, 1_751_284_800_500_000, i64::MAX][..]);
    prop_oneof![
        6 => (key(), scalars()).prop_map(|(key, any)| Condition::MatchAny { key, any }),
        4 => (key(), scalars()).prop_map(|(key, except)| Condition::MatchExcept { key, except }),
        4 => (key(), prop::sample::select(&["a", "a b", "B", "c x", "本日", " ", "2024", "A 日"][..]))
            .prop_map(|(key, text)| Condition::MatchText { key, text: text.into() }),
        1 => key().prop_map(|key| Condition::MatchText { key, text: format!("a {}", "y".repeat(1025)) }),
        4 => (key(), bounds(numbers)).prop_map(|(key, bounds)| Condition::Range { key, bounds }),
        3 => (key(), bounds(instants)).prop_map(|(key, bounds)| Condition::DatetimeRange { key, bounds }),
        3 => (key(), -20.0f64..20.0, -20.0f64..20.0, 0.0f64..30.0).prop_map(|(key, lat, lon, side)| {
            let top_left = GeoPoint { lat: lat + side, lon };
            let bottom_right = GeoPoint { lat, lon: lon + side };
            Condition::GeoBoundingBox { key, top_left, bottom_right }
        }),
        2 => key().prop_map(|key| Condition::IsEmpty { key }),
        2 => key().prop_map(|key| Condition::IsNull { key }),
        1 => (key(), bounds(0u64..4)).prop_map(|(key, bounds)| Condition::ValuesCount { key, bounds }),
        1 => prop::collection::vec(0u64..40, 0..6)
            .prop_map(|ids| Condition::HasId { ids: ids.into_iter().map(DocId::Number).collect() }),
        1 => Just(Condition::HasVector { name: "v".into() }),
    ]
}

/// Conditions on an element of `list`, by paths relative to it.
fn nested() -> impl Strategy<Value = Condition> {
    let relative = condition().prop_map(|mut condition| {
        if let Condition::MatchAny { key, .. }
        | Condition::MatchExcept { key, .. }
        | Condition::MatchText { key, .. }
        | Condition::Range { key, .. }
        | Condition::IsEmpty { key }
        | Condition::IsNull { key } = &mut condition
        {
            *key = if key.len() % 2 == 0 { "x" } else { "n" }.into();
        }
        condition
    });
    let relative = relative.boxed();
    let lists = || prop::collection::vec(relative.clone(), 0..3);
    (lists(), lists()).prop_map(|(must, must_not)| Condition::Nested {
        key: "list".into(),
        filter: Filter {
            must,
            must_not,
            ..Filter::default()
        },
    })
}

pub fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![8 => condition().boxed(), 1 => nested().boxed()];
    let group = |condition: BoxedStrategy<Condition>| {
        let list = move |most: usize| prop::collection::vec(condition.clone(), 0..most);
        (list(3), list(4), list(3), 0u32..3).prop_map(|(must, should, must_not, min_should)| Filter {
            min_should: min_should.min(should.len() as u32),
            must,
            should,
            must_not,
        })
    };
    let inner = group(leaf.clone().boxed()).prop_map(Condition::Filter);
    prop_oneof![
        2 => leaf.clone().prop_map(|condition| Filter { must: vec![condition], ..Filter::default() }),
        3 => group(prop_oneof![5 => leaf, 1 => inner].boxed()),
    ]
}
