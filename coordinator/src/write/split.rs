//! Operations by shard, in log entries of bounded size, in the order they were written.

use std::collections::BTreeMap;

use granum_model::ShardId;
use granum_proto::internal::{Operation, WriteBatch};
use granum_proto::limits::{ENTRY_BYTES_MAX, Invalid};
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use crate::map::Collection;

/// Room for what an entry holds besides its operations.
const ENTRY_HEAD_BYTES: usize = 4 << 10;
/// Room for an operation's tag and length.
const OPERATION_HEAD_BYTES: usize = 8;
/// Most bytes of operations in one entry.
const CHUNK_BYTES_MAX: usize = ENTRY_BYTES_MAX - ENTRY_HEAD_BYTES;

/// An operation and the shard it belongs to.
pub(super) struct Placed {
    pub shard: ShardId,
    pub digest: u64,
    pub operation: Operation,
}

/// What becomes one log entry of a shard.
#[derive(Default)]
pub(super) struct Chunk {
    pub batch: WriteBatch,
    bytes: usize,
}

impl Chunk {
    fn add(&mut self, placed: Placed, bytes: usize) {
        self.bytes += bytes;
        self.batch.operations.push(placed.operation);
    }
}

/// A client's request, cut up.
pub(super) struct Split {
    /// By shard; each shard's are in the order written.
    pub chunks: BTreeMap<ShardId, Vec<Chunk>>,
    /// Of all that the client wrote: every chunk carries it, so that a request id used twice is noticed.
    pub digest: u64,
    /// Operations in all.
    pub operations: usize,
}

/// Splits operations by shard and size.
pub(super) fn split(placed: impl Iterator<Item = Placed>, collection: &Collection) -> Result<Split, Invalid> {
    let mut digest = Xxh3::new();
    let mut operations = 0;
    let mut shards: BTreeMap<ShardId, Vec<Chunk>> = BTreeMap::new();
    let expected = placed.size_hint().0 / collection.shards.len().max(1);
    for placed in placed {
        operations += 1;
        digest.update(&placed.digest.to_le_bytes());
        let bytes = placed.operation.encoded_len() + OPERATION_HEAD_BYTES;
        if bytes > CHUNK_BYTES_MAX {
            let field = format!("documents[{}]", placed.operation.ordinal);
            return Err(Invalid::new(
                field,
                format!("{bytes} bytes, a log entry takes at most {CHUNK_BYTES_MAX}"),
            ));
        }
        let chunks = shards.entry(placed.shard).or_default();
        match chunks.last_mut() {
            Some(chunk) if chunk.bytes + bytes <= CHUNK_BYTES_MAX => chunk.add(placed, bytes),
            _ => {
                let mut chunk = Chunk::default();
                chunk.batch.operations.reserve(expected);
                chunk.add(placed, bytes);
                chunks.push(chunk);
            }
        }
    }
    Ok(Split {
        chunks: shards,
        digest: digest.digest(),
        operations,
    })
}

#[cfg(test)]
mod tests {
    use granum_model::Schema;
    use granum_proto::internal::operation;
    use granum_proto::v1;
    use proptest::prelude::*;

    use super::*;

    fn placed(ordinal: usize, shard: u64, bytes: usize) -> Placed {
        let document = v1::Document {
            payload_json: vec![b' '; bytes].into(),
            ..v1::Document::default()
        };
        Placed {
            shard: ShardId(shard),
            digest: ordinal as u64,
            operation: Operation {
                kind: Some(operation::Kind::Put(document)),
                ordinal: ordinal as u32,
                ..Operation::default()
            },
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_entries_are_bounded_and_a_shards_order_is_kept(
            writes in proptest::collection::vec((1u64..4, 0usize..(2 << 20)), 0..30)
        ) {
            let count = writes.len();
            let all = writes.iter().enumerate().map(|(ordinal, (shard, bytes))| placed(ordinal, *shard, *bytes));
            let split = split(all, &Collection::alone(Schema::default())).unwrap();
            let mut seen = 0;
            for chunks in split.chunks.values() {
                let ordinals: Vec<u32> =
                    chunks.iter().flat_map(|chunk| &chunk.batch.operations).map(|operation| operation.ordinal).collect();
                prop_assert!(ordinals.is_sorted());
                prop_assert!(chunks.iter().all(|chunk| chunk.batch.encoded_len() <= CHUNK_BYTES_MAX));
                seen += ordinals.len();
            }
            prop_assert_eq!((seen, split.operations), (count, count));
        }
    }

    #[test]
    fn a_document_that_fits_no_entry_is_refused_by_its_place() {
        let refused = split(
            [placed(3, 1, ENTRY_BYTES_MAX)].into_iter(),
            &Collection::alone(Schema::default()),
        )
        .err()
        .unwrap();
        assert_eq!(refused.field, "documents[3]");
    }
}
