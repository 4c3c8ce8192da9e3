//! The register's port: reads, swaps and watches of group 0, and what a node says of itself.
//!
//! A node that holds no replica of group 0 says so as `NotLeader`, with the node that led it when this one last heard
//! of it (0: not known); callers try on. Nothing is proxied.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use granum_proto::internal::applied::Refusal;
use granum_proto::internal::{self, register_server::Register as RegisterRpc};
use granum_proto::limits::at_most;
use granum_proto::status::Failure;
use granum_proto::v1::{ReadLevel, read_level};
use granum_proto::{PROTOCOL_VERSION, internal::RegisterEvents};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::holdings::{Holdings, Register};
use crate::identity::FORMAT_VERSION;
use crate::join::Joining;
use crate::shard::command;

/// Time a read or swap of the register may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most prefixes of a read or watch.
const PREFIXES_MAX: usize = 16;
/// How often a watch makes sure that it watches what lives here.
const REPLICA_CHECK: Duration = Duration::from_secs(5);
/// Events that wait for a slow watcher; then it is waited for.
const WATCH_QUEUE: usize = 4;

/// Group 0 as others call it, and the founding of a cluster.
#[derive(Clone)]
pub struct RegisterService {
    holdings: Arc<Holdings>,
    joining: Arc<Joining>,
    stop: CancellationToken,
}

impl RegisterService {
    /// Serves what `holdings` has; watches end at `stop`.
    pub fn new(holdings: Arc<Holdings>, joining: Arc<Joining>, stop: CancellationToken) -> RegisterService {
        RegisterService {
            holdings,
            joining,
            stop,
        }
    }

    fn register(&self) -> Result<Arc<Register>, Failure> {
        self.holdings.register().ok_or_else(|| self.joining.elsewhere())
    }

    /// What this node is.
    pub fn hello(&self) -> internal::HelloResponse {
        let identity = self.holdings.directory().identity();
        let record = self.joining.record();
        internal::HelloResponse {
            node: identity.node,
            cluster: identity.cluster,
            protocol_version: PROTOCOL_VERSION,
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            data_address: record.data_address,
            raft_address: record.raft_address,
            metrics_address: record.metrics_address,
        }
    }

    async fn read_here(
        &self,
        request: internal::RegisterReadRequest,
    ) -> Result<internal::RegisterReadResponse, Failure> {
        at_most("prefixes", request.prefixes.len(), PREFIXES_MAX, "prefixes")?;
        let register = self.register()?;
        if request.linearizable {
            let kind = Some(read_level::Kind::Linearizable(read_level::Linearizable {}));
            register
                .group
                .read_barrier(&ReadLevel { kind }, Instant::now() + ANSWER_TIMEOUT)
                .await?;
        }
        let (revision, entries) = register.machine.read(&request.prefixes);
        Ok(internal::RegisterReadResponse { revision, entries })
    }

    /// Swaps through this node's replica of group 0, if it leads.
    pub async fn swap_here(&self, swap: internal::Swap) -> Result<internal::SwapResult, Failure> {
        swap_in(&*self.register()?, swap).await
    }
}

/// Proposes a swap to group 0 and reads its answer.
pub async fn swap_in(register: &Register, swap: internal::Swap) -> Result<internal::SwapResult, Failure> {
    let encoded = command::encode(&command::swap(swap))?;
    let reply = register.group.propose(encoded, Instant::now() + ANSWER_TIMEOUT).await?;
    let applied = internal::Applied::decode(reply).map_err(|error| Failure::Fault(format!("register: {error}")))?;
    match (applied.refusal(), applied.swap) {
        (Refusal::Unspecified, Some(result)) => Ok(result),
        (Refusal::Expired, _) => Err(Failure::Expired(applied.refused)),
        _ => Err(Failure::Invalid(applied.refused)),
    }
}

/// Sends what changes under `prefixes` after `from`, until the watcher goes or the node stops.
async fn send_events(
    holdings: Arc<Holdings>,
    register: Arc<Register>,
    prefixes: Vec<String>,
    from: u64,
    events: mpsc::Sender<Result<RegisterEvents, Status>>,
    stop: CancellationToken,
) {
    let mut revisions = register.machine.revisions();
    let mut from = from;
    loop {
        revisions.borrow_and_update();
        let next = register.machine.events_since(&prefixes, from);
        let news = next.reset || !next.puts.is_empty() || !next.deletes.is_empty();
        from = from.max(next.revision);
        if news && events.send(Ok(next)).await.is_err() {
            return;
        }
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = events.closed() => return,
            changed = revisions.changed() => if changed.is_err() { return },
            _ = tokio::time::sleep(REPLICA_CHECK) => {
                // A replica that was restarted has another machine: the watcher begins anew there.
                if !holdings.register().is_some_and(|held| Arc::ptr_eq(&held, &register)) {
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl RegisterRpc for RegisterService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<RegisterEvents, Status>> + Send>>;

    async fn hello(&self, _: Request<internal::HelloRequest>) -> Result<Response<internal::HelloResponse>, Status> {
        Ok(Response::new(RegisterService::hello(self)))
    }

    async fn read(
        &self,
        request: Request<internal::RegisterReadRequest>,
    ) -> Result<Response<internal::RegisterReadResponse>, Status> {
        Ok(Response::new(self.read_here(request.into_inner()).await?))
    }

    async fn swap(&self, request: Request<internal::Swap>) -> Result<Response<internal::SwapResult>, Status> {
        Ok(Response::new(self.swap_here(request.into_inner()).await?))
    }

    async fn watch(
        &self,
        request: Request<internal::RegisterWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        at_most("prefixes", request.prefixes.len(), PREFIXES_MAX, "prefixes")?;
        let register = self.register()?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let stop = self.stop.child_token();
        tokio::spawn(send_events(
            self.holdings.clone(),
            register,
            request.prefixes,
            request.from_revision,
            sender,
            stop,
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn found(
        &self,
        request: Request<internal::FoundRequest>,
    ) -> Result<Response<internal::FoundResponse>, Status> {
        let cluster = self.joining.found(request.into_inner().addresses).await?;
        Ok(Response::new(internal::FoundResponse { cluster }))
    }
}
