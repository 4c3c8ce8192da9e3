//! Which documents are wanted: conditions over a document's payload, id and vectors, combined by must, should, must_not.
//!
//! The meaning is Qdrant's documented one: a list matches when one of its elements does; a missing field satisfies
//! nothing but `is_empty` (and the `must_not` of anything). Evaluation lives in `granum-index`.

use crate::ids::DocId;

/// Deepest nesting of filters.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Most conditions in one filter, nested ones counted.
pub const FILTER_CONDITIONS_MAX: usize = 256;
/// Most values in one list of a condition, points of a polygon included.
pub const FILTER_LIST_MAX: usize = 10_000;

/// Most keys in a path.
const PATH_KEYS_MAX: usize = 32;

/// All of `must`, none of `must_not` and, if `should` is not empty, at least `min_should` of it. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Each of these holds.
    pub must: Vec<Condition>,
    /// At least `min_should` of these hold, where there are any.
    pub should: Vec<Condition>,
    /// None of these holds.
    pub must_not: Vec<Condition>,
    /// 0 means 1.
    pub min_should: u32,
}

impl Filter {
    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.must.is_empty() && self.should.is_empty() && self.must_not.is_empty()
    }
}

/// Whether a text is a path of a field: keys joined by dots, each followed by any number of `[]` or `[2]`; a key in double
/// quotes may hold anything but those. The index reads paths by the same rules, and tests that it does.
pub fn is_path(text: &str) -> bool {
    let mut rest = text;
    for _ in 0..PATH_KEYS_MAX {
        let after = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').filter(|(key, _)| !key.is_empty()),
            None => {
                let (key, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
                (!key.is_empty() && !key.contains([']', '"'])).then_some((key, after))
            }
        };
        let Some((_, after)) = after else {
            return false;
        };
        rest = after;
        while let Some(inside) = rest.strip_prefix('[') {
            match inside.split_once(']') {
                Some((index, after)) if index.is_empty() || index.parse::<usize>().is_ok() => rest = after,
                _ => return false,
            }
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => return rest.is_empty(),
        }
    }
    false
}

/// One condition. `key` is a path: `a.b` descends, `a[].b` descends through a list's elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The value equals one of `any`.
    MatchAny {
        /// Path of the field.
        key: String,
        /// Values of which one must be met.
        any: Vec<Scalar>,
    },
    /// A value is present that equals none of `except`.
    MatchExcept {
        /// Path of the field.
        key: String,
        /// Values that don't count.
        except: Vec<Scalar>,
    },
    /// Every word of `text` occurs in a string value; words are runs of letters and digits, case folded, and each Chinese
    /// ideograph or Japanese kana is a word of itself.
    MatchText {
        /// Path of the field.
        key: String,
        /// Words wanted.
        text: String,
    },
    /// A number within bounds; absent bounds don't bound.
    Range {
        /// Path of the field.
        key: String,
        /// The bounds.
        bounds: Bounds<f64>,
    },
    /// A date-time (RFC 3339 text in the payload) within bounds given as microseconds since 1970-01-01T00:00Z.
    DatetimeRange {
        /// Path of the field.
        key: String,
        /// The bounds, microseconds.
        bounds: Bounds<i64>,
    },
    /// A point (an object of `lat` and `lon`) nearer to `center` than `radius_m`, along the surface of a sphere of the
    /// earth's mean radius.
    GeoRadius {
        /// Path of the field.
        key: String,
        /// Centre of the circle.
        center: GeoPoint,
        /// Metres.
        radius_m: f64,
    },
    /// A point inside the rectangle, borders excluded; one whose left is east of its right crosses the 180th meridian.
    GeoBoundingBox {
        /// Path of the field.
        key: String,
        /// North-western corner.
        top_left: GeoPoint,
        /// South-eastern corner.
        bottom_right: GeoPoint,
    },
    /// A point inside the polygon and outside of its holes, borders excluded, edges straight in degrees.
    GeoPolygon {
        /// Path of the field.
        key: String,
        /// A closed ring: the last point is the first.
        exterior: Vec<GeoPoint>,
        /// Holes, closed rings each.
        interiors: Vec<Vec<GeoPoint>>,
    },
    /// Absent, null or an empty list.
    IsEmpty {
        /// Path of the field.
        key: String,
    },
    /// Present and null.
    IsNull {
        /// Path of the field.
        key: String,
    },
    /// Number of values at the path: absent 0, scalar 1, list its length.
    ValuesCount {
        /// Path of the field.
        key: String,
        /// Bounds of the count.
        bounds: Bounds<u64>,
    },
    /// The document has one of these ids.
    HasId {
        /// The ids.
        ids: Vec<DocId>,
    },
    /// The document has a vector of this name.
    HasVector {
        /// Name of the vector.
        name: String,
    },
    /// One and the same element of the list of objects at `key` satisfies all of `filter`.
    Nested {
        /// Path of the list of objects.
        key: String,
        /// What an element must satisfy; paths are relative to it.
        filter: Filter,
    },
    /// A filter as a condition.
    Filter(Filter),
}

/// A place on earth.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct GeoPoint {
    /// Latitude in degrees, -90..=90.
    pub lat: f64,
    /// Longitude in degrees, -180..=180.
    pub lon: f64,
}

impl GeoPoint {
    /// `None` for what is no place on earth.
    pub fn new(lat: f64, lon: f64) -> Option<GeoPoint> {
        let is_place = (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon);
        is_place.then_some(GeoPoint { lat, lon })
    }
}

/// Bounds of a range; `None` doesn't bound.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Bounds<T> {
    /// Greater than.
    pub gt: Option<T>,
    /// Greater than or equal.
    pub gte: Option<T>,
    /// Less than.
    pub lt: Option<T>,
    /// Less than or equal.
    pub lte: Option<T>,
}

impl<T: PartialOrd + Copy> Bounds<T> {
    /// Whether `value` lies within.
    pub fn contains(&self, value: T) -> bool {
        self.gt.is_none_or(|bound| value > bound)
            && self.gte.is_none_or(|bound| value >= bound)
            && self.lt.is_none_or(|bound| value < bound)
            && self.lte.is_none_or(|bound| value <= bound)
    }
}

/// A value to compare with.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Text, compared byte for byte.
    Text(String),
    /// A whole number; equals a float of the same value.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// A finite number.
    Float(f64),
}
