//! How does a node come up, and how does it go? Every part is made here, in order, and given what it needs.
//!
//! Up: settings checked, sockets bound, metrics and `/livez` served; the directory taken, the log opened; the Raft port
//! and the data port served; replicas opened from their last seal and the log behind it; then the node comes to its
//! cluster. Raft and the services each have a runtime of their own, so that neither can starve the other.
//!
//! Down: [`Node::drain`] hands leaders over and lets requests finish. Dropping a [`Node`] is the other way: like a kill,
//! everything stops where it is, and what was acknowledged is in the log.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use granum_proto::internal::NodeRecord;
use granum_proto::status::Failure;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::disk::tree::Trees;
use crate::disk::{DiskError, RealDisk, SharedDisk};
use crate::holdings::Holdings;
use crate::identity::{Directory, DirectoryError};
use crate::join::Joining;
use crate::merging::Merging;
use crate::metrics::{self, Metrics, Watch, Watched};
use crate::raft::log::{Log, LogError, LogOptions};
use crate::raft::network::Peers;
use crate::raft::serve::Inbox;
use crate::raft::{AddressBook, Groups, Timing};
use crate::recall::RecallChecks;
use crate::service::raft::RaftService;
use crate::service::register::RegisterService;
use crate::service::server::{DataPort, serve_raft};
use crate::service::shard::ShardService;
use crate::service::{Context, Replicas};
use crate::shard::{self, Budget};
use crate::threads::Threads;
use crate::worker::{SEARCH_QUEUE_PER_WORKER, Workers};

/// Folder of the log, inside the data directory.
const LOG_FOLDER: &str = "log";
/// Folder of the cache of documents' places.
const TREES_FOLDER: &str = "trees";
/// Memory for pages of that cache, in bytes.
const TREES_CACHE_BYTES: u64 = 64 << 20;
/// How long a killed node's tasks have to notice.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address is taken, or can't be listened at.
    #[error("{address}: {error}; another address is set with {flag}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The data directory can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The operating system refuses threads.
    #[error("threads: {0}")]
    Threads(#[from] std::io::Error),
    /// A part can't be made.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// A running node.
pub struct Node {
    id: u64,
    addresses: NodeRecord,
    holdings: Arc<Holdings>,
    joining: Arc<Joining>,
    draining: Arc<AtomicBool>,
    drain_timeout: Duration,
    /// Ends the data port, its watches and the node's own tasks.
    stop: CancellationToken,
    /// Ends the metrics port.
    stop_metrics: CancellationToken,
    services: Option<JoinHandle<()>>,
    runtimes: Option<Runtimes>,
}

struct Runtimes {
    raft: Runtime,
    services: Runtime,
}

struct Listeners {
    data: TcpListener,
    raft: TcpListener,
    metrics: TcpListener,
}

fn random_id() -> u64 {
    rand::random()
}

fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| NodeError::Listen { address, flag, error })
}

fn bound(listener: &TcpListener) -> Result<SocketAddr, NodeError> {
    Ok(listener.local_addr()?)
}

/// Starts a node. On return it serves, its replicas are open, and it is on its way into its cluster.
pub async fn start(config: Config) -> Result<Node, NodeError> {
    let listen = config.check()?;
    let listeners = Listeners {
        data: bind(listen.data, "--listen-data").await?,
        raft: bind(listen.raft, "--listen-raft").await?,
        metrics: bind(listen.metrics, "--listen-metrics").await?,
    };
    let runtimes = Runtimes {
        raft: runtime("raft", config.raft_threads)?,
        services: runtime("service", config.service_threads)?,
    };
    let raft = runtimes.raft.handle().clone();
    let services = runtimes.services.handle().clone();
    // From here on an error drops `runtimes` where blocking is allowed.
    let runtimes = Guarded(Some(runtimes));
    let assembled = services.spawn(assemble(config, listeners, raft)).await;
    let mut node = assembled.map_err(|error| NodeError::Threads(std::io::Error::other(error)))??;
    node.runtimes = runtimes.release();
    Ok(node)
}

/// Runtimes that may be dropped inside another one.
struct Guarded(Option<Runtimes>);

impl Guarded {
    fn release(mut self) -> Option<Runtimes> {
        self.0.take()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(runtimes) = self.0.take() {
            runtimes.raft.shutdown_background();
            runtimes.services.shutdown_background();
        }
    }
}

/// What the disk gives a node at its start.
struct Opened {
    directory: Arc<Directory>,
    log: Arc<Log>,
    trees: Option<Trees>,
}

fn open_disk(config: &Config, disk: SharedDisk) -> Result<Opened, NodeError> {
    let directory = Directory::open(disk.clone(), Path::new(&config.data_dir), random_id)?;
    let identity = directory.identity();
    let path = directory.path().to_owned();
    let log_path = path.join(LOG_FOLDER);
    disk.create_dir_all(&log_path)?;
    let options = LogOptions {
        owner: identity.node,
        create: !identity.has_log,
        segment_bytes: config.log_segment_bytes as usize,
        reserve_bytes: config.free_space_min_bytes,
        ..LogOptions::default()
    };
    let log = Log::open(disk, &log_path, options)?;
    directory.update(|identity| identity.has_log = true)?;
    let trees = match Trees::open(&path.join(TREES_FOLDER), TREES_CACHE_BYTES) {
        Ok((trees, _)) => Some(trees),
        Err(error) => {
            tracing::warn!(%error, "documents' places are kept in memory only");
            None
        }
    };
    Ok(Opened {
        directory: Arc::new(directory),
        log: Arc::new(log),
        trees,
    })
}

async fn assemble(config: Config, listeners: Listeners, raft: tokio::runtime::Handle) -> Result<Node, NodeError> {
    let (stop, stop_metrics) = (CancellationToken::new(), CancellationToken::new());
    let mut record = NodeRecord {
        data_address: config.advertised(bound(&listeners.data)?),
        raft_address: config.advertised(bound(&listeners.raft)?),
        metrics_address: config.advertised(bound(&listeners.metrics)?),
        version: env!("CARGO_PKG_VERSION").into(),
        ..NodeRecord::default()
    };
    let watch: Watch = Arc::new(OnceLock::new());
    tokio::spawn(serve_metrics(listeners.metrics, watch.clone(), stop_metrics.clone()));

    let disk: SharedDisk = Arc::new(RealDisk);
    let (opening_config, opening_disk) = (config.clone(), disk.clone());
    let opened = tokio::task::spawn_blocking(move || open_disk(&opening_config, opening_disk)).await;
    let opened = opened.map_err(std::io::Error::other)??;
    let identity = opened.directory.identity();
    (record.node, record.incarnation) = (identity.node, identity.incarnation);
    tracing::info!(
        node = format!("{:016x}", record.node),
        data = record.data_address,
        "node starts"
    );

    let book = AddressBook::new(opened.directory.read_book());
    let peers = Peers::new(identity.node, identity.cluster, book.clone(), disk.clone());
    let timing = Timing {
        election_timeout: Duration::from_millis(config.election_timeout_ms),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
    };
    let groups = Groups::new(raft.clone(), timing, peers, opened.log.clone(), config.log_budget_bytes)?;
    let threads = config.search_threads();
    let context = Arc::new(Context {
        node: identity.node,
        replicas: Replicas::default(),
        workers: Workers::start("search", threads, threads * SEARCH_QUEUE_PER_WORKER)?,
        recall: RecallChecks::new(config.recall_check_every, stop.clone())?,
    });
    let options = shard::Options {
        seal_bytes: config.seal_bytes,
        seal_quiet: (config.seal_quiet_ms > 0).then(|| Duration::from_millis(config.seal_quiet_ms)),
        budget: Arc::new(Budget::new(config.recent_budget_bytes)),
        builders: Threads::new(threads.div_ceil(2)),
        free_space_min_bytes: config.free_space_min_bytes,
        ..shard::Options::new(disk.clone(), opened.trees)
    };
    let holdings = Holdings::new(opened.directory.clone(), disk, groups.clone(), options, context.clone());
    let merging = Merging::new(config.merge_threads, config.merge_bytes_per_second, stop.clone())?;
    let joining = Joining::new(holdings.clone(), book, &config, record.clone(), random_id);
    let draining = Arc::new(AtomicBool::new(false));
    let metrics = Arc::new(Metrics::default());
    let watched = Watched {
        metrics: metrics.clone(),
        holdings: holdings.clone(),
        context: context.clone(),
        merging: merging.clone(),
        draining: draining.clone(),
    };
    // Set once, here.
    let _ = watch.set(watched);

    raft.spawn(serve_raft(listeners.raft, RaftService::new(Inbox::new(groups))));
    let services = DataPort {
        shards: ShardService::new(context.clone(), holdings.clone(), metrics, draining.clone()),
        register: RegisterService::new(holdings.clone(), joining.clone(), stop.clone()),
        requests_max: config.requests_max,
    };
    let services = tokio::spawn(services.serve(listeners.data, stop.clone()));

    holdings.open_all().await?;
    tokio::spawn(holdings.clone().supervise(stop.clone()));
    tokio::spawn(context.recall.clone().run(merging.clone()));
    tokio::spawn(merging.run(holdings.replicas().clone()));
    tokio::spawn(joining.clone().keep_book(stop.clone()));
    tokio::spawn(joining.clone().run(stop.clone()));
    Ok(Node {
        id: record.node,
        addresses: record,
        holdings,
        joining,
        draining,
        drain_timeout: Duration::from_millis(config.drain_timeout_ms),
        stop,
        stop_metrics,
        services: Some(services),
        runtimes: None,
    })
}

async fn serve_metrics(listener: TcpListener, watch: Watch, stop: CancellationToken) {
    let served = axum::serve(listener, metrics::router(watch))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics are no longer served");
    }
}

impl Node {
    /// This node's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `host:port` for coordinators.
    pub fn data_address(&self) -> &str {
        &self.addresses.data_address
    }

    /// `host:port` for other nodes.
    pub fn raft_address(&self) -> &str {
        &self.addresses.raft_address
    }

    /// `host:port` of metrics and health.
    pub fn metrics_address(&self) -> &str {
        &self.addresses.metrics_address
    }

    /// What lives on this node.
    pub fn holdings(&self) -> &Arc<Holdings> {
        &self.holdings
    }

    /// Leaves in order: says so in the register, hands leaders over, lets requests finish, closes the log. Takes at most
    /// the drain timeout and a moment.
    pub async fn drain(mut self) {
        let deadline = Instant::now() + self.drain_timeout;
        self.draining.store(true, Ordering::Release);
        let announced = tokio::time::timeout_at(deadline.into(), self.joining.announce_draining(true)).await;
        if !matches!(announced, Ok(Ok(()))) {
            tracing::warn!("the cluster was not told that this node leaves");
        }
        self.holdings.groups().hand_over(deadline).await;
        self.stop.cancel();
        if let Some(services) = self.services.take() {
            let abort = services.abort_handle();
            if tokio::time::timeout_at(deadline.into(), services).await.is_err() {
                tracing::warn!("requests were cut off at the end of the drain timeout");
                abort.abort();
            }
        }
        self.holdings.groups().shutdown(deadline).await;
        self.stop_metrics.cancel();
        let (holdings, runtimes) = (self.holdings.clone(), self.runtimes.take());
        let closed = tokio::task::spawn_blocking(move || close(&holdings, runtimes)).await;
        if closed.is_err() {
            tracing::error!("the log was not closed in order");
        }
    }
}

/// Ends all tasks and merges, then the log. Blocks.
fn close(holdings: &Holdings, runtimes: Option<Runtimes>) {
    if let Some(runtimes) = runtimes {
        runtimes.services.shutdown_timeout(KILL_TIMEOUT);
        runtimes.raft.shutdown_timeout(KILL_TIMEOUT);
    }
    holdings.retire_all();
    holdings.groups().log().shutdown();
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_metrics.cancel();
        if let Some(runtimes) = self.runtimes.take() {
            let holdings = self.holdings.clone();
            // A thread of its own, because runtimes must not be waited for inside another one.
            std::thread::spawn(move || close(&holdings, Some(runtimes)));
        }
    }
}
