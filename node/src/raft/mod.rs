//! How do replicas of a group agree? (The home of openraft; nothing outside this folder names it.)
//!
//! Read [`type_config`] first (what openraft runs on), then [`log`] (the one durable log of a node, shared by all its
//! groups).

pub mod log;
pub mod type_config;
