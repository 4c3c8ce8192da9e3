//! How fresh an answer must be.

use std::time::Duration;

use crate::v1;

/// How fresh an answer must be. Where none is named, the session's is taken, or else the collection's default.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadLevel {
    /// All that was acknowledged before the question.
    Linearizable,
    /// All that this token has seen.
    Session(v1::SessionToken),
    /// At most so far behind; zero doesn't bound.
    Bounded {
        /// In time, to the millisecond.
        max_lag: Duration,
        /// In log entries.
        max_lag_entries: u64,
    },
    /// Whatever the nearest replica has.
    Any,
}

impl ReadLevel {
    pub(crate) fn into_wire(self) -> v1::ReadLevel {
        use v1::read_level::{Any, Bounded, Kind, Linearizable};
        let kind = match self {
            ReadLevel::Linearizable => Kind::Linearizable(Linearizable {}),
            ReadLevel::Session(token) => Kind::Session(token),
            ReadLevel::Bounded {
                max_lag,
                max_lag_entries,
            } => Kind::Bounded(Bounded {
                max_lag_ms: max_lag.as_millis() as u64,
                max_lag_entries,
            }),
            ReadLevel::Any => Kind::Any(Any {}),
        };
        v1::ReadLevel { kind: Some(kind) }
    }
}

impl From<ReadLevel> for v1::ReadLevel {
    fn from(level: ReadLevel) -> Self {
        level.into_wire()
    }
}
