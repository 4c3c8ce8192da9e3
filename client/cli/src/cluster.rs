//! `granum cluster`: nodes come and go. `init` founds a cluster of nodes that were started without a list of each other;
//! `remove-node` gives a dead one up.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use granum_proto::internal::FoundRequest;
use granum_proto::internal::register_client::RegisterClient;
use granum_proto::status::failure;
use serde_json::json;
use tonic::transport::Endpoint;

use crate::connect::Connect;
use crate::failure::Usage;
use crate::json::node_id;
use crate::output::Output;

/// Time to reach a node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often `--wait` looks.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// Found a cluster, give up a dead node
#[derive(Args, Debug)]
pub struct Cluster {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand, Debug)]
enum Commands {
    Init(Init),
    RemoveNode(RemoveNode),
}

/// Give a dead node up for good: its replicas are made anew on other nodes, while reads and writes go on
#[derive(Args, Debug)]
struct RemoveNode {
    /// Id of the node, as `granum status` shows it
    #[arg(value_name = "NODE", value_parser = parse_node)]
    node: u64,
    /// Wait until every replica has its successor
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connect: Connect,
}

fn parse_node(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16)
        .map_err(|_| format!("{text:?}, must be 16 hexadecimal digits, as `granum status` shows them"))
}

/// Make running nodes that belong to no cluster found one, once; nodes started with --bootstrap do it by themselves
#[derive(Args, Debug)]
struct Init {
    /// Data addresses of its first nodes: 1, 3 or 5
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    nodes: Vec<String>,
}

/// `granum cluster`
pub async fn run(command: Cluster) -> anyhow::Result<()> {
    match command.command {
        Commands::Init(init) => found(init).await,
        Commands::RemoveNode(remove) => remove_node(remove).await,
    }
}

async fn remove_node(command: RemoveNode) -> anyhow::Result<()> {
    let output = command.connect.output();
    let client = command.connect.client()?;
    let replicas = client.remove_node(command.node).await?;
    let mut left = replicas;
    while command.wait && left > 0 {
        tokio::time::sleep(WAIT_INTERVAL).await;
        let status = client.status().await?;
        let shards = status.collections.iter().flat_map(|collection| &collection.shards);
        let held = shards.flat_map(|shard| &shard.replicas);
        left = held.filter(|replica| replica.node == command.node).count() as u64;
    }
    if output.json {
        output.json(&json!({ "node": node_id(command.node), "replicas": replicas, "replaced": command.wait }))?;
        return Ok(());
    }
    let node = node_id(command.node);
    output.line(&match (replicas, command.wait) {
        (0, _) => format!("node {node} is given up; it held no replica"),
        (_, true) => format!("node {node} is given up; its {replicas} replicas live on other nodes now"),
        (_, false) => format!("node {node} is given up; {replicas} replicas are being made anew, see `granum status`"),
    })?;
    Ok(())
}

async fn found(Init { nodes }: Init) -> anyhow::Result<()> {
    let first = nodes.first().context("no node named")?;
    let endpoint = Endpoint::from_shared(format!("http://{first}"));
    let endpoint = endpoint.map_err(|_| Usage(format!("--nodes: {first:?}, must be like 10.0.0.1:6335")))?;
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
    let channel = channel.with_context(|| format!("cannot reach {first}: is `granum node` running there?"))?;
    let request = FoundRequest {
        addresses: nodes.clone(),
    };
    let reply = RegisterClient::new(channel).found(request).await;
    let reply = reply.map_err(|status| failure(&status))?;
    Output::new(false).line(&format!(
        "cluster {}: {}",
        node_id(reply.into_inner().cluster),
        nodes.join(", ")
    ))?;
    Ok(())
}
