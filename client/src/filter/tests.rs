//! Does the language say what docs/reference/filter.md promises? Examples by hand, and any filter printed and read again.

use granum_model::filter::{Bounds, GeoPoint};
use granum_model::{Condition, DocId, Filter, Scalar};
use proptest::prelude::*;

use super::{parse, print};

#[track_caller]
fn reads_as(text: &str, printed: &str) {
    let filter = parse(text).unwrap_or_else(|error| panic!("{error}\n{}", error.caret()));
    assert_eq!(print(&filter), printed);
    assert_eq!(parse(printed).unwrap(), filter);
}

#[track_caller]
fn fails(text: &str, column: usize, problem: &str) {
    let error = parse(text).unwrap_err();
    assert_eq!((error.column, error.problem.as_str()), (column, problem), "{text}");
}

#[test]
fn each_form_reads_and_prints() {
    reads_as("section=games", "section = games");
    reads_as(
        "tags = 'game::strategy' AND size > 1000",
        "tags = game::strategy and size > 1000",
    );
    reads_as("size > 1000 and size <= 5e6", "size > 1000 and size <= 5000000");
    reads_as("5e6 >= size > 1000", "1000 < size <= 5000000");
    reads_as(
        "section in (games, devel, \"x y\")",
        "section in (games, devel, \"x y\")",
    );
    reads_as("section not in (games)", "section != games");
    reads_as("section other than (games, devel)", "section other than (games, devel)");
    reads_as("not (a = 1 or b = 2.0)", "not (a = 1 or b = 2.0)");
    reads_as(
        "a = 1 and (b = true or c = \"true\")",
        "a = 1 and (b = true or c = \"true\")",
    );
    reads_as("a = 1 and b = 2 or c = 3", "a = 1 and b = 2 or c = 3");
    reads_as("exists(homepage)", "exists(homepage)");
    reads_as("homepage is not empty", "exists(homepage)");
    reads_as("homepage is null", "homepage is null");
    reads_as("text ~ \"chess engine\"", "text ~ \"chess engine\"");
    reads_as("seen >= date(2024-01-01)", "seen >= date(2024-01-01T00:00:00.000000Z)");
    reads_as(
        "seen = date(2024-01-01)",
        "date(2024-01-01T00:00:00.000000Z) <= seen <= date(2024-01-01T00:00:00.000000Z)",
    );
    reads_as("parts[]{ a = 1 and b = 2 }", "parts[]{ a = 1 and b = 2 }");
    reads_as("2 < count(tags) <= 4", "2 < count(tags) <= 4");
    reads_as("id() in (0ad, 42, \"42\")", "id() in (0ad, 42, \"42\")");
    reads_as("circle(place, 52.50, 13.4, 1e3)", "circle(place, 52.5, 13.4, 1000)");
    reads_as(
        "not BOX(place, 10, 170, -10.0, -170)",
        "not box(place, 10, 170, -10, -170)",
    );
    reads_as(
        "polygon(a.place, (0,0, 0,9, 9,9, 0,0), (1,2, 1,3, 2,3, 1,2))",
        "polygon(a.place, (0, 0, 0, 9, 9, 9, 0, 0), (1, 2, 1, 3, 2, 3, 1, 2))",
    );
    reads_as("circle = 1 and box ~ polygon", "circle = 1 and box ~ \"polygon\"");
    reads_as(
        "vector(title) and not vector(\"\")",
        "vector(title) and not vector(\"\")",
    );
    reads_as(
        "at least 2 of (a = 1, b = 2 or c = 3, d = 4)",
        "at least 2 of (a = 1, b = 2 or c = 3, d = 4)",
    );
    reads_as("\"and\" = \"or\"", "\"and\" = \"or\"");
    reads_as("  ", "");
}

#[test]
fn words_become_must_should_and_must_not() {
    let is = |key: &str, value: i64| Condition::MatchAny {
        key: key.into(),
        any: vec![Scalar::Integer(value)],
    };
    let wanted = Filter {
        must: vec![is("a", 1)],
        should: vec![is("c", 3), is("d", 4)],
        must_not: vec![is("b", 2)],
        min_should: 0,
    };
    assert_eq!(parse("a = 1 and not b = 2 and (c = 3 or d = 4)").unwrap(), wanted);
}

#[test]
fn at_least_one_of_one_condition_is_that_condition() {
    assert_eq!(parse("at least 1 of (a = 1)").unwrap(), parse("a = 1").unwrap());
    let both = "not (b = 2 or c = 3) and at least 1 of (a = 1 or d = 4)";
    assert_eq!(
        parse(both).unwrap(),
        parse("not (b = 2 or c = 3) and (a = 1 or d = 4)").unwrap()
    );
}

#[test]
fn a_mistake_is_told_with_its_column() {
    fails("section == games", 10, "expected a value, found \"=\"");
    fails(
        "section games",
        9,
        "expected =, !=, <, <=, >, >=, ~, in, not in, other than, is or {, found \"games\"",
    );
    fails(
        "a = 1 and",
        10,
        "expected a condition, such as section = games, found the end",
    );
    fails("a = 1 b = 2", 7, "expected \"and\", \"or\" or the end, found \"b\"");
    fails("größe = \"x", 9, "this quote is never closed");
    fails("a = ;", 5, "';' means nothing here; texts go in quotes");
    fails("(a = 1", 7, "expected \")\", found the end");
    fails("size > big", 8, "expected a number or date(...), found \"big\"");
    fails(
        "seen > date(soon)",
        8,
        "\"soon\" is no date: 2024-01-31 or 2024-01-31T12:00:00Z",
    );
    fails("1 < a > 2", 1, "both signs of a range must point the same way");
    fails(
        "a = null",
        5,
        "null is asked for with \"is null\"; the text null goes in quotes",
    );
    fails(
        "at least 3 of (a = 1, b = 2)",
        10,
        "at least 3 of 2 conditions, must be 1..=2",
    );
    let no_place = "a place is a latitude of -90..=90 and a longitude of -180..=180, in degrees";
    fails("circle(place, 91, 0, 5)", 15, no_place);
    fails("circle(place, 1, 0, -5)", 21, "a radius is not below 0");
    fails("circle(place, 1, 0)", 19, "expected \",\", found \")\"");
    fails("polygon(place, (1, 2, 3))", 16, no_place);
    let open = "a ring has at least 4 places, the last of which is the first";
    fails("polygon(place, (1, 2, 3, 4, 5, 6, 7, 8))", 16, open);
    fails("a ~ \"\"", 5, "no words to look for");
    fails(
        "a other than ()",
        14,
        "other than what? \"exists(field)\" asks for any value",
    );
    let error = parse("größe == 1").unwrap_err();
    assert_eq!(error.caret(), "größe == 1\n       ^");
}

#[test]
fn depth_size_and_nesting_are_bounded() {
    let deep = |levels: usize| format!("{}a = 1{}", "p{ ".repeat(levels), " }".repeat(levels));
    assert!(parse(&deep(15)).is_ok());
    fails(&deep(16), 1, "17 levels, at most 16");
    let wide = vec!["a = 1"; 257].join(" or ");
    fails(&wide, 1, "257 conditions, at most 256");
    assert!(parse(&"(".repeat(100_000)).is_err());
    assert!(parse(&"not ".repeat(100_000)).is_err());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,3}",
        Just("and".to_owned()),
        Just("42".to_owned()),
        Just("date".to_owned()),
        "[ -~\\n\"'\\\\é]{1,5}"
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        text().prop_map(Scalar::Text),
        any::<i64>().prop_map(Scalar::Integer),
        any::<bool>().prop_map(Scalar::Boolean),
        (-1e300..1e300f64).prop_map(Scalar::Float),
    ]
}

fn bounds<T: Copy + std::fmt::Debug>(value: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = Bounds<T>> {
    let side = |value| (any::<bool>(), value);
    (1..4u8, side(value.clone()), side(value)).prop_map(|(sides, (low_open, low), (high_open, high))| {
        let pick = |wanted: bool, value| wanted.then_some(value);
        Bounds {
            gt: pick(sides & 1 != 0 && low_open, low),
            gte: pick(sides & 1 != 0 && !low_open, low),
            lt: pick(sides & 2 != 0 && high_open, high),
            lte: pick(sides & 2 != 0 && !high_open, high),
        }
    })
}

fn place() -> impl Strategy<Value = GeoPoint> {
    (-90.0..90.0f64, -180.0..180.0f64).prop_map(|(lat, lon)| GeoPoint { lat, lon })
}

fn ring() -> impl Strategy<Value = Vec<GeoPoint>> {
    prop::collection::vec(place(), 3..6).prop_map(|mut ring| {
        ring.push(ring[0]);
        ring
    })
}

fn leaf() -> impl Strategy<Value = Condition> {
    let scalars = || prop::collection::vec(scalar(), 0..3);
    prop_oneof![
        (text(), scalars()).prop_map(|(key, any)| Condition::MatchAny { key, any }),
        (text(), prop::collection::vec(scalar(), 1..3))
            .prop_map(|(key, except)| Condition::MatchExcept { key, except }),
        (text(), text()).prop_map(|(key, text)| Condition::MatchText { key, text }),
        (text(), bounds(-1e300..1e300f64)).prop_map(|(key, bounds)| Condition::Range { key, bounds }),
        (text(), bounds(0..4_000_000_000_000_000i64))
            .prop_map(|(key, bounds)| Condition::DatetimeRange { key, bounds }),
        (text(), bounds(0..1000u64)).prop_map(|(key, bounds)| Condition::ValuesCount { key, bounds }),
        (text(), place(), 0.0..1e9f64).prop_map(|(key, center, radius_m)| Condition::GeoRadius {
            key,
            center,
            radius_m
        }),
        (text(), place(), place()).prop_map(|(key, top_left, bottom_right)| Condition::GeoBoundingBox {
            key,
            top_left,
            bottom_right
        }),
        (text(), ring(), prop::collection::vec(ring(), 0..3)).prop_map(|(key, exterior, interiors)| {
            Condition::GeoPolygon {
                key,
                exterior,
                interiors,
            }
        }),
        text().prop_map(|key| Condition::IsEmpty { key }),
        text().prop_map(|key| Condition::IsNull { key }),
        text().prop_map(|name| Condition::HasVector { name }),
        prop::collection::vec(
            prop_oneof![
                any::<u64>().prop_map(DocId::Number),
                text().prop_map(DocId::Text),
                any::<[u8; 16]>().prop_map(DocId::Uuid)
            ],
            0..3
        )
        .prop_map(|ids| Condition::HasId { ids }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let joined = |inner: BoxedStrategy<Condition>| {
        let list = || prop::collection::vec(inner.clone(), 0..3);
        (list(), list(), list(), 0..3u32).prop_map(|(must, should, must_not, wanted)| Filter {
            min_should: wanted.min(should.len() as u32),
            must,
            should,
            must_not,
        })
    };
    let condition = leaf().prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            joined(inner.clone()).prop_map(Condition::Filter),
            (text(), joined(inner)).prop_map(|(key, filter)| Condition::Nested { key, filter }),
        ]
    });
    joined(condition.boxed())
}

/// A model of meaning: each leaf holds or not by its text, and a nested filter sees other truths than its surroundings.
fn holds(filter: &Filter, world: u64) -> bool {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let seed = |text: &str, world: u64| {
        let mut hasher = DefaultHasher::new();
        (text, world).hash(&mut hasher);
        hasher.finish()
    };
    let one = |condition: &Condition| match condition {
        Condition::Filter(inner) => holds(inner, world),
        Condition::Nested { key, filter } => holds(filter, seed(key, world)),
        leaf => seed(&format!("{leaf:?}"), world) & 1 == 1,
    };
    let should = filter.should.iter().filter(|condition| one(condition)).count();
    filter.must.iter().all(one)
        && !filter.must_not.iter().any(one)
        && (filter.should.is_empty() || should >= filter.min_should.max(1) as usize)
}

proptest! {
    #[test]
    fn any_filter_is_printed_and_read_with_its_meaning(filter in filter()) {
        let text = print(&filter);
        let again = parse(&text).unwrap_or_else(|error| panic!("{error}\n{}", error.caret()));
        for world in 0..16 {
            prop_assert_eq!(holds(&again, world), holds(&filter, world), "{}", text);
        }
        prop_assert_eq!(parse(&print(&again)).unwrap(), again);
    }

    #[test]
    fn no_text_breaks_the_parser(text in "[a-c =!<>~(){},.\"'0-9]{0,40}|\\PC{0,40}|((not|and|or|in|is|at|least|of|date|count|circle|polygon)[ (=1)]{0,3}){0,8}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.column <= text.chars().count() + 1);
            error.caret();
        }
    }
}
