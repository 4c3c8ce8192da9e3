//! Writes any filter in the language that [`parse`](super::parse) reads, with no more parentheses and quotes than needed.

use std::fmt::Write;

use granum_model::filter::{Bounds, GeoPoint};
use granum_model::{Condition, DocId, Filter, Scalar, datetime};

use super::lexer::is_bare;
use super::parser::number;

/// Words that mean something where a path or a value may stand.
const RESERVED: [&str; 16] = [
    "and", "or", "not", "in", "is", "at", "least", "of", "other", "than", "null", "empty", "true", "false", "date",
    "id",
];

/// How tightly the place binds: what is looser than the place goes in parentheses.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Place {
    /// Beside nothing, or `or`.
    Any,
    /// Beside `or` as one of its alternatives.
    All,
    /// Beside `and`, or behind `not`.
    One,
}

/// The filter as text; one that lets everything through is empty text.
pub fn print(filter: &Filter) -> String {
    if filter.is_empty() {
        return String::new();
    }
    print_filter(filter, Place::Any)
}

fn print_filter(filter: &Filter, place: Place) -> String {
    let together = filter.must.len() + filter.must_not.len() + usize::from(!filter.should.is_empty());
    let inner = if together > 1 { Place::One } else { place };
    let must = filter.must.iter().map(|condition| print_condition(condition, inner));
    let must_not = filter.must_not.iter().map(print_negated);
    let mut parts: Vec<String> = must.chain(must_not).collect();
    if !filter.should.is_empty() {
        parts.push(print_alternatives(filter, inner));
    }
    match parts.len() {
        0 => "()".to_owned(),
        1 => parts.remove(0),
        _ => enclosed(parts.join(" and "), place > Place::All),
    }
}

fn print_alternatives(filter: &Filter, place: Place) -> String {
    let wanted = filter.min_should.max(1);
    let print_all = |place| {
        filter
            .should
            .iter()
            .map(move |condition| print_condition(condition, place))
    };
    if wanted > 1 {
        let list: Vec<String> = print_all(Place::Any).collect();
        return format!("at least {wanted} of ({})", list.join(", "));
    }
    if let [only] = &filter.should[..] {
        return print_condition(only, place);
    }
    let list: Vec<String> = print_all(Place::All).collect();
    enclosed(list.join(" or "), place > Place::Any)
}

fn enclosed(text: String, needed: bool) -> String {
    if needed { format!("({text})") } else { text }
}

fn print_negated(condition: &Condition) -> String {
    match condition {
        Condition::IsEmpty { key } => format!("exists({})", path(key)),
        Condition::IsNull { key } => format!("{} is not null", path(key)),
        Condition::MatchAny { key, any } => match &any[..] {
            [only] => format!("{} != {}", path(key), scalar(only)),
            many => format!("{} not in {}", path(key), list(many, scalar)),
        },
        Condition::HasId { ids } => match &ids[..] {
            [only] => format!("id() != {}", id(only)),
            many => format!("id() not in {}", list(many, id)),
        },
        other => format!("not {}", print_condition(other, Place::One)),
    }
}

fn print_condition(condition: &Condition, place: Place) -> String {
    match condition {
        Condition::Filter(inner) => print_filter(inner, place),
        Condition::Nested { key, filter } if filter.is_empty() => format!("{}{{}}", path(key)),
        Condition::Nested { key, filter } => format!("{}{{ {} }}", path(key), print_filter(filter, Place::Any)),
        Condition::MatchAny { key, any } => match &any[..] {
            [only] => format!("{} = {}", path(key), scalar(only)),
            many => format!("{} in {}", path(key), list(many, scalar)),
        },
        Condition::MatchExcept { key, except } => format!("{} other than {}", path(key), list(except, scalar)),
        Condition::MatchText { key, text } => format!("{} ~ {}", path(key), quoted(text)),
        Condition::Range { key, bounds } => print_bounds(&path(key), bounds, decimal, f64::MIN, place),
        Condition::DatetimeRange { key, bounds } => {
            let print = |bound| format!("date({})", datetime::format_micros(bound));
            print_bounds(&path(key), bounds, print, 0, place)
        }
        Condition::ValuesCount { key, bounds } => print_bounds(
            &format!("count({})", path(key)),
            bounds,
            |bound| bound.to_string(),
            0,
            place,
        ),
        Condition::GeoRadius { key, center, radius_m } => {
            format!("circle({}, {}, {})", path(key), spot(center), decimal(*radius_m))
        }
        Condition::GeoBoundingBox {
            key,
            top_left,
            bottom_right,
        } => format!("box({}, {}, {})", path(key), spot(top_left), spot(bottom_right)),
        Condition::GeoPolygon {
            key,
            exterior,
            interiors,
        } => {
            let rings = [exterior].into_iter().chain(interiors);
            let rings: Vec<String> = rings.map(|ring| list(ring, spot)).collect();
            format!("polygon({}, {})", path(key), rings.join(", "))
        }
        Condition::IsEmpty { key } => format!("{} is empty", path(key)),
        Condition::IsNull { key } => format!("{} is null", path(key)),
        Condition::HasId { ids } => match &ids[..] {
            [only] => format!("id() = {}", id(only)),
            many => format!("id() in {}", list(many, id)),
        },
        Condition::HasVector { name } => format!("vector({})", path(name)),
    }
}

/// `low < subject <= high` where both sides are bounded once, else each bound for itself.
fn print_bounds<T: Copy>(
    subject: &str,
    bounds: &Bounds<T>,
    print: impl Fn(T) -> String,
    least: T,
    place: Place,
) -> String {
    let lower = [(bounds.gt, ">", "<"), (bounds.gte, ">=", "<=")];
    let upper = [(bounds.lt, "<"), (bounds.lte, "<=")];
    let below: Vec<_> = lower
        .into_iter()
        .filter_map(|(bound, sign, seen)| Some((bound?, sign, seen)))
        .collect();
    let above: Vec<_> = upper
        .into_iter()
        .filter_map(|(bound, sign)| Some((bound?, sign)))
        .collect();
    match (&below[..], &above[..]) {
        ([], []) => format!("{subject} >= {}", print(least)),
        ([(low, _, low_sign)], [(high, high_sign)]) => {
            format!("{} {low_sign} {subject} {high_sign} {}", print(*low), print(*high))
        }
        _ => {
            let below = below.iter().map(|(bound, sign, _)| (bound, sign));
            let each = below.chain(above.iter().map(|(bound, sign)| (bound, sign)));
            let each: Vec<String> = each
                .map(|(bound, sign)| format!("{subject} {sign} {}", print(*bound)))
                .collect();
            enclosed(each.join(" and "), each.len() > 1 && place > Place::All)
        }
    }
}

fn list<T>(values: &[T], print: fn(&T) -> String) -> String {
    let values: Vec<String> = values.iter().map(print).collect();
    format!("({})", values.join(", "))
}

fn spot(point: &GeoPoint) -> String {
    format!("{}, {}", decimal(point.lat), decimal(point.lon))
}

fn decimal(number: f64) -> String {
    format!("{number:?}").trim_end_matches(".0").to_owned()
}

fn path(key: &str) -> String {
    word(key)
}

fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Text(text) => word(text),
        Scalar::Integer(integer) => integer.to_string(),
        Scalar::Boolean(boolean) => boolean.to_string(),
        Scalar::Float(float) => format!("{float:?}"),
    }
}

fn id(id: &DocId) -> String {
    match id {
        DocId::Text(text) => word(text),
        other => other.to_string(),
    }
}

/// Bare where that can't be read as anything else.
fn word(text: &str) -> String {
    let reserved = RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word));
    match is_bare(text) && !reserved && number(text).is_none() {
        true => text.to_owned(),
        false => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                write!(quoted, "\\u{:04x}", c as u32).expect("writing to a String cannot fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
