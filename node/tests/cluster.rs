//! Does a cluster of real nodes found itself, keep its register, and survive the loss of any of them? Three nodes in this
//! process, on real sockets and real files.

use std::time::Duration;

use granum_node::{Config, Node, start};
use granum_proto::internal::register_client::RegisterClient;
use granum_proto::internal::{FoundRequest, KeyValue, Put, RegisterReadRequest, Swap};
use granum_proto::status::{self, Failure};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

mod shared;
use shared::wait;

/// Three nodes with a folder each.
struct Cluster {
    folder: TempDir,
    nodes: Vec<Option<Node>>,
    configs: Vec<Config>,
}

impl Cluster {
    /// Starts `count` nodes on free ports; no cluster yet.
    async fn start(count: usize) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster {
            folder,
            nodes: Vec::new(),
            configs: Vec::new(),
        };
        for number in 0..count {
            let config = shared::config(&cluster.folder.path().join(number.to_string()));
            let node = start(config.clone()).await.unwrap();
            cluster.configs.push(Config {
                listen_data: node.data_address().into(),
                listen_raft: node.raft_address().into(),
                listen_metrics: node.metrics_address().into(),
                ..config
            });
            cluster.nodes.push(Some(node));
        }
        cluster
    }

    /// Starts nodes and founds a cluster of the first three, or of the first.
    async fn found(count: usize) -> Cluster {
        let cluster = Cluster::start(count).await;
        let voters = if count >= 3 { 3 } else { 1 };
        let addresses: Vec<String> = (0..voters).map(|number| cluster.address(number)).collect();
        let founded = client(&addresses[0]).found(FoundRequest { addresses }).await.unwrap();
        assert_ne!(founded.into_inner().cluster, 0);
        cluster
    }

    fn address(&self, number: usize) -> String {
        self.configs[number].listen_data.clone()
    }

    fn running(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|number| self.nodes[*number].is_some())
            .collect()
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number].take().expect("it runs");
    }

    /// Starts a node that was killed or drained where it was; its lock may take a moment to fall.
    async fn restart(&mut self, number: usize) {
        let config = &self.configs[number];
        let node = wait("a node to start again", async || start(config.clone()).await.ok()).await;
        self.nodes[number] = Some(node);
    }

    /// The node that leads the register, as it says itself.
    async fn leader(&self) -> usize {
        wait("a leader of the register", async || {
            self.running().into_iter().find(|number| {
                let register = self.nodes[*number].as_ref().and_then(|node| node.holdings().register());
                register.is_some_and(|register| register.group.status().leader)
            })
        })
        .await
    }

    /// The register's term, as a node has it.
    fn term(&self, number: usize) -> u64 {
        let register = self.nodes[number].as_ref().and_then(|node| node.holdings().register());
        register.expect("it has a replica").group.status().term
    }

    /// Writes one key through whichever node takes it.
    async fn put(&self, key: &str, value: &str) {
        let swap = Swap {
            puts: vec![Put {
                key: key.into(),
                value: value.to_owned().into_bytes().into(),
            }],
            request_id: rand::random::<[u8; 16]>().to_vec().into(),
            ..Swap::default()
        };
        wait("a swap", async || {
            for number in self.running() {
                match client(&self.address(number)).swap(swap.clone()).await {
                    Ok(result) => {
                        assert!(result.into_inner().swapped);
                        return Some(());
                    }
                    Err(refused) => {
                        let failure = status::failure(&refused);
                        assert!(!matches!(failure, Failure::Invalid(_) | Failure::Fault(_)), "{failure}");
                    }
                }
            }
            None
        })
        .await
    }

    /// Everything under `prefix`, read linearizably.
    async fn read(&self, prefix: &str) -> Vec<KeyValue> {
        let request = RegisterReadRequest {
            prefixes: vec![prefix.into()],
            linearizable: true,
        };
        wait("a read", async || {
            for number in self.running() {
                if let Ok(read) = client(&self.address(number)).read(request.clone()).await {
                    return Some(read.into_inner().entries);
                }
            }
            None
        })
        .await
    }

    async fn check_keys(&self, count: usize) {
        let entries = self.read("test/").await;
        let keys: Vec<String> = entries.into_iter().map(|entry| entry.key).collect();
        assert_eq!(
            keys,
            (0..count).map(|number| format!("test/{number:04}")).collect::<Vec<_>>()
        );
    }

    async fn put_keys(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.put(&format!("test/{number:04}"), "grain").await;
        }
    }

    /// Until every running node has announced itself.
    async fn all_announced(&self) {
        wait("all nodes in the register", async || {
            (self.read("nodes/").await.len() >= self.nodes.len()).then_some(())
        })
        .await
    }
}

fn client(address: &str) -> RegisterClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    RegisterClient::new(endpoint.timeout(Duration::from_secs(10)).connect_lazy())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_become_one_cluster_and_hold_a_register() {
    let cluster = Cluster::found(3).await;
    cluster.put_keys(0..10).await;
    cluster.check_keys(10).await;
    cluster.all_announced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_register_survives_the_loss_of_its_leader_and_the_node_comes_back() {
    let mut cluster = Cluster::found(3).await;
    cluster.all_announced().await;
    cluster.put_keys(0..10).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.put_keys(10..20).await;
    cluster.restart(leader).await;
    cluster.put_keys(20..30).await;
    cluster.check_keys(30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_acknowledged_is_there_after_all_nodes_restart() {
    let mut cluster = Cluster::found(3).await;
    cluster.all_announced().await;
    cluster.put_keys(0..20).await;
    for number in 0..3 {
        cluster.kill(number);
    }
    for number in 0..3 {
        cluster.restart(number).await;
    }
    cluster.check_keys(20).await;
}

/// The commit that it has written down may be older than what it had acknowledged: it learns that by an election only.
#[tokio::test(flavor = "multi_thread")]
async fn who_led_before_a_restart_leads_only_when_elected_again() {
    let mut cluster = Cluster::found(3).await;
    cluster.all_announced().await;
    let before = cluster.term(cluster.leader().await);
    for number in 0..3 {
        cluster.kill(number);
    }
    for number in 0..3 {
        cluster.restart(number).await;
    }
    assert!(cluster.term(cluster.leader().await) > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_leader_hands_over_and_no_write_waits_for_an_election() {
    let mut cluster = Cluster::found(3).await;
    cluster.all_announced().await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].take().expect("it runs").drain().await;
    assert_ne!(cluster.leader().await, leader);
    cluster.put_keys(0..5).await;
    cluster.check_keys(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::found(3).await;
    cluster.all_announced().await;
    let behind = (cluster.leader().await + 1) % 3;
    cluster.kill(behind);
    // More than a seal of the register and what is kept behind it.
    cluster.put_keys(0..1_300).await;
    cluster.restart(behind).await;
    wait("the follower to catch up", async || {
        let register = cluster.nodes[behind].as_ref()?.holdings().register()?;
        (register.machine.read(&["test/".to_owned()]).1.len() == 1_300).then_some(())
    })
    .await;
}
