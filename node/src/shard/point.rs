//! How far a seal reaches, as the files say it.

use granum_proto::internal::{RaftLogId, SealPoint};

use super::{LogPosition, Sealed};

fn write_position(position: LogPosition) -> RaftLogId {
    RaftLogId {
        term: position.term,
        replica: position.replica,
        index: position.index,
    }
}

fn read_position(position: RaftLogId) -> LogPosition {
    LogPosition {
        term: position.term,
        replica: position.replica,
        index: position.index,
    }
}

/// As a message.
pub(super) fn write(sealed: &Sealed) -> SealPoint {
    SealPoint {
        last: sealed.last.map(write_position),
        membership_log: sealed
            .membership
            .as_ref()
            .map(|(position, _)| write_position(*position)),
        membership: sealed
            .membership
            .as_ref()
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default(),
    }
}

/// Reads what [`write()`] wrote.
pub(super) fn read(point: Option<SealPoint>) -> Sealed {
    let point = point.unwrap_or_default();
    let membership = point.membership;
    Sealed {
        last: point.last.map(read_position),
        membership: point
            .membership_log
            .map(|position| (read_position(position), membership)),
    }
}
