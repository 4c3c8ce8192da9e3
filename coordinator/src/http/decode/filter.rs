//! Filters: Qdrant's `must`, `should`, `must_not`, `min_should` and their conditions. Bounds of size and depth are checked
//! where the message is read (`granum_proto::convert::filter`); JSON itself nests at most 128 deep.

use granum_proto::limits::Invalid;
use granum_proto::v1::{self, condition::Kind};

use crate::http::decode::{geo, point};
use crate::http::json::{Node, Object};

/// Reads a filter.
pub fn filter(node: &Node<'_>) -> Result<v1::Filter, Invalid> {
    let object = node.object(&["must", "should", "must_not", "min_should"])?;
    let mut filter = v1::Filter {
        must: conditions(object.get("must"))?,
        should: conditions(object.get("should"))?,
        must_not: conditions(object.get("must_not"))?,
        min_should: 0,
    };
    if let Some(min_should) = object.get("min_should") {
        let inner = v1::condition::Kind::Filter(min_should_filter(&min_should)?);
        filter.must.push(v1::Condition { kind: Some(inner) });
    }
    Ok(filter)
}

/// At least `min_count` of `conditions`.
fn min_should_filter(node: &Node<'_>) -> Result<v1::Filter, Invalid> {
    let object = node.object(&["conditions", "min_count"])?;
    let should = conditions(Some(object.want("conditions")?))?;
    let count = object.want("min_count")?;
    match count.whole_u32()? {
        0 => Ok(v1::Filter::default()),
        min_should if min_should as usize > should.len() => {
            Err(count.problem(format!("{min_should} of {}", should.len())))
        }
        min_should => Ok(v1::Filter {
            should,
            min_should,
            ..Default::default()
        }),
    }
}

/// One condition, or a list of them.
fn conditions(node: Option<Node<'_>>) -> Result<Vec<v1::Condition>, Invalid> {
    match node {
        None => Ok(Vec::new()),
        Some(one) if one.value.is_object() => Ok(vec![condition(&one)?]),
        Some(many) => many.list()?.map(|one| condition(&one)).collect(),
    }
}

fn condition(node: &Node<'_>) -> Result<v1::Condition, Invalid> {
    let object = node.any_object()?;
    let kind = if object.get("key").is_some() {
        field(node)?
    } else if let Some(empty) = object.get("is_empty") {
        Kind::IsEmpty(only_key(&empty)?)
    } else if let Some(null) = object.get("is_null") {
        Kind::IsNull(only_key(&null)?)
    } else if let Some(ids) = object.get("has_id") {
        Kind::HasId(v1::HasId {
            ids: ids.list()?.map(|id| point::id(&id)).collect::<Result<_, _>>()?,
        })
    } else if let Some(name) = object.get("has_vector") {
        Kind::HasVector(v1::HasVector {
            name: name.text()?.to_owned(),
        })
    } else if let Some(nested) = object.get("nested") {
        let nested = nested.object(&["key", "filter"])?;
        let inner = filter(&nested.want("filter")?)?;
        Kind::Nested(v1::Nested {
            key: nested.want("key")?.text()?.to_owned(),
            filter: Some(inner),
        })
    } else {
        Kind::Filter(filter(node)?)
    };
    Ok(v1::Condition { kind: Some(kind) })
}

fn only_key(node: &Node<'_>) -> Result<String, Invalid> {
    Ok(node.object(&["key"])?.want("key")?.text()?.to_owned())
}

/// `{"key": .., "match" | "range" | "geo_radius" | "geo_bounding_box" | "geo_polygon" | "values_count" | "is_empty" | "is_null": ..}`; several of these must all hold.
fn field(node: &Node<'_>) -> Result<Kind, Invalid> {
    let known = ["key", "match", "range", "values_count", "is_empty", "is_null"];
    let geo = ["geo_bounding_box", "geo_radius", "geo_polygon"];
    let object = node.object(&[&known[..], &geo[..]].concat())?;
    let key = object.want("key")?.text()?.to_owned();
    let mut kinds = Vec::new();
    if let Some(wanted) = object.get("match") {
        kinds.push(Kind::Match(read_match(key.clone(), &wanted)?));
    }
    if let Some(bounds) = object.get("range") {
        kinds.push(Kind::Range(range(key.clone(), &bounds)?));
    }
    if let Some(bounds) = object.get("values_count") {
        kinds.push(Kind::ValuesCount(values_count(key.clone(), &bounds)?));
    }
    if let Some(circle) = object.get("geo_radius") {
        kinds.push(Kind::GeoRadius(geo::radius(key.clone(), &circle)?));
    }
    if let Some(corners) = object.get("geo_bounding_box") {
        kinds.push(Kind::GeoBoundingBox(geo::bounding_box(key.clone(), &corners)?));
    }
    if let Some(rings) = object.get("geo_polygon") {
        kinds.push(Kind::GeoPolygon(geo::polygon(key.clone(), &rings)?));
    }
    for (name, kind) in [
        ("is_empty", Kind::IsEmpty(key.clone())),
        ("is_null", Kind::IsNull(key.clone())),
    ] {
        match object.get(name).map(|wanted| wanted.boolean()).transpose()? {
            Some(true) => kinds.push(kind),
            Some(false) => kinds.push(not(kind)),
            None => {}
        }
    }
    match kinds.len() {
        0 => Err(node.problem("a condition needs one of match, range, geo_*, values_count, is_empty, is_null")),
        1 => Ok(kinds.remove(0)),
        _ => Ok(Kind::Filter(v1::Filter {
            must: kinds.into_iter().map(of_kind).collect(),
            ..Default::default()
        })),
    }
}

fn of_kind(kind: Kind) -> v1::Condition {
    v1::Condition { kind: Some(kind) }
}

fn not(kind: Kind) -> Kind {
    Kind::Filter(v1::Filter {
        must_not: vec![of_kind(kind)],
        ..Default::default()
    })
}

fn read_match(key: String, node: &Node<'_>) -> Result<v1::Match, Invalid> {
    let object = node.object(&["value", "any", "except", "text", "phrase", "text_any"])?;
    object.refuse(&["phrase", "text_any"], "not supported; text asks for every word")?;
    let mut wanted = v1::Match {
        key,
        ..Default::default()
    };
    match (
        object.get("value"),
        object.get("any"),
        object.get("except"),
        object.get("text"),
    ) {
        (Some(value), None, None, None) => wanted.any = vec![scalar(&value)?],
        (None, Some(any), None, None) => {
            wanted.any = any.list()?.map(|value| scalar(&value)).collect::<Result<_, _>>()?
        }
        (None, None, Some(except), None) => {
            wanted.except = except.list()?.map(|value| scalar(&value)).collect::<Result<_, _>>()?;
            if wanted.except.is_empty() {
                return Err(except.problem("no value; any value at all is must_not is_empty"));
            }
        }
        (None, None, None, Some(text)) => {
            wanted.text = text.text()?.to_owned();
            if wanted.text.is_empty() {
                return Err(text.problem("no words to look for"));
            }
        }
        _ => return Err(node.problem("exactly one of value, any, except, text")),
    }
    Ok(wanted)
}

fn scalar(node: &Node<'_>) -> Result<v1::Scalar, Invalid> {
    use v1::scalar::Kind;
    let kind = match node.value {
        serde_json::Value::String(text) => Kind::Text(text.clone()),
        serde_json::Value::Bool(boolean) => Kind::Boolean(*boolean),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Kind::Integer(integer),
            None => Kind::Float(node.number()?),
        },
        _ => return Err(node.not("a text, a number, true or false")),
    };
    Ok(v1::Scalar { kind: Some(kind) })
}

/// Bounds as numbers, or all of them as RFC 3339 texts.
fn range(key: String, node: &Node<'_>) -> Result<v1::Range, Invalid> {
    let object = node.object(&["gt", "gte", "lt", "lte"])?;
    let mut range = v1::Range {
        key,
        ..Default::default()
    };
    let dates = object.entries().any(|(_, bound)| bound.value.is_string());
    if dates {
        let bound = |name| {
            object
                .get(name)
                .map(|bound| bound.text().map(str::to_owned))
                .transpose()
        };
        (range.datetime_gt, range.datetime_gte) = (bound("gt")?, bound("gte")?);
        (range.datetime_lt, range.datetime_lte) = (bound("lt")?, bound("lte")?);
    } else {
        let bound = |name| object.get(name).map(|bound| bound.number()).transpose();
        (range.gt, range.gte, range.lt, range.lte) = (bound("gt")?, bound("gte")?, bound("lt")?, bound("lte")?);
    }
    Ok(range)
}

fn values_count(key: String, node: &Node<'_>) -> Result<v1::ValuesCount, Invalid> {
    let object: Object<'_> = node.object(&["gt", "gte", "lt", "lte"])?;
    let bound = |name| object.get(name).map(|bound| bound.whole()).transpose();
    Ok(v1::ValuesCount {
        key,
        gt: bound("gt")?,
        gte: bound("gte")?,
        lt: bound("lt")?,
        lte: bound("lte")?,
    })
}

#[cfg(test)]
mod tests {
    use granum_proto::convert;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(json: serde_json::Value, problem: &str) {
        let error = filter(&Node::root(&json, "filter")).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }

    #[test]
    fn every_condition_reads() {
        let corner = |lat: u32, lon: u32| json!({"lat": lat, "lon": lon});
        let ring = json!({"points": [corner(0, 0), corner(0, 1), corner(1, 0), corner(0, 0)]});
        let json = json!({
            "must": {"key": "section", "match": {"value": "games"}},
            "should": [
                {"key": "size", "range": {"gte": 1, "lt": 2.5}},
                {"key": "seen", "range": {"gt": "2024-01-01T00:00:00Z"}},
                {"has_id": [1, "a", "550e8400-e29b-41d4-a716-446655440000"]},
                {"nested": {"key": "parts", "filter": {"must": [{"key": "a", "match": {"any": [1, 2]}}]}}},
                {"is_empty": {"key": "x"}}, {"is_null": {"key": "y"}}, {"has_vector": ""},
                {"key": "tags", "values_count": {"gt": 2}, "match": {"except": ["z"]}},
                {"must_not": [{"key": "text", "match": {"text": "good cheap"}}]},
                {"key": "x", "is_empty": false},
                {"key": "place", "geo_radius": {"center": {"lon": 13.4, "lat": 52.5}, "radius": 1000.0}},
                {"key": "place", "geo_bounding_box": {
                    "top_left": {"lon": 13.4, "lat": 52.5}, "bottom_right": {"lon": 13.5, "lat": 52.4}
                }},
                {"key": "place", "geo_polygon": {"exterior": ring.clone(), "interiors": [ring]}}
            ],
            "min_should": {"conditions": [{"key": "a", "match": {"value": true}}], "min_count": 1}
        });
        let read = filter(&Node::root(&json, "filter")).unwrap();
        assert_eq!((read.must.len(), read.should.len(), read.must_not.len()), (2, 13, 0));
        convert::filter::read(Some(&read)).unwrap();
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        refused(
            json!({"must": [{"key": "a", "match": {"value": [1]}}]}),
            "filter.must[0].match.value: [1] is not",
        );
        refused(json!({"musts": []}), "filter: unknown field \"musts\"");
        refused(
            json!({"must": [{"key": "a"}]}),
            "filter.must[0]: a condition needs one of",
        );
        refused(
            json!({"should": [{"key": "a", "geo_radius": {"radius": 1, "center": {"lat": 1}}}]}),
            "filter.should[0].geo_radius.center: field \"lon\" is missing",
        );
        // On the wire these could not be told from a match of nothing.
        for (empty, problem) in [
            (json!({"except": []}), "match.except: no value"),
            (json!({"text": ""}), "match.text: no words"),
        ] {
            refused(json!({"must": [{"key": "a", "match": empty}]}), problem);
        }
        refused(json!({"must": 7}), "filter.must: 7 is not a list");
        refused(
            json!({"must": [{"key": "a", "range": {"gt": "x", "lt": 3}}]}),
            "filter.must[0].range.lt: 3 is not a text",
        );
    }
}
