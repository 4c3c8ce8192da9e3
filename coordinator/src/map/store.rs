//! The map as this coordinator knows it: reads, swaps and watches the register through any node that answers.
//!
//! One task follows the register for ever; requests take the current `Arc<ShardMap>` and never wait for it. A swap is
//! planned on the current map, and planned anew when another coordinator was faster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use granum_proto::internal::register_client::RegisterClient;
use granum_proto::internal::{
    HelloRequest, KeyValue, RegisterEvents, RegisterReadRequest, RegisterReadResponse, RegisterWatchRequest, Swap,
    SwapResult,
};
use granum_proto::limits::{MESSAGE_IN_BYTES_MAX, MESSAGE_OUT_BYTES_MAX};
use granum_proto::status::Failure;
use granum_proto::{PROTOCOL_VERSION, works_with};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Response;
use tonic::transport::Channel;

use super::ShardMap;
use crate::backoff::Backoff;
use crate::pool::{Pool, failure_of};

/// Time for one answer of the register.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Time to see a change that was just made, before the register is asked for it.
const OWN_CHANGE_TIMEOUT: Duration = Duration::from_millis(200);
/// Nodes that one pass over the register's leader hints may visit.
const HOPS_MAX: usize = 8;

/// The register and the map built from it.
pub(crate) struct Store {
    pool: Arc<Pool>,
    seeds: Vec<String>,
    cluster: AtomicU64,
    state: Mutex<State>,
    map: ArcSwap<ShardMap>,
    revision: watch::Sender<u64>,
    /// Who answered last: asked first.
    answered: Mutex<String>,
}

#[derive(Default)]
struct State {
    revision: u64,
    loaded: bool,
    entries: BTreeMap<String, KeyValue>,
}

impl Store {
    /// A store that knows nothing yet but where to ask.
    pub fn new(pool: Arc<Pool>, seeds: Vec<String>) -> Store {
        Store {
            pool,
            seeds,
            cluster: AtomicU64::new(0),
            state: Mutex::default(),
            map: ArcSwap::default(),
            revision: watch::Sender::new(0),
            answered: Mutex::default(),
        }
    }

    /// The newest map known.
    pub fn map(&self) -> Result<Arc<ShardMap>, Failure> {
        if self.cluster() == 0 {
            let seeds = self.seeds.join(", ");
            return Err(Failure::Unavailable(format!(
                "no node of a cluster answers yet (asking {seeds})"
            )));
        }
        Ok(self.map.load_full())
    }

    /// Id of the cluster; 0: no node has answered yet.
    pub fn cluster(&self) -> u64 {
        self.cluster.load(Ordering::Acquire)
    }

    /// Notified of each new revision.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Follows the register until `stop`: whatever breaks is begun anew, elsewhere, for ever.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        let mut turn = 0;
        loop {
            let addresses = self.addresses();
            let address = addresses[turn % addresses.len()].clone();
            turn += 1;
            let followed = tokio::select! {
                followed = self.follow_one(&address, &mut backoff) => followed,
                () = stop.cancelled() => return,
            };
            match followed {
                Ok(()) => tracing::debug!(address, "the register's watch ended"),
                Err(error) => tracing::debug!(address, %error, "the register can't be followed here, trying on"),
            }
            tokio::select! {
                () = sleep(backoff.next_pause()) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads the whole register, then takes its events from the node at `address` until the stream ends.
    async fn follow_one(&self, address: &str, backoff: &mut Backoff) -> Result<(), Failure> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        self.check_cluster(address, deadline).await?;
        let mut client = self.client(address)?;
        let request = RegisterWatchRequest {
            prefixes: vec![String::new()],
            from_revision: self.refresh(deadline).await?,
        };
        let mut events = answer(deadline, client.watch(request)).await?;
        tracing::info!(address, "following the register");
        backoff.reset();
        while let Some(event) = events.message().await.map_err(|status| failure_of(&status))? {
            self.take_events(event);
        }
        Ok(())
    }

    /// The first node to answer says which cluster this is; nodes of others are refused.
    async fn check_cluster(&self, address: &str, deadline: Instant) -> Result<(), Failure> {
        let hello = HelloRequest {
            node: 0,
            protocol_version: PROTOCOL_VERSION,
        };
        let hello = answer(deadline, self.client(address)?.hello(hello)).await?;
        if !works_with(hello.protocol_version) {
            let problem = format!(
                "{address} speaks protocol {}, this is {PROTOCOL_VERSION}: only neighbours work together",
                hello.protocol_version
            );
            return Err(Failure::Precondition(problem));
        }
        match (self.cluster(), hello.cluster) {
            (_, 0) => Err(Failure::Unavailable(format!("{address} belongs to no cluster yet"))),
            (0, _) => {
                self.refresh_from(address, deadline).await?;
                self.cluster.store(hello.cluster, Ordering::Release);
                Ok(())
            }
            (known, theirs) if known != theirs => Err(Failure::Precondition(format!(
                "{address} belongs to cluster {theirs}, this is {known}"
            ))),
            _ => Ok(()),
        }
    }

    /// Reads the register as it stands, from whoever can say so. Returns its revision.
    pub async fn refresh(&self, deadline: Instant) -> Result<u64, Failure> {
        self.refresh_from(&self.addresses()[0], deadline).await
    }

    async fn refresh_from(&self, address: &str, deadline: Instant) -> Result<u64, Failure> {
        let request = RegisterReadRequest {
            prefixes: vec![String::new()],
            linearizable: true,
        };
        let read = |mut client: RegisterClient<Channel>| {
            let request = request.clone();
            async move { client.read(request).await }
        };
        let RegisterReadResponse { revision, entries } = self.ask(address, deadline, read).await?;
        self.take_events(RegisterEvents {
            revision,
            reset: true,
            puts: entries,
            deletes: Vec::new(),
        });
        Ok(revision)
    }

    /// Changes the map: `change` plans on the newest map known, `None` means that nothing is to be done. Returns the
    /// map that shows the change.
    ///
    /// A swap planned on an old map does not come through, and is planned anew. A plan that ends without a swap has no
    /// such judge: it counts only on a map read from the register after the call.
    pub async fn swap(
        &self,
        deadline: Instant,
        change: impl Fn(&ShardMap) -> Result<Option<Swap>, Failure>,
    ) -> Result<Arc<ShardMap>, Failure> {
        let mut backoff = Backoff::new();
        let mut is_confirmed = false;
        loop {
            let map = self.map()?;
            let mut swap = match change(&map) {
                Ok(Some(swap)) => swap,
                ended if is_confirmed => return ended.map(|_| map),
                _ => {
                    self.refresh(deadline).await?;
                    is_confirmed = true;
                    continue;
                }
            };
            swap.request_id = bytes::Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
            let result = self.send_swap(&swap, deadline).await?;
            self.wait_for(result.revision, deadline).await?;
            if result.swapped {
                return self.map();
            }
            pause(&mut backoff, deadline, "the map changes faster than it can be swapped").await?;
        }
    }

    /// Sends one swap until it is answered; the request id makes repeating safe.
    async fn send_swap(&self, swap: &Swap, deadline: Instant) -> Result<SwapResult, Failure> {
        let send = |mut client: RegisterClient<Channel>| {
            let swap = swap.clone();
            async move { client.swap(swap).await }
        };
        self.ask(&self.addresses()[0], deadline, send).await
    }

    /// Asks the register: first at `address`, then where a hint leads, then everywhere in turn, until the deadline.
    async fn ask<T, F>(
        &self,
        address: &str,
        deadline: Instant,
        call: impl Fn(RegisterClient<Channel>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, tonic::Status>>,
    {
        let mut backoff = Backoff::new();
        let mut address = address.to_owned();
        for hop in 0.. {
            let patience = deadline.min(Instant::now() + ANSWER_TIMEOUT);
            let failed = match answer(patience, call(self.client(&address)?)).await {
                Ok(answered) => {
                    *self.answered.lock().expect("nothing panics while holding it") = address;
                    return Ok(answered);
                }
                Err(
                    failed @ (Failure::Invalid(_) | Failure::Fault(_) | Failure::Precondition(_) | Failure::Expired(_)),
                ) => {
                    return Err(failed);
                }
                Err(failed) => failed,
            };
            let hint = match failed {
                Failure::NotLeader { leader_node, .. } if hop % HOPS_MAX != HOPS_MAX - 1 => self.address(leader_node),
                _ => None,
            };
            address = match hint {
                Some(hint) if hint != address => hint,
                _ => {
                    pause(
                        &mut backoff,
                        deadline,
                        &format!("the register does not answer: {failed}"),
                    )
                    .await?;
                    let addresses = self.addresses();
                    addresses[hop % addresses.len()].clone()
                }
            };
        }
        unreachable!("the loop ends by returning")
    }

    fn address(&self, node: u64) -> Option<String> {
        self.map.load().address(granum_model::NodeId(node)).map(str::to_owned)
    }

    /// Nodes that may be asked: who answered last, those of the map, the seeds; at least one.
    fn addresses(&self) -> Vec<String> {
        let map = self.map.load();
        let answered = self.answered.lock().expect("nothing panics while holding it").clone();
        let known = map.nodes.values().map(|node| &node.data_address).chain(&self.seeds);
        let mut addresses = Vec::with_capacity(map.nodes.len() + self.seeds.len());
        for address in std::iter::once(&answered).chain(known) {
            if !address.is_empty() && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    fn client(&self, address: &str) -> Result<RegisterClient<Channel>, Failure> {
        Ok(RegisterClient::new(self.pool.channel(address)?)
            .max_decoding_message_size(MESSAGE_OUT_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_IN_BYTES_MAX))
    }

    /// Waits until the map shows `revision`; asks for it if the watch is slow.
    pub async fn wait_for(&self, revision: u64, deadline: Instant) -> Result<(), Failure> {
        let mut revisions = self.revisions();
        let patience = deadline.min(Instant::now() + OWN_CHANGE_TIMEOUT);
        if timeout_at(patience, revisions.wait_for(|known| *known >= revision))
            .await
            .is_ok()
        {
            return Ok(());
        }
        self.refresh(deadline).await.map(drop)
    }

    /// Makes the map that these events lead to. Events that are known already change nothing.
    fn take_events(&self, events: RegisterEvents) {
        let mut state = self.state.lock().expect("nothing panics while holding it");
        if state.loaded && events.revision <= state.revision {
            return;
        }
        if events.reset {
            state.entries.clear();
        }
        for entry in events.puts {
            state.entries.insert(entry.key.clone(), entry);
        }
        for key in events.deletes {
            state.entries.remove(&key);
        }
        state.revision = events.revision;
        state.loaded = true;
        let map = ShardMap::build(state.revision, &state.entries);
        for damage in &map.damaged {
            tracing::error!(entry = damage, "the map holds an entry that can't be read");
        }
        self.map.store(Arc::new(map));
        self.revision.send_replace(events.revision);
    }
}

/// Waits a little, or says `why` if the deadline doesn't allow it.
async fn pause(backoff: &mut Backoff, deadline: Instant, why: &str) -> Result<(), Failure> {
    let until = Instant::now() + backoff.next_pause();
    if until >= deadline {
        return Err(Failure::Unavailable(why.to_owned()));
    }
    tokio::time::sleep_until(until).await;
    Ok(())
}

async fn answer<T>(
    deadline: Instant,
    call: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failure_of(&status)),
        Err(_) => Err(Failure::Unavailable("no answer in time".into())),
    }
}
