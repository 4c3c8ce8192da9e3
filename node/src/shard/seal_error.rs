//! Is a seal that failed to be tried again, or does it stop the replica? A full disk heals by itself; nothing else does.

use granum_index::BuildError;

use super::Fault;
use super::frame::FrameError;

/// Why a seal was not made.
pub(super) enum SealError {
    /// The disk is full: later, nothing is lost.
    Full(String),
    Fault(Fault),
}

impl From<Fault> for SealError {
    fn from(fault: Fault) -> SealError {
        SealError::Fault(fault)
    }
}

impl From<FrameError> for SealError {
    fn from(error: FrameError) -> SealError {
        match &error {
            FrameError::Disk(disk) if disk.is_full() => SealError::Full(error.to_string()),
            _ => SealError::Fault(error.into()),
        }
    }
}

impl From<BuildError> for SealError {
    fn from(error: BuildError) -> SealError {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match &error {
            BuildError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded) => {
                SealError::Full(error.to_string())
            }
            _ => SealError::Fault(error.into()),
        }
    }
}
