//! The Raft port: decode, hand to `raft`, encode.

use futures::{StreamExt, TryStreamExt};
use granum_proto::internal::{self, raft_server::Raft};
use tonic::{Request, Response, Status, Streaming};

use crate::raft::line::Replies;
use crate::raft::serve::Inbox;

/// The groups of a node as its peers call them.
#[derive(Clone)]
pub struct RaftService {
    inbox: Inbox,
}

impl RaftService {
    /// Serves an inbox.
    pub fn new(inbox: Inbox) -> RaftService {
        RaftService { inbox }
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn append(
        &self,
        request: Request<internal::RaftAppendRequest>,
    ) -> Result<Response<internal::RaftAppendResponse>, Status> {
        Ok(Response::new(self.inbox.append(request.into_inner()).await?))
    }

    async fn vote(
        &self,
        request: Request<internal::RaftVoteRequest>,
    ) -> Result<Response<internal::RaftVoteResponse>, Status> {
        Ok(Response::new(self.inbox.vote(request.into_inner()).await?))
    }

    async fn pre_vote(
        &self,
        request: Request<internal::RaftVoteRequest>,
    ) -> Result<Response<internal::RaftVoteResponse>, Status> {
        Ok(Response::new(self.inbox.pre_vote(request.into_inner()).await?))
    }

    async fn transfer_leader(
        &self,
        request: Request<internal::RaftTransferRequest>,
    ) -> Result<Response<internal::RaftTransferResponse>, Status> {
        self.inbox.transfer_leader(request.into_inner()).await?;
        Ok(Response::new(internal::RaftTransferResponse {}))
    }

    type InstallSnapshotStream = Replies;

    async fn install_snapshot(
        &self,
        request: Request<Streaming<internal::RaftSnapshotChunk>>,
    ) -> Result<Response<Replies>, Status> {
        let replies = self.inbox.install_snapshot(request.into_inner());
        Ok(Response::new(replies.map_err(Status::from).boxed()))
    }

    async fn request_seal(
        &self,
        request: Request<internal::RaftSealRequest>,
    ) -> Result<Response<internal::RaftSealResponse>, Status> {
        self.inbox.request_seal(request.into_inner()).await?;
        Ok(Response::new(internal::RaftSealResponse {}))
    }
}
