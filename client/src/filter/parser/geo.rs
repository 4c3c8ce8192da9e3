//! Places on earth: `circle(field, lat, lon, metres)`, `box(field, north, west, south, east)`, `polygon(field, ring, ...)`.

use granum_model::Condition;
use granum_model::filter::GeoPoint;

use super::{Kind, Mistake, Parser, Tree, number};

/// Fewest points of a ring: a triangle, its first point repeated.
const RING_POINTS_MIN: usize = 4;

impl Parser<'_> {
    /// The arguments of one of the three functions, whose parenthesis is taken.
    pub(super) fn area(&mut self, function: &str) -> Result<Tree, Mistake> {
        let key = self.path()?;
        self.need_sign(",")?;
        let condition = match function {
            "circle" => {
                let center = self.place()?;
                self.need_sign(",")?;
                let at = self.at();
                let radius_m = self.number()?;
                if radius_m < 0.0 {
                    return Err(Mistake::new(at, "a radius is not below 0"));
                }
                Condition::GeoRadius { key, center, radius_m }
            }
            "box" => {
                let top_left = self.place()?;
                self.need_sign(",")?;
                let bottom_right = self.place()?;
                Condition::GeoBoundingBox {
                    key,
                    top_left,
                    bottom_right,
                }
            }
            _ => {
                let exterior = self.ring()?;
                let mut interiors = Vec::new();
                while self.take_sign(",") {
                    interiors.push(self.ring()?);
                }
                Condition::GeoPolygon {
                    key,
                    exterior,
                    interiors,
                }
            }
        };
        self.need_sign(")")?;
        Ok(Tree::One(condition))
    }

    /// `ring := "(" lat "," lon { "," lat "," lon } ")"`, the last place equal to the first.
    fn ring(&mut self) -> Result<Vec<GeoPoint>, Mistake> {
        let at = self.at();
        let degrees = self.list(Self::number)?;
        let places: Option<Vec<GeoPoint>> = degrees
            .chunks(2)
            .map(|pair| GeoPoint::new(*pair.first()?, *pair.get(1)?))
            .collect();
        let places = places.ok_or_else(|| Mistake::new(at, NO_PLACE))?;
        if places.len() < RING_POINTS_MIN || places.first() != places.last() {
            let problem = format!("a ring has at least {RING_POINTS_MIN} places, the last of which is the first");
            return Err(Mistake::new(at, problem));
        }
        Ok(places)
    }

    fn place(&mut self) -> Result<GeoPoint, Mistake> {
        let at = self.at();
        let lat = self.number()?;
        self.need_sign(",")?;
        let lon = self.number()?;
        GeoPoint::new(lat, lon).ok_or_else(|| Mistake::new(at, NO_PLACE))
    }

    fn number(&mut self) -> Result<f64, Mistake> {
        let value = match self.kind() {
            Kind::Word(word) => number(word),
            _ => None,
        };
        let value = value.ok_or_else(|| self.expected("a number"))?;
        self.next += 1;
        Ok(value)
    }
}

const NO_PLACE: &str = "a place is a latitude of -90..=90 and a longitude of -180..=180, in degrees";
