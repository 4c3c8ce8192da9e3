//! What is a caller told whom Raft can't serve here any more?

use granum_model::ShardId;
use granum_proto::status::Failure;
use openraft::error::Fatal;

use crate::raft::type_config::TypeConfig;

/// What was asked has not happened, and another replica leads, or will: the node stops, or its log, which all its replicas share,
/// has failed. A replica whose own state has failed says so before ([`Failure::Fault`]), and its files are looked at.
pub(super) fn stopped(shard: ShardId, fatal: &Fatal<TypeConfig>) -> Failure {
    match fatal {
        Fatal::Stopped => Failure::Unavailable(format!("shard {shard}: the node stops")),
        failed => Failure::Unavailable(format!("shard {shard}: this replica stopped: {failed}")),
    }
}

#[cfg(test)]
mod tests {
    use openraft::StorageError;
    use openraft::error::ErrorSource;

    use super::*;

    /// All nodes lost their power: a search met a leader whose disk had just gone, and the client was told a fault instead of asked to wait.
    #[test]
    fn a_replica_whose_log_has_failed_lets_callers_come_again() {
        let disk = std::io::Error::other("Input/output error");
        let failed = StorageError::write_logs(ErrorSource::from_error(&disk));
        assert!(matches!(stopped(ShardId(1), &failed.into()), Failure::Unavailable(_)));
        assert!(matches!(stopped(ShardId(1), &Fatal::Stopped), Failure::Unavailable(_)));
    }
}
