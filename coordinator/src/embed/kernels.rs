//! What happens to the numbers between two matrix products?
//!
//! Bias, GELU, layer normalisation and softmax, in place on the product's own memory. They are ours and not candle's
//! because they are plain loops without calls, which the compiler turns into vector code: a tenth of an embedding's
//! time, where a library's scalar `erf` and `exp` would take half. Accuracy: `exp` within 1e-5 relative, GELU within
//! 1e-6; rounding the weights to bytes changes a thousand times as much.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, bail};

/// x + bias, for rows of `bias.len()` values.
pub(super) struct AddBias<'a>(pub &'a [f32]);

/// gelu(x + bias), for rows of `bias.len()` values.
pub(super) struct AddBiasGelu<'a>(pub &'a [f32]);

/// softmax(x), for rows of as many values as the last dimension has.
pub(super) struct Softmax;

/// normalise(x + bias + residual) x gain + shift, for rows of `gain.len()` values.
pub(super) struct AddNormalise<'a> {
    pub bias: &'a [f32],
    pub norm: &'a LayerNorm,
}

/// A layer normalisation's learnt values and the epsilon under its root.
pub(super) struct LayerNorm {
    pub gain: Vec<f32>,
    pub shift: Vec<f32>,
    pub epsilon: f32,
}

impl LayerNorm {
    /// Normalises one row in place.
    pub fn apply(&self, row: &mut [f32]) {
        let mean = sum(row) / row.len() as f32;
        row.iter_mut().for_each(|x| *x -= mean);
        let variance = sum_of_squares(row) / row.len() as f32;
        let scale = (variance + self.epsilon).sqrt().recip();
        for ((x, gain), shift) in row.iter_mut().zip(&self.gain).zip(&self.shift) {
            *x = *x * scale * gain + shift;
        }
    }
}

impl InplaceOp1 for AddBias<'_> {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        for row in floats_mut(x, layout)?.chunks_exact_mut(self.0.len()) {
            row.iter_mut().zip(self.0).for_each(|(x, bias)| *x += bias);
        }
        Ok(())
    }
}

impl InplaceOp1 for AddBiasGelu<'_> {
    fn name(&self) -> &'static str {
        "add-bias-gelu"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        for row in floats_mut(x, layout)?.chunks_exact_mut(self.0.len()) {
            row.iter_mut().zip(self.0).for_each(|(x, bias)| *x = gelu(*x + bias));
        }
        Ok(())
    }
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let columns = layout.dims().last().copied().unwrap_or(1);
        for row in floats_mut(x, layout)?.chunks_exact_mut(columns) {
            let max = max(row);
            row.iter_mut().for_each(|x| *x = exp(*x - max));
            let scale = sum(row).recip();
            row.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(())
    }
}

impl InplaceOp2 for AddNormalise<'_> {
    fn name(&self) -> &'static str {
        "add-normalise"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, l1: &Layout, residual: &CpuStorage, l2: &Layout) -> Result<()> {
        let columns = self.norm.gain.len();
        let residual = floats(residual, l2)?.chunks_exact(columns);
        for (row, residual) in floats_mut(x, l1)?.chunks_exact_mut(columns).zip(residual) {
            for ((x, bias), residual) in row.iter_mut().zip(self.bias).zip(residual) {
                *x += bias + residual;
            }
            self.norm.apply(row);
        }
        Ok(())
    }
}

/// The values of a contiguous f32 tensor.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("expected contiguous f32 values"),
    }
}

fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("expected contiguous f32 values"),
    }
}

/// Lanes that a sum or a maximum is kept in. The compiler may not split one by itself, since the order of float
/// operations shows in the result.
const LANES: usize = 16;

/// Folds `values` into `LANES` lanes.
#[inline(always)]
fn lanes(values: &[f32], start: f32, step: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(lane, x)| *lane = step(*lane, *x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane = step(*lane, *x));
    lanes
}

fn sum(values: &[f32]) -> f32 {
    lanes(values, 0.0, |sum, x| sum + x).iter().sum()
}

fn sum_of_squares(values: &[f32]) -> f32 {
    lanes(values, 0.0, |sum, x| sum + x * x).iter().sum()
}

/// The largest of `values`, none of which is NaN.
fn max(values: &[f32]) -> f32 {
    let larger = |max: f32, x: f32| if x > max { x } else { max };
    lanes(values, f32::NEG_INFINITY, larger)
        .into_iter()
        .fold(f32::NEG_INFINITY, larger)
}

/// x Phi(x), the exact form of GELU that BERT was trained with.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let z = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    (1.0 - series * exp(-z * z)).copysign(x)
}

/// e^x for x <= 0 (0 below -87): 2^n by the exponent's bits, 2^f (|f| <= 0.5) by its Taylor series.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding 1.5 x 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let power = (if x > -87.0 { x } else { -87.0 }) * std::f32::consts::LOG2_E;
    let shifted = power + ROUND;
    let f = (power - (shifted - ROUND)) * std::f32::consts::LN_2;
    let series = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
    let exponent = (shifted.to_bits() << 23).wrapping_add(0x3f80_0000);
    series * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in 0..=8_700 {
            let x = step as f32 * -0.01;
            let (ours, theirs) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / theirs - 1.0).abs() < 1e-5, "exp({x}): {ours} and {theirs}");
        }
        assert!(exp(-1e30) < 1e-37);
    }

    #[test]
    fn gelu_agrees_with_known_values() {
        // x Phi(x) from tables of the normal distribution.
        for (x, expected) in [
            (-3.0, -0.004_049_7),
            (-1.0, -0.158_655_2),
            (0.0, 0.0),
            (0.5, 0.345_731_2),
            (4.0, 3.999_873_3),
        ] {
            assert!((gelu(x) - expected).abs() < 1e-6, "gelu({x}) = {}", gelu(x));
        }
    }

    #[test]
    fn a_normalised_row_has_mean_zero_and_variance_one() {
        let norm = LayerNorm {
            gain: vec![1.0; 37],
            shift: vec![0.0; 37],
            epsilon: 1e-12,
        };
        let mut row: Vec<f32> = (0..37).map(|x| (x * x) as f32 + 1e3).collect();
        norm.apply(&mut row);
        assert!((row.iter().sum::<f32>() / 37.0).abs() < 1e-5);
        assert!((row.iter().map(|x| x * x).sum::<f32>() / 37.0 - 1.0).abs() < 1e-4);
    }
}
