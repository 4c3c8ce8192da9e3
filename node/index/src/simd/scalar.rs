//! The arithmetic in plain Rust: what runs where nothing faster does, and the oracle of all other kernels.

use half::f16;

/// Components of an f16 row, widened.
pub(super) fn widen(row: &[u8]) -> impl Iterator<Item = f32> {
    row.chunks_exact(2)
        .map(|bits| f16::from_bits(u16::from_le_bytes([bits[0], bits[1]])).to_f32())
}

/// Components of an f32 row.
pub(super) fn floats(row: &[u8]) -> impl Iterator<Item = f32> {
    row.chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

pub(super) fn dot(query: &[f32], row: impl Iterator<Item = f32>) -> f32 {
    query.iter().zip(row).map(|(left, right)| left * right).sum()
}

/// Sum of squared differences.
pub(super) fn squares(query: &[f32], row: impl Iterator<Item = f32>) -> f32 {
    query
        .iter()
        .zip(row)
        .map(|(left, right)| (left - right) * (left - right))
        .sum()
}

/// Sum of absolute differences.
pub(super) fn absolutes(query: &[f32], row: impl Iterator<Item = f32>) -> f32 {
    query.iter().zip(row).map(|(left, right)| (left - right).abs()).sum()
}
