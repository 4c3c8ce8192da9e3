//! Points on earth in the order of their latitude: an area's points lie between its latitudes, and each is asked exactly.
//!
//! Sections: 2 latitude and longitude, f64 both, in degrees, ascending · 3 rows, u32 each.

use granum_model::filter::GeoPoint;
use roaring::RoaringBitmap;

use super::Column;
use crate::bytes::{field, u32_at};
use crate::error::ReadError;
use crate::filter::geo::Area;
use crate::fine::PagedFile;

const POINTS: usize = 2;
const ROWS: usize = 3;
/// Bytes of a point.
const POINT_BYTES: u64 = 16;

pub(super) fn is_whole(file: &PagedFile) -> bool {
    let bytes = file.section_bytes(POINTS);
    bytes.is_multiple_of(POINT_BYTES) && file.section_bytes(ROWS) == bytes / POINT_BYTES * 4
}

impl Column {
    /// Rows with a point inside.
    pub(super) fn rows_inside(&self, area: &Area) -> Result<RoaringBitmap, ReadError> {
        let (least, greatest) = area.latitudes();
        let mut rows = RoaringBitmap::new();
        for at in self.first_from(least)?..self.points() {
            let point = self.point(at)?;
            if point.lat > greatest {
                break;
            }
            if area.contains(point) {
                rows.insert(self.row_of_point(at)?);
            }
        }
        Ok(rows)
    }

    /// Checks order and rows.
    pub(super) fn check_points(&self) -> Result<(), ReadError> {
        let mut before = f64::NEG_INFINITY;
        for at in 0..self.points() {
            let point = self.point(at)?;
            self.row_of_point(at)?;
            if point.lat < before || GeoPoint::new(point.lat, point.lon).is_none() {
                return Err(self
                    .file
                    .malformed(format!("point {at} is out of order or no place on earth")));
            }
            before = point.lat;
        }
        Ok(())
    }

    fn points(&self) -> u64 {
        self.file.section_bytes(POINTS) / POINT_BYTES
    }

    fn point(&self, at: u64) -> Result<GeoPoint, ReadError> {
        let bytes = self.file.bytes(POINTS, at * POINT_BYTES..(at + 1) * POINT_BYTES)?;
        Ok(GeoPoint {
            lat: f64::from_le_bytes(field(bytes, 0)),
            lon: f64::from_le_bytes(field(bytes, 8)),
        })
    }

    fn row_of_point(&self, at: u64) -> Result<u32, ReadError> {
        let row = u32_at(self.file.bytes(ROWS, at * 4..at * 4 + 4)?, 0);
        row.filter(|row| *row < self.rows())
            .ok_or_else(|| self.file.malformed("a row that the segment does not have"))
    }

    /// Number of points south of a latitude.
    fn first_from(&self, latitude: f64) -> Result<u64, ReadError> {
        let (mut low, mut high) = (0, self.points());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.point(middle)?.lat < latitude {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}
