//! How factors lie in memory, so that what is read together lies in one line of the cache.
//!
//! *Terms* are read with each code: the scale, then the norm for Euclid or the offset of products about a centroid. *Bounds* are
//! read of candidates: the error, then the norm where it is no term.

use super::quantize::{Factors, Quantizer};
use crate::simd::Beside;

/// Where each factor of a place is, in two tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// What stands beside the scale.
    pub beside: Beside,
}

impl Layout {
    /// For the codes of a quantizer.
    pub fn of(quantizer: &Quantizer) -> Layout {
        let beside = match (quantizer.has_lengths(), quantizer.has_offsets()) {
            (true, _) => Beside::Norm,
            (false, true) => Beside::Offset,
            (false, false) => Beside::Nothing,
        };
        Layout { beside }
    }

    /// Bounds of a place.
    pub fn bounds(self) -> usize {
        match self.beside {
            Beside::Norm => 1,
            Beside::Nothing | Beside::Offset => 2,
        }
    }

    /// Appends a place.
    pub fn push(self, factors: Factors, terms: &mut Vec<f32>, bounds: &mut Vec<f32>) {
        terms.push(factors.scale);
        bounds.push(factors.error);
        match self.beside {
            Beside::Nothing => bounds.push(factors.norm),
            Beside::Norm => terms.push(factors.norm),
            Beside::Offset => {
                terms.push(factors.offset);
                bounds.push(factors.norm);
            }
        }
    }

    /// The factors of a place.
    pub fn read(self, terms: &[f32], bounds: &[f32], place: usize) -> Factors {
        let terms = &terms[place * self.beside.terms()..][..self.beside.terms()];
        let bounds = &bounds[place * self.bounds()..][..self.bounds()];
        let (norm, offset) = match self.beside {
            Beside::Nothing => (bounds[1], 0.0),
            Beside::Norm => (terms[1], 0.0),
            Beside::Offset => (bounds[1], terms[1]),
        };
        Factors {
            scale: terms[0],
            norm,
            error: bounds[0],
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_come_back() {
        for beside in [Beside::Nothing, Beside::Norm, Beside::Offset] {
            let layout = Layout { beside };
            let (mut terms, mut bounds) = (Vec::new(), Vec::new());
            let factors = |place: usize| Factors {
                scale: place as f32,
                norm: place as f32 + 0.25,
                error: place as f32 + 0.5,
                offset: if beside == Beside::Offset { -1.0 } else { 0.0 },
            };
            (0..5).for_each(|place| layout.push(factors(place), &mut terms, &mut bounds));
            assert_eq!((terms.len(), bounds.len()), (5 * beside.terms(), 5 * layout.bounds()));
            assert!((0..5).all(|place| layout.read(&terms, &bounds, place) == factors(place)));
        }
    }
}
