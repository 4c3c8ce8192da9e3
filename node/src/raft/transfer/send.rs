//! How does a leader send what a replica lacks? As it is asked, read where blocking harms nobody, a few chunks ahead.

use std::sync::Arc;

use futures::StreamExt;
use granum_proto::internal::{self, raft_snapshot_chunk as chunk, raft_snapshot_reply as reply};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::counts::Counts;
use super::{CHUNK_BYTES, FileOf, chunk_length};
use crate::disk::{DiskError, File, SharedDisk};
use crate::raft::blocking::Blocking;
use crate::raft::line::{Line, Replies};
use crate::shard::SnapshotFiles;

/// Chunks read ahead of the connection.
const READ_AHEAD_CHUNKS: usize = 4;

/// Where a sender reads, and what it counts.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The disk of the files.
    pub disk: &'a SharedDisk,
    /// Where reading blocks.
    pub place: Blocking,
    /// What was sent is counted here.
    pub counts: &'a Counts,
}

/// Sends of `files`, which `header` announces, what the replica lacks. Answers its vote, when it has installed them or
/// needs none of it. Whoever no longer waits ends the transfer.
pub async fn send(
    source: Source<'_>,
    line: &mut Line,
    header: chunk::Header,
    files: &SnapshotFiles,
) -> Result<internal::RaftVote, Status> {
    let (chunks, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
    let header = internal::RaftSnapshotChunk {
        kind: Some(chunk::Kind::Header(header)),
    };
    let sent = chunks.try_send(header);
    debug_assert!(sent.is_ok(), "the channel is new");
    let mut replies = line.install_snapshot(ReceiverStream::new(receiver)).await?;
    let wanted = match next(&mut replies).await? {
        reply::Kind::Vote(vote) => return Ok(vote),
        reply::Kind::Wanted(wanted) => wanted,
    };
    check(&wanted, &files.files)?;
    let feeding = feed(source, files, &wanted.missing, chunks);
    let answering = next(&mut replies);
    tokio::pin!(feeding, answering);
    let answer = tokio::select! {
        biased;
        answer = &mut answering => answer?,
        fed = &mut feeding => {
            fed?;
            answering.await?
        }
    };
    match answer {
        reply::Kind::Vote(vote) => Ok(vote),
        reply::Kind::Wanted(_) => Err(refused("it asks twice")),
    }
}

async fn next(replies: &mut Replies) -> Result<reply::Kind, Status> {
    let reply = replies.next().await.transpose()?;
    reply.and_then(|reply| reply.kind).ok_or_else(|| refused("no answer"))
}

fn refused(why: &str) -> Status {
    Status::invalid_argument(format!("answer to a snapshot: {why}"))
}

/// Refuses what lies outside of the files, and what was asked for already.
fn check(wanted: &reply::Wanted, files: &[FileOf]) -> Result<(), Status> {
    let mut lowest = 0;
    for missing in &wanted.missing {
        let bytes = files.get(missing.file as usize).map_or(0, |file| file.1);
        let is_out_of_place = missing.offset % CHUNK_BYTES != 0 || missing.offset >= bytes;
        if missing.file < lowest || is_out_of_place {
            return Err(refused("it wants what was not announced"));
        }
        lowest = missing.file + 1;
    }
    Ok(())
}

/// Sends each missing file from its offset on. Ends where the replica no longer listens: its answer says why.
async fn feed(
    source: Source<'_>,
    files: &SnapshotFiles,
    missing: &[reply::Missing],
    chunks: mpsc::Sender<internal::RaftSnapshotChunk>,
) -> Result<(), Status> {
    for missing in missing {
        let (name, bytes, _) = &files.files[missing.file as usize];
        let (disk, path) = (source.disk.clone(), files.directory.join(name));
        let file = read(source.place, move || disk.open(&path)).await?;
        let mut offset = missing.offset;
        while offset < *bytes {
            let length = chunk_length(offset, *bytes);
            let data = read_chunk(source.place, file.clone(), missing.file, offset, length).await?;
            let message = internal::RaftSnapshotChunk {
                kind: Some(chunk::Kind::Data(data)),
            };
            if chunks.send(message).await.is_err() {
                return Ok(());
            }
            source.counts.sent(length);
            offset += length;
        }
    }
    Ok(())
}

async fn read_chunk(
    place: Blocking,
    file: Arc<dyn File>,
    ordinal: u32,
    offset: u64,
    length: u64,
) -> Result<chunk::Data, Status> {
    read(place, move || {
        let mut buffer = vec![0; length as usize];
        file.read_at(offset, &mut buffer)?;
        Ok(chunk::Data {
            file: ordinal,
            offset,
            crc32c: crc32c::crc32c(&buffer),
            bytes: buffer.into(),
        })
    })
    .await
}

async fn read<T: Send + 'static>(
    place: Blocking,
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, Status> {
    match place.run(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "a file of a snapshot can't be sent");
            Err(Status::data_loss("a file of the snapshot can't be read"))
        }
        Err(undone) => Err(Status::unavailable(undone.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_wanted(missing: &[(u32, u64)], is_right: bool) {
        let files = [
            ("a".to_owned(), CHUNK_BYTES * 2 + 1, 0),
            ("empty".to_owned(), 0, 0),
            ("c".to_owned(), 3, 0),
        ];
        let missing = missing.iter().map(|(file, offset)| reply::Missing {
            file: *file,
            offset: *offset,
        });
        let wanted = reply::Wanted {
            missing: missing.collect(),
        };
        assert_eq!(check(&wanted, &files).is_ok(), is_right, "{wanted:?}");
    }

    #[test]
    fn only_what_was_announced_can_be_asked_for_and_only_once() {
        check_wanted(&[], true);
        check_wanted(&[(0, 0), (2, 0)], true);
        check_wanted(&[(0, CHUNK_BYTES * 2)], true);
        check_wanted(&[(0, CHUNK_BYTES * 3)], false);
        check_wanted(&[(0, 1)], false);
        check_wanted(&[(1, 0)], false);
        check_wanted(&[(3, 0)], false);
        check_wanted(&[(u32::MAX, 0)], false);
        check_wanted(&[(0, 0), (0, CHUNK_BYTES)], false);
        check_wanted(&[(2, 0), (0, 0)], false);
    }
}
