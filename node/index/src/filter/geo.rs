//! Is a point inside? Circles, rectangles and polygons on earth, as Qdrant has them: borders are outside.

use granum_model::filter::GeoPoint;
use serde_json::Value;

/// Mean radius of the earth in metres (IUGG), which Qdrant computes with.
const EARTH_RADIUS_M: f64 = 6_371_008.8;
/// Widens the latitudes of a circle by more than rounding may narrow them, in degrees: about 0.1 mm.
const LATITUDE_SLACK: f64 = 1e-9;

/// A part of the earth's surface.
#[derive(Debug)]
pub(crate) enum Area {
    Circle {
        center: GeoPoint,
        radius_m: f64,
    },
    Rectangle {
        top_left: GeoPoint,
        bottom_right: GeoPoint,
    },
    Polygon {
        exterior: Vec<GeoPoint>,
        interiors: Vec<Vec<GeoPoint>>,
    },
}

impl Area {
    pub fn contains(&self, point: GeoPoint) -> bool {
        match self {
            Area::Circle { center, radius_m } => distance_m(*center, point) < *radius_m,
            Area::Rectangle { top_left, bottom_right } => {
                let (west, east) = (top_left.lon, bottom_right.lon);
                let is_between = match west > east {
                    true => point.lon > west || point.lon < east,
                    false => west < point.lon && point.lon < east,
                };
                is_between && bottom_right.lat < point.lat && point.lat < top_left.lat
            }
            Area::Polygon { exterior, interiors } => {
                side(exterior, point) == Side::Inside
                    && interiors.iter().all(|interior| side(interior, point) == Side::Outside)
            }
        }
    }

    /// Latitudes between which all of its points lie: the least and the greatest.
    pub fn latitudes(&self) -> (f64, f64) {
        match self {
            Area::Circle { center, radius_m } => {
                let reach = (radius_m / EARTH_RADIUS_M).to_degrees() * (1.0 + LATITUDE_SLACK) + LATITUDE_SLACK;
                (center.lat - reach, center.lat + reach)
            }
            Area::Rectangle { top_left, bottom_right } => (bottom_right.lat, top_left.lat),
            Area::Polygon { exterior, .. } => exterior
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), point| {
                    (least.min(point.lat), greatest.max(point.lat))
                }),
        }
    }
}

/// The point that a JSON value means: an object of numbers `lat` and `lon` in degrees.
pub(crate) fn point(value: &Value) -> Option<GeoPoint> {
    GeoPoint::new(value.get("lat")?.as_f64()?, value.get("lon")?.as_f64()?)
}

/// Haversine distance.
fn distance_m(from: GeoPoint, to: GeoPoint) -> f64 {
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let across = from.lat.to_radians().cos() * to.lat.to_radians().cos() * half(to.lon - from.lon);
    let chord = half(to.lat - from.lat) + across;
    2.0 * EARTH_RADIUS_M * chord.sqrt().min(1.0).asin()
}

#[derive(Debug, PartialEq)]
enum Side {
    Inside,
    Border,
    Outside,
}

/// Where a point lies of a closed ring: crossings of a ray to the east are counted. An open ring is closed.
fn side(ring: &[GeoPoint], point: GeoPoint) -> Side {
    let Some(last) = ring.last() else {
        return Side::Outside;
    };
    let (mut from, mut is_inside) = (*last, false);
    for &to in ring {
        let turn = (to.lon - from.lon) * (point.lat - from.lat) - (to.lat - from.lat) * (point.lon - from.lon);
        let within = |a: f64, b: f64, x: f64| a.min(b) <= x && x <= a.max(b);
        if turn == 0.0 && within(from.lat, to.lat, point.lat) && within(from.lon, to.lon, point.lon) {
            return Side::Border;
        }
        if (from.lat > point.lat) != (to.lat > point.lat) && (turn > 0.0) == (to.lat > from.lat) {
            is_inside = !is_inside;
        }
        from = to;
    }
    if is_inside { Side::Inside } else { Side::Outside }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn at(lat: f64, lon: f64) -> GeoPoint {
        GeoPoint::new(lat, lon).unwrap()
    }

    fn ring(points: &[(f64, f64)]) -> Vec<GeoPoint> {
        points.iter().map(|(lat, lon)| at(*lat, *lon)).collect()
    }

    #[test]
    fn distances_are_those_of_the_sphere() {
        let (berlin, munich) = (at(52.504043, 13.393236), at(48.137154, 11.576124));
        assert!(
            (distance_m(berlin, munich) - 502_200.0).abs() < 1_500.0,
            "{}",
            distance_m(berlin, munich)
        );
        assert_eq!(distance_m(berlin, berlin), 0.0);
        let around = distance_m(at(0.0, 0.0), at(0.0, 180.0));
        assert!((around - std::f64::consts::PI * EARTH_RADIUS_M).abs() < 1.0, "{around}");
        let near = |radius_m| Area::Circle {
            center: berlin,
            radius_m,
        };
        assert!(near(505_000.0).contains(munich) && !near(500_000.0).contains(munich));
        assert!(!near(0.0).contains(berlin), "the border is outside");
    }

    #[test]
    fn a_rectangle_may_cross_the_180th_meridian() {
        let area = |west, east| Area::Rectangle {
            top_left: at(10.0, west),
            bottom_right: at(-10.0, east),
        };
        assert!(area(-5.0, 5.0).contains(at(0.0, 0.0)) && !area(-5.0, 5.0).contains(at(0.0, 5.0)));
        assert!(!area(-5.0, 5.0).contains(at(10.0, 0.0)));
        let pacific = area(170.0, -170.0);
        assert!(pacific.contains(at(0.0, 175.0)) && pacific.contains(at(0.0, -175.0)));
        assert!(!pacific.contains(at(0.0, 0.0)));
    }

    #[test]
    fn a_polygon_has_holes_and_excludes_its_borders() {
        let square = |low: f64, high: f64| ring(&[(low, low), (low, high), (high, high), (high, low), (low, low)]);
        let area = Area::Polygon {
            exterior: square(0.0, 10.0),
            interiors: vec![square(4.0, 6.0)],
        };
        for (lat, lon, expected) in [
            (1.0, 1.0, true),
            (5.0, 5.0, false),
            (4.0, 5.0, false),
            (0.0, 5.0, false),
            (10.0, 10.0, false),
            (11.0, 5.0, false),
            (5.0, 9.999, true),
            (4.0, 2.0, true),
        ] {
            assert_eq!(area.contains(at(lat, lon)), expected, "{lat} {lon}");
        }
        assert_eq!(area.latitudes(), (0.0, 10.0));
    }

    #[test]
    fn what_is_no_point_on_earth_is_none() {
        assert_eq!(point(&json!({"lat": 1, "lon": -2.5, "name": "x"})), Some(at(1.0, -2.5)));
        for value in [
            json!({"lat": 91, "lon": 0}),
            json!({"lat": "1", "lon": 2}),
            json!({"lat": 1}),
            json!([1, 2]),
        ] {
            assert_eq!(point(&value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_inside_lies_between_the_latitudes(
            lat in -90.0f64..90.0, lon in -180.0f64..180.0, to_lat in -90.0f64..90.0, to_lon in -180.0f64..180.0,
        ) {
            let (center, point) = (at(lat, lon), at(to_lat, to_lon));
            let area = Area::Circle { center, radius_m: distance_m(center, point) * (1.0 + 1e-15) + 1e-9 };
            let (least, greatest) = area.latitudes();
            prop_assert!(area.contains(point) && least <= to_lat && to_lat <= greatest);
        }
    }
}
