//! What a node answers over gRPC: decode, one call, encode.

pub mod admin;
pub mod convert;
pub mod facet;
pub mod raft;
pub mod register;
pub mod replicas;
pub mod search;
mod select;
pub mod server;
pub mod shard;
pub mod write;

pub use replicas::{Context, Replica, Replicas};
