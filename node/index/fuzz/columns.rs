//! Payloads for columns of every kind, and what such columns are asked.

use granum_model::filter::{Bounds, GeoPoint};
use granum_model::{Condition, PayloadField, PayloadKind, Scalar, Schema};

/// A value of each kind of column, where there are columns; now and then none, two, or one of another kind.
pub fn payload(schema: &Schema, number: u64) -> String {
    if schema.payload.is_empty() {
        return format!(r#"{{"n":{},"text":"number {number}"}}"#, number % 3);
    }
    let value = |kind: PayloadKind| match (number % 9, kind) {
        (7, _) => "null".to_owned(),
        (8, _) => r#"[{"lat":1},2.5,"three",false,[]]"#.to_owned(),
        (_, PayloadKind::Keyword) => format!(r#""k{}""#, number % 5),
        (_, PayloadKind::Integer) => format!("[{},{}]", number, number % 3),
        (_, PayloadKind::Float) => format!("{}.5", number),
        (_, PayloadKind::Bool) => number.is_multiple_of(2).to_string(),
        (_, PayloadKind::Datetime) => format!(r#""2026-01-{:02}T00:00:00Z""#, number + 1),
        (_, PayloadKind::Uuid) => format!(r#""00000000-0000-0000-0000-{number:012}""#),
        (_, PayloadKind::Geo) => format!(r#"{{"lat":{number},"lon":-{number}}}"#),
        (_, PayloadKind::Text) => format!(r#""number {} of many words""#, number % 4),
    };
    let fields = schema
        .payload
        .iter()
        .map(|field| format!(r#""{}":{}"#, field.key, value(field.kind)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// Conditions that every kind of column is asked, whether it is of its kind or not.
pub fn conditions(field: &PayloadField) -> Vec<Condition> {
    let key = || field.key.clone();
    let scalars = || {
        vec![
            Scalar::Text("k1".into()),
            Scalar::Text("00000000-0000-0000-0000-000000000003".into()),
            Scalar::Integer(1),
            Scalar::Float(2.5),
            Scalar::Boolean(true),
        ]
    };
    let center = GeoPoint { lat: 3.0, lon: -3.0 };
    vec![
        Condition::MatchAny {
            key: key(),
            any: scalars(),
        },
        Condition::MatchExcept {
            key: key(),
            except: scalars(),
        },
        Condition::MatchText {
            key: key(),
            text: "number words".into(),
        },
        Condition::Range {
            key: key(),
            bounds: Bounds {
                gt: Some(1.0),
                lte: Some(9.0),
                ..Bounds::default()
            },
        },
        Condition::DatetimeRange {
            key: key(),
            bounds: Bounds {
                gte: Some(0),
                ..Bounds::default()
            },
        },
        Condition::GeoRadius {
            key: key(),
            center,
            radius_m: 500_000.0,
        },
        Condition::IsEmpty { key: key() },
        Condition::IsNull { key: key() },
        Condition::ValuesCount {
            key: key(),
            bounds: Bounds {
                gte: Some(2),
                ..Bounds::default()
            },
        },
    ]
}
