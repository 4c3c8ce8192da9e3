//! What is stored: a document, and the address of its sealed version.

use std::sync::Arc;

use granum_model::{Dense, DocId, Vector};
use xxhash_rust::xxh3::Xxh3;

/// Names a sealed segment. The caller mints it (growing, never reused while a manifest may name it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl std::fmt::Display for SegmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a sealed version of a document lies. The caller may keep id -> place; the index takes it as a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which segment.
    pub segment: SegmentId,
    /// Row within the segment, below its number of rows.
    pub row: u32,
}

/// A document in canonical form: vectors checked against the schema, normalised and rounded by the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Who it is.
    pub id: DocId,
    /// The shard's sequence at which it was written.
    pub version: u64,
    /// A JSON object as UTF-8, or nothing (which means `{}`); at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: Arc<[u8]>,
    /// Vectors by name, each name at most once; a document may lack some of the schema's.
    pub vectors: Vec<(String, Vector)>,
}

/// Largest payload of a document, in bytes. The limit that clients meet is lower (proto/limits).
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

impl Document {
    /// The vector of that name.
    pub fn vector(&self, name: &str) -> Option<&Vector> {
        self.vectors
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, vector)| vector)
    }

    /// Names its content: equal for equal documents, on every machine, and different for others but with probability 2^-64
    /// (xxh3_64 of all fields, each after its length). Replicas compare sums of these ([`SegmentRef`](crate::SegmentRef)).
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(&self.id.encode());
        field(&self.version.to_le_bytes());
        field(&self.payload);
        for (name, vector) in &self.vectors {
            field(name.as_bytes());
            match vector {
                Vector::Dense(dense) => field(&dense_le_bytes(dense)),
                Vector::Sparse { indices, values } => {
                    field(&le_bytes(indices, |index| index.to_le_bytes()));
                    field(&le_bytes(values, |value| value.to_le_bytes()));
                }
                Vector::Multi { dimension, rows } => {
                    field(&dimension.to_le_bytes());
                    field(&dense_le_bytes(rows));
                }
            }
        }
        hash.digest()
    }

    /// Bytes it takes in memory, about: what budgets count.
    pub fn memory_bytes(&self) -> u64 {
        /// Id, Arc, row table, entry of the id map.
        const OVERHEAD_BYTES: usize = 256;
        let vectors: usize = self
            .vectors
            .iter()
            .map(|(name, vector)| name.len() + 64 + vector_bytes(vector))
            .sum();
        (OVERHEAD_BYTES + self.payload.len() + vectors) as u64
    }
}

fn dense_le_bytes(dense: &Dense) -> Vec<u8> {
    match dense {
        Dense::F16(bits) => le_bytes(bits, |half| half.to_le_bytes()),
        Dense::F32(values) => le_bytes(values, |value| value.to_le_bytes()),
    }
}

fn le_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

fn vector_bytes(vector: &Vector) -> usize {
    let dense_bytes = |dense: &Dense| match dense {
        Dense::F16(bits) => bits.len() * 2,
        Dense::F32(values) => values.len() * 4,
    };
    match vector {
        Vector::Dense(dense) => dense_bytes(dense),
        Vector::Sparse { indices, values } => indices.len() * 4 + values.len() * 4,
        Vector::Multi { rows, .. } => dense_bytes(rows),
    }
}
