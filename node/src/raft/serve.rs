//! What does a node do with Raft's messages from others? Check whom they are for, hand them to that replica, answer.
//!
//! A message for another cluster, or for a replica that no longer lives here, is refused: an old replica's id must never
//! vote in the name of the new one. A contact with the leader is noted with the time it *arrived*.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use granum_model::ShardId;
use granum_proto::internal::{self, raft_snapshot_chunk as chunk};
use granum_proto::status::Failure;
use openraft::raft::{AppendEntriesResponse, TransferLeaderRequest};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt};

use super::blocking::Blocking;
use super::group::{Group, commit_of_term};
use super::groups::Groups;
use super::machine::Snapshot;
use super::transfer::Incoming;
use super::wire::{self, Malformed};

/// Numbers the directories of snapshots that are coming in.
static INCOMING: AtomicU64 = AtomicU64::new(0);

/// The groups of a node as its peers reach them.
#[derive(Clone)]
pub struct Inbox {
    groups: Arc<Groups>,
    /// Where snapshots are received; emptied at each start.
    incoming: std::path::PathBuf,
}

fn malformed(why: Malformed) -> Failure {
    Failure::Invalid(why.to_string())
}

impl Inbox {
    /// Serves `groups`; snapshots come in under `incoming`.
    pub fn new(groups: Arc<Groups>, incoming: std::path::PathBuf) -> Inbox {
        Inbox { groups, incoming }
    }

    /// The replica that a message is for.
    fn addressee(&self, target: Option<&internal::RaftTarget>) -> Result<Arc<Group>, Failure> {
        let target = target.ok_or_else(|| malformed(Malformed("target: absent")))?;
        let cluster = self.groups.peers().cluster();
        if target.cluster != cluster {
            return Err(Failure::Precondition(format!(
                "this node belongs to cluster {cluster:016x}"
            )));
        }
        let group = self
            .groups
            .group(ShardId(target.group))
            .ok_or(Failure::NoReplica { shard: target.group })?;
        if group.replica().0 != target.replica {
            return Err(Failure::NoReplica { shard: target.group });
        }
        Ok(group)
    }

    /// Entries, or a heartbeat.
    pub async fn append(&self, request: internal::RaftAppendRequest) -> Result<internal::RaftAppendResponse, Failure> {
        let arrived = Instant::now();
        let group = self.addressee(request.target.as_ref())?;
        let request = wire::append_in(request).map_err(malformed)?;
        let committed = commit_of_term(request.leader_commit, request.vote.leader_id.term);
        let answer = group.raft.append_entries(request).await;
        let answer = answer.map_err(|error| Failure::Unavailable(format!("shard {}: {error}", group.shard())))?;
        let taken = matches!(
            answer,
            AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)
        );
        if let (true, Some(committed)) = (taken, committed) {
            group.heard(arrived.into_std(), committed);
        }
        Ok(wire::appended_out(answer))
    }

    /// A candidate asks for this replica's vote.
    pub async fn vote(&self, request: internal::RaftVoteRequest) -> Result<internal::RaftVoteResponse, Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let answer = group
            .raft
            .vote(wire::vote_request_in(request).map_err(malformed)?)
            .await;
        answer
            .map(wire::voted_out)
            .map_err(|error| Failure::Unavailable(error.to_string()))
    }

    /// A would-be candidate asks whether this replica would vote for it. Changes nothing.
    pub async fn pre_vote(&self, request: internal::RaftVoteRequest) -> Result<internal::RaftVoteResponse, Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let answer = group
            .raft
            .pre_vote(wire::vote_request_in(request).map_err(malformed)?)
            .await;
        answer
            .map(wire::voted_out)
            .map_err(|error| Failure::Unavailable(error.to_string()))
    }

    /// The leader hands over, to this replica or to another.
    pub async fn transfer_leader(&self, request: internal::RaftTransferRequest) -> Result<(), Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let from = wire::vote_in(request.from_leader).map_err(malformed)?;
        let request = TransferLeaderRequest::new(from, request.to_replica, request.last_log.map(wire::log_id_in));
        match group.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Precondition(error.to_string())),
            Err(fatal) => Err(Failure::Unavailable(fatal.to_string())),
        }
    }

    /// A follower's log is over its budget: seal, so that both may purge.
    pub async fn request_seal(&self, request: internal::RaftSealRequest) -> Result<(), Failure> {
        let group = self.addressee(request.target.as_ref())?;
        let status = group.status();
        if !status.leader {
            return Err(Failure::NotLeader {
                shard: group.shard().0,
                leader_node: status.leader_node,
            });
        }
        group.release_log().await;
        Ok(())
    }

    /// A whole state, from a leader whose log no longer reaches back to what this replica has.
    pub async fn install_snapshot<S>(&self, mut chunks: S) -> Result<internal::RaftSnapshotResponse, Failure>
    where
        S: Stream<Item = Result<internal::RaftSnapshotChunk, tonic::Status>> + Unpin,
    {
        let Some(chunk::Kind::Header(header)) = next(&mut chunks).await? else {
            return Err(malformed(Malformed("snapshot: does not begin with a header")));
        };
        let group = self.addressee(header.target.as_ref())?;
        let vote = wire::vote_in(header.vote).map_err(malformed)?;
        let snapshot = self.receive(&group, header, chunks).await?;
        let answer = group.raft.install_full_snapshot(vote, snapshot).await;
        let answer = answer.map_err(|fatal| Failure::Unavailable(format!("shard {}: {fatal}", group.shard())))?;
        Ok(internal::RaftSnapshotResponse {
            vote: Some(wire::vote_out(&answer.vote)),
        })
    }

    async fn receive<S>(&self, group: &Group, header: chunk::Header, mut chunks: S) -> Result<Snapshot, Failure>
    where
        S: Stream<Item = Result<internal::RaftSnapshotChunk, tonic::Status>> + Unpin,
    {
        let number = INCOMING.fetch_add(1, Ordering::Relaxed);
        let directory = self.incoming.join(format!("{:016x}-{number}", group.shard().0));
        let disk = self.groups.peers().disk().clone();
        let place = self.groups.log().blocking();
        let mut incoming = blocking(place, move || Incoming::begin(disk, directory, header)).await?;
        while let Some(kind) = next(&mut chunks).await.transpose() {
            let chunk::Kind::Data(data) = kind? else {
                return Err(malformed(Malformed("snapshot: a second header")));
            };
            incoming = blocking(place, move || incoming.take(&data).map(|()| incoming)).await?;
        }
        blocking(place, move || incoming.finish()).await
    }
}

async fn next<S>(chunks: &mut S) -> Result<Option<chunk::Kind>, Failure>
where
    S: Stream<Item = Result<internal::RaftSnapshotChunk, tonic::Status>> + Unpin,
{
    match chunks.next().await {
        None => Ok(None),
        Some(Err(status)) => Err(Failure::Unavailable(format!("snapshot: {}", status.message()))),
        Some(Ok(message)) => message
            .kind
            .map(Some)
            .ok_or_else(|| malformed(Malformed("snapshot: an empty chunk"))),
    }
}

async fn blocking<T, F>(place: Blocking, work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    place
        .run(work)
        .await
        .map_err(|undone| Failure::Unavailable(format!("snapshot: {undone}")))?
}
