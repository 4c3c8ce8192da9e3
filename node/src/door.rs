//! What do the fuzz targets (tests/fuzz) see of this crate's inside? Readers of bytes that are no part of what it offers.

use std::path::Path;

use granum_index::Query;
use granum_proto::internal::ShardQuery;
use granum_proto::limits::Invalid;

use crate::disk::SharedDisk;
use crate::raft::log::record::{Header, encode};
use crate::raft::log::{self, LogCheck, LogError};

/// The record of the Raft log at the start of `bytes`, read and written again; `None`: there is none.
pub fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::decode(bytes).ok()?;
    let fact = header.fact(bytes).ok()?;
    let mut again = Vec::new();
    encode(&mut again, header.group, &fact, header.position, header.synced);
    Some(again)
}

/// A query as it came from a coordinator.
pub fn query(query: &ShardQuery) -> Result<Query, Invalid> {
    crate::service::convert::read_query(query)
}

/// A log as a start leaves it: what [`log::check`] says before, and after.
pub fn settled(
    disk: &SharedDisk,
    folder: &Path,
    owner: u64,
) -> Result<(LogCheck, Result<LogCheck, LogError>), LogError> {
    let before = log::check(disk, folder, owner)?;
    log::settle(disk, folder, owner)?;
    Ok((before, log::check(disk, folder, owner)))
}
