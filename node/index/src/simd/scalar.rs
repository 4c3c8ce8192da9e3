//! The arithmetic in plain Rust: what runs where nothing faster does, and the oracle of all other kernels.

use half::f16;

/// Components of an f16 row, widened.
pub(super) fn widen(row: &[u8], _: f32) -> impl Iterator<Item = f32> {
    row.chunks_exact(2)
        .map(|bits| f16::from_bits(u16::from_le_bytes([bits[0], bits[1]])).to_f32())
}

/// Components of an f32 row.
pub(super) fn floats(row: &[u8], _: f32) -> impl Iterator<Item = f32> {
    row.chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Components of an i8 row: its numbers times its scale.
pub(super) fn scaled(row: &[u8], scale: f32) -> impl Iterator<Item = f32> {
    row.iter().map(move |number| f32::from(number.cast_signed()) * scale)
}

/// Sum of products.
pub(super) fn dot(query: &[f32], row: impl Iterator<Item = f32>) -> f32 {
    total(query.iter().zip(row).map(|(left, right)| left * right))
}

/// Sum of squared differences.
pub(super) fn squares(query: &[f32], row: impl Iterator<Item = f32>) -> f32 {
    total(
        query
            .iter()
            .zip(row)
            .map(|(left, right)| (left - right) * (left - right)),
    )
}

/// Sum of absolute differences.
pub(super) fn absolutes(query: &[f32], row: impl Iterator<Item = f32>) -> f32 {
    total(query.iter().zip(row).map(|(left, right)| (left - right).abs()))
}

/// Sums in lanes, as vector units do: the error grows with the length of a lane.
fn total(terms: impl Iterator<Item = f32>) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    for (at, term) in terms.enumerate() {
        lanes[at % LANES] += term;
    }
    lanes.iter().sum()
}
