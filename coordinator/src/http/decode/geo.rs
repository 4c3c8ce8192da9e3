//! Conditions on places on earth, in Qdrant's spelling. Degrees, radii and rings are checked where the message is read.

use granum_proto::limits::Invalid;
use granum_proto::v1;

use crate::http::json::Node;

/// `{"center": {"lat": .., "lon": ..}, "radius": metres}`
pub fn radius(key: String, node: &Node<'_>) -> Result<v1::GeoRadius, Invalid> {
    let object = node.object(&["center", "radius"])?;
    Ok(v1::GeoRadius {
        key,
        center: Some(point(&object.want("center")?)?),
        radius_m: object.want("radius")?.number()?,
    })
}

/// `{"top_left": {..}, "bottom_right": {..}}`
pub fn bounding_box(key: String, node: &Node<'_>) -> Result<v1::GeoBoundingBox, Invalid> {
    let object = node.object(&["top_left", "bottom_right"])?;
    Ok(v1::GeoBoundingBox {
        key,
        top_left: Some(point(&object.want("top_left")?)?),
        bottom_right: Some(point(&object.want("bottom_right")?)?),
    })
}

/// `{"exterior": {"points": [..]}, "interiors": [{"points": [..]}, ..]}`
pub fn polygon(key: String, node: &Node<'_>) -> Result<v1::GeoPolygon, Invalid> {
    let object = node.object(&["exterior", "interiors"])?;
    let interiors = match object.get("interiors") {
        Some(rings) => rings.list()?.map(|one| ring(&one)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Ok(v1::GeoPolygon {
        key,
        exterior: Some(ring(&object.want("exterior")?)?),
        interiors,
    })
}

fn ring(node: &Node<'_>) -> Result<v1::GeoRing, Invalid> {
    let points = node.object(&["points"])?.want("points")?;
    let points = points.list()?.map(|one| point(&one)).collect::<Result<_, _>>()?;
    Ok(v1::GeoRing { points })
}

fn point(node: &Node<'_>) -> Result<v1::GeoPoint, Invalid> {
    let object = node.object(&["lat", "lon"])?;
    Ok(v1::GeoPoint {
        lat: object.want("lat")?.number()?,
        lon: object.want("lon")?.number()?,
    })
}
