//! How is a whole state taken in, from a leader whose log no longer reaches back to what this replica has?
//!
//! As a stream of answers to a stream of chunks: what is wanted, then the vote. A task of its own does it, so that no sender
//! that stops reading answers can keep a later transfer out; whoever drops the answers ends it, and what has arrived stays
//! for the next. What is needed is decided before anything travels.

use std::sync::Arc;

use futures::stream;
use granum_proto::internal::{self, raft_snapshot_chunk as chunk, raft_snapshot_reply as reply};
use granum_proto::status::Failure;
use openraft::error::Fatal;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::{Inbox, malformed};
use crate::raft::blocking::Blocking;
use crate::raft::group::Group;
use crate::raft::machine::Snapshot;
use crate::raft::transfer::Offer;
use crate::raft::transfer::counts::Counts;
use crate::raft::transfer::incoming::Incoming;
use crate::raft::transfer::reception::interrupted;
use crate::raft::wire::{self, Malformed};

/// Answers of one transfer: what is wanted, and the vote or why there is none. So many never wait to be read.
const REPLIES_MAX: usize = 2;

type Reply = Result<internal::RaftSnapshotReply, Failure>;

fn answer(replies: &mpsc::Sender<Reply>, outcome: Result<reply::Kind, Failure>) {
    let reply = outcome.map(|kind| internal::RaftSnapshotReply { kind: Some(kind) });
    // Who no longer waits needs none.
    let _ = replies.try_send(reply);
}

impl Inbox {
    /// A whole state. What is wanted of it is the first answer, the replica's vote the last; where nothing is needed,
    /// the only one.
    pub fn install_snapshot<S>(&self, chunks: S) -> impl Stream<Item = Reply> + Send + use<S>
    where
        S: Stream<Item = Result<internal::RaftSnapshotChunk, tonic::Status>> + Unpin + Send + 'static,
    {
        let (replies, answers) = mpsc::channel(REPLIES_MAX);
        let inbox = self.clone();
        let transfer = tokio::spawn(async move {
            let vote = inbox.take_in(chunks, &replies).await;
            answer(&replies, vote.map(reply::Kind::Vote));
        });
        stream::unfold(
            (answers, AbortOnDropHandle::new(transfer)),
            async |(mut answers, transfer)| {
                let reply = answers.recv().await?;
                Some((reply, (answers, transfer)))
            },
        )
    }

    /// Reads the header, says what of the files is missing here, takes that, and installs. Answers the replica's vote.
    async fn take_in<S>(&self, mut chunks: S, replies: &mpsc::Sender<Reply>) -> Result<internal::RaftVote, Failure>
    where
        S: Stream<Item = Result<internal::RaftSnapshotChunk, tonic::Status>> + Unpin,
    {
        let Some(chunk::Kind::Header(header)) = next(&mut chunks).await? else {
            return Err(malformed(Malformed("snapshot: does not begin with a header")));
        };
        let group = self.addressee(header.target.as_ref())?;
        let from_node = header.target.as_ref().map_or(0, |target| target.from_node);
        let offer = Offer::read(header)?;
        if group.needs_nothing_of(&offer) {
            // Raft says so to the leader.
            let unneeded = Snapshot {
                meta: offer.meta,
                snapshot: None,
            };
            let answer = group.raft.install_full_snapshot(offer.vote, unneeded).await;
            let answer = answer.map_err(|fatal| unavailable(&group, &fatal))?;
            return Ok(wire::vote_out(&answer.vote));
        }
        let incoming = self.begin(&group, offer, from_node).await?;
        answer(replies, Ok(reply::Kind::Wanted(incoming.wanted())));
        let incoming = self.receive(incoming, chunks).await?;
        self.install(&group, incoming).await
    }

    /// Looks what of an announced snapshot is here.
    async fn begin(&self, group: &Arc<Group>, offer: Offer, from_node: u64) -> Result<Incoming, Failure> {
        let turn = group.reception.begin(offer.vote.leader_id.term).await?;
        let disk = self.groups.peers().disk().clone();
        let (receiver, files) = (group.clone(), offer.files.len());
        let incoming = blocking(self.place(), move || {
            let standing = receiver.machine.snapshot().unwrap_or_else(|fault| {
                tracing::warn!(%fault, "nothing of this replica's own files can be used for a snapshot");
                None
            });
            let directory = receiver.reception.directory().to_owned();
            Incoming::begin(disk, directory, offer, standing.as_ref(), turn)
        })
        .await?;
        let spared = incoming.spared();
        self.counts().spared(spared.held_bytes, spared.resumed_bytes);
        tracing::info!(
            shard = group.shard().0,
            from_node = format!("{from_node:016x}"),
            files,
            missing_bytes = incoming.missing_bytes(),
            held_bytes = spared.held_bytes,
            resumed_bytes = spared.resumed_bytes,
            "a snapshot comes in"
        );
        Ok(incoming)
    }

    /// Takes what was asked for.
    async fn receive<S>(&self, mut incoming: Incoming, mut chunks: S) -> Result<Incoming, Failure>
    where
        S: Stream<Item = Result<internal::RaftSnapshotChunk, tonic::Status>> + Unpin,
    {
        let interrupt = incoming.turn().interrupt();
        loop {
            let arrived = tokio::select! {
                biased;
                () = interrupt.cancelled() => Err(interrupted()),
                arrived = next(&mut chunks) => arrived,
            };
            let data = match arrived? {
                None => return Ok(incoming),
                Some(chunk::Kind::Data(data)) => data,
                Some(chunk::Kind::Header(_)) => return Err(malformed(Malformed("snapshot: a second header"))),
            };
            let bytes = data.bytes.len() as u64;
            incoming = blocking(self.place(), move || incoming.take(&data).map(|()| incoming)).await?;
            self.counts().received(bytes);
        }
    }

    /// Hands what has arrived to Raft.
    async fn install(&self, group: &Group, incoming: Incoming) -> Result<internal::RaftVote, Failure> {
        let vote = incoming.vote();
        let snapshot = blocking(self.place(), move || incoming.finish()).await?;
        let files = snapshot.snapshot.clone();
        let answer = group.raft.install_full_snapshot(vote, snapshot).await;
        // Raft takes it or obeys a later leader, to whose transfer this one's files may be of use; so they may be to this
        // leader's, if the replica only stops.
        let is_taken = answer
            .as_ref()
            .is_ok_and(|answer| answer.vote.leader_id == vote.leader_id);
        if is_taken || matches!(&answer, Err(fatal) if !matches!(fatal, Fatal::Stopped)) {
            group.reception.clear(self.place(), files).await;
        }
        let answer = answer.map_err(|fatal| unavailable(group, &fatal))?;
        if is_taken {
            self.counts().installed();
            tracing::info!(shard = group.shard().0, "a snapshot is installed");
        }
        Ok(wire::vote_out(&answer.vote))
    }

    fn place(&self) -> Blocking {
        self.groups.log().blocking()
    }

    fn counts(&self) -> &Counts {
        self.groups.peers().counts()
    }
}

fn unavailable(group: &Group, why: &dyn std::fmt::Display) -> Failure {
    Failure::Unavailable(format!("shard {}: {why}", group.shard()))
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
