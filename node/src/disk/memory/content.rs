//! What is left of a file's bytes when the power goes?

/// Bytes that a disk writes together or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What a crash leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Everything: the process died, the machine did not.
    Everything,
    /// Nothing that was not synced.
    Synced,
    /// A seeded number of the pending writes, in order, the last of them cut at any byte.
    Prefix(u64),
    /// A seeded choice of the pending sectors, in no order: a disk may write the later sector first.
    Scattered(u64),
}

/// The bytes of a file.
#[derive(Debug, Default)]
pub struct Content {
    /// What readers see.
    pub visible: Vec<u8>,
    /// What survives for sure.
    pub durable: Vec<u8>,
    /// Writes between the two, in order: offset and bytes.
    pub pending: Vec<(u64, Vec<u8>)>,
}

impl Content {
    /// Writes, not yet durably.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        put(&mut self.visible, offset, bytes);
        self.pending.push((offset, bytes.to_vec()));
    }

    /// Makes all writes durable.
    pub fn sync(&mut self) {
        for (offset, bytes) in self.pending.drain(..) {
            put(&mut self.durable, offset, &bytes);
        }
    }

    /// What a crash leaves.
    pub fn after(&self, survival: Survival, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match survival {
            Survival::Everything => bytes.clone_from(&self.visible),
            Survival::Synced => {}
            Survival::Prefix(_) => {
                let whole = dice.below(self.pending.len() + 1);
                for (offset, piece) in &self.pending[..whole] {
                    put(&mut bytes, *offset, piece);
                }
                if let Some((offset, piece)) = self.pending.get(whole) {
                    put(&mut bytes, *offset, &piece[..dice.below(piece.len() + 1)]);
                }
            }
            Survival::Scattered(_) => {
                for (offset, piece) in self.pending.iter().flat_map(|(offset, bytes)| sectors(*offset, bytes)) {
                    if dice.below(2) == 0 {
                        put(&mut bytes, offset, piece);
                    }
                }
            }
        }
        bytes
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).expect("offsets in memory fit");
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

/// Cuts a write where the file's sectors end.
fn sectors(offset: u64, bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = SECTOR_BYTES - (at % SECTOR_BYTES as u64) as usize;
        let (piece, behind) = rest.split_at(room.min(rest.len()));
        pieces.push((at, piece));
        at += piece.len() as u64;
        rest = behind;
    }
    pieces
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers in every version of every crate.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
