//! One condition of a filter, prepared: its path read, its list sorted. When does it hold?

use std::collections::BTreeSet;

use granum_model::filter::Bounds;
use granum_model::{Condition, DocId};
use serde_json::Value;

use super::geo::{self, Area};
use super::path::Path;
use super::value::{self, Scalars, Words};
use super::{Fields, Group, Subject};
use crate::error::{ReadError, SearchError};

#[derive(Debug)]
pub(super) enum Test {
    Any(Path, Scalars),
    Except(Path, Scalars),
    Text(Path, Words),
    Range(Path, Bounds<f64>),
    Datetime(Path, Bounds<i64>),
    Geo(Path, Area),
    Empty(Path),
    Null(Path),
    Count(Path, Bounds<u64>),
    Id(BTreeSet<DocId>),
    Vector(String),
    Nested(Path, Group),
    Group(Group),
}

impl Test {
    pub fn new(condition: &Condition) -> Result<Test, SearchError> {
        let path = |key: &String| Path::parse(key).ok_or_else(|| SearchError::Key { key: key.clone() });
        Ok(match condition {
            Condition::MatchAny { key, any } => Test::Any(path(key)?, Scalars::new(any)),
            Condition::MatchExcept { key, except } => Test::Except(path(key)?, Scalars::new(except)),
            Condition::MatchText { key, text } => Test::Text(path(key)?, Words::new(text)),
            Condition::Range { key, bounds } => Test::Range(path(key)?, *bounds),
            Condition::DatetimeRange { key, bounds } => Test::Datetime(path(key)?, *bounds),
            Condition::GeoRadius { key, center, radius_m } => {
                let (center, radius_m) = (*center, *radius_m);
                Test::Geo(path(key)?, Area::Circle { center, radius_m })
            }
            Condition::GeoBoundingBox {
                key,
                top_left,
                bottom_right,
            } => {
                let (top_left, bottom_right) = (*top_left, *bottom_right);
                Test::Geo(path(key)?, Area::Rectangle { top_left, bottom_right })
            }
            Condition::GeoPolygon {
                key,
                exterior,
                interiors,
            } => {
                let (exterior, interiors) = (exterior.clone(), interiors.clone());
                Test::Geo(path(key)?, Area::Polygon { exterior, interiors })
            }
            Condition::IsEmpty { key } => Test::Empty(path(key)?),
            Condition::IsNull { key } => Test::Null(path(key)?),
            Condition::ValuesCount { key, bounds } => Test::Count(path(key)?, *bounds),
            Condition::HasId { ids } => Test::Id(ids.iter().cloned().collect()),
            Condition::HasVector { name } => Test::Vector(name.clone()),
            Condition::Nested { key, filter } => Test::Nested(path(key)?.elements(), Group::new(filter)?),
            Condition::Filter(filter) => Test::Group(Group::new(filter)?),
        })
    }

    /// Adds the fields of the payload that it reads.
    pub fn collect_fields(&self, fields: &mut Fields) {
        match self {
            Test::Id(_) | Test::Vector(_) => {}
            Test::Group(group) => group.collect_fields(fields),
            Test::Any(path, _)
            | Test::Except(path, _)
            | Test::Text(path, _)
            | Test::Range(path, _)
            | Test::Datetime(path, _)
            | Test::Geo(path, _)
            | Test::Empty(path)
            | Test::Null(path)
            | Test::Count(path, _)
            | Test::Nested(path, _) => fields.add(path.field()),
        }
    }

    pub fn holds(&self, payload: &Value, subject: &mut dyn Subject) -> Result<bool, ReadError> {
        Ok(match self {
            Test::Any(path, scalars) => any_element(path, payload, |value| scalars.contain(value)),
            Test::Except(path, scalars) => {
                any_element(path, payload, |value| !value.is_null() && !scalars.contain(value))
            }
            Test::Text(path, words) => any_element(path, payload, |value| words.occur_in(value)),
            Test::Range(path, bounds) => any_element(path, payload, |value| {
                value.as_f64().is_some_and(|number| bounds.contains(number))
            }),
            Test::Datetime(path, bounds) => any_element(path, payload, |value| {
                let instant = value.as_str().and_then(granum_model::datetime::parse_micros);
                instant.is_some_and(|micros| bounds.contains(micros))
            }),
            Test::Geo(path, area) => any_element(path, payload, |value| {
                geo::point(value).is_some_and(|point| area.contains(point))
            }),
            Test::Empty(path) => !path.any(payload, &mut |value| !value::is_empty(value)),
            Test::Null(path) => any_element(path, payload, Value::is_null),
            Test::Count(path, bounds) => {
                let mut found = false;
                let held = path.any(payload, &mut |value| {
                    found = true;
                    bounds.contains(value::count(value))
                });
                held || (!found && bounds.contains(0))
            }
            Test::Id(ids) => ids.contains(&subject.id()?),
            Test::Vector(name) => subject.has_vector(name),
            Test::Nested(path, group) => {
                let mut outcome = Ok(false);
                path.any(payload, &mut |element| {
                    if element.is_object() {
                        outcome = group.holds(element, subject);
                    }
                    !matches!(outcome, Ok(false))
                });
                outcome?
            }
            Test::Group(group) => group.holds(payload, subject)?,
        })
    }
}

/// Whether `holds` does for a value at the path or, where that is a list, for one of its elements.
fn any_element(path: &Path, payload: &Value, holds: impl Fn(&Value) -> bool) -> bool {
    path.any(payload, &mut |value| match value {
        Value::Array(elements) => elements.iter().any(&holds),
        value => holds(value),
    })
}
