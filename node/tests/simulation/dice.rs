//! Where does chance come from? One seed, and no other source.
//!
//! SplitMix64 (Steele, Lea and Flood 2014). Each actor of a simulation (network, clients, faults) has dice of its own,
//! split off the seed's, so that one more roll of one doesn't change what the others do.

use std::cell::RefCell;
use std::time::Duration;

/// A row of numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The row of a seed and of one actor.
    pub fn new(seed: u64, actor: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ actor.wrapping_mul(0xD1B5_4A32_D192_ED03));
        dice.next();
        dice
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` up to, not including, `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// True this often in a thousand.
    pub fn permille(&mut self, often: u64) -> bool {
        self.between(0, 1000) < often
    }

    /// A time from `from` up to `to` milliseconds, to the microsecond.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(from * 1000, to * 1000))
    }
}

thread_local! {
    static DISKS: RefCell<(Dice, u64)> = const { RefCell::new((Dice(0), 1)) };
}

/// This thread's disks are those of `seed`, and so many times slower than usual.
pub fn seed_disks(seed: u64) {
    DISKS.set((Dice::new(seed, 0xD15C), 1));
}

/// How many times slower than usual disks are from now on.
pub fn slow_disks(times: u64) {
    DISKS.with_borrow_mut(|disks| disks.1 = times);
}

/// How long a piece of work on a disk takes: mostly little.
pub fn disk_delay() -> Duration {
    DISKS.with_borrow_mut(|(dice, times)| {
        let micros = if dice.permille(20) {
            dice.between(2_000, 20_000)
        } else {
            dice.between(50, 1_000)
        };
        Duration::from_micros(micros * *times)
    })
}
