//! How do replicas of a group agree? (The home of openraft; nothing outside this folder names it.)
//!
//! Read [`type_config`] first (what openraft runs on), then [`log`] (the one durable log of a node, shared by all its
//! groups), `machine` (committed entries into a [`StateMachine`](crate::shard::StateMachine), seals out of it),
//! [`network`] (two connections a peer for all groups), [`transfer`] (a snapshot over them), [`serve`] (what arrives),
//! [`group`] (one replica: propose, read, status) and [`groups`] (all of a node). [`wire`] turns Raft's words into ours,
//! [`book`] says where nodes live; [`blocking`] and [`runtime`] are what a simulation replaces. Raft runs on a runtime of its own: a slow search can't cause an election.

pub mod blocking;
pub mod book;
pub mod group;
pub mod groups;
pub mod line;
pub mod log;
mod machine;
pub mod network;
pub mod runtime;
pub mod serve;
pub mod transfer;
pub mod type_config;
pub mod wire;

pub use blocking::Blocking;
pub use book::AddressBook;
pub use group::{Barrier, Group, GroupStatus};
pub use groups::{Groups, Timing};
