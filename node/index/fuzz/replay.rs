//! Do fuzz targets hold on a committed corpus and on mutations of it? The same on every run.
//!
//! For the tests beside the fuzz targets, here and in tests/fuzz. `cargo fuzz` goes on from there for as long as one likes; what
//! it finds is committed to the corpus, and is then tried for ever.

use std::path::Path;

/// Longest input.
const BYTES_MAX: usize = 8192;

/// A stream of numbers (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A few changes of the kinds that libFuzzer makes.
fn mutate(input: &mut Vec<u8>, chance: &mut Chance) {
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff_ffff, u64::MAX, 1 << 63, 0x7fc0_0000];
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(input.len());
        match chance.below(6) {
            0 if !input.is_empty() => input[at] ^= 1 << chance.below(8),
            1 if !input.is_empty() => input[at] = chance.next() as u8,
            2 if !input.is_empty() => {
                let edge = EDGES[chance.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][chance.below(4)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&edge[..width]);
            }
            3 => input.truncate(at),
            4 => {
                let own: Vec<u8> = input[at..].iter().copied().take(chance.below(40)).collect();
                let to = chance.below(input.len());
                input.splice(to..to, own);
            }
            _ => {
                let random: Vec<u8> = (0..chance.below(16)).map(|_| chance.next() as u8).collect();
                input.splice(at..at, random);
            }
        }
    }
    input.truncate(BYTES_MAX);
}

/// Tries a target on its corpus, and on so many mutations.
#[track_caller]
pub fn check(name: &str, target: fn(&[u8]), mutations: u64) {
    let run = |input: &[u8]| {
        if std::panic::catch_unwind(|| target(input)).is_err() {
            let bytes: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} panics; to keep it: printf {bytes} | xxd -r -p > fuzz/corpus/{name}/NAME");
        }
    };
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has a corpus");
    corpus.iter().for_each(|input| run(input));
    let mut chance = Chance(0x6772_616e_756d);
    for _ in 0..mutations {
        let mut input = corpus[chance.below(corpus.len())].clone();
        mutate(&mut input, &mut chance);
        run(&input);
    }
}
