//! Conditions on places on earth, on the wire.

use granum_model::Condition;
use granum_model::filter::{FILTER_LIST_MAX, GeoPoint};

use crate::limits::{self, Invalid};
use crate::v1;
use v1::condition::Kind;

/// Fewest points of a closed ring: a triangle, its first point repeated.
const RING_POINTS_MIN: usize = 4;

pub(super) fn read_radius(key: String, radius: &v1::GeoRadius) -> Result<Condition, Invalid> {
    let radius_m = radius.radius_m;
    if !radius_m.is_finite() || radius_m < 0.0 {
        return Err(Invalid::new(
            "radius_m",
            format!("{radius_m}, must be finite and not below 0"),
        ));
    }
    let center = read_point("center", radius.center.as_ref())?;
    Ok(Condition::GeoRadius { key, center, radius_m })
}

pub(super) fn read_box(key: String, corners: &v1::GeoBoundingBox) -> Result<Condition, Invalid> {
    Ok(Condition::GeoBoundingBox {
        key,
        top_left: read_point("top_left", corners.top_left.as_ref())?,
        bottom_right: read_point("bottom_right", corners.bottom_right.as_ref())?,
    })
}

pub(super) fn read_polygon(key: String, polygon: &v1::GeoPolygon) -> Result<Condition, Invalid> {
    let rings = polygon.exterior.iter().chain(&polygon.interiors);
    let points = rings.map(|ring| ring.points.len()).sum();
    limits::at_most("geo_polygon", points, FILTER_LIST_MAX, "points")?;
    let none = v1::GeoRing::default();
    let exterior = read_ring("exterior", polygon.exterior.as_ref().unwrap_or(&none))?;
    let interiors = polygon.interiors.iter().enumerate();
    let interiors = interiors
        .map(|(at, ring)| read_ring(&format!("interiors[{at}]"), ring))
        .collect::<Result<_, _>>()?;
    Ok(Condition::GeoPolygon {
        key,
        exterior,
        interiors,
    })
}

fn read_ring(name: &str, ring: &v1::GeoRing) -> Result<Vec<GeoPoint>, Invalid> {
    let points = ring.points.iter().enumerate();
    let points: Vec<GeoPoint> = points
        .map(|(at, point)| read_point(&format!("{name}.points[{at}]"), Some(point)))
        .collect::<Result<_, _>>()?;
    if points.len() < RING_POINTS_MIN || points.first() != points.last() {
        let problem = format!(
            "{} points; at least {RING_POINTS_MIN}, the last equal to the first",
            points.len()
        );
        return Err(Invalid::new(name, problem));
    }
    Ok(points)
}

fn read_point(name: &str, point: Option<&v1::GeoPoint>) -> Result<GeoPoint, Invalid> {
    let point = point.ok_or_else(|| Invalid::new(name, "missing"))?;
    GeoPoint::new(point.lat, point.lon).ok_or_else(|| {
        let problem = format!("lat {}, lon {}: must be -90..=90 and -180..=180", point.lat, point.lon);
        Invalid::new(name, problem)
    })
}

pub(super) fn write_radius(key: &str, center: GeoPoint, radius_m: f64) -> Kind {
    Kind::GeoRadius(v1::GeoRadius {
        key: key.to_owned(),
        center: Some(write_point(&center)),
        radius_m,
    })
}

pub(super) fn write_box(key: &str, top_left: GeoPoint, bottom_right: GeoPoint) -> Kind {
    Kind::GeoBoundingBox(v1::GeoBoundingBox {
        key: key.to_owned(),
        top_left: Some(write_point(&top_left)),
        bottom_right: Some(write_point(&bottom_right)),
    })
}

pub(super) fn write_polygon(key: &str, exterior: &[GeoPoint], interiors: &[Vec<GeoPoint>]) -> Kind {
    let ring = |points: &[GeoPoint]| v1::GeoRing {
        points: points.iter().map(write_point).collect(),
    };
    Kind::GeoPolygon(v1::GeoPolygon {
        key: key.to_owned(),
        exterior: Some(ring(exterior)),
        interiors: interiors.iter().map(|interior| ring(interior)).collect(),
    })
}

fn write_point(point: &GeoPoint) -> v1::GeoPoint {
    v1::GeoPoint {
        lat: point.lat,
        lon: point.lon,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(lat: f64, lon: f64) -> v1::GeoPoint {
        v1::GeoPoint { lat, lon }
    }

    #[track_caller]
    fn refused(result: Result<Condition, Invalid>, message: &str) {
        assert_eq!(result.unwrap_err().to_string(), message);
    }

    #[test]
    fn what_is_no_place_is_refused_by_name() {
        let radius = |center, radius_m| {
            read_radius(
                "k".into(),
                &v1::GeoRadius {
                    key: "k".into(),
                    center,
                    radius_m,
                },
            )
        };
        refused(radius(None, 1.0), "center: missing");
        refused(
            radius(Some(point(91.0, 0.0)), 1.0),
            "center: lat 91, lon 0: must be -90..=90 and -180..=180",
        );
        refused(
            radius(Some(point(0.0, 0.0)), -1.0),
            "radius_m: -1, must be finite and not below 0",
        );
        let ring = |points: &[v1::GeoPoint]| v1::GeoRing {
            points: points.to_vec(),
        };
        let polygon = |exterior, interiors| {
            read_polygon(
                "k".into(),
                &v1::GeoPolygon {
                    key: "k".into(),
                    exterior,
                    interiors,
                },
            )
        };
        let triangle = ring(&[point(0.0, 0.0), point(0.0, 1.0), point(1.0, 0.0), point(0.0, 0.0)]);
        assert!(polygon(Some(triangle.clone()), vec![triangle.clone()]).is_ok());
        refused(
            polygon(None, Vec::new()),
            "exterior: 0 points; at least 4, the last equal to the first",
        );
        let open = ring(&triangle.points[..3]);
        refused(
            polygon(Some(triangle.clone()), vec![open]),
            "interiors[0]: 3 points; at least 4, the last equal to the first",
        );
        let many = ring(&vec![point(0.0, 0.0); FILTER_LIST_MAX + 1]);
        refused(
            polygon(Some(many), Vec::new()),
            "geo_polygon: 10001 points, at most 10000",
        );
    }
}
