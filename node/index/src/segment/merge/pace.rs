//! How much is written between two looks at whether to go on?

use std::io;

use crate::error::{OpenError, ReadError};

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

impl<'a> Pace<'a> {
    pub fn new(ask: &'a dyn Fn(u64) -> bool) -> Pace<'a> {
        Pace {
            ask,
            bytes: 0,
            steps: 0,
        }
    }

    /// A row or a block was written, of so many bytes.
    pub fn step(&mut self, bytes: usize) -> Result<(), CopyError> {
        self.bytes += bytes as u64;
        self.steps += 1;
        match self.bytes < BYTES && self.steps < STEPS {
            true => Ok(()),
            false => self.ask(),
        }
    }

    /// Asks now.
    pub fn ask(&mut self) -> Result<(), CopyError> {
        self.steps = 0;
        match (self.ask)(std::mem::take(&mut self.bytes)) {
            true => Err(CopyError::Stopped),
            false => Ok(()),
        }
    }
}

/// Why a file of a merged segment was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Source(#[from] OpenError),
    #[error("stopped")]
    Stopped,
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> CopyError {
        CopyError::Source(error.into())
    }
}
