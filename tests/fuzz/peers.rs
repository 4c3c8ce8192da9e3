//! What may another node send? A snapshot: its header, and chunks of its files.
//!
//! Checksums are made right: what is tried is what stands below them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use granum_node::disk::{Disk, MemoryDisk, SharedDisk};
use granum_node::raft::transfer::incoming::Incoming;
use granum_node::raft::transfer::reception::Reception;
use granum_node::raft::transfer::{FileOf, Offer};
use granum_proto::internal::RaftSnapshotChunk;
use granum_proto::internal::raft_snapshot_chunk::{Data, Header, Kind};
use granum_proto::status::Failure;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

const INCOMING: &str = "/shard/incoming";

/// Chunks as they come, each behind its length. What is taken is what was announced, lies in the folder of snapshots and nowhere
/// else, and is held when the same is announced again; what is not taken does not keep a later transfer from beginning.
pub fn snapshot(input: &[u8]) {
    let Some((header, data)) = transfer(input) else {
        return;
    };
    let disk = MemoryDisk::new();
    let reception = Reception::new(Arc::new(disk.clone()), INCOMING.into());
    let taken = take(&disk, &reception, &header, &data);
    if disk.exists(Path::new("/shard")).unwrap() {
        assert_eq!(disk.list_dirs(Path::new("/shard")).unwrap(), ["incoming"]);
    }
    let Ok(files) = taken else {
        let nothing = Header {
            files: Vec::new(),
            ..header
        };
        let begins = Offer::read(nothing.clone()).is_ok();
        assert_eq!(
            take(&disk, &reception, &nothing, &[]).is_ok(),
            begins,
            "what failed is in nobody's way"
        );
        return;
    };
    let mut names: Vec<String> = files.iter().map(|file| file.0.clone()).collect();
    names.sort();
    assert_eq!(disk.list(Path::new(INCOMING)).unwrap(), names);
    for (name, bytes, digest) in &files {
        let file = disk.open(&Path::new(INCOMING).join(name)).unwrap();
        let mut content = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut content).unwrap();
        assert_eq!((content.len() as u64, xxh3_64(&content)), (*bytes, *digest), "{name}");
    }
    assert_eq!(
        take(&disk, &reception, &header, &[]),
        Ok(files),
        "what was taken is held"
    );
}

/// The files that one transfer brings.
fn take(disk: &MemoryDisk, reception: &Reception, header: &Header, data: &[Data]) -> Result<Vec<FileOf>, Failure> {
    let offer = Offer::read(header.clone())?;
    let shared: SharedDisk = Arc::new(disk.clone());
    let turn = now(reception.begin(offer.vote.leader_id.term))?;
    let mut incoming = Incoming::begin(shared, INCOMING.into(), offer, None, turn)?;
    let files = header.files.len();
    for missing in incoming.wanted().missing {
        assert!((missing.file as usize) < files, "{missing:?} of {files} files");
    }
    data.iter().try_for_each(|data| incoming.take(data))?;
    let snapshot = incoming.finish()?.snapshot.expect("a snapshot that came in has files");
    Ok(snapshot.files.clone())
}

/// What need not wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the folder is nobody else's"),
    }
}

/// The first header and what follows of data, with checksums and digests of what there is.
fn transfer(mut input: &[u8]) -> Option<(Header, Vec<Data>)> {
    let mut chunks = Vec::new();
    while !input.is_empty() {
        chunks.extend(RaftSnapshotChunk::decode_length_delimited(&mut input).ok()?.kind);
    }
    let mut chunks = chunks.into_iter();
    let Some(Kind::Header(mut header)) = chunks.next() else {
        return None;
    };
    let mut contents: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let data = chunks.filter_map(|chunk| match chunk {
        Kind::Data(mut data) => {
            data.crc32c = crc32c::crc32c(&data.bytes);
            contents.entry(data.file).or_default().extend_from_slice(&data.bytes);
            Some(data)
        }
        Kind::Header(_) => None,
    });
    let data: Vec<Data> = data.collect();
    for (ordinal, file) in (0..).zip(&mut header.files) {
        file.xxh3 = xxh3_64(contents.get(&ordinal).map_or(&[][..], Vec::as_slice));
    }
    Some((header, data))
}

#[cfg(test)]
mod tests {
    use granum_proto::internal::raft_snapshot_chunk::File;
    use granum_proto::internal::{RaftLogId, RaftMembership, RaftPeer, RaftVote, RaftVoters};

    use super::*;

    fn transfer_of(contents: &[(&str, &[u8])]) -> Vec<u8> {
        let header = Header {
            target: None,
            vote: Some(RaftVote {
                term: 3,
                replica: 1,
                committed: true,
            }),
            last_log: Some(RaftLogId {
                term: 2,
                replica: 0,
                index: 77,
            }),
            membership_log: Some(RaftLogId {
                term: 1,
                replica: 0,
                index: 1,
            }),
            membership: Some(RaftMembership {
                configs: vec![RaftVoters { replicas: vec![1] }],
                peers: vec![RaftPeer { replica: 1, node: 9 }],
            }),
            files: contents
                .iter()
                .map(|(name, bytes)| File {
                    name: (*name).into(),
                    bytes: bytes.len() as u64,
                    xxh3: 0,
                })
                .collect(),
        };
        let data = (0..).zip(contents).filter(|(_, (_, bytes))| !bytes.is_empty());
        let data = data.map(|(file, (_, bytes))| {
            Kind::Data(Data {
                file,
                offset: 0,
                bytes: bytes.to_vec().into(),
                crc32c: 0,
            })
        });
        let chunks = std::iter::once(Kind::Header(header)).chain(data);
        chunks
            .flat_map(|kind| RaftSnapshotChunk { kind: Some(kind) }.encode_length_delimited_to_vec())
            .collect()
    }

    #[test]
    fn the_committed_snapshot_is_one_that_is_taken() {
        let files: [(&str, &[u8]); 3] = [("1.ids", b"some ids"), ("2.empty", b""), ("MANIFEST", b"what there is")];
        let bytes = transfer_of(&files);
        let (header, data) = transfer(&bytes).unwrap();
        let disk = MemoryDisk::new();
        let reception = Reception::new(Arc::new(disk.clone()), INCOMING.into());
        assert_eq!(take(&disk, &reception, &header, &data).unwrap().len(), files.len());
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/snapshot/whole");
        if std::env::var_os("GOLDEN").is_some_and(|golden| golden == "write") {
            std::fs::write(committed, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(committed).unwrap(), bytes);
    }
}
