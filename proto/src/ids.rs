//! Request ids, and the hash that places a document in a shard.

use granum_model::{DocId, RequestId};

/// Where a document belongs: xxh3_64 of its encoded id, seed 0. Shards own ranges of this; the golden test below keeps it for ever.
pub fn placement_hash(id: &DocId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&id.encode())
}

/// A request id from the wire: 16 bytes, or none.
pub fn request_id(bytes: &[u8]) -> Result<Option<RequestId>, crate::limits::Invalid> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = bytes
        .try_into()
        .map_err(|_| crate::limits::Invalid::new("request_id", format!("{} bytes, must be 16", bytes.len())))?;
    Ok(Some(RequestId(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_never_changes() {
        // From the reference implementation of xxHash.
        assert_eq!(placement_hash(&DocId::Number(42)), 5_096_793_477_454_505_956);
        assert_eq!(placement_hash(&DocId::Text("0ad".into())), 4_373_852_629_715_642_383);
        assert_eq!(placement_hash(&DocId::Uuid([7; 16])), 10_999_493_767_798_622_111);
    }
}
