//! How does a snapshot travel? The leader announces its files, the replica says what of them it lacks, and that travels, in
//! chunks of [`CHUNK_BYTES`] with a checksum each.
//!
//! ```text
//! leader                                   replica
//! header: files, lengths, digests   ──▶    what lies here whole? in part? (incoming, partial)
//!                                   ◀──    wanted: files, and where in them to begin
//! chunks (send)                     ──▶    checked, written, each file digested when it is whole
//!                                   ◀──    vote: installed
//! ```
//!
//! A transfer that breaks is not mended: the next one asks the same question, and what arrived is there. So one mechanism
//! serves cut connections, restarts, new leaders, damaged chunks and damaged files. The sender reads files that are pinned
//! (hard links of immutable files). The receiver trusts nothing: names, lengths, free space, every chunk's CRC-32C and every
//! file's xxh3_64 are checked before a state machine sees any of it, those of files that it held before too. [`reception`]
//! lets one transfer at a time into a replica's folder and keeps no leftovers that are of no use; [`counts`] counts bytes.

pub mod counts;
pub mod incoming;
mod partial;
pub mod reception;
pub mod send;

use std::collections::HashSet;

use granum_proto::internal::{self, raft_snapshot_chunk as chunk};
use granum_proto::status::Failure;

use super::machine::SnapshotMeta;
use super::type_config::{StoredMembership, Vote};
use super::wire::{self, Malformed};
use crate::shard::{SnapshotFiles, is_plain_name};

/// Bytes of a file in one chunk: all of them but the last of a file have exactly so many.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// Most files of a snapshot.
pub const FILES_MAX: usize = 65_536;

/// A file of a snapshot: a plain name, its length in bytes and its xxh3_64.
pub type FileOf = (String, u64, u64);

/// What announces `snapshot` to the replica `target`.
pub fn header(target: internal::RaftTarget, vote: &Vote, meta: &SnapshotMeta, files: &SnapshotFiles) -> chunk::Header {
    let file = |(name, bytes, xxh3): &FileOf| chunk::File {
        name: name.clone(),
        bytes: *bytes,
        xxh3: *xxh3,
    };
    let membership = &meta.last_membership;
    chunk::Header {
        target: Some(target),
        vote: Some(wire::vote_out(vote)),
        last_log: meta.last_log_id.map(wire::log_id_out),
        membership_log: membership.log_id().map(wire::log_id_out),
        membership: Some(wire::membership_out(membership.membership())),
        files: files.files.iter().map(file).collect(),
    }
}

/// What a header announces, checked.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Whose it is.
    pub vote: Vote,
    /// Up to where it reaches.
    pub meta: SnapshotMeta,
    /// Its files. Names are plain and occur once.
    pub files: Vec<FileOf>,
}

impl Offer {
    /// Refuses what no leader would send, and names that could lead anywhere else.
    pub fn read(header: chunk::Header) -> Result<Offer, Failure> {
        let malformed = |why: Malformed| Failure::Invalid(why.to_string());
        let vote = wire::vote_in(header.vote).map_err(malformed)?;
        let membership = wire::membership_in(header.membership.unwrap_or_default()).map_err(malformed)?;
        let membership_log = header.membership_log.map(wire::log_id_in);
        let meta = SnapshotMeta {
            last_log_id: header.last_log.map(wire::log_id_in),
            last_membership: StoredMembership::new(membership_log, membership),
        };
        // openraft holds a snapshot from beyond its leader's term for corruption and ends the group.
        if header.last_log.is_some_and(|last| last.term > vote.leader_id.term) {
            return Err(malformed(Malformed("snapshot: reaches beyond its leader's term")));
        }
        check_files(&header.files)?;
        let files = header.files.into_iter().map(|file| (file.name, file.bytes, file.xxh3));
        Ok(Offer {
            vote,
            meta,
            files: files.collect(),
        })
    }
}

fn check_files(files: &[chunk::File]) -> Result<(), Failure> {
    if files.len() > FILES_MAX {
        return Err(Failure::Invalid(format!(
            "snapshot.files: {} files, at most {FILES_MAX}",
            files.len()
        )));
    }
    let mut seen = HashSet::new();
    for file in files {
        if !is_plain_name(&file.name) || !seen.insert(&file.name) {
            return Err(Failure::Invalid(format!(
                "snapshot.files: {:?} is no plain name, or is given twice",
                file.name
            )));
        }
    }
    Ok(())
}

/// Bytes of the chunk that begins at `offset` of a file of `bytes`; 0 behind its end.
fn chunk_length(offset: u64, bytes: u64) -> u64 {
    bytes.saturating_sub(offset).min(CHUNK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a leader of `term` announces that has sealed entries of `last_term`.
    fn announced(files: Vec<chunk::File>, term: u64, last_term: u64) -> chunk::Header {
        let configs = vec![internal::RaftVoters { replicas: vec![1] }];
        let peers = vec![internal::RaftPeer { replica: 1, node: 1 }];
        chunk::Header {
            files,
            membership: Some(internal::RaftMembership { configs, peers }),
            vote: Some(internal::RaftVote {
                term,
                replica: 1,
                committed: true,
            }),
            last_log: Some(internal::RaftLogId {
                term: last_term,
                replica: 0,
                index: 9,
            }),
            ..chunk::Header::default()
        }
    }

    #[track_caller]
    fn check(names: &[&str], is_right: bool) {
        let file = |name: &&str| chunk::File {
            name: (*name).into(),
            ..chunk::File::default()
        };
        let files = names.iter().map(file).collect();
        assert_eq!(Offer::read(announced(files, 3, 3)).is_ok(), is_right, "{names:?}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        check(&["MANIFEST", "0000000000000001.ids", "a_b-c"], true);
        for name in ["", "..", "../x", "a/b", "a\\b", ".hidden", "a\0", &"x".repeat(129)] {
            check(&[name], false);
        }
        check(&["a", "a"], false);
    }

    #[test]
    fn more_files_than_a_snapshot_may_have_are_refused() {
        let names: Vec<String> = (0..=FILES_MAX).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        check(&names[..FILES_MAX], true);
        check(&names, false);
    }

    #[test]
    fn what_would_end_the_group_is_refused() {
        assert!(Offer::read(announced(Vec::new(), 3, 2)).is_ok());
        assert!(
            Offer::read(announced(Vec::new(), 3, 4)).is_err(),
            "beyond the leader's term"
        );
        let mut absent = announced(Vec::new(), 3, 3);
        absent.vote = None;
        assert!(Offer::read(absent).is_err());
        let mut without_members = announced(Vec::new(), 3, 3);
        without_members.membership = Some(internal::RaftMembership {
            configs: vec![internal::RaftVoters { replicas: vec![2] }],
            peers: Vec::new(),
        });
        assert!(Offer::read(without_members).is_err());
    }
}
