//! Rows that fit a byte a component: whole numbers from -127 to 127, times the row's scale.
//!
//! A scale has 17 significant bits, so that its products with numbers of 7 bits are f32 exactly: a row that was rounded is
//! kept as f32 in messages, log and memory, as bytes on disk, and scores the same everywhere, bit for bit.

/// Largest number.
const LEVELS: f32 = 127.0;
/// What a scale leaves of an f32's 24 significant bits: 17.
const SCALE_BITS: u32 = !0x7f;

/// The scale of a row: its largest magnitude is about 127 of it. 0 where the row is 0, or too near it (10^-36) to have one.
pub fn scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = largest / LEVELS;
    // A subnormal scale would have too few bits to lose some.
    if scale.is_normal() { shortened(scale) } else { 0.0 }
}

/// The numbers of a row under its scale.
pub fn numbers(row: &[f32], scale: f32) -> impl Iterator<Item = i8> {
    let number = move |value: &f32| match scale == 0.0 {
        true => 0,
        false => (value / scale).round().clamp(-LEVELS, LEVELS) as i8,
    };
    row.iter().map(number)
}

/// Rounds a row of finite components. `unit`: the scale is such that its length is 1, however it is rounded, to 2^-15.
pub fn round(row: &mut [f32], unit: bool) {
    let mut scale = scale(row);
    let numbers: Vec<i8> = numbers(row, scale).collect();
    if unit && scale != 0.0 {
        let square: i64 = numbers.iter().map(|number| i64::from(*number).pow(2)).sum();
        scale = shortened((square as f64).sqrt().recip() as f32);
    }
    for (value, number) in row.iter_mut().zip(numbers) {
        *value = f32::from(number) * scale;
    }
}

/// Whether rounding leaves a row as it is.
pub fn is_round(row: &[f32]) -> bool {
    let scale = scale(row);
    let rounded = numbers(row, scale).map(|number| f32::from(number) * scale);
    row.iter()
        .zip(rounded)
        .all(|(value, rounded)| value.to_bits() == rounded.to_bits())
}

/// Cut towards 0: 127 times a scale is never more than the largest f32.
fn shortened(scale: f32) -> f32 {
    f32::from_bits(scale.to_bits() & SCALE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of all sorts: spread, spiked, tiny, huge, subnormal.
    fn rows() -> Vec<Vec<f32>> {
        let spread = |size: f32| {
            (0..64)
                .map(|at: u32| size * ((at * 37 % 101) as f32 / 50.0 - 1.0))
                .collect()
        };
        let mut rows: Vec<Vec<f32>> = [1.0, 0.03, 1e-30, 1e-40, 1e-44, 3e38].map(spread).into();
        rows.extend([
            vec![0.0, -0.0],
            vec![f32::MAX, f32::MIN],
            vec![1.0],
            vec![-1e-45, 7e-45],
            vec![1.0, 1e-3],
        ]);
        rows
    }

    #[test]
    fn a_rounded_row_is_near_and_stays_as_it_is() {
        for given in rows() {
            for unit in [false, true] {
                let mut row = given.clone();
                round(&mut row, unit);
                assert!(is_round(&row), "{given:?} became {row:?}");
                let mut again = row.clone();
                round(&mut again, unit);
                assert_eq!(again, row, "rounded twice");
                if !unit {
                    let reach = (scale(&given) * 0.51).max(127.0 * f32::MIN_POSITIVE);
                    let near = |(value, given): (&f32, &f32)| (value - given).abs() <= reach;
                    assert!(row.iter().zip(&given).all(near), "{given:?} became {row:?}");
                }
            }
        }
    }

    #[test]
    fn a_rounded_unit_row_has_unit_length() {
        for given in rows() {
            let mut row = given.clone();
            round(&mut row, true);
            let square: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            assert!(
                scale(&given) == 0.0 || (square - 1.0).abs() < 1.0 / 32768.0,
                "{given:?}: {square}"
            );
        }
    }

    #[test]
    fn rows_that_are_not_round_are_told() {
        assert!(!is_round(&[1.0, 0.3]));
        assert!(!is_round(&[-0.0]), "only one zero is kept");
        assert!(is_round(&[127.0, -1.0, 0.0]));
    }
}
