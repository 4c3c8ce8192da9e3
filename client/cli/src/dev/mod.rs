//! `granum dev`: a real cluster in one process, on real sockets. What is started, in which order, and how does it end?
//!
//! Nodes have ports of their own, kept in the directory ([`place`]), so that a second start finds what the first one left. The
//! sample ([`sample`]) is loaded through the same client as any other data.

mod place;
mod sample;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures::future::join_all;
use granum_client::{Client, v1};
use granum_coordinator::Running;
use granum_node::Node;

use crate::ask::sure;
use crate::output::{Output, grouped, note};
use crate::roles::{self, Stop, drained};
use crate::table::Table;
use place::{NodePorts, Place};

/// Longest time from the first port to a cluster that answers.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two looks whether it does.
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// Files of the log are written whole at a start: three nodes on one disk take small ones.
const LOG_SEGMENT_BYTES: u64 = 16 << 20;
/// Size of a node's log above which shards are sealed.
const LOG_BUDGET_BYTES: u64 = 256 << 20;
/// All nodes leave at once, so there is nobody to hand leaders to.
const DRAIN_TIMEOUT_MS: u64 = 500;
/// Ports above the one of HTTP.
const GRPC_ABOVE: u16 = 1;
const METRICS_ABOVE: u16 = 3;

/// Run a whole cluster in one process, to try and to develop against
#[derive(Args, Debug)]
pub struct Dev {
    /// Storage nodes [default: 3, or as many as the directory holds]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "granum-data")]
    data_dir: PathBuf,
    /// Port of HTTP; gRPC is on the next one, metrics and health on the third after it
    #[arg(long, value_name = "PORT", default_value_t = 6333, value_parser = clap::value_parser!(u16).range(1..=65532))]
    port: u16,
    /// On the first start, load 5,000 software packages to ask about (collection `packages`)
    #[arg(long)]
    sample: bool,
    /// Delete what is there and start over (asks first)
    #[arg(long)]
    fresh: bool,
    /// With --fresh: don't ask
    #[arg(long)]
    yes: bool,
    /// error, warn, info, debug or trace; also by part: warn,granum_node=debug
    #[arg(long, value_name = "LEVEL", env = "GRANUM_LOG_LEVEL", default_value = "warn")]
    log_level: String,
}

/// What runs.
struct Cluster {
    nodes: Vec<Node>,
    coordinator: Running,
}

/// `granum dev`
pub async fn run(command: Dev) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let relevel = roles::log("text", &command.log_level)?;
    let mut stop = Stop::listen()?;
    check_ports(command.port)?;
    if command.fresh && Place::exists(&command.data_dir)? {
        let question = format!("delete {} and everything in it?", command.data_dir.display());
        if !command.yes && !sure(&question)? {
            bail!("nothing was deleted");
        }
        Place::delete(&command.data_dir)?;
    }
    let place = Place::open(&command.data_dir, command.nodes)?;
    let cluster = start(&place, command.port).await?;
    let client = Client::builder()
        .url(grpc_url(command.port))
        .timeout(Duration::from_secs(60))
        .build()?;
    let ready = async {
        let status = ready(&client, place.nodes().len()).await?;
        let loaded = if command.sample {
            Some(sample::load(&client, place.nodes().len()).await?)
        } else {
            None
        };
        anyhow::Ok((status, loaded))
    };
    let told = tokio::select! {
        ready = ready => ready,
        () = stop.asked() => return drained(cluster.stop(), &mut stop).await,
    };
    let told = told.and_then(|(status, loaded)| {
        if let Some(report) = loaded.flatten() {
            let (documents, rate) = (grouped(report.documents), grouped(report.rate() as u64));
            note(&format!(
                "sample loaded: {documents} documents in {:.1} s ({rate}/s)",
                report.seconds
            ));
        }
        Ok(tell(&command, &place, &status, started.elapsed())?)
    });
    if let Err(error) = told {
        cluster.stop().await;
        return Err(error);
    }
    stop.asked().await;
    note("stopping: requests are finished, and the logs closed");
    // All nodes leave at once, and each would warn that there is nobody to hand its leaders to.
    relevel("error,openraft=off");
    drained(cluster.stop(), &mut stop).await
}

impl Cluster {
    /// Requests first, then those who serve them.
    async fn stop(self) {
        self.coordinator.stop().await;
        join_all(self.nodes.into_iter().map(Node::drain)).await;
    }
}

/// A taken port is told before anything is started, with the flag that changes it.
fn check_ports(port: u16) -> anyhow::Result<()> {
    for (what, above) in [("HTTP", 0), ("gRPC", GRPC_ABOVE), ("metrics and health", METRICS_ABOVE)] {
        let taken = port + above;
        TcpListener::bind(("127.0.0.1", taken)).with_context(|| {
            format!("port {taken} (for {what}) cannot be used: choose others with --port, such as --port 7333")
        })?;
    }
    Ok(())
}

async fn start(place: &Place, port: u16) -> anyhow::Result<Cluster> {
    let addresses: Vec<String> = place.nodes().iter().map(|ports| local(ports.data)).collect();
    let configs = place
        .nodes()
        .iter()
        .enumerate()
        .map(|(at, ports)| node_config(place, at, *ports, &addresses));
    let mut nodes = Vec::new();
    let mut failed = None;
    for (at, started) in join_all(configs.map(granum_node::start)).await.into_iter().enumerate() {
        match started {
            Ok(node) => nodes.push(node),
            Err(error) => failed = Some(anyhow::Error::from(error).context(format!("node {}", at + 1))),
        }
    }
    let config = granum_coordinator::Config {
        nodes: addresses,
        listen_http: local(port),
        listen_grpc: local(port + GRPC_ABOVE),
        listen_metrics: local(port + METRICS_ABOVE),
        ..Default::default()
    };
    let coordinator = match failed {
        None => granum_coordinator::start(config).await.context("coordinator"),
        Some(error) => Err(error),
    };
    match coordinator {
        Ok(coordinator) => Ok(Cluster { nodes, coordinator }),
        Err(error) => {
            join_all(nodes.into_iter().map(Node::drain)).await;
            Err(error)
        }
    }
}

/// The processors are shared between the nodes of one machine.
fn node_config(place: &Place, at: usize, ports: NodePorts, addresses: &[String]) -> granum_node::Config {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    granum_node::Config {
        data_dir: place.node_directory(at).display().to_string(),
        listen_data: local(ports.data),
        listen_raft: local(ports.raft),
        listen_metrics: local(ports.metrics),
        bootstrap: addresses.to_vec(),
        join: addresses.to_vec(),
        worker_threads: (processors / addresses.len()).max(1),
        log_segment_bytes: LOG_SEGMENT_BYTES,
        log_budget_bytes: LOG_BUDGET_BYTES,
        drain_timeout_ms: DRAIN_TIMEOUT_MS,
        ..Default::default()
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn grpc_url(port: u16) -> String {
    format!("http://127.0.0.1:{}", port + GRPC_ABOVE)
}

/// Waits until all nodes are there and each shard has a leader.
async fn ready(client: &Client, nodes: usize) -> anyhow::Result<v1::ClusterStatusResponse> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let why = match client.with_timeout(Duration::from_secs(5)).status().await {
            Ok(status) => match missing(&status, nodes) {
                None => return Ok(status),
                Some(missing) => missing,
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            bail!("not ready after {} s: {why}", READY_TIMEOUT.as_secs());
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

fn missing(status: &v1::ClusterStatusResponse, nodes: usize) -> Option<String> {
    let up = status.nodes.iter().filter(|node| node.reachable).count();
    if up < nodes {
        return Some(format!("{up} of {nodes} nodes are up"));
    }
    let led = |shard: &&v1::ShardInfo| shard.replicas.iter().any(|replica| replica.reachable && replica.leader);
    let shards = status.collections.iter().flat_map(|collection| &collection.shards);
    let leaderless = shards.filter(|shard| !led(shard)).count();
    (leaderless > 0).then(|| format!("{leaderless} shards have no leader yet"))
}

/// Addresses, and what to try.
fn tell(command: &Dev, place: &Place, status: &v1::ClusterStatusResponse, taken: Duration) -> std::io::Result<()> {
    let output = Output::new(false);
    output.line(&format!(
        "\ngranum {}: {} nodes and a coordinator, ready in {:.1} s; data in {}\n",
        env!("CARGO_PKG_VERSION"),
        place.nodes().len(),
        taken.as_secs_f64(),
        command.data_dir.display()
    ))?;
    let mut table = Table::new(["", "serves", "address"]);
    let http = |port: u16| format!("http://127.0.0.1:{port}");
    let port = command.port;
    table.row(["coordinator", "HTTP", &http(port)]);
    table.row(["", "gRPC", &grpc_url(port)]);
    table.row(["", "metrics, health", &http(port + METRICS_ABOVE)]);
    for (at, ports) in place.nodes().iter().enumerate() {
        table.row([&format!("node {}", at + 1), "data", &local(ports.data)]);
        table.row(["", "Raft", &local(ports.raft)]);
        table.row(["", "metrics, health", &http(ports.metrics)]);
    }
    output.table(&table)?;
    let granum = std::env::args().next().unwrap_or_else(|| "granum".to_owned());
    let url = if port == 6333 {
        String::new()
    } else {
        format!(" --url {}", grpc_url(port))
    };
    let has_sample = command.sample || status.collections.iter().any(|found| found.name == sample::COLLECTION);
    output.line("\nTry, in another terminal:")?;
    let tries = match has_sample {
        true => [
            "search packages \"play chess against the computer\"",
            "search packages \"play chess against the computer\" --filter 'section = games and size < 1e6'",
            "status",
        ],
        false => [
            "collection create notes --embedder builtin",
            "import FILE.jsonl --collection notes --id id --text title,text",
            "status",
        ],
    };
    for words in tries {
        output.line(&format!("  {granum} {words}{url}"))?;
    }
    output.line("\nCtrl-C stops it; started again it goes on with what is there.")
}
