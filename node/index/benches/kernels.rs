//! How fast is the arithmetic of a search, a call alone? `cargo bench -p granum-index --features bench --bench kernels`
//!
//! Codes at each number of bits and three dimensions, in the cache (200 rows over and over) and out of it (256 MiB, rows at
//! random, asked for a block ahead as a scan does); rotation of a query; exact products with f16 rows; the beam of a walk.
//! Prints medians of 51 rounds. A harness of its own: a median of rounds is all that is wanted, and it builds in no time.

#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::hint::black_box;
use std::time::Instant;

use granum_index::Bits;
use granum_index::door::{Codes, beam, dots, rotation};

const DIMENSIONS: [usize; 3] = [384, 768, 1536];
const ROUNDS: usize = 51;
/// Rows scored at a time.
const BLOCK: usize = 64;
/// Few enough for the second-level cache at the longest row.
const ROWS_IN_CACHE: usize = 192;
const BYTES_OUT_OF_CACHE: usize = 256 << 20;

fn main() {
    for bits in Bits::ALL {
        for dimension in DIMENSIONS {
            let row_bytes = dimension * bits.count() as usize / 8;
            let inside = codes(bits, dimension, ROWS_IN_CACHE);
            let outside = codes(bits, dimension, BYTES_OUT_OF_CACHE / row_bytes);
            println!(
                "codes, {} bits, d = {dimension}: {inside:.2} ns a row in the cache, {outside:.2} out of it",
                bits.count()
            );
        }
    }
    for dimension in DIMENSIONS {
        println!("rotation, d = {dimension}: {:.0} ns", median(100, rotation(dimension)));
        println!(
            "product with a row of f16, d = {dimension}: {:.1} ns",
            median(1000, dots(dimension)) / 16.0
        );
    }
    for width in [16, 32, 64, 128] {
        println!(
            "beam of {width}: {:.1} ns a hop of 8 places",
            median(100, beam(width)) / 60.0
        );
    }
}

/// Nanoseconds a row.
fn codes(bits: Bits, dimension: usize, rows: usize) -> f64 {
    /// Rows scored a round.
    const SCORED: usize = 256 * BLOCK;
    let codes = Codes::new(bits, dimension, rows);
    let picked: Vec<u32> = (0..SCORED as u64)
        .map(|at| ((at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % rows as u64) as u32)
        .collect();
    let is_far = rows > ROWS_IN_CACHE;
    let mut sums = [0; BLOCK];
    let round = || {
        let blocks = picked.chunks_exact(BLOCK);
        let ahead = picked.chunks_exact(BLOCK).skip(1).chain([&[][..]]);
        let mut sum = 0;
        for (block, next) in blocks.zip(ahead) {
            if is_far {
                codes.expect(next);
            }
            codes.sums(block, &mut sums);
            sum ^= sums[0];
        }
        sum
    };
    median(1, round) / SCORED as f64
}

/// Median nanoseconds of a call, each round of so many.
fn median<T>(calls: usize, mut call: impl FnMut() -> T) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..calls {
                black_box(call());
            }
            started.elapsed().as_secs_f64() * 1e9 / calls as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
