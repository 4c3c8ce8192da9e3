//! The code kernel in plain Rust: what runs where nothing faster does, and the oracle of all other kernels.

use super::Bits;

/// See [`CodeKernel::gather`](super::CodeKernel::gather).
pub(super) fn gather(bits: Bits, query: &[i8], codes: &[u8], width: usize, rows: &[u32], sums: &mut [i32]) {
    for (row, sum) in rows.iter().zip(sums) {
        *sum = one(bits, query, &codes[*row as usize * width..][..width]);
    }
}

/// Sum of one row.
pub(super) fn one(bits: Bits, query: &[i8], row: &[u8]) -> i32 {
    let mask = ((1u32 << bits.count()) - 1) as u8;
    let planes = query.chunks_exact(row.len());
    let plane_sum = |(plane, components): (usize, &[i8])| -> i32 {
        let shift = plane as u32 * bits.count();
        let products = row
            .iter()
            .zip(components)
            .map(|(byte, component)| i32::from(byte >> shift & mask) * i32::from(*component));
        products.sum()
    };
    planes.enumerate().map(plane_sum).sum()
}
