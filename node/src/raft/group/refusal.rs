//! What is a caller told whom a replica can't serve because it has stopped?

use granum_model::ShardId;
use granum_proto::status::Failure;
use openraft::error::Fatal;

use crate::raft::type_config::TypeConfig;
use crate::shard::Fault;

/// What is asked of a replica that stopped by a fault has not happened. It is opened again, or made anew, and until then another one
/// may answer; damage does not go away by waiting.
pub(super) fn faulted(shard: ShardId, fault: &Fault) -> Failure {
    let why = format!("shard {shard}: this replica stopped: {fault}");
    match fault.is_damage {
        true => Failure::Fault(why),
        false => Failure::Unavailable(why),
    }
}

/// The same where it was Raft that met it, in the log as a rule.
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
    fn a_replica_that_stopped_lets_callers_come_again_unless_it_is_damaged() {
        let unavailable = |failure: &Failure| matches!(failure, Failure::Unavailable(_));
        let disk = std::io::Error::other("Input/output error");
        assert!(unavailable(&stopped(
            ShardId(1),
            &StorageError::write_logs(ErrorSource::from_error(&disk)).into()
        )));
        assert!(unavailable(&stopped(ShardId(1), &Fatal::Stopped)));
        assert!(unavailable(&faulted(ShardId(1), &Fault::new("Input/output error"))));
        assert!(matches!(
            faulted(ShardId(1), &Fault::damage("a checksum does not hold")),
            Failure::Fault(_)
        ));
    }
}
