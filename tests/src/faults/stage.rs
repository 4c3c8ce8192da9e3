//! The cluster under fault, with what the machine has to lend for it: a network, disks, a clock. What a row does to it.
//!
//! Over 400 lines because what a fault does, what ends it, and when all has healed are told side by side.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use granum_client::{Client, VectorField};
use rand::rngs::StdRng;

use super::clock::Clocks;
use super::damage::FileKind;
use super::disks::Disks;
use super::load::{COLLECTION, DIMENSION, HOT, STATIC, document};
use super::network::{Link, Network};
use super::rows::{Fault, First, Row, Whom};
use crate::processes::{Cluster, Layout, NODES, binary, next_binary};

/// How long a cluster may take to heal, of a debug build on a busy machine.
const HEAL_DEADLINE: Duration = Duration::from_secs(120);
/// How old the state that a coordinator tells may be: it looks every second, and a node that hangs makes it slower.
const STATE_AGE_MAX: Duration = Duration::from_millis(1_500);
/// How long a node stays down in a rolling restart.
const DOWN: Duration = Duration::from_secs(1);
/// Words of a node's log that speak of damage.
const SIGNS_OF_DAMAGE: [&str; 4] = ["damage", "checksum", "digest", "corrupt"];
const SHARDS: u32 = 2;
const _: () = assert!((SHARDS as usize) < NODES, "a node that leads none");
/// Unsealed bytes that make a segment: little, so that a short run sees seals and merges.
const SEAL_BYTES: u64 = 131_072;
/// The same where files of segments are damaged: enough for rows that are worth a graph.
const DAMAGED_SEAL_BYTES: u64 = 524_288;
/// Documents that are there to make segments.
const FILLER: std::ops::Range<u64> = 10_000..16_000;
/// A cluster and its surroundings. Processes end before what they stand on: fields are dropped in this order.
pub struct Stage {
    /// The processes.
    pub cluster: Cluster,
    /// Asks both coordinators.
    pub client: Client,
    /// Asks a third one, which learns of a new leader only from the answers to reads.
    pub observer: Client,
    network: Option<Network>,
    disks: Option<Disks>,
    clocks: Option<Clocks>,
    /// Whether it runs the version to come.
    is_next: bool,
    /// What was seen of damage, a sentence each.
    pub notes: Vec<String>,
}

/// Roles before a fault.
pub struct Watched {
    /// The shard whose writes are watched.
    pub shard: u64,
    /// Who leads it.
    pub leader: usize,
    /// A node that leads no shard.
    pub follower: usize,
}

/// Why a row can't be run here.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Unable(anyhow::Error);

/// A fault, while it lasts.
pub struct Struck {
    /// Nodes that were hit.
    pub nodes: Vec<usize>,
    /// Nodes that can't be asked to come back as they were.
    pub lost: Vec<usize>,
}

impl Stage {
    /// Starts a cluster as the row needs it, and fills it; `seed` decides what slow links do.
    pub async fn set(row: &Row, seed: u64) -> Result<Stage> {
        let network = match row.fault {
            Fault::Cut(_) | Fault::Loss(_) => Some(Network::make(Link::Veth, seed).map_err(Unable)?),
            Fault::Slow(..) => Some(Network::make(Link::Wire, seed).map_err(Unable)?),
            _ => None,
        };
        if matches!(row.fault, Fault::DiskSlow(..)) && !Disks::can_be_slow() {
            return Err(Unable(anyhow!("no cgroups of version 1 that limit writes can be made")).into());
        }
        let disks = match row.fault {
            Fault::PowerLoss(_) | Fault::DiskFull(_) | Fault::DiskSlow(..) | Fault::DiskHung(_) => {
                Some(Disks::mount().map_err(Unable)?)
            }
            _ => None,
        };
        let clocks = match row.fault {
            Fault::Clock => Some(Clocks::make().map_err(Unable)?),
            _ => None,
        };
        if matches!(row.fault, Fault::RollingUpgrade(_)) && next_binary().is_none() {
            return Err(Unable(anyhow!("no build of the next version: .ci/build-next makes it")).into());
        }
        // Small, so that seals, merges and purges of the log happen in a short run.
        let small = ["--log-segment-bytes=5242880", "--free-space-min-bytes=67108864"];
        let seal_bytes = if row.damages() { DAMAGED_SEAL_BYTES } else { SEAL_BYTES };
        let environment = |node: usize| clocks.as_ref().map(|clocks| clocks.environment(node));
        let layout = Layout {
            node_arguments: [
                small.map(String::from).as_slice(),
                &[format!("--seal-bytes={seal_bytes}")],
            ]
            .concat(),
            node_homes: disks.as_ref().map(Disks::paths).unwrap_or_default(),
            node_hosts: network
                .as_ref()
                .map(|network| network.hosts.clone())
                .unwrap_or_default(),
            node_environment: (0..NODES).filter_map(environment).collect(),
            ..Layout::default()
        };
        let mut cluster = Cluster::start_as(layout);
        cluster.ready().await;
        let (client, observer) = (cluster.client(), cluster.add_observer().await);
        let stage = Stage {
            cluster,
            client,
            observer,
            network,
            disks,
            clocks,
            is_next: false,
            notes: Vec::new(),
        };
        stage.fill(row).await?;
        stage.healed(&[]).await?;
        Ok(stage)
    }

    /// Documents that stand from the beginning, and the first version of none of the hot ones.
    async fn fill(&self, row: &Row) -> Result<()> {
        let create = self
            .client
            .create_collection(COLLECTION)
            .vector(VectorField::dense("", DIMENSION as u32));
        create.shards(SHARDS).replication_factor(NODES as u32).send().await?;
        const _: () = assert!(HOT < STATIC.start, "ids of hot documents are their own");
        let documents = STATIC.map(|id| document(id, id)).collect();
        self.client.upsert(COLLECTION, documents).await?;
        if row.damages() {
            let documents = FILLER.map(|id| document(id, id)).collect();
            self.client.upsert(COLLECTION, documents).await?;
        }
        Ok(())
    }

    /// Who leads, and who doesn't.
    pub async fn watched(&self) -> Result<Watched> {
        let began = Instant::now();
        loop {
            if let Some(found) = self.leaders().await {
                return Ok(found);
            }
            if began.elapsed() > HEAL_DEADLINE {
                bail!("no leader is known after {HEAL_DEADLINE:?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn leaders(&self) -> Option<Watched> {
        let status = self.client.status().await.ok()?;
        let collection = status
            .collections
            .iter()
            .find(|collection| collection.name == COLLECTION)?;
        let addresses = self.cluster.data_addresses();
        let mut leaders = Vec::new();
        for shard in &collection.shards {
            let mut leading = shard
                .replicas
                .iter()
                .filter(|replica| replica.leader && replica.reachable);
            let (leader, None) = (leading.next()?, leading.next()) else {
                return None;
            };
            let address = &status.nodes.iter().find(|node| node.id == leader.node)?.data_address;
            leaders.push((shard.id, addresses.iter().position(|known| known == address)?));
        }
        let (shard, leader) = *leaders.iter().min()?;
        let idle = |node: &usize| leaders.iter().all(|(_, leads)| leads != node);
        // Two shards on three nodes: there is always one.
        let follower = (0..NODES).find(idle)?;
        Some(Watched {
            shard,
            leader,
            follower,
        })
    }

    /// Does to the cluster what the row says.
    pub async fn strike(&mut self, row: &Row, watched: &Watched, random: &mut StdRng) -> Result<Struck> {
        let (leader, follower) = (watched.leader, watched.follower);
        let nodes = match row.fault {
            Fault::Kill(whom)
            | Fault::PowerLoss(whom)
            | Fault::DiskFull(whom)
            | Fault::DiskSlow(whom, _)
            | Fault::DiskHung(whom)
            | Fault::Slow(whom, _) => match whom {
                Whom::Leader => vec![leader],
                Whom::Follower => vec![follower],
                Whom::Two => vec![leader, follower],
                Whom::All => (0..NODES).collect(),
                Whom::Coordinator => vec![],
            },
            Fault::Loss(_) | Fault::RollingRestart | Fault::RollingUpgrade(_) => (0..NODES).collect(),
            Fault::Flip(_) => vec![follower],
            Fault::Pause | Fault::Cut(_) | Fault::Clock => vec![leader],
        };
        if let Fault::Flip(kind) = row.fault {
            self.until_there(kind, follower).await?;
        }
        for &node in &nodes {
            match row.fault {
                Fault::Kill(_) | Fault::Flip(_) => self.cluster.kill_node(node),
                Fault::Pause => self.cluster.stop_node(node),
                Fault::Cut(shape) => self.network()?.cut(node, shape)?,
                Fault::Loss(percent) => self.network()?.lose(node, percent)?,
                Fault::Slow(_, manner) => self.network()?.slow(node, manner)?,
                Fault::DiskSlow(_, writes) => self.slow_disk(node, writes)?,
                Fault::DiskHung(_) => self.disks()?.freeze(node)?,
                Fault::DiskFull(_) => self.disks()?.fill(node)?,
                Fault::Clock => self.clocks()?.jump(node, 600)?,
                Fault::PowerLoss(_) | Fault::RollingRestart | Fault::RollingUpgrade(_) => {}
            }
        }
        match row.fault {
            Fault::Kill(Whom::Coordinator) => self.cluster.kill_coordinator(0),
            Fault::PowerLoss(_) => {
                self.disks()?.cut(&nodes)?;
                nodes.iter().for_each(|node| self.cluster.kill_node(*node));
            }
            Fault::RollingRestart => self.restart_nodes().await?,
            Fault::RollingUpgrade(first) => self.replace_each(first).await?,
            Fault::Flip(kind) => {
                let data = self.cluster.node_data(follower);
                let place = kind.flip(&data, random)?.context("there is no such file")?;
                self.notes.push(place);
            }
            _ => {}
        }
        Ok(Struck {
            nodes,
            lost: Vec::new(),
        })
    }

    /// The fault is over.
    pub async fn lift(&mut self, row: &Row, struck: &mut Struck) -> Result<()> {
        if row.fault == Fault::Clock {
            self.clocks()?.jump(struck.nodes[0], -600)?;
            tokio::time::sleep(row.hold).await;
            self.clocks()?.jump(struck.nodes[0], 0)?;
        }
        for &node in &struck.nodes {
            match row.fault {
                Fault::Kill(_) | Fault::Flip(_) => self.cluster.start_node(node),
                Fault::Pause => self.cluster.continue_node(node),
                Fault::Cut(_) | Fault::Loss(_) | Fault::Slow(..) => self.network()?.heal(node)?,
                Fault::DiskSlow(..) => self.slow_disk(node, 0)?,
                Fault::DiskHung(_) => self.disks()?.thaw(node)?,
                Fault::DiskFull(_) => self.disks()?.empty(node)?,
                Fault::PowerLoss(_) => {
                    self.disks()?.restore(node)?;
                    self.cluster.start_node(node);
                }
                Fault::Clock | Fault::RollingRestart | Fault::RollingUpgrade(_) => {}
            }
        }
        match row.fault {
            Fault::Kill(Whom::Coordinator) => self.cluster.start_coordinator(0).await,
            Fault::Flip(_) => struck.lost = self.damaged(struck.nodes[0]).await,
            _ => {}
        }
        Ok(())
    }

    /// Returns when every replica of all nodes but `lost` has applied what its leader has, and has for a while: since when. The
    /// state that a coordinator tells is up to a second old.
    pub async fn healed(&self, lost: &[usize]) -> Result<Instant> {
        let began = Instant::now();
        let mut healthy: Option<Instant> = None;
        loop {
            match self.unhealed(lost).await {
                None => {
                    let since = *healthy.get_or_insert_with(Instant::now);
                    if since.elapsed() > STATE_AGE_MAX {
                        return Ok(since);
                    }
                }
                Some(reason) if began.elapsed() > HEAL_DEADLINE => {
                    bail!("not healed after {HEAL_DEADLINE:?}: {reason}{}", self.last_words());
                }
                Some(_) => healthy = None,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What each node said last, a line each.
    fn last_words(&self) -> String {
        let of = |node: usize| {
            let log = self.cluster.node_log(node);
            format!("\n    node {node}: {}", log.lines().last().unwrap_or("nothing"))
        };
        (0..NODES).map(of).collect()
    }

    async fn unhealed(&self, lost: &[usize]) -> Option<String> {
        let status = match self.client.status().await {
            Ok(status) => status,
            Err(error) => return Some(error.to_string()),
        };
        let addresses = self.cluster.data_addresses();
        let lost: Vec<&String> = lost.iter().map(|node| &addresses[*node]).collect();
        let nodes = status.nodes.iter().filter(|node| !lost.contains(&&node.data_address));
        let nodes: Vec<_> = nodes.collect();
        if nodes.len() + lost.len() != NODES {
            return Some(format!("{} nodes are known", nodes.len()));
        }
        if let Some(node) = nodes.iter().find(|node| !node.reachable) {
            return Some(format!("node {} is not reachable", node.data_address));
        }
        let kept = |node: u64| nodes.iter().any(|known| known.id == node);
        let shards = status.collections.iter().flat_map(|collection| &collection.shards);
        for shard in shards {
            let replicas = || shard.replicas.iter().filter(|replica| kept(replica.node));
            // A node that came back in part may lead what is whole.
            let leaders = shard
                .replicas
                .iter()
                .filter(|replica| replica.leader && replica.reachable);
            if leaders.count() != 1 {
                return Some(format!("shard {} has no leader, or two", shard.id));
            }
            // The load goes on, so a little behind is caught up.
            if let Some(behind) = replicas().find(|replica| !replica.reachable || replica.lag_entries > 20) {
                return Some(format!("{behind:?}"));
            }
        }
        None
    }

    async fn restart_nodes(&mut self) -> Result<()> {
        for node in 0..NODES {
            let code = self.cluster.terminate_node(node);
            if code != Some(0) {
                self.notes
                    .push(format!("node {node} ended with {code:?} after SIGTERM"));
            }
            tokio::time::sleep(DOWN).await;
            self.cluster.start_node(node);
            self.cluster.node_ready(node).await;
            self.healed(&[]).await?;
        }
        Ok(())
    }

    /// Replaces each process by one of the other build.
    async fn replace_each(&mut self, first: First) -> Result<()> {
        self.is_next = !self.is_next;
        let next = next_binary().filter(|_| self.is_next);
        let other = next.unwrap_or_else(binary);
        (0..NODES).for_each(|node| self.cluster.node_binary(node, &other));
        if first == First::Nodes {
            self.restart_nodes().await?;
        }
        for coordinator in 0..self.cluster.coordinators() {
            self.cluster.terminate_coordinator(coordinator);
            self.cluster.coordinator_binary(coordinator, &other);
            self.cluster.start_coordinator(coordinator).await;
        }
        if first == First::Coordinators {
            self.restart_nodes().await?;
        }
        Ok(())
    }

    async fn until_there(&self, kind: FileKind, node: usize) -> Result<()> {
        let (began, data) = (Instant::now(), self.cluster.node_data(node));
        while !kind.is_there(&data) {
            if began.elapsed() > HEAL_DEADLINE {
                bail!("node {node} has no file of kind {kind:?} after {HEAL_DEADLINE:?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Whether a node with a damaged file can't come back as it was: waits until it serves, or has ended, or time is up.
    async fn damaged(&mut self, node: usize) -> Vec<usize> {
        let began = Instant::now();
        while began.elapsed() < HEAL_DEADLINE / 4 {
            if !self.cluster.node_runs(node) {
                break;
            }
            if self.unhealed(&[]).await.is_none() {
                self.notes.push("the node came back whole".to_owned());
                return Vec::new();
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let log = self.cluster.node_log(node);
        let said = log
            .lines()
            .rev()
            .find(|line| line.contains("ERROR") || line.contains("WARN") || line.contains("rror:"));
        let ended = if self.cluster.node_runs(node) {
            "does not serve all"
        } else {
            "refused to start"
        };
        self.notes
            .push(format!("the node {ended}: {}", said.unwrap_or("without a word")));
        vec![node]
    }

    /// Notes what nodes have said of a damaged file by now.
    pub fn note_damage(&mut self, row: &Row) {
        if !row.damages() {
            return;
        }
        for node in 0..NODES {
            let log = self.cluster.node_log(node);
            let speaks = |line: &&str| SIGNS_OF_DAMAGE.iter().any(|sign| line.contains(sign));
            if let Some(line) = log.lines().find(speaks) {
                self.notes.push(format!("node {node} says: {line}"));
            }
        }
    }

    fn clocks(&self) -> Result<&Clocks> {
        self.clocks.as_ref().context("the row has clocks")
    }

    fn network(&mut self) -> Result<&mut Network> {
        self.network.as_mut().context("the row has a network")
    }

    fn slow_disk(&self, node: usize, writes_a_second: u32) -> Result<()> {
        self.disks()?
            .slow(node, self.cluster.node_process(node), writes_a_second)
    }

    fn disks(&self) -> Result<&Disks> {
        self.disks.as_ref().context("the row has disks")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A process that waits for a disk doesn't end, not even when it is killed.
        if let Some(disks) = &self.disks {
            (0..NODES).for_each(|node| drop(disks.thaw(node)));
        }
    }
}
