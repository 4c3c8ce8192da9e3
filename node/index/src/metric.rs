//! How near are two vectors? Internal scores: finite, higher is better, the same bits in memory and on disk.
//!
//! Cosine is the dot product of vectors that the coordinator normalised; Euclid and Manhattan are negated distances.
//! Sparse vectors are compared by exact dot product, multi-vectors by MaxSim: for each query row its best match, summed.

use granum_model::{Dense, Distance, Fine, Vector, VectorField, VectorKind};

use crate::error::SearchError;
use crate::simd::{self, Kernel, Sum};

/// Scores rows of one dense format under one distance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scorer {
    kernel: Kernel,
    distance: Distance,
}

impl Scorer {
    pub fn new(distance: Distance, fine: Fine) -> Scorer {
        let sum = match distance {
            Distance::Cosine | Distance::Dot => Sum::Dot,
            Distance::Euclid => Sum::Squares,
            Distance::Manhattan => Sum::Absolutes,
        };
        Scorer {
            kernel: Kernel::new(sum, fine),
            distance,
        }
    }

    /// Score of one row, little-endian components, as many as the query has.
    #[inline]
    pub fn score(&self, query: &[f32], row: &[u8]) -> f32 {
        self.finish(self.kernel.sum(query, row))
    }

    /// Scores of the rows that lie end to end in `rows`, one place of `out` each.
    #[inline]
    pub fn scores(&self, query: &[f32], rows: &[u8], out: &mut [f32]) {
        self.kernel.sums(query, rows, out);
        for score in out {
            *score = self.finish(*score);
        }
    }

    /// MaxSim of a query's rows with a document's rows, both `dimension` (> 0) components a row.
    pub fn max_sim(&self, query: &[f32], rows: &[u8], dimension: usize) -> f32 {
        let mut best = vec![f32::MIN; query.len() / dimension];
        self.best_matches(query, rows, &mut best);
        total(&best)
    }

    /// Raises the best score of each query row (there are as many as places in `best`) by those of further `rows`.
    pub fn best_matches(&self, query: &[f32], rows: &[u8], best: &mut [f32]) {
        let dimension = query.len() / best.len().max(1);
        let row_bytes = simd::row_bytes(self.kernel.fine(), dimension);
        for (query_row, best) in query.chunks_exact(dimension.max(1)).zip(best) {
            for row in rows.chunks_exact(row_bytes.max(1)) {
                *best = best.max(self.score(query_row, row));
            }
        }
    }

    /// Whether `dense` has that many components in the format of this scorer.
    fn takes(&self, dense: &Dense, components: usize) -> bool {
        dense.len() == components && is_fine(dense, self.kernel.fine())
    }

    /// The scorer of the same rows as they are in memory.
    fn in_memory(&self) -> Scorer {
        let kernel = self.kernel.over(self.kernel.fine().in_memory());
        Scorer { kernel, ..*self }
    }

    #[inline]
    fn finish(&self, sum: f32) -> f32 {
        bounded(match self.distance {
            Distance::Cosine | Distance::Dot => sum,
            Distance::Euclid => -sum.sqrt(),
            Distance::Manhattan => -sum,
        })
    }
}

/// Euclid's score of a negated squared distance, which an estimate may put above 0.
pub(crate) fn squared_euclid_to_score(negated: f32) -> f32 {
    -(-negated).max(0.0).sqrt()
}

/// Large f32 components may overflow a sum; a score stays finite and ordered all the same.
#[inline]
fn bounded(score: f32) -> f32 {
    if score.is_nan() {
        f32::MIN
    } else {
        score.clamp(f32::MIN, f32::MAX)
    }
}

/// Sum of the best matches: MaxSim.
pub(crate) fn total(best: &[f32]) -> f32 {
    bounded(best.iter().sum())
}

/// Dot product of two sparse vectors with strictly increasing indices.
pub(crate) fn sparse_dot(left: (&[u32], &[f32]), right: impl Iterator<Item = (u32, f32)>) -> f32 {
    let mut sum = 0.0;
    let mut at = 0;
    for (index, value) in right {
        while left.0.get(at).is_some_and(|own| *own < index) {
            at += 1;
        }
        if left.0.get(at) == Some(&index) {
            sum += left.1[at] * value;
        }
    }
    bounded(sum)
}

/// A query's vector, ready for one field.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    Dense {
        scorer: Scorer,
        query: Vec<f32>,
    },
    Sparse {
        indices: Vec<u32>,
        values: Vec<f32>,
    },
    Multi {
        scorer: Scorer,
        query: Vec<f32>,
        dimension: usize,
    },
}

impl Probe {
    pub fn new(field: &VectorField, vector: &Vector) -> Result<Probe, SearchError> {
        let scorer = Scorer::new(field.distance, field.fine);
        match (field.kind, vector) {
            (VectorKind::Dense { dimension }, Vector::Dense(dense)) if dense.len() == dimension as usize => {
                Ok(Probe::Dense {
                    scorer,
                    query: simd::widened(dense),
                })
            }
            (VectorKind::Sparse, Vector::Sparse { indices, values }) if is_sparse(indices, values) => {
                Ok(Probe::Sparse {
                    indices: indices.clone(),
                    values: values.clone(),
                })
            }
            (VectorKind::Multi { dimension }, Vector::Multi { dimension: own, rows })
                if *own == dimension && is_rows(rows, dimension) =>
            {
                Ok(Probe::Multi {
                    scorer,
                    query: simd::widened(rows),
                    dimension: dimension as usize,
                })
            }
            (VectorKind::Multi { dimension }, Vector::Dense(row)) if row.len() == dimension as usize => {
                Ok(Probe::Multi {
                    scorer,
                    query: simd::widened(row),
                    dimension: dimension as usize,
                })
            }
            (kind, _) => Err(SearchError::Shape {
                name: field.name.clone(),
                kind,
            }),
        }
    }

    /// Score of a document's vector in memory; `None` where it is of another shape.
    pub fn score(&self, vector: &Vector) -> Option<f32> {
        match (self, vector) {
            (Probe::Dense { scorer, query }, Vector::Dense(row)) if scorer.takes(row, query.len()) => {
                Some(scorer.in_memory().score(query, simd::bytes_of(row)))
            }
            (
                Probe::Sparse { indices, values },
                Vector::Sparse {
                    indices: own,
                    values: own_values,
                },
            ) => {
                let row = own.iter().copied().zip(own_values.iter().copied());
                Some(sparse_dot((indices, values), row))
            }
            (
                Probe::Multi {
                    scorer,
                    query,
                    dimension,
                },
                Vector::Multi { dimension: own, rows },
            ) if *own as usize == *dimension && scorer.takes(rows, rows.len()) => {
                Some(scorer.in_memory().max_sim(query, simd::bytes_of(rows), *dimension))
            }
            _ => None,
        }
    }
}

/// The exact internal score of two vectors under a field's distance; `None` where `row` is of another shape.
pub fn score(field: &VectorField, query: &Vector, row: &Vector) -> Result<Option<f32>, SearchError> {
    Ok(Probe::new(field, query)?.score(row))
}

/// Whether a vector is canonical for a field, as far as its shape goes.
pub(crate) fn fits(field: &VectorField, vector: &Vector) -> bool {
    match (field.kind, vector) {
        (VectorKind::Dense { dimension }, Vector::Dense(dense)) => {
            is_fine(dense, field.fine) && dense.len() == dimension as usize && dimension > 0
        }
        (VectorKind::Sparse, Vector::Sparse { indices, values }) => is_sparse(indices, values),
        (VectorKind::Multi { dimension }, Vector::Multi { dimension: own, rows }) => {
            *own == dimension && is_fine(rows, field.fine) && is_rows(rows, dimension)
        }
        _ => false,
    }
}

fn is_fine(dense: &Dense, fine: Fine) -> bool {
    dense.fine() == fine.in_memory()
}

fn is_sparse(indices: &[u32], values: &[f32]) -> bool {
    indices.len() == values.len() && indices.windows(2).all(|pair| pair[0] < pair[1])
}

fn is_rows(rows: &Dense, dimension: u32) -> bool {
    dimension > 0 && !rows.is_empty() && rows.len().is_multiple_of(dimension as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: VectorKind, distance: Distance) -> VectorField {
        VectorField::new("v", kind, distance, Fine::F32)
    }

    #[track_caller]
    fn check(kind: VectorKind, distance: Distance, query: Vector, row: Vector, score: f32) {
        let probe = Probe::new(&field(kind, distance), &query).unwrap();
        assert_eq!(probe.score(&row), Some(score));
    }

    #[test]
    fn scores_are_higher_for_nearer_vectors() {
        let kind = VectorKind::Dense { dimension: 2 };
        let vector = |x, y| Vector::Dense(Dense::F32(vec![x, y]));
        check(kind, Distance::Dot, vector(2.0, 3.0), vector(1.0, -1.0), -1.0);
        check(kind, Distance::Euclid, vector(3.0, 4.0), vector(0.0, 0.0), -5.0);
        check(kind, Distance::Manhattan, vector(3.0, -4.0), vector(0.0, 0.0), -7.0);
        check(kind, Distance::Euclid, vector(3e38, 0.0), vector(-3e38, 0.0), f32::MIN);
    }

    #[test]
    fn sparse_vectors_meet_at_common_indices() {
        let sparse = |pairs: &[(u32, f32)]| {
            let (indices, values) = pairs.iter().copied().unzip();
            Vector::Sparse { indices, values }
        };
        let row = sparse(&[(0, 1.0), (3, 2.0), (9, 5.0)]);
        check(
            VectorKind::Sparse,
            Distance::Dot,
            sparse(&[(3, 4.0), (8, 1.0), (9, 1.0)]),
            row,
            13.0,
        );
    }

    #[test]
    fn max_sim_sums_the_best_match_of_each_query_row() {
        let kind = VectorKind::Multi { dimension: 2 };
        let multi = |rows: &[f32]| Vector::Multi {
            dimension: 2,
            rows: Dense::F32(rows.to_vec()),
        };
        let document = multi(&[1.0, 0.0, 0.0, 1.0, 0.5, 0.5]);
        check(kind, Distance::Dot, multi(&[1.0, 0.0, 0.0, 2.0]), document, 3.0);
    }
}
