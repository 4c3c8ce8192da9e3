//! A score and a place as one number, so that comparing two of them is one instruction.
//!
//! The score above, so that better is smaller; the place below; the lowest bit is free for a mark.

/// Places that one number can hold beside its mark.
pub(crate) const PLACES_MAX: u64 = 1 << 31;

/// A score and a place as one number, ordered better score first, then smaller place.
#[inline]
pub(crate) fn key(score: f32, place: u32) -> u64 {
    let bits = score.to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | u64::from(place) << 1
}

/// The inverse of [`key`].
#[inline]
pub(crate) fn of_key(key: u64) -> (f32, u32) {
    let ascending = !((key >> 32) as u32);
    let bits = if ascending >> 31 == 1 {
        ascending & !(1 << 31)
    } else {
        !ascending
    };
    (f32::from_bits(bits), (key as u32) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_scores_and_order() {
        let scores = [f32::MAX, 1.5, 1e-30, 0.0, -0.0, -1e-30, -2.0, f32::MIN];
        for (at, score) in scores.into_iter().enumerate() {
            assert_eq!(of_key(key(score, 77)), (score, 77));
            assert!(at == 0 || key(scores[at - 1], 9) < key(score, 3), "{score}");
        }
        assert!(key(1.0, 3) < key(1.0, 4));
        assert_eq!(of_key(key(0.5, (PLACES_MAX - 1) as u32)).1, (PLACES_MAX - 1) as u32);
    }
}
