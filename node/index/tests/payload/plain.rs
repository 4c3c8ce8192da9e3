//! Filters evaluated plainly: no preparation, no sharing of code with the crate but for reading date-times.

use granum_model::{Condition, DocId, Filter, Scalar, datetime};
use serde_json::Value;

pub fn passes(number: u64, payload: &Value, filter: &Filter) -> bool {
    let holds = |condition: &&Condition| holds(number, payload, condition);
    filter.must.iter().all(|condition| holds(&condition))
        && !filter.must_not.iter().any(|condition| holds(&condition))
        && (filter.should.is_empty() || filter.should.iter().filter(holds).count() >= filter.min_should.max(1) as usize)
}

fn holds(number: u64, payload: &Value, condition: &Condition) -> bool {
    let any = |key: &str, holds: &dyn Fn(&Value) -> bool| elements(payload, key).iter().any(|value| holds(value));
    match condition {
        Condition::MatchAny { key, any: listed } => {
            any(key, &|value| listed.iter().any(|scalar| equals(value, scalar)))
        }
        Condition::MatchExcept { key, except } => any(key, &|value| {
            !value.is_null() && !except.iter().any(|scalar| equals(value, scalar))
        }),
        Condition::MatchText { key, text } => any(key, &|value| {
            let Some(own) = value.as_str().map(words) else {
                return false;
            };
            let wanted = words(text);
            !wanted.is_empty() && wanted.iter().all(|word| own.contains(word))
        }),
        Condition::Range { key, bounds } => any(key, &|value| {
            value.as_f64().is_some_and(|number| bounds.contains(number))
        }),
        Condition::DatetimeRange { key, bounds } => any(key, &|value| {
            let instant = value.as_str().and_then(datetime::parse_micros);
            instant.is_some_and(|micros| bounds.contains(micros))
        }),
        Condition::GeoBoundingBox {
            key,
            top_left,
            bottom_right,
        } => any(key, &|value| {
            let (Some(lat), Some(lon)) = (value["lat"].as_f64(), value["lon"].as_f64()) else {
                return false;
            };
            lat.abs() <= 90.0
                && lon.abs() <= 180.0
                && top_left.lon < lon
                && lon < bottom_right.lon
                && bottom_right.lat < lat
                && lat < top_left.lat
        }),
        Condition::IsEmpty { key } => values(payload, key)
            .iter()
            .all(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty)),
        Condition::IsNull { key } => any(key, &Value::is_null),
        Condition::ValuesCount { key, bounds } => {
            let counts: Vec<u64> = values(payload, key)
                .iter()
                .map(|value| match value {
                    Value::Null => 0,
                    Value::Array(elements) => elements.len() as u64,
                    _ => 1,
                })
                .collect();
            counts.iter().any(|count| bounds.contains(*count)) || (counts.is_empty() && bounds.contains(0))
        }
        Condition::HasId { ids } => ids.contains(&DocId::Number(number)),
        Condition::HasVector { .. } => false,
        Condition::Nested { key, filter } => {
            let lists = values(payload, key);
            let mut elements = lists.iter().filter_map(|list| list.as_array()).flatten();
            elements.any(|element| element.is_object() && passes(number, element, filter))
        }
        Condition::Filter(filter) => passes(number, payload, filter),
        other => panic!("{other:?} is not generated"),
    }
}

/// Values at one of the paths that this test uses.
fn values<'a>(payload: &'a Value, key: &str) -> Vec<&'a Value> {
    let below = |field: &str| payload.get(field).into_iter();
    match key {
        "\"a.b\".c" => below("a.b").filter_map(|value| value.get("c")).collect(),
        "list[].x" | "list[].n" => {
            let lists = below("list").filter_map(Value::as_array).flatten();
            lists.filter_map(|element| element.get(&key[7..])).collect()
        }
        key => below(key).collect(),
    }
}

pub fn elements<'a>(payload: &'a Value, key: &str) -> Vec<&'a Value> {
    let values = values(payload, key).into_iter();
    values
        .flat_map(|value| match value {
            Value::Array(elements) => elements.iter().collect(),
            value => vec![value],
        })
        .collect()
}

fn equals(value: &Value, scalar: &Scalar) -> bool {
    match (value, scalar) {
        (Value::String(own), Scalar::Text(text)) => own == text,
        (Value::Bool(own), Scalar::Boolean(truth)) => own == truth,
        (Value::Number(own), Scalar::Integer(integer)) => match own.as_i64() {
            Some(own) => own == *integer,
            None => own.as_f64().is_some_and(|own| equal_to_integer(own, *integer)),
        },
        (Value::Number(own), Scalar::Float(float)) => match own.as_i64() {
            Some(own) => equal_to_integer(*float, own),
            None => own.as_f64() == Some(*float),
        },
        _ => false,
    }
}

fn equal_to_integer(float: f64, integer: i64) -> bool {
    float.fract() == 0.0 && float as i128 == i128::from(integer)
}

fn words(text: &str) -> Vec<String> {
    let is_cjk = |letter: char| ('\u{3040}'..='\u{9fff}').contains(&letter);
    let mut words = vec![String::new()];
    for letter in text.chars() {
        if is_cjk(letter) {
            words.push(letter.to_string());
            words.push(String::new());
        } else if letter.is_alphanumeric() {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        } else {
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
