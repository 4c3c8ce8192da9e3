//! How does a node come to its cluster, and how do the others find it?
//!
//! A cluster is founded once: the first node of a bootstrap list (or the one told by `Found`) mints the cluster's id and
//! the first members of group 0, keeps both durably, orders the replicas and initialises the group; each step may be
//! repeated, so a founder that dies goes on at its next start. It needs an answer of every node named, and none that
//! belongs to a cluster: a founder that lost its disk finds the old cluster instead, and joins it as a new node.
//!
//! At each start a node writes its addresses under `nodes/` in the register and follows that prefix for those of the
//! others. The last known book is kept on disk, and seeds are asked directly, so a cluster that was down as a whole finds
//! itself before its register has a leader.

mod follow;
mod found;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use granum_model::ids::{REGISTER, register_voters};
use granum_proto::internal::register_client::RegisterClient;
use granum_proto::internal::{Compare, HelloRequest, HelloResponse, NodeRecord, Put, Swap, SwapResult};
use granum_proto::limits::MESSAGE_OUT_BYTES_MAX;
use granum_proto::status::{self, Failure};
use granum_proto::{PROTOCOL_VERSION, works_with};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::config::Config;
use crate::holdings::Holdings;
use crate::raft::AddressBook;
use crate::service::register::swap_in;

/// The prefix of the register that nodes understand.
pub const NODES_PREFIX: &str = "nodes/";
/// Time for one answer of another node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between attempts to come to a cluster: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Nodes that one attempt to reach the register's leader may visit.
const HOPS_MAX: usize = 16;

/// A node on its way into a cluster, and inside it.
pub struct Joining {
    holdings: Arc<Holdings>,
    book: Arc<AddressBook>,
    bootstrap: Vec<String>,
    join: Vec<String>,
    record: Mutex<NodeRecord>,
    /// Node that led the register when it was last heard of; 0: not known.
    register_leader: AtomicU64,
    new_id: fn() -> u64,
}

/// Key of a node's record.
pub fn node_key(node: u64) -> String {
    format!("{NODES_PREFIX}{node:016x}")
}

fn channel(address: &str) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Failure::Invalid(format!("{address:?} is no address such as node-0:6335")))?;
    Ok(endpoint
        .connect_timeout(ANSWER_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ANSWER_TIMEOUT)
        .keep_alive_timeout(ANSWER_TIMEOUT)
        .connect_lazy())
}

fn client(address: &str) -> Result<RegisterClient<Channel>, Failure> {
    Ok(RegisterClient::new(channel(address)?).max_decoding_message_size(MESSAGE_OUT_BYTES_MAX))
}

async fn answer<T>(
    address: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(refused)) => Err(status::failure(&refused)),
        Err(_) => Err(Failure::Unavailable(format!("{address}: no answer in time"))),
    }
}

impl Joining {
    /// A node with this record, not announced yet. `new_id` mints a cluster's id.
    pub fn new(
        holdings: Arc<Holdings>,
        book: Arc<AddressBook>,
        config: &Config,
        record: NodeRecord,
        new_id: fn() -> u64,
    ) -> Arc<Joining> {
        Arc::new(Joining {
            holdings,
            book,
            bootstrap: config.bootstrap.clone(),
            join: config.join.clone(),
            record: Mutex::new(record),
            register_leader: AtomicU64::new(0),
            new_id,
        })
    }

    /// What this node says of itself.
    pub fn record(&self) -> NodeRecord {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cluster(&self) -> u64 {
        self.holdings.groups().peers().cluster()
    }

    /// Why a call for the register can't be served here.
    pub fn elsewhere(&self) -> Failure {
        match self.cluster() {
            0 => Failure::Unavailable("this node belongs to no cluster yet".into()),
            _ => Failure::NotLeader {
                shard: REGISTER.0,
                leader_node: self.register_leader.load(Ordering::Relaxed),
            },
        }
    }

    /// Comes to a cluster, announces this node there and follows the others, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.step(&stop).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(why) => {
                    tracing::debug!(%why, "not in touch with the cluster yet");
                    self.ask_around().await;
                }
            }
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    /// One step towards following the register; that one lasts as long as it goes well.
    async fn step(&self, stop: &CancellationToken) -> Result<(), Failure> {
        if !self.holdings.directory().identity().founding.is_empty() {
            self.finish_founding().await?;
        }
        if self.cluster() == 0 {
            self.come_to_cluster().await?;
        }
        self.announce().await?;
        self.introduce().await?;
        tokio::select! {
            _ = stop.cancelled() => Ok(()),
            followed = self.follow() => followed,
        }
    }

    async fn come_to_cluster(&self) -> Result<(), Failure> {
        self.ask_around().await;
        if self.cluster() != 0 {
            return Ok(());
        }
        if self.is_first().await {
            let voters = register_voters(self.bootstrap.len());
            self.found_with(&self.bootstrap, voters).await?;
            return Ok(());
        }
        Err(Failure::Unavailable("no node of a cluster answers yet".into()))
    }

    /// Whether this node is the first of the bootstrap list, whatever it is called there.
    async fn is_first(&self) -> bool {
        let Some(first) = self.bootstrap.first() else {
            return false;
        };
        let record = self.record();
        *first == record.data_address || self.hello(first).await.is_ok_and(|hello| hello.node == record.node)
    }

    /// Asks one node who it is, and notes its addresses.
    async fn hello(&self, address: &str) -> Result<HelloResponse, Failure> {
        let request = HelloRequest {
            node: self.record().node,
            protocol_version: PROTOCOL_VERSION,
        };
        let hello = answer(address, client(address)?.hello(request)).await?;
        if !works_with(hello.protocol_version) {
            let theirs = hello.protocol_version;
            return Err(Failure::Precondition(format!(
                "{address} speaks protocol {theirs}, this is {PROTOCOL_VERSION}: only neighbours work together"
            )));
        }
        let mine = self.cluster();
        if mine == 0 || hello.cluster == 0 || hello.cluster == mine {
            self.book.learn(NodeRecord {
                node: hello.node,
                data_address: hello.data_address.clone(),
                raft_address: hello.raft_address.clone(),
                metrics_address: hello.metrics_address.clone(),
                version: hello.version.clone(),
                draining: false,
                removed: false,
                incarnation: self.book.find(hello.node).map_or(0, |known| known.incarnation),
            });
        }
        Ok(hello)
    }

    /// Asks every seed and every node of the book who it is; joins the cluster that a seed of `join` belongs to, and of
    /// `bootstrap` too.
    async fn ask_around(&self) {
        if let Some(register) = self.holdings.register() {
            self.take(register.machine.events_since(&[NODES_PREFIX.to_owned()], 0));
        }
        let mine = self.record().data_address;
        let known = self.book.all().into_iter().map(|record| record.data_address);
        let mut addresses: Vec<String> = self.join.iter().chain(&self.bootstrap).cloned().chain(known).collect();
        addresses.sort();
        addresses.dedup();
        addresses.retain(|address| *address != mine && !address.is_empty());
        let asked = futures::future::join_all(addresses.iter().map(|address| self.hello(address))).await;
        for hello in asked.into_iter().flatten() {
            if self.cluster() == 0 && hello.cluster != 0 && hello.node != self.record().node {
                match self.holdings.join(hello.cluster).await {
                    Ok(()) => tracing::info!(cluster = format!("{:016x}", hello.cluster), "joined a cluster"),
                    Err(why) => tracing::error!(%why, "a cluster can't be joined"),
                }
            }
        }
    }

    /// Writes this node's record into the register.
    async fn announce(&self) -> Result<(), Failure> {
        let record = self.record();
        self.book.learn(record.clone());
        let put = Put {
            key: node_key(record.node),
            value: record.encode_to_vec().into(),
        };
        let swap = Swap {
            puts: vec![put],
            request_id: self.request_id(),
            ..Swap::default()
        };
        self.swap(swap).await.map(|_| ())
    }

    /// Writes the records of nodes that the register lacks but this one knows: a founder asked the first voters who they
    /// are, and they know of nobody else.
    async fn introduce(&self) -> Result<(), Failure> {
        let Some(register) = self.holdings.register() else {
            return Ok(());
        };
        let (_, announced) = register.machine.read(&[NODES_PREFIX.to_owned()]);
        for record in self.book.all() {
            let key = node_key(record.node);
            if announced.iter().any(|entry| entry.key == key) {
                continue;
            }
            let compares = vec![Compare {
                key: key.clone(),
                revision: 0,
            }];
            let puts = vec![Put {
                key,
                value: record.encode_to_vec().into(),
            }];
            self.swap(Swap {
                compares,
                puts,
                request_id: self.request_id(),
                ..Swap::default()
            })
            .await?;
        }
        Ok(())
    }

    fn request_id(&self) -> Bytes {
        [(self.new_id)().to_be_bytes(), (self.new_id)().to_be_bytes()]
            .concat()
            .into()
    }

    /// Says that this node is about to go, or no longer is.
    pub async fn announce_draining(&self, draining: bool) -> Result<(), Failure> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).draining = draining;
        match self.cluster() {
            0 => Ok(()),
            _ => self.announce().await,
        }
    }

    /// Swaps in the register: here if this node leads it, else wherever its leader is found.
    async fn swap(&self, swap: Swap) -> Result<SwapResult, Failure> {
        let mut hint = self.register_leader.load(Ordering::Relaxed);
        if let Some(register) = self.holdings.register() {
            match swap_in(&register, swap.clone()).await {
                Err(Failure::NotLeader { leader_node, .. }) => hint = leader_node,
                answered => return answered,
            }
        }
        let mut addresses: VecDeque<String> = self.addresses(hint).into();
        let mut failed = Failure::Unavailable("no node that could hold the register is known".into());
        for _ in 0..HOPS_MAX {
            let Some(address) = addresses.pop_front() else { break };
            match answer(&address, client(&address)?.swap(swap.clone())).await {
                Ok(swapped) => return Ok(swapped),
                Err(Failure::NotLeader { leader_node, .. }) if leader_node != 0 && leader_node != hint => {
                    hint = leader_node;
                    self.register_leader.store(leader_node, Ordering::Relaxed);
                    addresses.extend(self.book.find(leader_node).map(|record| record.data_address));
                    addresses.rotate_right(1);
                }
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Data addresses to ask for the register: the one of `first`, then all that are known but this node's.
    fn addresses(&self, first: u64) -> Vec<String> {
        let mine = self.record();
        let mut records = self.book.all();
        records.sort_by_key(|record| (record.node != first, record.node));
        let known = records
            .into_iter()
            .filter(|record| record.node != mine.node)
            .map(|record| record.data_address);
        let seeds = self
            .join
            .iter()
            .chain(&self.bootstrap)
            .filter(|seed| **seed != mine.data_address)
            .cloned();
        let mut addresses: Vec<String> = Vec::new();
        for address in known.chain(seeds) {
            if !address.is_empty() && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Keeps the address book on disk as it changes, until `stop`.
    pub async fn keep_book(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.book.watch();
        loop {
            tokio::select! {
                _ = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            let (directory, records) = (self.holdings.directory().clone(), self.book.all());
            let kept = tokio::task::spawn_blocking(move || directory.write_book(records)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%error, "the address book is not kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_sixteen_hex_digits() {
        assert_eq!(node_key(0xabc), "nodes/0000000000000abc");
    }
}
