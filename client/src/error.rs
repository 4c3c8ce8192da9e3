//! Why a call brought nothing, one enum per group of calls, its variants named for what the caller would do.
//!
//! Each holds the [`Failure`] as the cluster told it; which failure becomes which variant stands in one place per enum.

use granum_model::RequestId;
use granum_proto::status::Failure;

/// A question that got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SearchError {
    /// Change the request: the text names field, value and limit.
    #[error("{0}")]
    Request(Failure),
    /// Create it, or ask for another: no such collection or document.
    #[error("{0}")]
    NotFound(Failure),
    /// Ask for less freshness, or later: no replica was fresh enough in time.
    #[error("{0}")]
    Stale(Failure),
    /// Ask again later: nobody could answer in time.
    #[error("{0}")]
    Unavailable(Failure),
    /// Look at the cluster: something is damaged, or an answer broke its own rules.
    #[error("{0}")]
    Fault(Failure),
}

impl From<Failure> for SearchError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid(_) | Failure::Exists(_) | Failure::Precondition(_) | Failure::Expired(_) => {
                SearchError::Request(failure)
            }
            Failure::NotFound(_) => SearchError::NotFound(failure),
            Failure::Stale(_) => SearchError::Stale(failure),
            Failure::NotLeader { .. }
            | Failure::WrongEpoch { .. }
            | Failure::NoReplica { .. }
            | Failure::Busy(_)
            | Failure::ReadOnly(_)
            | Failure::Unavailable(_)
            | Failure::Unknown(_) => SearchError::Unavailable(failure),
            Failure::Fault(_) => SearchError::Fault(failure),
        }
    }
}

impl SearchError {
    /// As the cluster told it.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Request(failure)
            | Self::NotFound(failure)
            | Self::Stale(failure)
            | Self::Unavailable(failure)
            | Self::Fault(failure) => failure,
        }
    }
}

/// A write that did not get through whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{failure}")]
pub struct WriteFailed {
    /// As the cluster told it.
    pub failure: Failure,
    /// The id of the whole write: the same documents with the same id may be sent again.
    pub request_id: RequestId,
    /// Documents acknowledged before it, from the first on; more than 0 only where a large write was split.
    pub acknowledged: usize,
}

/// Why a write was not, or not surely, taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Change the request: the text names field, value and limit. Nothing of the (part of the) batch was written.
    #[error("{0}")]
    Request(WriteFailed),
    /// Create the collection first.
    #[error("{0}")]
    NotFound(WriteFailed),
    /// Make room or wait: the cluster refuses writes now (disk full), or the request id is too old to be sure of.
    #[error("{0}")]
    Refused(WriteFailed),
    /// Write again later: nobody could take it in time, and it has not happened.
    #[error("{0}")]
    Unavailable(WriteFailed),
    /// Ask again with the same request id: it may have happened.
    #[error("may have happened: {0}")]
    Unknown(WriteFailed),
    /// Look at the cluster: something is damaged.
    #[error("{0}")]
    Fault(WriteFailed),
}

impl From<WriteFailed> for WriteError {
    fn from(failed: WriteFailed) -> Self {
        match failed.failure {
            Failure::Invalid(_) | Failure::Exists(_) => WriteError::Request(failed),
            Failure::NotFound(_) => WriteError::NotFound(failed),
            Failure::ReadOnly(_) | Failure::Expired(_) | Failure::Precondition(_) => WriteError::Refused(failed),
            Failure::NotLeader { .. }
            | Failure::WrongEpoch { .. }
            | Failure::NoReplica { .. }
            | Failure::Stale(_)
            | Failure::Busy(_)
            | Failure::Unavailable(_) => WriteError::Unavailable(failed),
            Failure::Unknown(_) => WriteError::Unknown(failed),
            Failure::Fault(_) => WriteError::Fault(failed),
        }
    }
}

impl WriteError {
    /// What failed, and what was acknowledged before it.
    pub fn failed(&self) -> &WriteFailed {
        match self {
            Self::Request(failed)
            | Self::NotFound(failed)
            | Self::Refused(failed)
            | Self::Unavailable(failed)
            | Self::Unknown(failed)
            | Self::Fault(failed) => failed,
        }
    }
}

/// Why a collection was not made, changed, found or deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdminError {
    /// Change the request: the text names field, value and limit.
    #[error("{0}")]
    Request(Failure),
    /// No such collection.
    #[error("{0}")]
    NotFound(Failure),
    /// Take another name, or what stands: it exists, and differs.
    #[error("{0}")]
    Exists(Failure),
    /// Change the cluster first (too few nodes, too many collections), or wait.
    #[error("{0}")]
    Refused(Failure),
    /// Ask again later: nobody could do it in time, and it has not happened.
    #[error("{0}")]
    Unavailable(Failure),
    /// Look whether it has happened, or ask again: nobody answered in time.
    #[error("may have happened: {0}")]
    Unknown(Failure),
    /// Look at the cluster: something is damaged.
    #[error("{0}")]
    Fault(Failure),
}

impl From<Failure> for AdminError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid(_) => AdminError::Request(failure),
            Failure::NotFound(_) => AdminError::NotFound(failure),
            Failure::Exists(_) => AdminError::Exists(failure),
            Failure::ReadOnly(_) | Failure::Expired(_) | Failure::Precondition(_) => AdminError::Refused(failure),
            Failure::NotLeader { .. }
            | Failure::WrongEpoch { .. }
            | Failure::NoReplica { .. }
            | Failure::Stale(_)
            | Failure::Busy(_)
            | Failure::Unavailable(_) => AdminError::Unavailable(failure),
            Failure::Unknown(_) => AdminError::Unknown(failure),
            Failure::Fault(_) => AdminError::Fault(failure),
        }
    }
}

impl AdminError {
    /// As the cluster told it.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Request(failure)
            | Self::NotFound(failure)
            | Self::Exists(failure)
            | Self::Refused(failure)
            | Self::Unavailable(failure)
            | Self::Unknown(failure)
            | Self::Fault(failure) => failure,
        }
    }
}
