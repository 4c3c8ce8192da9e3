//! `granum cluster init`: the first founding of a cluster, for nodes that were started without a list of each other.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use granum_proto::internal::FoundRequest;
use granum_proto::internal::register_client::RegisterClient;
use granum_proto::status::failure;
use tonic::transport::Endpoint;

use crate::failure::Usage;
use crate::json::node_id;
use crate::output::Output;

/// Time to reach a node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Found a cluster
#[derive(Args, Debug)]
pub struct Cluster {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand, Debug)]
enum Commands {
    Init(Init),
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
    let Commands::Init(Init { nodes }) = command.command;
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
