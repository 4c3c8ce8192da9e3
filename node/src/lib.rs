//! One storage process, many shards: the log, the groups, the documents, and the services in front of them.
#![warn(missing_docs)]

pub mod codec;
pub mod config;
pub mod disk;
pub mod identity;
pub mod raft;
pub mod service;
pub mod shard;
pub mod verify;
pub mod worker;
