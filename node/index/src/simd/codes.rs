//! Sums of unsigned codes with a query of signed bytes: the one loop that a search over codes spends its time in.
//!
//! A code row of `D` dimensions at `B` bits (1, 2, 4, 8) is `D * B / 8` bytes wide. Dimension `p * width + j` is the
//! `p`-th group of `B` bits of byte `j`: so that one load serves `8 / B` stretches of the query, each contiguous, and no
//! row needs padding to a vector's length. The products are integers and exact, hence equal on every machine.
//!
//! AVX-512 multiplies by VNNI; at 1 bit too, where eight masked products a load cost about what AND and POPCNT with four
//! bit planes of a 4-bit query cost and keep the query's 8 bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

/// Bits of a code's dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bits {
    /// Signs: 32 times smaller than f32.
    One,
    /// 16 times smaller than f32.
    Two,
    /// 8 times smaller than f32; the default.
    Four,
    /// 4 times smaller than f32.
    Eight,
}

impl Bits {
    /// All of them, fewest first.
    pub const ALL: [Bits; 4] = [Bits::One, Bits::Two, Bits::Four, Bits::Eight];

    /// As a number.
    pub const fn count(self) -> u32 {
        match self {
            Bits::One => 1,
            Bits::Two => 2,
            Bits::Four => 4,
            Bits::Eight => 8,
        }
    }

    /// The inverse of [`count`](Self::count).
    pub fn from_count(count: u32) -> Option<Bits> {
        Bits::ALL.into_iter().find(|bits| bits.count() == count)
    }

    /// Bytes of a row of so many dimensions, a multiple of 8.
    pub(crate) fn row_bytes(self, dimension: usize) -> usize {
        dimension * self.count() as usize / 8
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

/// Sums over code rows of one width, by the best instructions of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeKernel {
    isa: Isa,
    bits: Bits,
    row_bytes: usize,
}

impl CodeKernel {
    /// For rows of `dimension` codes, a multiple of 64.
    pub fn new(bits: Bits, dimension: usize) -> CodeKernel {
        assert!(
            dimension.is_multiple_of(64) && dimension > 0,
            "{dimension} dimensions are no multiple of 64"
        );
        CodeKernel {
            isa: best(),
            bits,
            row_bytes: bits.row_bytes(dimension),
        }
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// `sums[i]` becomes the sum of `query` with row `rows[i]` of `codes`, in whose rows it must lie.
    #[inline]
    pub fn gather(&self, query: &[i8], codes: &[u8], rows: &[u32], sums: &mut [i32]) {
        let (width, count) = (self.row_bytes, codes.len() / self.row_bytes);
        assert_eq!(rows.len(), sums.len(), "rows and sums differ");
        assert_eq!(
            query.len() * self.bits.count() as usize,
            width * 8,
            "query and rows differ in dimension"
        );
        assert!(
            rows.iter().all(|row| (*row as usize) < count),
            "a row beyond the {count} there are"
        );
        match self.isa {
            // SAFETY: `best` chose this set because the machine has it; query and rows have the lengths that the kernels
            // read, which was just checked.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::gather(self.bits, query, codes, width, rows, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::gather(self.bits, query, codes, width, rows, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { neon::gather(self.bits, query, codes, width, rows, sums) },
            Isa::Scalar => scalar::gather(self.bits, query, codes, width, rows, sums),
        }
    }
}

/// Asks for the cache lines of `bytes`, which will be read soon.
///
/// Into the second-level cache: more requests may be under way to it than to the first. Measured on Zen 4, codes of 192
/// bytes at random out of 192 MB: 13 ns a row, 24 ns with requests to the first level, 30 ns without.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    const LINE_BYTES: usize = 64;
    #[cfg(target_arch = "x86_64")]
    {
        let start = bytes.as_ptr();
        let mut at = 0;
        while at < bytes.len() {
            // SAFETY: a prefetch reads nothing that the program can see and never faults.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at).cast());
            }
            at += LINE_BYTES;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, LINE_BYTES);
}

/// As [`prefetch`], of those of all rows, `width` bytes each, that `wanted` names; each must be there.
#[inline]
pub(crate) fn prefetch_rows(rows: &[u8], width: usize, wanted: &[u32]) {
    for row in wanted {
        prefetch(&rows[*row as usize * width..][..width]);
    }
}

/// As [`prefetch`].
#[inline]
pub(crate) fn prefetch_words(words: &[u32]) {
    // SAFETY: any initialised u32 is four bytes, u8 has no alignment, and the slice borrows `words`.
    prefetch(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 4) });
}

fn best() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        let wide = [
            std::arch::is_x86_feature_detected!("avx512f"),
            std::arch::is_x86_feature_detected!("avx512bw"),
            std::arch::is_x86_feature_detected!("avx512vl"),
            std::arch::is_x86_feature_detected!("avx512vnni"),
        ];
        if wide == [true; 4] {
            return Isa::Avx512;
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return Isa::Avx2;
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return Isa::Neon;
    }
    Isa::Scalar
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn isas() -> Vec<Isa> {
        #[cfg(target_arch = "x86_64")]
        if best() == Isa::Avx512 {
            return vec![Isa::Avx512, Isa::Avx2];
        }
        vec![best()]
    }

    /// The meaning of the layout, in one line: group `p` of byte `j` times component `p * width + j`.
    fn expected(bits: Bits, query: &[i8], row: &[u8]) -> i32 {
        let count = bits.count();
        let code =
            |at: usize| (u32::from(row[at % row.len()]) >> ((at / row.len()) as u32 * count)) & ((1 << count) - 1);
        query
            .iter()
            .enumerate()
            .map(|(at, component)| i32::from(*component) * code(at) as i32)
            .sum()
    }

    fn check(bits: Bits, dimension: usize, rows: usize, seed: u64) {
        let byte = |at: u64| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed) as u8;
        let width = bits.row_bytes(dimension);
        let codes: Vec<u8> = (0..(rows * width) as u64).map(byte).collect();
        // -128 is no component of a query: steps are a 127th of the largest.
        let query: Vec<i8> = (0..dimension as u64)
            .map(|at| (byte(at + (1 << 40)) as i8).max(-127))
            .collect();
        let picked: Vec<u32> = (0..rows as u32 + 3).map(|at| (at * 7) % rows as u32).collect();
        for isa in isas().into_iter().chain([Isa::Scalar]) {
            let kernel = CodeKernel {
                isa,
                ..CodeKernel::new(bits, dimension)
            };
            let mut sums = vec![0; picked.len()];
            kernel.gather(&query, &codes, &picked, &mut sums);
            for (row, sum) in picked.iter().zip(sums) {
                let row = &codes[*row as usize * width..][..width];
                assert_eq!(sum, expected(bits, &query, row), "{isa:?} {bits:?} {dimension}");
            }
        }
    }

    #[test]
    fn all_dimensions_agree_with_the_layout() {
        for bits in Bits::ALL {
            for dimension in (64..1100).step_by(64).chain([1536, 3072, 8192]) {
                check(bits, dimension, 5, 1);
            }
        }
    }

    #[test]
    fn extremes_do_not_saturate() {
        for bits in Bits::ALL {
            let (dimension, width) = (8192, bits.row_bytes(8192));
            for component in [-127i8, 127] {
                let (query, codes) = (vec![component; dimension], vec![255u8; width]);
                for isa in isas().into_iter().chain([Isa::Scalar]) {
                    let kernel = CodeKernel {
                        isa,
                        ..CodeKernel::new(bits, dimension)
                    };
                    let mut sum = [0];
                    kernel.gather(&query, &codes, &[0], &mut sum);
                    let full = i32::from(component) * ((1 << bits.count()) - 1) * dimension as i32;
                    assert_eq!(sum[0], full, "{isa:?} {bits:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn kernels_agree(bits in 0usize..4, blocks in 1usize..20, rows in 1usize..12, seed in any::<u64>()) {
            check(Bits::ALL[bits], blocks * 64, rows, seed);
        }
    }
}
