//! Walsh-Hadamard transform in place: the heart of a fast random rotation.

use super::plain::compiled_for_each;

/// Lanes of the widest vectors: strides below are exchanges within a block of so many.
const LANES: usize = 16;

/// Replaces `values`, a power of two of them, by its Walsh-Hadamard transform, not normalised: n log2 n additions.
pub(crate) fn hadamard(values: &mut [f32]) {
    let count = values.len();
    assert!(count.is_power_of_two(), "{count} values are no power of two");
    transform(values);
}

compiled_for_each! { transform(values: &mut [f32]), wide, medium, stages }

#[inline(always)]
fn stages(values: &mut [f32]) {
    let (blocks, rest) = values.as_chunks_mut::<LANES>();
    for block in blocks {
        exchange::<1>(block);
        exchange::<2>(block);
        exchange::<4>(block);
        exchange::<8>(block);
    }
    butterflies(rest, 1);
    butterflies(values, LANES);
}

/// One stage within a block: each value and the one `STRIDE` away become their sum and difference.
#[inline(always)]
fn exchange<const STRIDE: usize>(block: &mut [f32; LANES]) {
    let before = *block;
    for (at, value) in block.iter_mut().enumerate() {
        let sign = if at & STRIDE == 0 { 1.0 } else { -1.0 };
        *value = before[at ^ STRIDE] + sign * before[at];
    }
}

/// Stages from `stride` up.
#[inline(always)]
fn butterflies(values: &mut [f32], mut stride: usize) {
    while stride < values.len() {
        for pair in values.chunks_exact_mut(2 * stride) {
            let (left, right) = pair.split_at_mut(stride);
            for (left, right) in left.iter_mut().zip(right) {
                (*left, *right) = (*left + *right, *left - *right);
            }
        }
        stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_matrix_of_signs() {
        for length in [1usize, 2, 4, 8, 16, 32, 64, 256, 1024] {
            let values: Vec<f32> = (0..length).map(|at| ((at * 37 + 11) % 23) as f32 - 11.0).collect();
            let mut found = values.clone();
            hadamard(&mut found);
            for (row, found) in found.iter().enumerate() {
                let sign = |at: usize| 1.0 - 2.0 * ((row & at).count_ones() % 2) as f32;
                let expected: f32 = values.iter().enumerate().map(|(at, value)| sign(at) * value).sum();
                assert_eq!(*found, expected, "{length} {row}");
            }
        }
    }
}
