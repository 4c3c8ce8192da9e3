//! Plain loops that the compiler turns into vectors, compiled once for each set of instructions and chosen at run time.

/// Defines a function whose body is compiled for AVX-512, AVX2 and the least that the target has.
macro_rules! compiled_for_each {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?, $wide:ident, $medium:ident, $body:ident) => {
        $(#[$doc])*
        pub(crate) fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq") && std::arch::is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the machine has the instructions.
                    return unsafe { $wide($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { $medium($($argument),*) };
                }
            }
            $body($($argument),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma")]
        fn $wide($($argument: $type),*) $(-> $result)? {
            $body($($argument),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $medium($($argument: $type),*) $(-> $result)? {
            $body($($argument),*)
        }
    };
}
pub(crate) use compiled_for_each;

compiled_for_each! {
    /// Rounds `values`, times `inverse`, to the nearest byte; `bytes` has as many places.
    round_to_bytes(values: &[f32], inverse: f32, bytes: &mut [i8]), round_wide, round_medium, round_body
}

#[inline(always)]
fn round_body(values: &[f32], inverse: f32, bytes: &mut [i8]) {
    for (value, byte) in values.iter().zip(bytes) {
        *byte = (value * inverse).round_ties_even() as i32 as i8;
    }
}

compiled_for_each! {
    /// Multiplies each value by its factor.
    scale(values: &mut [f32], factors: &[f32]), scale_wide, scale_medium, scale_body
}

#[inline(always)]
fn scale_body(values: &mut [f32], factors: &[f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}

compiled_for_each! {
    /// Turns the two halves of `values` by an eighth of a circle: sums and differences over the root of 2.
    turn(left: &mut [f32], right: &mut [f32]), turn_wide, turn_medium, turn_body
}

#[inline(always)]
fn turn_body(left: &mut [f32], right: &mut [f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        let (sum, difference) = (*left + *right, *left - *right);
        *left = sum * std::f32::consts::FRAC_1_SQRT_2;
        *right = difference * std::f32::consts::FRAC_1_SQRT_2;
    }
}

compiled_for_each! {
    /// Sum of squares, and the largest size of a value.
    squares_and_largest(values: &[f32]) -> (f32, f32), squares_wide, squares_medium, squares_body
}

#[inline(always)]
fn squares_body(values: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let (mut squares, mut largest) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            squares[lane] += block[lane] * block[lane];
            largest[lane] = if block[lane].abs() > largest[lane] {
                block[lane].abs()
            } else {
                largest[lane]
            };
        }
    }
    let sum = squares.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>();
    let most = largest
        .iter()
        .chain(rest)
        .fold(0.0f32, |most, value| most.max(value.abs()));
    (sum, most)
}

compiled_for_each! {
    /// Points of a grid of odd halves, `step` a unit, at most `most + 1/2` from 0, each plus `middle` in `grid`; returns the
    /// product of values and points, and the points' squared length.
    to_grid(values: &[f32], step: f32, most: f32, middle: f32, grid: &mut [u8]) -> (f32, f32), grid_wide, grid_medium, grid_body
}

#[inline(always)]
fn grid_body(values: &[f32], step: f32, most: f32, middle: f32, grid: &mut [u8]) -> (f32, f32) {
    const LANES: usize = 16;
    let (mut products, mut lengths) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (blocks, _) = values.as_chunks::<LANES>();
    let (places, _) = grid.as_chunks_mut::<LANES>();
    for (block, places) in blocks.iter().zip(places) {
        for lane in 0..LANES {
            let size = (step * block[lane].abs()).trunc();
            let size = if size > most { most } else { size } + 0.5;
            let point = if block[lane] < 0.0 { -size } else { size };
            products[lane] += point * block[lane];
            lengths[lane] += size * size;
            places[lane] = (point + middle) as i32 as u8;
        }
    }
    (products.iter().sum(), lengths.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_to_nearest() {
        let values: Vec<f32> = (-130..=130).map(|at| at as f32 / 4.0).collect();
        let mut bytes = vec![0; values.len()];
        round_to_bytes(&values, 1.0, &mut bytes);
        for (value, byte) in values.iter().zip(bytes) {
            assert_eq!(f32::from(byte), value.round_ties_even());
        }
    }

    #[test]
    fn grid_points_are_the_nearest_odd_halves() {
        let values: Vec<f32> = (0..64).map(|at| (at as f32 - 31.7) / 3.0).collect();
        let mut grid = vec![0; 64];
        let (product, length) = to_grid(&values, 1.0, 7.0, 7.5, &mut grid);
        let points: Vec<f32> = grid.iter().map(|code| f32::from(*code) - 7.5).collect();
        for (value, point) in values.iter().zip(&points) {
            let nearest = (value.abs().floor().min(7.0) + 0.5).copysign(*value);
            assert_eq!(*point, nearest, "{value}");
        }
        let expected: f32 = values.iter().zip(&points).map(|(value, point)| value * point).sum();
        assert!((product - expected).abs() < 1e-3 * expected);
        assert_eq!(length, points.iter().map(|point| point * point).sum::<f32>());
        assert_eq!(squares_and_largest(&[3.0, -4.0]), (25.0, 4.0));
    }
}
