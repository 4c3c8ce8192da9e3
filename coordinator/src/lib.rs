//! The coordinator: stateless, any number of equals. It turns a question or a write into calls to shards, and their
//! answers into one.
//!
//! Read in this order: [`Coordinator`] (what can be asked), `query` and `write` (how a request becomes calls), `route`
//! (which replica, what when it fails), `merge` (many lists into one), `map` (who holds what), `control` (how the cluster
//! becomes what the map says). `service` and `http` are two spellings of the same calls; [`start`] serves them.
#![warn(missing_docs)]

mod admin;
mod backoff;
mod canonical;
mod config;
mod context;
mod control;
mod coordinator;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod door;
pub mod embed;
mod embedders;
mod http;
mod map;
mod merge;
mod metrics;
mod pool;
mod query;
mod route;
mod serve;
mod service;
mod write;

pub use config::{Config, SETTINGS};
pub use coordinator::Coordinator;
pub use serve::{Running, StartError, start};
