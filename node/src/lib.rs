//! One storage process, many shards: the log, the groups, the documents, and the services in front of them.
#![warn(missing_docs)]

pub mod codec;
pub mod config;
pub mod disk;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod door;
pub mod holdings;
pub mod identity;
pub mod join;
pub mod merging;
pub mod metrics;
pub mod planted;
pub mod process;
pub mod raft;
pub mod recall;
pub mod service;
pub mod shard;
pub mod start;
pub mod threads;
pub mod verify;
pub mod worker;

pub use config::{Config, SETTINGS};
pub use start::{Node, NodeError, start};
