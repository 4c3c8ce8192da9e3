//! How does a replica reach the others of its group? Two connections a peer node, shared by all groups.
//!
//! Votes and heartbeats travel apart from entries and snapshots, so that bulk can't delay what keeps a leader in office.
//! Every message says cluster, group and target replica; where a node lives is looked up by its id for each call
//! ([`AddressBook`]), so a peer that came back elsewhere is found as soon as it announced itself. An append carries at
//! most [`APPEND_BYTES_MAX`]: what doesn't fit is left out and acknowledged as partial, and follows in the next one.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granum_proto::internal::{self, raft_client::RaftClient};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use prost::Message;
use tonic::transport::Endpoint;

use super::blocking::Blocking;
use super::book::AddressBook;
use super::line::{Channels, Courier, Line};
use super::machine::{Snapshot, SnapshotData};
use super::transfer::counts::{Counts, Transferred};
use super::transfer::send::{Source, send};
use super::type_config::{Peer, TypeConfig, Vote};
use super::{transfer, wire};
use crate::disk::SharedDisk;

/// Most bytes of entries in one append; a single larger entry goes alone.
pub const APPEND_BYTES_MAX: usize = 8 << 20;
/// Largest message on the Raft port: a full append, one entry more, and its frame.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long an append with entries may take: transfer, fsync and answer.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After this much silence a connection is asked whether it lives, and given as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// Bytes in flight on a connection for bulk; the default of 64 KiB would stall at every round trip.
const WINDOW_BYTES: u32 = 16 << 20;

const _: () = assert!(APPEND_BYTES_MAX + granum_proto::limits::ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX);

/// The connections of one node to its peers.
#[derive(Debug)]
pub struct Peers {
    node: u64,
    cluster: AtomicU64,
    book: Arc<AddressBook>,
    disk: SharedDisk,
    channels: Mutex<HashMap<u64, Channels>>,
    /// Of snapshots.
    counts: Counts,
    /// Carries everything, in a simulation.
    courier: Option<Arc<dyn Courier>>,
}

impl Peers {
    /// No connection yet; `cluster` is 0 until this node belongs to one.
    pub fn new(node: u64, cluster: u64, book: Arc<AddressBook>, disk: SharedDisk) -> Arc<Peers> {
        Arc::new(Peers {
            node,
            cluster: AtomicU64::new(cluster),
            book,
            disk,
            channels: Mutex::default(),
            counts: Counts::default(),
            courier: None,
        })
    }

    /// A node of a simulation, whose messages `courier` carries.
    pub fn simulated(node: u64, cluster: u64, disk: SharedDisk, courier: Arc<dyn Courier>) -> Arc<Peers> {
        Arc::new(Peers {
            node,
            cluster: AtomicU64::new(cluster),
            book: AddressBook::new([]),
            disk,
            channels: Mutex::default(),
            counts: Counts::default(),
            courier: Some(courier),
        })
    }

    /// This node's id.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// The cluster this node belongs to, 0 if none.
    pub fn cluster(&self) -> u64 {
        self.cluster.load(Ordering::Acquire)
    }

    /// This node belongs to `cluster` from now on.
    pub fn join_cluster(&self, cluster: u64) {
        self.cluster.store(cluster, Ordering::Release);
    }

    /// Where nodes live.
    pub fn book(&self) -> &Arc<AddressBook> {
        &self.book
    }

    /// The disk that snapshots are read from and received on.
    pub fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    /// What was sent and received of snapshots.
    pub fn transferred(&self) -> Transferred {
        self.counts.read()
    }

    /// Where that is counted.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Heads a message for `replica` of `group`.
    pub fn target(&self, group: u64, replica: u64) -> internal::RaftTarget {
        internal::RaftTarget {
            cluster: self.cluster(),
            group,
            replica,
            from_node: self.node,
        }
    }

    fn line(&self, node: u64) -> Result<Line, Unreachable<TypeConfig>> {
        if let Some(courier) = &self.courier {
            return Ok(Line::Courier(courier.clone(), node));
        }
        let unknown = || Unreachable::from_string(format!("node {node:016x}: address not known"));
        let address = self.book.raft_address(node).ok_or_else(unknown)?;
        let mut channels = self.channels.lock().expect("no holder of this lock panics");
        if let Some(open) = channels.get(&node).filter(|open| open.address == address) {
            return Ok(Line::Connections(Box::new(open.clone())));
        }
        let open = Channels {
            urgent: connect(&address).map_err(|why| Unreachable::from_string(why.to_string()))?,
            bulk: connect(&address).map_err(|why| Unreachable::from_string(why.to_string()))?,
            address,
        };
        channels.insert(node, open.clone());
        Ok(Line::Connections(Box::new(open)))
    }

    /// Asks the node of a group's leader for a seal, so that both logs may be purged.
    pub async fn request_seal(&self, node: u64, group: u64, replica: u64) -> Result<(), tonic::Status> {
        let mut line = self
            .line(node)
            .map_err(|why| tonic::Status::unavailable(why.to_string()))?;
        let request = internal::RaftSealRequest {
            target: Some(self.target(group, replica)),
        };
        match tokio::time::timeout(APPEND_TIMEOUT, line.request_seal(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(tonic::Status::deadline_exceeded("no answer to a request for a seal")),
        }
    }
}

/// A connection that is made when first needed, and again when it broke.
fn connect(address: &str) -> Result<RaftClient<tonic::transport::Channel>, tonic::transport::Error> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_lazy();
    Ok(RaftClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// Makes a group's connections to its members.
#[derive(Clone, Debug)]
pub struct Network {
    peers: Arc<Peers>,
    group: u64,
    blocking: Blocking,
}

impl Network {
    /// For one group, whose snapshots are read where `blocking` says.
    pub fn new(peers: Arc<Peers>, group: u64, blocking: Blocking) -> Network {
        Network { peers, group, blocking }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Connection {
        Connection {
            peers: self.peers.clone(),
            group: self.group,
            replica: target,
            node: peer.node_id,
            blocking: self.blocking,
        }
    }
}

/// From one group to one of its other replicas.
#[derive(Clone, Debug)]
pub struct Connection {
    peers: Arc<Peers>,
    group: u64,
    replica: u64,
    node: u64,
    blocking: Blocking,
}

impl Connection {
    fn target(&self) -> internal::RaftTarget {
        self.peers.target(self.group, self.replica)
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, RPCError<TypeConfig>> {
        let name = |why: &dyn std::fmt::Display| {
            Unreachable::from_string(format!("group {} on node {:016x}: {why}", self.group, self.node))
        };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(status)) => Err(name(&status.message()).into()),
            Err(_) => Err(name(&format_args!("no answer in {} ms", limit.as_millis())).into()),
        }
    }
}

fn malformed(why: wire::Malformed) -> RPCError<TypeConfig> {
    NetworkError::new(&why).into()
}

/// As many of `entries` as fit [`APPEND_BYTES_MAX`], at least one; and how many were left out.
fn fill(entries: Vec<super::type_config::Entry>) -> (Vec<internal::RaftEntry>, usize) {
    let all = entries.len();
    let mut taken = Vec::with_capacity(all);
    let mut bytes = 0;
    for entry in entries {
        let entry = wire::entry_out(entry);
        bytes += entry.encoded_len();
        if bytes > APPEND_BYTES_MAX && !taken.is_empty() {
            break;
        }
        taken.push(entry);
    }
    let left_out = all - taken.len();
    (taken, left_out)
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut line = self.peers.line(self.node)?;
        let (entries, left_out) = fill(request.entries);
        let last = entries.last().and_then(|entry| entry.log_id);
        let message = internal::RaftAppendRequest {
            target: Some(self.target()),
            vote: Some(wire::vote_out(&request.vote)),
            previous: request.prev_log_id.map(wire::log_id_out),
            leader_commit: request.leader_commit.map(wire::log_id_out),
            entries,
        };
        let response = match last {
            None => self.call(option.soft_ttl(), line.append(message)).await?,
            Some(_) => self.call(APPEND_TIMEOUT, line.append(message)).await?,
        };
        match wire::appended_in(response).map_err(malformed)? {
            AppendEntriesResponse::Success if left_out > 0 => {
                Ok(AppendEntriesResponse::PartialSuccess(last.map(wire::log_id_in)))
            }
            other => Ok(other),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut line = self.peers.line(self.node)?;
        let message = wire::vote_request_out(request, self.target());
        let response = self.call(option.soft_ttl(), line.vote(message)).await?;
        wire::voted_in(response).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut line = self.peers.line(self.node)?;
        let message = wire::vote_request_out(request, self.target());
        let response = self.call(option.soft_ttl(), line.pre_vote(message)).await?;
        wire::voted_in(response).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut line = self.peers.line(self.node)?;
        let files = snapshot.snapshot.as_deref();
        let files = files.ok_or_else(|| NetworkError::new(&wire::Malformed("snapshot: no files")))?;
        let header = transfer::header(self.target(), &vote, &snapshot.meta, files);
        let source = Source {
            disk: &self.peers.disk,
            place: self.blocking,
            counts: &self.peers.counts,
        };
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            answer = send(source, &mut line, header, files) => match answer {
                Ok(vote) => {
                    let vote = wire::vote_in(Some(vote)).map_err(|why| NetworkError::new(&why))?;
                    Ok(SnapshotResponse::new(vote))
                }
                Err(status) => {
                    let (group, node, why) = (self.group, self.node, status.message());
                    tracing::warn!(group, to_node = format!("{node:016x}"), why, "a snapshot did not arrive: it goes on");
                    Err(Unreachable::from_string(why).into())
                }
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut line = self.peers.line(self.node)?;
        let message = internal::RaftTransferRequest {
            target: Some(self.target()),
            from_leader: Some(wire::vote_out(request.from_leader())),
            to_replica: *request.to_node_id(),
            last_log: request.last_log_id().copied().map(wire::log_id_out),
        };
        self.call(option.soft_ttl(), line.transfer_leader(message)).await?;
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::type_config::{Command, Entry, Payload, log_id};
    use super::*;

    fn entry(index: u64, bytes: usize) -> Entry {
        Entry {
            log_id: log_id(1, index),
            payload: Payload::Normal(Command(vec![0; bytes].into())),
        }
    }

    #[test]
    fn an_append_is_bounded_by_bytes_and_never_empty() {
        let (taken, left_out) = fill((0..5).map(|index| entry(index, 3 << 20)).collect());
        assert_eq!((taken.len(), left_out), (2, 3));
        let (taken, left_out) = fill(vec![entry(0, APPEND_BYTES_MAX + 1), entry(1, 1)]);
        assert_eq!((taken.len(), left_out), (1, 1));
        assert_eq!(fill(Vec::new()).0.len(), 0);
    }
}
