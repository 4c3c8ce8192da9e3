//! How large is a simulation, and how rough? Sizes that the seed varies.

use std::time::Duration;

use crate::dice::Dice;

/// Sizes and rates of one simulation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes, each with one voter of the one shard.
    pub nodes: u64,
    /// Clients.
    pub clients: u64,
    /// Documents they write to.
    pub keys: u64,
    /// How long there are traffic and faults.
    pub length: Duration,
    /// Shortest and longest pause of a client, in milliseconds.
    pub think_ms: (u64, u64),
    /// Writes of a thousand things that a client does.
    pub writes: u64,
    /// Shortest and longest time until the next fault, in milliseconds.
    pub calm_ms: (u64, u64),
    /// Writes answered in time below which the run says nothing, and eight times the linearizable reads.
    pub floor: u64,
    /// Whether everything that happens is printed.
    pub verbose: bool,
}

impl Options {
    /// Those of a seed.
    pub fn of(seed: u64) -> Options {
        let mut dice = Dice::new(seed, 0x0B71);
        Options {
            nodes: if dice.permille(150) { 5 } else { 3 },
            clients: dice.between(3, 6),
            keys: dice.between(3, 9),
            length: Duration::from_millis(dice.between(8_000, 13_000)),
            think_ms: (2, dice.between(20, 60)),
            writes: dice.between(450, 750),
            calm_ms: (100, dice.between(600, 1500)),
            floor: 40,
            verbose: false,
        }
    }
}
