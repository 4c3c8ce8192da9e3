//! How do Raft's words travel? Conversions between what openraft speaks and `granum.internal.v1`, in both directions.
//!
//! Everything that arrives is checked here and named when it is wrong ([`Malformed`]), so that the code behind trusts
//! its types. Our own messages, not openraft's serde derives: these bytes cross versions.

use std::collections::{BTreeMap, BTreeSet};

use granum_proto::internal;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;
use prost::Message;

use super::type_config::{
    Command, Entry, LogId, Membership, Payload, Peer, StoredMembership, TypeConfig, Vote, log_id,
};
use crate::shard::LogPosition;

/// Bytes from a peer or from disk that no correct node sends: which field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed raft message: {0}")]
pub struct Malformed(pub &'static str);

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> Self {
        granum_proto::status::Failure::Invalid(malformed.to_string()).into()
    }
}

/// A log id for the wire. Terms have single leaders here, so no replica goes with it.
pub fn log_id_out(id: LogId) -> internal::RaftLogId {
    internal::RaftLogId {
        term: *id.committed_leader_id().to_owned(),
        replica: 0,
        index: id.index(),
    }
}

/// A log id from the wire.
pub fn log_id_in(id: internal::RaftLogId) -> LogId {
    log_id(id.term, id.index)
}

/// A log id as the state machine names it.
pub fn position(id: LogId) -> LogPosition {
    LogPosition {
        term: *id.committed_leader_id().to_owned(),
        replica: 0,
        index: id.index(),
    }
}

/// The log id of a state machine's position.
pub fn log_id_at(position: LogPosition) -> LogId {
    log_id(position.term, position.index)
}

/// A vote for the wire.
pub fn vote_out(vote: &Vote) -> internal::RaftVote {
    internal::RaftVote {
        term: vote.leader_id.term(),
        replica: *vote.leader_id.node_id(),
        committed: vote.committed,
    }
}

/// A vote from the wire; it must be there.
pub fn vote_in(vote: Option<internal::RaftVote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("vote: absent"))?;
    Ok(match vote.committed {
        true => Vote::new_committed(vote.term, vote.replica),
        false => Vote::new(vote.term, vote.replica),
    })
}

/// A membership for the wire and for the seal's manifest.
pub fn membership_out(membership: &Membership) -> internal::RaftMembership {
    let voters = |set: &BTreeSet<u64>| internal::RaftVoters {
        replicas: set.iter().copied().collect(),
    };
    let peer = |(replica, peer): (&u64, &Peer)| internal::RaftPeer {
        replica: *replica,
        node: peer.node_id,
    };
    internal::RaftMembership {
        configs: membership.get_joint_config().iter().map(voters).collect(),
        peers: membership.nodes().map(peer).collect(),
    }
}

/// A membership from the wire; each voter needs a peer.
pub fn membership_in(membership: internal::RaftMembership) -> Result<Membership, Malformed> {
    let configs = membership
        .configs
        .into_iter()
        .map(|voters| voters.replicas.into_iter().collect())
        .collect();
    let peers: BTreeMap<u64, Peer> = membership
        .peers
        .into_iter()
        .map(|peer| (peer.replica, Peer { node_id: peer.node }))
        .collect();
    Membership::new(configs, peers).map_err(|_| Malformed("membership: a voter has no peer, or there is none"))
}

/// The membership inside a seal: its position and encoded bytes, as [`crate::shard::Sealed`] keeps them.
pub fn stored_membership_in(stored: Option<&(LogPosition, bytes::Bytes)>) -> Result<StoredMembership, Malformed> {
    let Some((at, encoded)) = stored else {
        return Ok(StoredMembership::default());
    };
    let decoded =
        internal::RaftMembership::decode(encoded.clone()).map_err(|_| Malformed("membership: not decodable"))?;
    Ok(StoredMembership::new(Some(log_id_at(*at)), membership_in(decoded)?))
}

/// One log entry for the wire.
pub fn entry_out(entry: Entry) -> internal::RaftEntry {
    use internal::raft_entry::Payload as Out;
    let payload = match entry.payload {
        Payload::Blank => Out::Blank(true),
        Payload::Normal(command) => Out::Command(command.0),
        Payload::Membership(membership) => Out::Membership(membership_out(&membership)),
    };
    internal::RaftEntry {
        log_id: Some(log_id_out(entry.log_id)),
        payload: Some(payload),
    }
}

/// One log entry from the wire.
pub fn entry_in(entry: internal::RaftEntry) -> Result<Entry, Malformed> {
    use internal::raft_entry::Payload as In;
    let log_id = log_id_in(entry.log_id.ok_or(Malformed("entry.log_id: absent"))?);
    let payload = match entry.payload.ok_or(Malformed("entry.payload: absent"))? {
        In::Blank(_) => Payload::Blank,
        In::Command(bytes) if bytes.len() > granum_proto::limits::ENTRY_BYTES_MAX => {
            return Err(Malformed("entry.command: over ENTRY_BYTES_MAX"));
        }
        In::Command(bytes) => Payload::Normal(Command(bytes)),
        In::Membership(membership) => Payload::Membership(membership_in(membership)?),
    };
    Ok(Entry { log_id, payload })
}

/// A request to append, from the wire.
pub fn append_in(request: internal::RaftAppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.previous.map(log_id_in),
        entries: request.entries.into_iter().map(entry_in).collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(log_id_in),
    })
}

/// An answer to an append, for the wire.
pub fn appended_out(response: AppendEntriesResponse<TypeConfig>) -> internal::RaftAppendResponse {
    use internal::raft_append_response::Kind;
    let (kind, partial, higher) = match response {
        AppendEntriesResponse::Success => (Kind::Success, None, None),
        AppendEntriesResponse::PartialSuccess(last) => (Kind::Partial, last.map(log_id_out), None),
        AppendEntriesResponse::Conflict => (Kind::Conflict, None, None),
        AppendEntriesResponse::HigherVote(vote) => (Kind::HigherVote, None, Some(vote_out(&vote))),
    };
    internal::RaftAppendResponse {
        kind: kind.into(),
        partial,
        higher,
    }
}

/// An answer to an append, from the wire.
pub fn appended_in(response: internal::RaftAppendResponse) -> Result<AppendEntriesResponse<TypeConfig>, Malformed> {
    use internal::raft_append_response::Kind;
    Ok(match response.kind() {
        Kind::Success => AppendEntriesResponse::Success,
        Kind::Partial => AppendEntriesResponse::PartialSuccess(response.partial.map(log_id_in)),
        Kind::Conflict => AppendEntriesResponse::Conflict,
        Kind::HigherVote => AppendEntriesResponse::HigherVote(vote_in(response.higher)?),
        Kind::Unspecified => return Err(Malformed("append response: kind unspecified")),
    })
}

/// A call for votes, for the wire.
pub fn vote_request_out(request: VoteRequest<TypeConfig>, target: internal::RaftTarget) -> internal::RaftVoteRequest {
    internal::RaftVoteRequest {
        target: Some(target),
        vote: Some(vote_out(&request.vote)),
        last_log: request.last_log_id.map(log_id_out),
        leader_transfer: request.leadership_transfer,
    }
}

/// A call for votes, from the wire.
pub fn vote_request_in(request: internal::RaftVoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let mut read = VoteRequest::new(vote_in(request.vote)?, request.last_log.map(log_id_in));
    read.leadership_transfer = request.leader_transfer;
    Ok(read)
}

/// An answer to a call for votes, for the wire.
pub fn voted_out(response: VoteResponse<TypeConfig>) -> internal::RaftVoteResponse {
    internal::RaftVoteResponse {
        vote: Some(vote_out(&response.vote)),
        granted: response.vote_granted,
        last_log: response.last_log_id.map(log_id_out),
    }
}

/// An answer to a call for votes, from the wire.
pub fn voted_in(response: internal::RaftVoteResponse) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse::new(
        vote_in(response.vote)?,
        response.last_log.map(log_id_in),
        response.granted,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let peers = BTreeMap::from([
            (1, Peer { node_id: 11 }),
            (2, Peer { node_id: 12 }),
            (3, Peer { node_id: 13 }),
        ]);
        Membership::new(vec![BTreeSet::from([1, 2])], peers).unwrap()
    }

    #[test]
    fn entries_survive_the_wire() {
        let payloads = [
            Payload::Blank,
            Payload::Normal(Command(bytes::Bytes::from_static(b"grain"))),
            Payload::Membership(membership()),
        ];
        for (index, payload) in payloads.into_iter().enumerate() {
            let entry = Entry {
                log_id: log_id(7, index as u64),
                payload,
            };
            assert_eq!(entry_in(entry_out(entry.clone())), Ok(entry));
        }
    }

    #[test]
    fn votes_survive_the_wire_and_an_absent_one_is_refused() {
        for vote in [Vote::new(3, 9), Vote::new_committed(3, 9)] {
            assert_eq!(vote_in(Some(vote_out(&vote))), Ok(vote));
        }
        assert_eq!(vote_in(None), Err(Malformed("vote: absent")));
    }

    #[test]
    fn a_membership_with_a_voter_without_peer_is_refused() {
        let mut sent = membership_out(&membership());
        sent.peers.retain(|peer| peer.replica != 2);
        assert!(membership_in(sent).is_err());
    }

    #[test]
    fn an_oversized_command_is_refused() {
        let command = vec![0; granum_proto::limits::ENTRY_BYTES_MAX + 1];
        let entry = Entry {
            log_id: log_id(1, 1),
            payload: Payload::Normal(Command(command.into())),
        };
        assert_eq!(
            entry_in(entry_out(entry)),
            Err(Malformed("entry.command: over ENTRY_BYTES_MAX"))
        );
    }
}
