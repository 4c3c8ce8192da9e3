//! A fast random rotation: after it, the components of any fixed vector look like independent Gaussians.
//!
//! That is what makes the error of a code the same for all directions, so that it can be predicted (RaBitQ, SIGMOD 2024,
//! section 3). A dense random matrix costs `D^2`; this is the FHT-Kac walk of the RaBitQ library, `D log D`: four rounds of
//! random signs and a Hadamard transform of the largest power of two that fits, at either end in turn, each followed by a
//! quarter turn of the two halves where the transform does not cover all. Orthogonal: lengths and products are kept.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::simd;

const ROUNDS: usize = 4;
/// Dimensions are filled up with zeros to a multiple of this.
const BLOCK: usize = 64;

/// A rotation of `dimension` components into `padded` ones.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    dimension: usize,
    padded: usize,
    /// Length of a transform: the largest power of two up to `padded`.
    span: usize,
    /// `ROUNDS` x `padded` signs; those within a round's transform carry its normalisation.
    signs: Vec<f32>,
}

/// Components after a rotation of so many: a multiple of 64.
pub fn padded(dimension: usize) -> usize {
    dimension.next_multiple_of(BLOCK)
}

impl Rotation {
    /// The rotation of that seed.
    pub fn new(dimension: usize, seed: u64) -> Rotation {
        assert!(dimension > 0, "dimension 0");
        let padded = padded(dimension);
        let span = 1 << padded.ilog2();
        let mut own = Rotation {
            dimension,
            padded,
            span,
            signs: Vec::with_capacity(ROUNDS * padded),
        };
        for round in 0..ROUNDS {
            let within = own.window(round);
            for at in 0..padded {
                let draw = xxh3_64_with_seed(&((round * padded + at) as u64).to_le_bytes(), seed);
                let size = if within.contains(&at) {
                    (span as f32).sqrt().recip()
                } else {
                    1.0
                };
                own.signs.push(if draw >> 63 == 0 { size } else { -size });
            }
        }
        own
    }

    /// Components before.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Components after, a multiple of 64.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates `vector` into `out`, which is replaced.
    pub fn rotate(&self, vector: &[f32], out: &mut Vec<f32>) {
        assert_eq!(vector.len(), self.dimension, "vector of another dimension");
        out.clear();
        out.extend_from_slice(vector);
        out.resize(self.padded, 0.0);
        for round in 0..ROUNDS {
            simd::scale(out, &self.signs[round * self.padded..(round + 1) * self.padded]);
            simd::hadamard(&mut out[self.window(round)]);
            if self.span < self.padded {
                let (left, right) = out.split_at_mut(self.padded / 2);
                simd::turn(left, right);
            }
        }
    }

    /// What a round transforms: the front in even rounds, the back in odd ones.
    fn window(&self, round: usize) -> std::ops::Range<usize> {
        let start = if round.is_multiple_of(2) {
            0
        } else {
            self.padded - self.span
        };
        start..start + self.span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(left: &[f32], right: &[f32]) -> f64 {
        left.iter()
            .zip(right)
            .map(|(left, right)| f64::from(*left) * f64::from(*right))
            .sum()
    }

    #[test]
    fn products_are_kept_and_a_spike_is_spread() {
        for dimension in [1, 3, 64, 65, 100, 384, 768, 1000, 1536, 8192] {
            let rotation = Rotation::new(dimension, 7);
            let value = |at: usize| ((at * 7919 + 13) % 1009) as f32 / 504.0 - 1.0;
            let left: Vec<f32> = (0..dimension).map(value).collect();
            let right: Vec<f32> = (0..dimension).map(|at| value(at + 500)).collect();
            let (mut rotated_left, mut rotated_right) = (Vec::new(), Vec::new());
            rotation.rotate(&left, &mut rotated_left);
            rotation.rotate(&right, &mut rotated_right);
            let size = (dot(&left, &left) * dot(&right, &right)).sqrt();
            let error = dot(&left, &right) - dot(&rotated_left, &rotated_right);
            assert!(error.abs() < 1e-5 * size, "{dimension}: {error}");
            let mut spike = vec![0.0; dimension];
            spike[dimension / 2] = 1.0;
            rotation.rotate(&spike, &mut rotated_left);
            let largest = rotated_left.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let spread = largest * (rotation.padded() as f32).sqrt();
            assert!(
                spread < 6.0,
                "{dimension}: the largest component is {spread} standard deviations"
            );
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let rotated = |seed| {
            let mut out = Vec::new();
            Rotation::new(100, seed).rotate(&[1.0; 100], &mut out);
            out
        };
        assert_eq!(rotated(1), rotated(1));
        assert_ne!(rotated(1), rotated(2));
    }
}
