//! What carries a message to a peer? tonic's connections, or the courier of a simulation.
//!
//! A courier loses, delays, repeats and reorders messages as its seed says, and knows no sockets. It gets the very
//! messages that would be encoded, and calls the peer's [`Inbox`](super::serve::Inbox) as the Raft service does.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use granum_proto::internal::{self, raft_client::RaftClient};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// An answer under way.
pub type Answer<T> = BoxFuture<'static, Result<T, Status>>;

/// What a replica says to a snapshot, one after the other.
pub type Replies = BoxStream<'static, Result<internal::RaftSnapshotReply, Status>>;

/// Carries a node's messages to the node `to`.
pub trait Courier: Send + Sync + Debug {
    /// Entries, or a heartbeat.
    fn append(&self, to: u64, message: internal::RaftAppendRequest) -> Answer<internal::RaftAppendResponse>;

    /// A candidate's call for votes.
    fn vote(&self, to: u64, message: internal::RaftVoteRequest) -> Answer<internal::RaftVoteResponse>;

    /// What a call for votes would be answered.
    fn pre_vote(&self, to: u64, message: internal::RaftVoteRequest) -> Answer<internal::RaftVoteResponse>;

    /// A leader hands over.
    fn transfer_leader(&self, to: u64, message: internal::RaftTransferRequest) -> Answer<()>;

    /// A follower asks for a seal.
    fn request_seal(&self, to: u64, message: internal::RaftSealRequest) -> Answer<()>;

    /// A whole state.
    fn install_snapshot(&self, to: u64, chunks: ReceiverStream<internal::RaftSnapshotChunk>) -> Answer<Replies>;
}

/// The two connections to a peer at `address`.
#[derive(Clone, Debug)]
pub struct Channels {
    /// `host:port`.
    pub address: String,
    /// For votes and heartbeats.
    pub urgent: RaftClient<Channel>,
    /// For entries and snapshots.
    pub bulk: RaftClient<Channel>,
}

/// To one peer.
#[derive(Clone, Debug)]
pub enum Line {
    /// Over the network.
    Connections(Box<Channels>),
    /// Through a simulation, to this node.
    Courier(Arc<dyn Courier>, u64),
}

impl Line {
    /// Entries travel apart from heartbeats.
    pub async fn append(
        &mut self,
        message: internal::RaftAppendRequest,
    ) -> Result<internal::RaftAppendResponse, Status> {
        match self {
            Line::Connections(channels) if message.entries.is_empty() => {
                channels.urgent.append(message).await.map(Response::into_inner)
            }
            Line::Connections(channels) => channels.bulk.append(message).await.map(Response::into_inner),
            Line::Courier(courier, to) => courier.append(*to, message).await,
        }
    }

    /// See [`Courier::vote`].
    pub async fn vote(&mut self, message: internal::RaftVoteRequest) -> Result<internal::RaftVoteResponse, Status> {
        match self {
            Line::Connections(channels) => channels.urgent.vote(message).await.map(Response::into_inner),
            Line::Courier(courier, to) => courier.vote(*to, message).await,
        }
    }

    /// See [`Courier::pre_vote`].
    pub async fn pre_vote(&mut self, message: internal::RaftVoteRequest) -> Result<internal::RaftVoteResponse, Status> {
        match self {
            Line::Connections(channels) => channels.urgent.pre_vote(message).await.map(Response::into_inner),
            Line::Courier(courier, to) => courier.pre_vote(*to, message).await,
        }
    }

    /// See [`Courier::transfer_leader`].
    pub async fn transfer_leader(&mut self, message: internal::RaftTransferRequest) -> Result<(), Status> {
        match self {
            Line::Connections(channels) => channels.urgent.transfer_leader(message).await.map(|_| ()),
            Line::Courier(courier, to) => courier.transfer_leader(*to, message).await,
        }
    }

    /// See [`Courier::request_seal`].
    pub async fn request_seal(&mut self, message: internal::RaftSealRequest) -> Result<(), Status> {
        match self {
            Line::Connections(channels) => channels.bulk.request_seal(message).await.map(|_| ()),
            Line::Courier(courier, to) => courier.request_seal(*to, message).await,
        }
    }

    /// See [`Courier::install_snapshot`].
    pub async fn install_snapshot(
        &mut self,
        chunks: ReceiverStream<internal::RaftSnapshotChunk>,
    ) -> Result<Replies, Status> {
        match self {
            Line::Connections(channels) => {
                let replies = channels.bulk.install_snapshot(chunks).await?;
                Ok(replies.into_inner().boxed())
            }
            Line::Courier(courier, to) => courier.install_snapshot(*to, chunks).await,
        }
    }
}
