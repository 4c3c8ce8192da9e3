//! The bounds of everything a request may carry, by name, and the refusal that names field, value and limit.

/// Largest message a server takes, in bytes.
pub const MESSAGE_IN_BYTES_MAX: usize = 32 << 20;
/// Largest message a server sends, in bytes.
pub const MESSAGE_OUT_BYTES_MAX: usize = 64 << 20;
/// Largest dimension of a vector.
pub const DIMENSION_MAX: u32 = 8192;
/// Most rows of a multi-vector.
pub const MULTI_ROWS_MAX: usize = 4096;
/// Most non-zero components of a sparse vector.
pub const SPARSE_VALUES_MAX: usize = 65_536;
/// Largest k of a query.
pub const LIMIT_MAX: u32 = 10_000;
/// Largest offset + k of a query.
pub const WINDOW_MAX: u32 = 100_000;
/// Most values that a shard counts documents by in one answer.
pub const FACET_VALUES_MAX: u32 = 100_000;
/// Most values that all shards are asked for together, unless an answer wants more of each: so 10,000 of each of 256 at most.
pub const FACET_VALUES_SUM_MAX: u32 = 400_000;
/// Most bytes of the values of one shard.
pub const FACET_BYTES_MAX: usize = 16 << 20;
/// Largest payload of a document, in bytes of JSON.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of a payload.
pub const PAYLOAD_DEPTH_MAX: usize = 64;
/// Longest text to embed, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most documents of one write.
pub const BATCH_DOCUMENTS_MAX: usize = 10_000;
/// Most queries of one batch.
pub const BATCH_QUERIES_MAX: usize = 1_000;
/// Most collections of a cluster.
pub const COLLECTIONS_MAX: usize = 1_000;
/// Most shards of a collection.
pub const SHARDS_MAX: u32 = 256;
/// Most replicas of a shard.
pub const REPLICATION_FACTOR_MAX: u32 = 7;
/// Most vectors of a schema.
pub const VECTORS_MAX: usize = 64;
/// Longest name of a vector, in bytes.
pub const VECTOR_NAME_BYTES_MAX: usize = 128;
/// Longest name of a collection, in bytes.
pub const COLLECTION_NAME_BYTES_MAX: usize = 255;
/// Longest path of a payload field, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest Raft log entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;
/// Longest time a request may take, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 600_000;
/// Time a request may take where it names none, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Most streams of one connection.
pub const STREAMS_MAX: u32 = 256;

const _: () = assert!(ENTRY_BYTES_MAX < MESSAGE_IN_BYTES_MAX, "an entry must fit a message");
const _: () = assert!(PAYLOAD_BYTES_MAX < ENTRY_BYTES_MAX, "a document must fit an entry");
const _: () = assert!(FACET_BYTES_MAX < MESSAGE_OUT_BYTES_MAX, "values must fit a message");
const _: () = assert!(
    LIMIT_MAX <= FACET_VALUES_MAX,
    "a shard must be able to name all values asked for"
);
const _: () = assert!(LIMIT_MAX <= WINDOW_MAX, "a page must fit the window");

/// A request that can't be taken as it is: which field, and what is wrong with it (value and limit in the text).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field, as the caller wrote it: `documents[3].vectors["title"]`.
    pub field: String,
    /// What is wrong, with value and limit.
    pub problem: String,
}

impl Invalid {
    /// Names a field and what is wrong with it.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same problem of a field inside `outer`.
    pub fn within(self, outer: &str) -> Self {
        let joint = if self.field.starts_with('[') || self.field.is_empty() {
            ""
        } else {
            "."
        };
        Invalid {
            field: format!("{outer}{joint}{}", self.field),
            problem: self.problem,
        }
    }
}

/// Refuses `value` above `limit`.
pub fn at_most(field: &str, value: usize, limit: usize, unit: &str) -> Result<(), Invalid> {
    if value > limit {
        return Err(Invalid::new(field, format!("{value} {unit}, at most {limit}")));
    }
    Ok(())
}
