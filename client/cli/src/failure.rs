//! How a command ends that did not do what it was asked: what is said, and with which exit code.
//!
//! 0: done. 1: it failed. 2: it was asked wrongly. A reader that went away (`granum ... | head`) is no failure.

use std::error::Error;
use std::io::ErrorKind;
use std::process::ExitCode;

use granum_client::{AdminError, BuildError, Failure, FilterError, SearchError, WriteError};

use crate::output::note;

/// The command was given wrongly: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Says what went wrong, and what to do where that is known.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    note(&format!("error: {error:#}"));
    if let Some(mistake) = error.downcast_ref::<FilterError>() {
        note(&mistake.caret());
    }
    if let Some(hint) = error.chain().find_map(failure_of).and_then(hint) {
        note(hint);
    }
    let usage = error.is::<Usage>() || error.is::<FilterError>() || error.is::<BuildError>();
    ExitCode::from(if usage { 2 } else { 1 })
}

fn is_broken_pipe(cause: &(dyn Error + 'static)) -> bool {
    let io = cause.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// What the cluster told, if it did.
fn failure_of(cause: &(dyn Error + 'static)) -> Option<Failure> {
    let search = cause.downcast_ref::<SearchError>().map(SearchError::failure);
    let write = cause.downcast_ref::<WriteError>().map(|error| &error.failed().failure);
    let admin = cause.downcast_ref::<AdminError>().map(AdminError::failure);
    search.or(write).or(admin).cloned()
}

fn hint(failure: Failure) -> Option<&'static str> {
    let (Failure::Unavailable(text) | Failure::Fault(text)) = failure else {
        return None;
    };
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["refused", "dns error", "tcp connect"]) {
        return Some("is a cluster running? `granum dev` starts one; one elsewhere is named by --url or GRANUM_URL");
    }
    if has(&[
        "mapped from HTTP status",
        "http2 error",
        "invalid compression flag",
        "frame with invalid size",
    ]) {
        return Some("is that the port of gRPC? it is one above that of HTTP: 6334 unless it was set");
    }
    None
}
