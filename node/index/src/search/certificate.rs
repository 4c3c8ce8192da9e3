//! Is an answer certified, and with which probability does that err?
//!
//! A row that is scored in full can't be missed. A row that is scanned by its code is missed only if its score lies outside of
//! its bound. The error of a code is that of a direction chosen at random by the rotation: beyond `d` standard deviations, to
//! either side, lies at most `2 exp(-d^2 / 2)` of it. So with bounds so wide that this, summed over all rows that are scanned,
//! is [`DELTA`], all of them hold with a probability of 1 - `DELTA`; then the scan names every row that may be among the k best,
//! and reading those gives exact hits, scores and order.
//!
//! A walk certifies nothing, since it can't speak of rows that it has not met; nor does Manhattan, whose codes have no bound;
//! nor does a scan with the bounds that are usual, 2.5 deviations, of which a hit lies outside now and then.

use granum_model::{Distance, VectorField};

use crate::coarse::estimate::DEVIATIONS;
use crate::query::Query;
use crate::recent::CHUNK_ROWS;
use crate::view::{Part, View};

/// Probability that a certified answer of one view is not exact.
const DELTA: f64 = 1e-3;

/// What can be said of an answer so far.
pub(super) struct Certificate {
    is_wanted: bool,
    deviations: f32,
    /// `None`: nothing.
    delta: Option<f64>,
    has_walked: bool,
}

impl Certificate {
    pub fn new(view: &View, query: &Query, field: &VectorField) -> Certificate {
        let has_bounds = field.distance != Distance::Manhattan;
        let is_wanted = query.params.certified && has_bounds;
        let rows = view.parts().map(|(_, part)| match part {
            Part::Memory(recent) => (recent.coded(&field.name).0.len() * CHUNK_ROWS) as u64,
            Part::Disk(live) => live.segment.vector(&field.name).map_or(0, |file| file.places()),
        });
        Certificate {
            is_wanted,
            deviations: match is_wanted {
                true => deviations(rows.sum()),
                false => DEVIATIONS,
            },
            delta: has_bounds.then_some(0.0),
            has_walked: false,
        }
    }

    /// Whether the query asks for one that it can have.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Standard deviations that bounds of codes must reach.
    pub fn deviations(&self) -> f32 {
        self.deviations
    }

    /// Rows were left out by the bounds of their codes.
    pub fn scanned(&mut self) {
        self.delta = self.delta.filter(|_| self.is_wanted).map(|_| DELTA);
    }

    /// Rows were left out unseen.
    pub fn walked(&mut self) {
        self.delta = None;
        self.has_walked = true;
    }

    /// See [`Found::walked`](crate::query::Found::walked).
    pub fn has_walked(&self) -> bool {
        self.has_walked
    }

    /// See [`Found::delta`](crate::query::Found::delta).
    pub fn delta(&self) -> Option<f64> {
        self.delta
    }
}

/// How wide bounds must be for all of `rows` to hold but with a probability of [`DELTA`].
fn deviations(rows: u64) -> f32 {
    (2.0 * (2.0 * rows.max(1) as f64 / DELTA).ln()).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_all_rows_hold_together() {
        for rows in [1, 63_436, 1_000_000_000] {
            let outside = |deviations: f64| 2.0 * rows as f64 * (-deviations * deviations / 2.0).exp();
            let deviations = f64::from(deviations(rows));
            assert!(outside(deviations) < DELTA * 1.0001, "{rows}");
            assert!(outside(deviations - 0.01) > DELTA, "{rows}: no wider than need be");
        }
    }
}
