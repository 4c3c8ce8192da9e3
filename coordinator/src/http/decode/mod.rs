//! JSON in: Qdrant's bodies as `granum.v1` messages. One file per word; what is wrong is named by its path.

pub mod collection;
pub mod filter;
mod geo;
pub mod index;
pub mod point;
pub mod query;
