//! Filters on the wire: depth, number of conditions, lists and paths are bounded here, once, for every way in.

use granum_model::filter::{Bounds, FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FILTER_LIST_MAX};
use granum_model::{Condition, Filter, Scalar, datetime};

use crate::convert::{geo, id};
use crate::limits::{self, Invalid};
use crate::v1;
use v1::condition::Kind;

/// Reads a filter; absent or empty means everything.
pub fn read(filter: Option<&v1::Filter>) -> Result<Filter, Invalid> {
    let mut reader = Reader { conditions: 0 };
    match filter {
        None => Ok(Filter::default()),
        Some(filter) => reader.filter(filter, 1).map_err(|error| error.within("filter")),
    }
}

/// Counts as it descends.
struct Reader {
    conditions: usize,
}

impl Reader {
    fn filter(&mut self, filter: &v1::Filter, depth: usize) -> Result<Filter, Invalid> {
        limits::at_most("", depth, FILTER_DEPTH_MAX, "levels")?;
        let min_should = filter.min_should;
        if min_should as usize > filter.should.len() {
            let problem = format!("{min_should} of {} conditions", filter.should.len());
            return Err(Invalid::new("min_should", problem));
        }
        Ok(Filter {
            must: self.list("must", &filter.must, depth)?,
            should: self.list("should", &filter.should, depth)?,
            must_not: self.list("must_not", &filter.must_not, depth)?,
            min_should,
        })
    }

    fn list(&mut self, name: &str, list: &[v1::Condition], depth: usize) -> Result<Vec<Condition>, Invalid> {
        self.conditions += list.len();
        limits::at_most(name, self.conditions, FILTER_CONDITIONS_MAX, "conditions")?;
        let read = |(at, condition)| {
            self.condition(condition, depth)
                .map_err(|error: Invalid| error.within(&format!("{name}[{at}]")))
        };
        list.iter().enumerate().map(read).collect()
    }

    fn condition(&mut self, condition: &v1::Condition, depth: usize) -> Result<Condition, Invalid> {
        match condition.kind.as_ref().ok_or_else(|| Invalid::new("", "missing"))? {
            Kind::Match(wanted) => read_match(wanted),
            Kind::Range(range) => read_range(range),
            Kind::Filter(filter) => Ok(Condition::Filter(self.filter(filter, depth + 1)?)),
            Kind::Nested(nested) => {
                let none = v1::Filter::default();
                let filter = self.filter(nested.filter.as_ref().unwrap_or(&none), depth + 1)?;
                Ok(Condition::Nested {
                    key: key(&nested.key)?,
                    filter,
                })
            }
            Kind::HasId(wanted) => {
                limits::at_most("has_id", wanted.ids.len(), FILTER_LIST_MAX, "ids")?;
                let ids = wanted
                    .ids
                    .iter()
                    .map(|wanted| id::read(Some(wanted)))
                    .collect::<Result<_, _>>()?;
                Ok(Condition::HasId { ids })
            }
            Kind::GeoRadius(radius) => geo::read_radius(key(&radius.key)?, radius),
            Kind::GeoBoundingBox(corners) => geo::read_box(key(&corners.key)?, corners),
            Kind::GeoPolygon(polygon) => geo::read_polygon(key(&polygon.key)?, polygon),
            Kind::IsEmpty(path) => Ok(Condition::IsEmpty { key: key(path)? }),
            Kind::IsNull(path) => Ok(Condition::IsNull { key: key(path)? }),
            Kind::ValuesCount(count) => {
                let bounds = Bounds {
                    gt: count.gt,
                    gte: count.gte,
                    lt: count.lt,
                    lte: count.lte,
                };
                Ok(Condition::ValuesCount {
                    key: key(&count.key)?,
                    bounds,
                })
            }
            Kind::HasVector(wanted) => Ok(Condition::HasVector {
                name: wanted.name.clone(),
            }),
        }
    }
}

fn key(path: &str) -> Result<String, Invalid> {
    limits::at_most("key", path.len(), limits::KEY_BYTES_MAX, "bytes")?;
    if path.is_empty() {
        return Err(Invalid::new("key", "must not be empty"));
    }
    Ok(path.to_owned())
}

fn read_match(wanted: &v1::Match) -> Result<Condition, Invalid> {
    let key = key(&wanted.key)?;
    match (wanted.any.is_empty(), wanted.except.is_empty(), wanted.text.is_empty()) {
        (_, true, true) => Ok(Condition::MatchAny {
            key,
            any: scalars("any", &wanted.any)?,
        }),
        (true, false, true) => Ok(Condition::MatchExcept {
            key,
            except: scalars("except", &wanted.except)?,
        }),
        (true, true, false) => Ok(Condition::MatchText {
            key,
            text: wanted.text.clone(),
        }),
        _ => Err(Invalid::new("match", "only one of any, except and text may be set")),
    }
}

fn scalars(name: &str, list: &[v1::Scalar]) -> Result<Vec<Scalar>, Invalid> {
    use v1::scalar::Kind;
    limits::at_most(name, list.len(), FILTER_LIST_MAX, "values")?;
    let read = |(at, scalar): (usize, &v1::Scalar)| match scalar.kind.as_ref() {
        None => Err(Invalid::new(format!("{name}[{at}]"), "missing")),
        Some(Kind::Text(text)) => Ok(Scalar::Text(text.clone())),
        Some(Kind::Integer(integer)) => Ok(Scalar::Integer(*integer)),
        Some(Kind::Boolean(boolean)) => Ok(Scalar::Boolean(*boolean)),
        Some(Kind::Float(float)) if float.is_finite() => Ok(Scalar::Float(*float)),
        Some(Kind::Float(float)) => Err(Invalid::new(
            format!("{name}[{at}]"),
            format!("{float}, must be finite"),
        )),
    };
    list.iter().enumerate().map(read).collect()
}

fn read_range(range: &v1::Range) -> Result<Condition, Invalid> {
    let key = key(&range.key)?;
    let numbers = Bounds {
        gt: range.gt,
        gte: range.gte,
        lt: range.lt,
        lte: range.lte,
    };
    let instant = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => datetime::parse_micros(text)
            .map(Some)
            .ok_or_else(|| Invalid::new(name, format!("{text:?} is no RFC 3339 date-time"))),
    };
    let instants = Bounds {
        gt: instant("datetime_gt", &range.datetime_gt)?,
        gte: instant("datetime_gte", &range.datetime_gte)?,
        lt: instant("datetime_lt", &range.datetime_lt)?,
        lte: instant("datetime_lte", &range.datetime_lte)?,
    };
    if [numbers.gt, numbers.gte, numbers.lt, numbers.lte]
        .iter()
        .flatten()
        .any(|bound| bound.is_nan())
    {
        return Err(Invalid::new("range", "a bound is not a number"));
    }
    match (numbers == Bounds::default(), instants == Bounds::default()) {
        (_, true) => Ok(Condition::Range { key, bounds: numbers }),
        (true, false) => Ok(Condition::DatetimeRange { key, bounds: instants }),
        (false, false) => Err(Invalid::new("range", "bounds are numbers or date-times, not both")),
    }
}

/// The filter on the wire. Date-time bounds travel as RFC 3339 text in UTC.
pub fn write(filter: &Filter) -> v1::Filter {
    let list = |conditions: &[Condition]| conditions.iter().map(write_condition).collect();
    v1::Filter {
        must: list(&filter.must),
        should: list(&filter.should),
        must_not: list(&filter.must_not),
        min_should: filter.min_should,
    }
}

fn write_condition(condition: &Condition) -> v1::Condition {
    let matching = |key: &String, any: &[Scalar], except: &[Scalar], text: &str| {
        Kind::Match(v1::Match {
            key: key.clone(),
            any: any.iter().map(write_scalar).collect(),
            except: except.iter().map(write_scalar).collect(),
            text: text.to_owned(),
        })
    };
    let kind = match condition {
        Condition::MatchAny { key, any } => matching(key, any, &[], ""),
        Condition::MatchExcept { key, except } => matching(key, &[], except, ""),
        Condition::MatchText { key, text } => matching(key, &[], &[], text),
        Condition::Range {
            key,
            bounds: Bounds { gt, gte, lt, lte },
        } => Kind::Range(v1::Range {
            key: key.clone(),
            gt: *gt,
            gte: *gte,
            lt: *lt,
            lte: *lte,
            ..Default::default()
        }),
        Condition::DatetimeRange { key, bounds } => Kind::Range(v1::Range {
            key: key.clone(),
            datetime_gt: bounds.gt.map(datetime::format_micros),
            datetime_gte: bounds.gte.map(datetime::format_micros),
            datetime_lt: bounds.lt.map(datetime::format_micros),
            datetime_lte: bounds.lte.map(datetime::format_micros),
            ..Default::default()
        }),
        Condition::GeoRadius { key, center, radius_m } => geo::write_radius(key, *center, *radius_m),
        Condition::GeoBoundingBox {
            key,
            top_left,
            bottom_right,
        } => geo::write_box(key, *top_left, *bottom_right),
        Condition::GeoPolygon {
            key,
            exterior,
            interiors,
        } => geo::write_polygon(key, exterior, interiors),
        Condition::IsEmpty { key } => Kind::IsEmpty(key.clone()),
        Condition::IsNull { key } => Kind::IsNull(key.clone()),
        Condition::ValuesCount {
            key,
            bounds: Bounds { gt, gte, lt, lte },
        } => Kind::ValuesCount(v1::ValuesCount {
            key: key.clone(),
            gt: *gt,
            gte: *gte,
            lt: *lt,
            lte: *lte,
        }),
        Condition::HasId { ids } => Kind::HasId(v1::HasId {
            ids: ids.iter().map(id::write).collect(),
        }),
        Condition::HasVector { name } => Kind::HasVector(v1::HasVector { name: name.clone() }),
        Condition::Nested { key, filter } => Kind::Nested(v1::Nested {
            key: key.clone(),
            filter: Some(write(filter)),
        }),
        Condition::Filter(filter) => Kind::Filter(write(filter)),
    };
    v1::Condition { kind: Some(kind) }
}

fn write_scalar(scalar: &Scalar) -> v1::Scalar {
    use v1::scalar::Kind;
    let kind = match scalar {
        Scalar::Text(text) => Kind::Text(text.clone()),
        Scalar::Integer(integer) => Kind::Integer(*integer),
        Scalar::Boolean(boolean) => Kind::Boolean(*boolean),
        Scalar::Float(float) => Kind::Float(*float),
    };
    v1::Scalar { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use granum_model::filter::GeoPoint;

    #[test]
    fn filters_read_back() {
        let place = |lat, lon| GeoPoint { lat, lon };
        let triangle = vec![place(0.0, 0.0), place(0.0, 1.0), place(1.0, 0.0), place(0.0, 0.0)];
        let filter = Filter {
            must: vec![
                Condition::MatchAny {
                    key: "section".into(),
                    any: vec![Scalar::Text("games".into()), Scalar::Integer(-1)],
                },
                Condition::Range {
                    key: "size".into(),
                    bounds: Bounds {
                        gte: Some(1.5),
                        ..Default::default()
                    },
                },
                Condition::DatetimeRange {
                    key: "seen".into(),
                    bounds: Bounds {
                        lt: Some(-1_234_567),
                        gt: Some(i64::from(u32::MAX) * 1_000_001),
                        ..Default::default()
                    },
                },
            ],
            should: vec![
                Condition::HasId {
                    ids: vec![granum_model::DocId::Number(7)],
                },
                Condition::IsNull { key: "a".into() },
                Condition::GeoRadius {
                    key: "place".into(),
                    center: place(52.5, 13.4),
                    radius_m: 1000.5,
                },
                Condition::GeoBoundingBox {
                    key: "place".into(),
                    top_left: place(10.0, 170.0),
                    bottom_right: place(-10.0, -170.0),
                },
                Condition::GeoPolygon {
                    key: "place".into(),
                    exterior: triangle.clone(),
                    interiors: vec![triangle],
                },
            ],
            must_not: vec![Condition::Nested {
                key: "parts[]".into(),
                filter: Filter {
                    must: vec![Condition::HasVector { name: "t".into() }],
                    ..Default::default()
                },
            }],
            min_should: 2,
        };
        assert_eq!(read(Some(&write(&filter))).unwrap(), filter);
    }

    #[test]
    fn depth_and_size_are_bounded_by_name() {
        let mut deep = Filter::default();
        for _ in 0..FILTER_DEPTH_MAX - 1 {
            deep = Filter {
                must: vec![Condition::Filter(deep)],
                ..Default::default()
            };
        }
        assert!(read(Some(&write(&deep))).is_ok());
        let deeper = Filter {
            must: vec![Condition::Filter(deep)],
            ..Default::default()
        };
        let error = read(Some(&write(&deeper))).unwrap_err().to_string();
        assert!(error.contains("17 levels, at most 16"), "{error}");
        let wide = Filter {
            should: vec![Condition::IsNull { key: "a".into() }; 257],
            ..Default::default()
        };
        let error = read(Some(&write(&wide))).unwrap_err().to_string();
        assert_eq!(error, "filter.should: 257 conditions, at most 256");
    }
}
