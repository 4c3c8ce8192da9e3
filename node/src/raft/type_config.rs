//! Which types does openraft run on here?
//!
//! One `TypeConfig` serves every group of a node, the register (group 0) and all shards. What a command means is not
//! known on this side: a [`Command`] is the encoded message that `shard/command` made, an [`Applied`] the encoded
//! outcome that `shard/machine` answered. Both are reference-counted bytes, so that log, network and state machine
//! share one copy.
//!
//! Leader ids are the standard ones (Raft as in the paper: at most one leader a term). The advanced form lets a second
//! candidate of a term win and so saves a round of a split vote, but then "one leader a term", which the fault tests
//! assert, no longer holds, and each log id carries a replica id as well. openraft's `serde` feature stays off: nothing
//! that openraft derives can become a format by accident.

use std::fmt;

use bytes::Bytes;

use super::runtime::Runtime;

/// A replica's id: one replica of one group, minted by the cluster map and never reused (a rebuilt replica gets a
/// new one). It is what openraft calls a node id.
pub type ReplicaId = u64;

/// A Raft group's id: 0 is the register, every other is a shard's id. Never reused.
pub type GroupId = u64;

/// A proposal: an encoded message of `granum.internal.v1`, opaque to Raft. At most
/// `granum_proto::limits::ENTRY_BYTES_MAX` long.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Command(pub Bytes);

/// What applying a command answered: an encoded outcome, opaque to Raft.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Applied(pub Bytes);

/// What a membership says of a replica: the node that holds it. No address: those are found by node id and announced
/// at each start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Random id of the node (process with a data directory).
    pub node_id: u64,
}

openraft::declare_raft_types!(
    /// The types that openraft runs on.
    pub TypeConfig:
        D = Command,
        R = Applied,
        NodeId = u64,
        Node = Peer,
        AsyncRuntime = Runtime,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// Term (u64) of a leader that a majority elected: all that a log id needs to know of it.
pub type CommittedLeader = openraft::alias::CommittedLeaderIdOf<TypeConfig>;
/// (term, index): names one entry of one group's log.
pub type LogId = openraft::LogId<CommittedLeader>;
/// (term, replica voted for, whether a majority granted it).
pub type Vote = openraft::impls::Vote<openraft::impls::leader_id_std::LeaderId<u64, u64>>;
/// What an entry carries: nothing, a command or a membership.
pub type Payload = openraft::EntryPayload<Command, u64, Peer>;
/// One entry of a group's log.
pub type Entry = openraft::Entry<CommittedLeader, Payload>;
/// Voters (one set, or two while a change is under way) and the node of every replica.
pub type Membership = openraft::Membership<u64, Peer>;
/// A membership and the entry that brought it.
pub type StoredMembership = openraft::StoredMembership<CommittedLeader, u64, Peer>;

/// A log id from its two numbers.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeader::new(term), index)
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outcome of {} bytes", self.0.len())
    }
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {:016x}", self.node_id)
    }
}
