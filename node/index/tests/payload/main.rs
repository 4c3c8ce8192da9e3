//! Do payload indexes ever change an answer? Random documents and filters, answered with indexes, without, and by a plain
//! evaluation written for this test.

use std::path::Path;
use std::sync::Arc;

use granum_index::{Document, Index, Inline, Options, Params, Query, SegmentId, SegmentRef, matches, verify};
use granum_model::filter::{Bounds, GeoPoint};
use granum_model::{
    Condition, Dense, Distance, DocId, Filter, Fine, PayloadField, PayloadKind, Scalar, Schema, Vector, VectorField,
    VectorKind,
};
use proptest::prelude::*;
use serde_json::{Value, json};

mod damage;
mod facet;
mod golden;
mod plain;
mod random;

/// A field for each kind, named as the kind is, and some by longer paths.
fn schema() -> Schema {
    let field = |key: &str, kind| PayloadField { key: key.into(), kind };
    let mut payload: Vec<PayloadField> = PayloadKind::ALL.map(|kind| field(kind.name(), kind)).to_vec();
    payload.push(field("list[].x", PayloadKind::Keyword));
    payload.push(field("list[].n", PayloadKind::Integer));
    payload.push(field("\"a.b\".c", PayloadKind::Float));
    Schema {
        payload,
        ..Schema::default()
    }
}

/// Seals the payloads as one segment, row by row in their order, and derives what the schema names.
fn seal(directory: &Path, schema: Schema, payloads: &[Value]) -> (Index, Vec<SegmentRef>) {
    let index = Index::open(directory, schema, Options::default(), &[]).unwrap();
    for (number, payload) in (0..).zip(payloads) {
        index.insert(document(number, payload), None).unwrap();
    }
    let built = index.build(&index.freeze(SegmentId(1))).unwrap();
    let manifest = built.segments().to_vec();
    index.publish(built);
    index.derive(&Inline).unwrap();
    (index, manifest)
}

fn document(number: u64, payload: &Value) -> Document {
    Document {
        id: DocId::Number(number),
        version: number + 1,
        payload: Arc::from(payload.to_string().as_bytes()),
        vectors: Vec::new(),
    }
}

fn answer(index: &Index, filter: &Filter) -> Vec<u64> {
    let view = index.view();
    let rows = view.scan(filter, None, usize::MAX, &|| false).unwrap();
    assert_eq!(view.count(filter, &|| false).unwrap(), rows.len() as u64);
    let number = |id| match id {
        DocId::Number(number) => number,
        other => panic!("{other:?}"),
    };
    rows.into_iter().map(|(id, _)| number(id)).collect()
}

/// Rows that a plain evaluation admits.
fn expected(payloads: &[Value], filter: &Filter) -> Vec<u64> {
    let numbered = (0..).zip(payloads);
    let passing = numbered.filter(|(number, payload)| {
        let passes = plain::passes(*number, payload, filter);
        assert_eq!(
            matches(&document(*number, payload), filter).unwrap(),
            passes,
            "{payload}: {filter:?}"
        );
        passes
    });
    passing.map(|(number, _)| number).collect()
}

fn must(condition: Condition) -> Filter {
    Filter {
        must: vec![condition],
        ..Filter::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn indexes_change_no_answer(
        payloads in prop::collection::vec(random::payload(), 1..40),
        filters in prop::collection::vec(random::filter(), 24),
    ) {
        let (indexed, unindexed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (index, manifest) = seal(indexed.path(), schema(), &payloads);
        let (without, _) = seal(unindexed.path(), Schema::default(), &payloads);
        prop_assert_eq!(verify(indexed.path(), &manifest).problems, Vec::<String>::new());
        for filter in &filters {
            let expected = expected(&payloads, filter);
            prop_assert_eq!(&answer(&without, filter), &expected, "{:?}", filter);
            prop_assert_eq!(&answer(&index, filter), &expected, "{:?}", filter);
        }
    }
}

/// Paths of the columns below a directory, in order.
fn columns(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().contains(".column."));
    paths.sort();
    paths
}

#[test]
fn columns_live_and_die_with_the_schema() {
    let directory = tempfile::tempdir().unwrap();
    let payloads = random::fixed_payloads();
    let (index, manifest) = seal(directory.path(), schema(), &payloads);
    let all = schema().payload.len();
    assert_eq!(columns(directory.path()).len(), all);
    assert!(!index.lacks_derived());
    assert_eq!(index.derive(&Inline).unwrap(), 0, "all are there");
    let reopened = Index::open(directory.path(), schema(), Options::default(), &manifest).unwrap();
    assert_eq!(reopened.derive(&Inline).unwrap(), 0, "all were opened");
    index.remove_unreferenced(&manifest).unwrap();
    assert_eq!(
        columns(directory.path()).len(),
        all,
        "columns are kept though no manifest names them"
    );
    let mut smaller = schema();
    let dropped = smaller.payload.remove(0);
    index.alter(smaller.clone());
    index.remove_unreferenced(&manifest).unwrap();
    assert_eq!(index.derive(&Inline).unwrap(), 0);
    assert_eq!(columns(directory.path()).len(), all - 1);
    smaller.payload.push(PayloadField {
        kind: PayloadKind::Text,
        ..dropped
    });
    index.alter(smaller.clone());
    assert!(index.lacks_derived());
    assert_eq!(index.derive(&Inline).unwrap(), 1, "another kind is another column");
    std::fs::remove_file(&columns(directory.path())[3]).unwrap();
    let reopened = Index::open(directory.path(), smaller.clone(), Options::default(), &manifest).unwrap();
    assert_eq!(reopened.derive(&Inline).unwrap(), 1, "what is missing is built");
    let filter = must(has("keyword", "a"));
    assert_eq!(answer(&reopened, &filter), expected(&payloads, &filter));
}

/// How many rows a search evaluates a filter on, one by one.
#[track_caller]
fn check_evaluated(index: &Index, evaluated: u64, filter: Filter) {
    let query = Query {
        using: "v".into(),
        vector: Vector::Dense(Dense::F32(vec![1.0])),
        filter,
        k: 1000,
        threshold: None,
        exclude: None,
        params: Params::default(),
    };
    let found = &index.view().search(std::slice::from_ref(&query), &|| false).unwrap()[0];
    assert_eq!(found.usage.rows_filtered, evaluated, "{:?}", query.filter);
    assert_eq!(
        index.view().count(&query.filter, &|| false).unwrap(),
        found.hits.len() as u64
    );
}

#[test]
fn indexed_conditions_evaluate_no_row() {
    let directory = tempfile::tempdir().unwrap();
    let vector = VectorField::new("v", VectorKind::Dense { dimension: 1 }, Distance::Dot, Fine::F32);
    let mut schema = schema();
    schema.vectors.push(vector);
    let index = Index::open(directory.path(), schema, Options::default(), &[]).unwrap();
    for (number, payload) in (0..).zip(random::fixed_payloads()) {
        let mut document = document(number, &payload);
        document.vectors = vec![("v".into(), Vector::Dense(Dense::F32(vec![number as f32])))];
        index.insert(document, None).unwrap();
    }
    index.publish(index.build(&index.freeze(SegmentId(1))).unwrap());
    index.derive(&Inline).unwrap();

    let key = |key: &str| key.to_owned();
    let any = |name: &str, scalar| Condition::MatchAny {
        key: key(name),
        any: vec![scalar],
    };
    let except = |name: &str, scalar| Condition::MatchExcept {
        key: key(name),
        except: vec![scalar],
    };
    let text = |name: &str, text: &str| Condition::MatchText {
        key: key(name),
        text: text.into(),
    };
    let uuid = || Scalar::Text("00112233-4455-6677-8899-aabbccddeeff".into());
    let bounds = Bounds {
        gte: Some(2.0),
        lt: Some(4.0),
        ..Bounds::default()
    };
    let instants = Bounds {
        gt: Some(0),
        ..Bounds::default()
    };
    let point = |lat, lon| GeoPoint { lat, lon };
    let known = [
        has("keyword", "a"),
        except("keyword", Scalar::Text("a".into())),
        text("keyword", "a"),
        any("integer", Scalar::Integer(3)),
        except("integer", Scalar::Float(3.0)),
        Condition::Range {
            key: key("integer"),
            bounds,
        },
        any("float", Scalar::Integer(3)),
        Condition::Range {
            key: key("float"),
            bounds,
        },
        any("bool", Scalar::Boolean(true)),
        Condition::DatetimeRange {
            key: key("datetime"),
            bounds: instants,
        },
        Condition::DatetimeRange {
            key: key("keyword"),
            bounds: instants,
        },
        any("uuid", uuid()),
        text("text", "a"),
        Condition::GeoRadius {
            key: key("geo"),
            center: point(0.0, 0.0),
            radius_m: 6e5,
        },
        Condition::GeoBoundingBox {
            key: key("geo"),
            top_left: point(9.0, -1.0),
            bottom_right: point(-9.0, 9.0),
        },
        Condition::GeoPolygon {
            key: key("geo"),
            exterior: vec![
                point(-20.0, -1.0),
                point(20.0, -1.0),
                point(0.0, 20.0),
                point(-20.0, -1.0),
            ],
            interiors: Vec::new(),
        },
        Condition::IsEmpty { key: key("text") },
        Condition::IsNull { key: key("list[].x") },
        any("integer", Scalar::Text("3".into())),
        Condition::HasId {
            ids: vec![DocId::Number(3), DocId::Number(300)],
        },
        Condition::HasVector { name: "v".into() },
    ];
    for condition in &known {
        check_evaluated(&index, 0, must(condition.clone()));
        let excluded = Filter {
            must_not: vec![condition.clone()],
            ..Filter::default()
        };
        check_evaluated(&index, 0, excluded);
    }
    let all = Filter {
        should: known.to_vec(),
        min_should: 9,
        ..Filter::default()
    };
    check_evaluated(&index, 0, all);
    // What has no index is evaluated on what the indexes leave: 60 rows, of which number 7 divides 9.
    let mut mixed = must(any("integer", Scalar::Integer(0)));
    mixed.must.push(Condition::IsEmpty { key: key("plain") });
    check_evaluated(&index, 9, mixed);
    // An element of the list has both, or two of them have one each: only where both are there.
    let both = Filter {
        must: vec![any("x", Scalar::Text("b".into())), any("n", Scalar::Integer(1))],
        ..Filter::default()
    };
    check_evaluated(
        &index,
        5,
        must(Condition::Nested {
            key: key("list"),
            filter: both,
        }),
    );
}

#[test]
fn words_of_two_texts_do_not_meet() {
    let directory = tempfile::tempdir().unwrap();
    let payloads = [
        json!({"text": ["a", "b"]}),
        json!({"text": ["b a", "c"]}),
        json!({"text": "a, b"}),
    ];
    let (index, _) = seal(directory.path(), schema(), &payloads);
    let both = Condition::MatchText {
        key: "text".into(),
        text: "a b".into(),
    };
    assert_eq!(answer(&index, &must(both)), [1, 2]);
}

#[test]
fn a_column_of_other_payloads_is_not_used() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, manifest) = seal(directory.path(), schema(), &[json!({"keyword": "a"})]);
    seal(other.path(), schema(), &[json!({"keyword": "b"})]);
    for path in columns(other.path()) {
        std::fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    let index = Index::open(directory.path(), schema(), Options::default(), &manifest).unwrap();
    assert_eq!(answer(&index, &must(has("keyword", "a"))), [0]);
    assert_eq!(index.derive(&Inline).unwrap(), schema().payload.len());
}

fn has(key: &str, text: &str) -> Condition {
    Condition::MatchAny {
        key: key.into(),
        any: vec![Scalar::Text(text.into())],
    }
}
