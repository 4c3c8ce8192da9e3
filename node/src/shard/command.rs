//! What does a log entry of a group say? Making, encoding and reading `granum.internal.v1.Command`.
//!
//! These bytes are in the log, so they outlive upgrades, and they are the same on all replicas, so whatever is decided
//! from them is decided everywhere alike. Bytes that are no command at all are refused, equally on all replicas; a
//! command that a newer build made is not guessed at: this replica stops ([`Unreadable::Newer`]) and is upgraded.

use bytes::Bytes;
use granum_model::RequestId;
use granum_proto::internal::{Command, Epoch, Seal, Swap, Tick, WriteBatch, command::Kind};
use granum_proto::limits::{BATCH_DOCUMENTS_MAX, ENTRY_BYTES_MAX, Invalid, at_most};
use granum_proto::v1::Schema;
use prost::Message;

/// Version of the commands that this build makes and the newest that it reads.
pub const COMMAND_VERSION: u32 = 1;

/// Bytes that this replica can't apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No command: refused on every replica.
    #[error("command: {0}")]
    Malformed(String),
    /// Of a later version or kind than this build knows: the replica must stop, for others can apply it.
    #[error("command of version {0}, this build reads up to {COMMAND_VERSION}")]
    Newer(u32),
}

/// Encodes a command; refuses what no log entry holds.
pub fn encode(command: &Command) -> Result<Bytes, Invalid> {
    at_most("batch", command.encoded_len(), ENTRY_BYTES_MAX, "bytes encoded")?;
    Ok(command.encode_to_vec().into())
}

/// Reads a command and checks its frame: version, request id, number of operations. What the operations ask for is
/// checked against the schema when they are applied.
pub fn decode(bytes: &[u8]) -> Result<Command, Unreadable> {
    let malformed = |problem: String| Unreadable::Malformed(problem);
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(malformed(format!("{} bytes, at most {ENTRY_BYTES_MAX}", bytes.len())));
    }
    let command = Command::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    match (command.version, &command.kind) {
        (0, _) => return Err(malformed("version 0".into())),
        (version, _) if version > COMMAND_VERSION => return Err(Unreadable::Newer(version)),
        (version, None) => return Err(Unreadable::Newer(version)),
        _ => {}
    }
    if !matches!(command.request_id.len(), 0 | 16) {
        return Err(malformed(format!("request_id of {} bytes", command.request_id.len())));
    }
    if let Some(Kind::Write(batch)) = &command.kind {
        at_most("operations", batch.operations.len(), BATCH_DOCUMENTS_MAX, "operations")
            .map_err(|error| malformed(error.to_string()))?;
    }
    Ok(command)
}

/// The command's request id, if it has one ([`decode`] has checked its length).
pub fn request_id(command: &Command) -> Option<RequestId> {
    command.request_id[..].try_into().ok().map(RequestId)
}

/// Writes and deletes of one request, proposed under `epoch`.
pub fn write(request: RequestId, epoch: u64, digest: u64, batch: WriteBatch) -> Command {
    Command {
        request_id: request.0.to_vec().into(),
        digest,
        ..of(epoch, Kind::Write(batch))
    }
}

/// Everything up to here is to become a segment.
pub fn seal() -> Command {
    of(0, Kind::Seal(Seal {}))
}

/// The leader's clock, in milliseconds since 1970-01-01T00:00Z.
pub fn tick(unix_ms: u64) -> Command {
    of(0, Kind::Tick(Tick { unix_ms }))
}

/// From here on documents have this schema.
pub fn alter_schema(request: RequestId, epoch: u64, schema: Schema) -> Command {
    Command {
        request_id: request.0.to_vec().into(),
        digest: xxhash_rust::xxh3::xxh3_64(&schema.encode_to_vec()),
        ..of(epoch, Kind::AlterSchema(schema))
    }
}

/// A change of the register.
pub fn swap(swap: Swap) -> Command {
    Command {
        request_id: swap.request_id.clone(),
        digest: xxhash_rust::xxh3::xxh3_64(&swap.encode_to_vec()),
        ..of(0, Kind::Swap(swap))
    }
}

/// From here on only this epoch is taken, for this range of hashes.
pub fn fence(epoch: Epoch) -> Command {
    of(epoch.epoch, Kind::Fence(epoch))
}

fn of(epoch: u64, kind: Kind) -> Command {
    Command {
        version: COMMAND_VERSION,
        epoch,
        kind: Some(kind),
        ..Command::default()
    }
}

#[cfg(test)]
mod tests {
    use granum_proto::internal::Operation;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn malformed(command: Command, problem: &str) {
        match decode(&command.encode_to_vec()) {
            Err(Unreadable::Malformed(said)) => assert!(said.contains(problem), "{said}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_made_reads_back() {
        let request = RequestId([7; 16]);
        for command in [
            write(request, 3, 9, WriteBatch::default()),
            seal(),
            tick(5),
            swap(Swap::default()),
        ] {
            assert_eq!(decode(&encode(&command).unwrap()), Ok(command));
        }
        assert_eq!(request_id(&write(request, 3, 9, WriteBatch::default())), Some(request));
        assert_eq!(request_id(&seal()), None);
    }

    #[test]
    fn a_frame_that_breaks_the_rules_is_refused_and_a_newer_one_stops_the_replica() {
        malformed(Command { version: 0, ..seal() }, "version 0");
        malformed(
            Command {
                request_id: vec![1; 15].into(),
                ..seal()
            },
            "request_id of 15 bytes",
        );
        let operations = vec![Operation::default(); BATCH_DOCUMENTS_MAX + 1];
        malformed(
            of(
                1,
                Kind::Write(WriteBatch {
                    operations,
                    ..WriteBatch::default()
                }),
            ),
            "10001 operations, at most 10000",
        );
        let newer = Command { version: 2, ..seal() };
        assert_eq!(decode(&newer.encode_to_vec()), Err(Unreadable::Newer(2)));
        let unknown_kind = Command {
            version: 1,
            ..Command::default()
        };
        assert_eq!(decode(&unknown_kind.encode_to_vec()), Err(Unreadable::Newer(1)));
    }

    #[test]
    fn an_entry_has_a_largest_size_both_ways() {
        let of_bytes = |bytes: usize| {
            swap(Swap {
                deletes: vec!["x".repeat(bytes)],
                ..Swap::default()
            })
        };
        let frame = of_bytes(ENTRY_BYTES_MAX / 2).encoded_len() - ENTRY_BYTES_MAX / 2;
        assert!(encode(&of_bytes(ENTRY_BYTES_MAX - frame - 8)).is_ok());
        let said = encode(&of_bytes(ENTRY_BYTES_MAX)).unwrap_err().to_string();
        assert!(
            said.starts_with("batch: ") && said.ends_with("bytes encoded, at most 4194304"),
            "{said}"
        );
        assert!(matches!(
            decode(&vec![0; ENTRY_BYTES_MAX + 1]),
            Err(Unreadable::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
