//! How a failure travels: one closed list, one table to gRPC codes, and what a caller may do about each.
//!
//! A [`Failure`] is put into a [`tonic::Status`] as code, message and details, and read back on the other side.

use prost::Message;
use tonic::{Code, Status};

/// Why a call failed, by what the caller would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request can't be taken as it is; repeating it is pointless. Names field, value and limit.
    #[error("{0}")]
    Invalid(String),
    /// No such collection, shard or document.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, and differs.
    #[error("{0}")]
    Exists(String),
    /// This replica doesn't lead; `leader_node` does, if known (0: not known).
    #[error("shard {shard}: not the leader, which is node {leader_node}")]
    NotLeader {
        /// Which shard.
        shard: u64,
        /// NodeId of the leader, 0 if not known.
        leader_node: u64,
    },
    /// The caller's epoch of the shard isn't this replica's: fetch the map again.
    #[error("shard {shard}: the epoch is {current}")]
    WrongEpoch {
        /// Which shard.
        shard: u64,
        /// The epoch that stands here.
        current: u64,
    },
    /// No replica of this shard lives here: fetch the map again.
    #[error("shard {shard}: no replica on this node")]
    NoReplica {
        /// Which shard.
        shard: u64,
    },
    /// Fresh enough an answer was not to be had in time.
    #[error("{0}")]
    Stale(String),
    /// Too much at once: later.
    #[error("{0}")]
    Busy(String),
    /// Disk or log full, read-only: later, reads still work.
    #[error("{0}")]
    ReadOnly(String),
    /// Nobody answers (no quorum, no connection): try elsewhere or later. A write has not happened.
    #[error("{0}")]
    Unavailable(String),
    /// The deadline passed or the connection broke after the proposal: it may have happened.
    #[error("{0}")]
    Unknown(String),
    /// The request id is older than the dedup window: never applied again.
    #[error("{0}")]
    Expired(String),
    /// A condition of the cluster forbids it now (a node belongs to another cluster, too few nodes, ...).
    #[error("{0}")]
    Precondition(String),
    /// Bytes are damaged, an invariant is broken: a bug or a broken disk.
    #[error("{0}")]
    Fault(String),
}

/// Whether, and how, a call may be repeated with the same request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Pointless.
    Never,
    /// At the leader named, or after asking who leads.
    Leader,
    /// After fetching the map again.
    Map,
    /// Later, or at another replica.
    Later,
}

impl Failure {
    /// What a caller that holds a request id may do.
    pub fn retry(&self) -> Retry {
        match self {
            Failure::NotLeader { .. } => Retry::Leader,
            Failure::WrongEpoch { .. } | Failure::NoReplica { .. } => Retry::Map,
            Failure::Stale(_) | Failure::Busy(_) | Failure::Unavailable(_) | Failure::Unknown(_) => Retry::Later,
            Failure::Invalid(_)
            | Failure::NotFound(_)
            | Failure::Exists(_)
            | Failure::ReadOnly(_)
            | Failure::Expired(_)
            | Failure::Precondition(_)
            | Failure::Fault(_) => Retry::Never,
        }
    }

    /// What a write is told that failed so at last, when an earlier attempt of it may have happened. What is wrong with the request
    /// itself was so from the first; every other refusal speaks of the last attempt only.
    #[must_use]
    pub fn of_a_write_in_doubt(self) -> Failure {
        match self {
            Failure::Invalid(_) | Failure::NotFound(_) | Failure::Exists(_) | Failure::Unknown(_) => self,
            last => Failure::Unknown(format!("it may have happened; at last: {last}")),
        }
    }

    /// The gRPC code and this failure's number on the wire.
    fn code(&self) -> (Code, u32) {
        match self {
            Failure::Invalid(_) => (Code::InvalidArgument, 1),
            Failure::NotFound(_) => (Code::NotFound, 2),
            Failure::Exists(_) => (Code::AlreadyExists, 3),
            Failure::NotLeader { .. } => (Code::FailedPrecondition, 4),
            Failure::WrongEpoch { .. } => (Code::FailedPrecondition, 5),
            Failure::NoReplica { .. } => (Code::FailedPrecondition, 6),
            Failure::Stale(_) => (Code::Aborted, 7),
            Failure::Busy(_) => (Code::ResourceExhausted, 8),
            Failure::ReadOnly(_) => (Code::ResourceExhausted, 9),
            Failure::Unavailable(_) => (Code::Unavailable, 10),
            Failure::Unknown(_) => (Code::DeadlineExceeded, 11),
            Failure::Expired(_) => (Code::FailedPrecondition, 12),
            Failure::Precondition(_) => (Code::FailedPrecondition, 13),
            Failure::Fault(_) => (Code::DataLoss, 14),
        }
    }

    /// The HTTP status of the gateway.
    pub fn http_status(&self) -> u16 {
        match self {
            Failure::Invalid(_) => 400,
            Failure::NotFound(_) => 404,
            Failure::Exists(_) | Failure::Expired(_) | Failure::Precondition(_) => 409,
            Failure::Busy(_) => 429,
            Failure::Fault(_) => 500,
            Failure::NotLeader { .. }
            | Failure::WrongEpoch { .. }
            | Failure::NoReplica { .. }
            | Failure::Stale(_)
            | Failure::Unavailable(_) => 503,
            Failure::Unknown(_) => 504,
            Failure::ReadOnly(_) => 507,
        }
    }
}

/// The failure as status details.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(uint64, tag = "2")]
    shard: u64,
    #[prost(uint64, tag = "3")]
    other: u64,
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let (code, number) = failure.code();
        let (shard, other) = match failure {
            Failure::NotLeader { shard, leader_node } => (shard, leader_node),
            Failure::WrongEpoch { shard, current } => (shard, current),
            Failure::NoReplica { shard } => (shard, 0),
            _ => (0, 0),
        };
        let details = Details { number, shard, other };
        Status::with_details(code, failure.to_string(), details.encode_to_vec().into())
    }
}

impl From<crate::limits::Invalid> for Failure {
    fn from(invalid: crate::limits::Invalid) -> Failure {
        Failure::Invalid(invalid.to_string())
    }
}

impl From<crate::limits::Invalid> for Status {
    fn from(invalid: crate::limits::Invalid) -> Status {
        Failure::from(invalid).into()
    }
}

/// Reads a failure back; a status that no Granum process made is sorted by its code. A transport error of a write that
/// may have been sent is [`Failure::Unknown`] only if the caller says so: here it is `Unavailable`.
pub fn failure(status: &Status) -> Failure {
    let message = status.message().to_owned();
    let details = Details::decode(status.details()).unwrap_or_default();
    match (details.number, status.code()) {
        (1, _) => Failure::Invalid(message),
        (2, _) => Failure::NotFound(message),
        (3, _) => Failure::Exists(message),
        (4, _) => Failure::NotLeader {
            shard: details.shard,
            leader_node: details.other,
        },
        (5, _) => Failure::WrongEpoch {
            shard: details.shard,
            current: details.other,
        },
        (6, _) => Failure::NoReplica { shard: details.shard },
        (7, _) => Failure::Stale(message),
        (8, _) => Failure::Busy(message),
        (9, _) => Failure::ReadOnly(message),
        (10, _) => Failure::Unavailable(message),
        (11, _) => Failure::Unknown(message),
        (12, _) => Failure::Expired(message),
        (13, _) => Failure::Precondition(message),
        (14, _) => Failure::Fault(message),
        (_, Code::InvalidArgument | Code::OutOfRange) => Failure::Invalid(message),
        (_, Code::Unimplemented) => {
            Failure::Precondition("this call is not known there: an older version, or not the port for it".into())
        }
        (_, Code::NotFound) => Failure::NotFound(message),
        (_, Code::AlreadyExists) => Failure::Exists(message),
        (_, Code::ResourceExhausted) => Failure::Busy(message),
        (_, Code::DeadlineExceeded | Code::Cancelled) => Failure::Unknown(message),
        (_, Code::DataLoss | Code::Internal) => Failure::Fault(message),
        (_, Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated) => {
            Failure::Precondition(message)
        }
        (_, Code::Ok | Code::Unknown | Code::Unavailable | Code::Aborted) => Failure::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_failure() -> Vec<Failure> {
        let text = || "why".to_owned();
        vec![
            Failure::Invalid(text()),
            Failure::NotFound(text()),
            Failure::Exists(text()),
            Failure::NotLeader {
                shard: 3,
                leader_node: 7,
            },
            Failure::WrongEpoch { shard: 3, current: 9 },
            Failure::NoReplica { shard: 3 },
            Failure::Stale(text()),
            Failure::Busy(text()),
            Failure::ReadOnly(text()),
            Failure::Unavailable(text()),
            Failure::Unknown(text()),
            Failure::Expired(text()),
            Failure::Precondition(text()),
            Failure::Fault(text()),
        ]
    }

    #[test]
    fn a_refusal_of_a_repetition_does_not_say_that_a_write_has_not_happened() {
        for failure in every_failure() {
            let told = failure.clone().of_a_write_in_doubt();
            let of_the_request = matches!(failure, Failure::Invalid(_) | Failure::NotFound(_) | Failure::Exists(_));
            assert_eq!(matches!(told, Failure::Unknown(_)), !of_the_request, "{failure:?}");
            assert!(told.to_string().contains(&failure.to_string()), "{told}");
        }
    }

    #[test]
    fn every_failure_survives_the_wire() {
        let mut numbers: Vec<u32> = every_failure().iter().map(|failure| failure.code().1).collect();
        for sent in every_failure() {
            assert_eq!(failure(&Status::from(sent.clone())), sent);
            assert!((400..600).contains(&sent.http_status()), "{sent:?}");
        }
        let unknown_call = failure(&Status::new(Code::Unimplemented, ""));
        assert!(
            matches!(&unknown_call, Failure::Precondition(text) if text.contains("an older version")),
            "{unknown_call:?}"
        );
        numbers.dedup();
        assert_eq!(numbers, (1..=14).collect::<Vec<u32>>(), "a number of its own for each");
    }
}
