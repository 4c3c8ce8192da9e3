//! How much is written or computed between two looks at whether to go on?

use std::io;

use crate::error::{BuildError, MergeError, OpenError, ReadError};
use crate::executor::Executor;
use crate::segment::build::failed;

/// The caller is asked again after so many bytes,
const BYTES: u64 = 256 << 10;
/// or so many rows.
const STEPS: u32 = 4096;

/// Asks the caller now and then whether to go on, and tells how many bytes were written since.
pub(crate) struct Pace<'a> {
    ask: &'a dyn Fn(u64) -> bool,
    bytes: u64,
    steps: u32,
}

/// The caller said stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by the caller")]
pub(crate) struct Stopped;

impl<'a> Pace<'a> {
    pub fn new(ask: &'a dyn Fn(u64) -> bool) -> Pace<'a> {
        Pace {
            ask,
            bytes: 0,
            steps: 0,
        }
    }

    /// A row or a block was written, of so many bytes.
    pub fn step(&mut self, bytes: usize) -> Result<(), Stopped> {
        self.bytes += bytes as u64;
        self.steps += 1;
        match self.bytes < BYTES && self.steps < STEPS {
            true => Ok(()),
            false => self.ask(),
        }
    }

    /// Asks now.
    pub fn ask(&mut self) -> Result<(), Stopped> {
        self.steps = 0;
        match (self.ask)(std::mem::take(&mut self.bytes)) {
            true => Err(Stopped),
            false => Ok(()),
        }
    }
}

/// Asks now, between two pieces of a computation.
pub(crate) fn go_on(executor: &dyn Executor) -> Result<(), Stopped> {
    match executor.pace(0) {
        true => Err(Stopped),
        false => Ok(()),
    }
}

/// Asks at some of the rows of a loop that does little for each.
pub(crate) fn go_on_at(row: usize, executor: &dyn Executor) -> Result<(), Stopped> {
    match row.is_multiple_of(STEPS as usize) {
        true => go_on(executor),
        false => Ok(()),
    }
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Source(#[from] OpenError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl CopyError {
    /// As the error of a merge that was writing `file`.
    pub fn merging(file: String) -> impl FnOnce(CopyError) -> MergeError {
        move |error| match error {
            CopyError::Io(source) => failed(file)(source).into(),
            CopyError::Source(damage) => MergeError::Source(damage),
            CopyError::Stopped(stopped) => stopped.into(),
        }
    }

    /// As the error of a build that was writing `file`.
    pub fn building(file: String) -> impl FnOnce(CopyError) -> BuildError {
        move |error| match error {
            CopyError::Io(source) => failed(file)(source),
            CopyError::Source(damage) => BuildError::Open(damage),
            CopyError::Stopped(stopped) => stopped.into(),
        }
    }
}

impl From<Stopped> for MergeError {
    fn from(Stopped: Stopped) -> MergeError {
        MergeError::Stopped
    }
}

impl From<Stopped> for BuildError {
    fn from(Stopped: Stopped) -> BuildError {
        BuildError::Stopped
    }
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> CopyError {
        CopyError::Source(error.into())
    }
}
