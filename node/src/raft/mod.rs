//! How do replicas of a group agree? (The home of openraft; nothing outside this folder names it.)
//!
//! Read [`type_config`] first: what openraft runs on.

pub mod type_config;
