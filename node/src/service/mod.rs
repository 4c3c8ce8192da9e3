//! What a node answers over gRPC: decode, one call, encode.

pub mod convert;
pub mod replicas;
pub mod search;
mod select;
pub mod write;

pub use replicas::{Context, Replica, Replicas};
