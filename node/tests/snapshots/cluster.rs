//! Nodes with one shard: three voters, and a learner where there is a fourth, which the others reach through a relay.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use granum_model::{DocId, Filter, RequestId, ShardId};
use granum_node::raft::Group;
use granum_node::raft::transfer::counts::Transferred;
use granum_node::shard::command;
use granum_node::{Config, Node, start};
use granum_proto::internal::{
    Applied, Command, EnsureReplicaRequest, Epoch, IndexSettings, Member, NodeRecord, Operation, WriteBatch, operation,
};
use granum_proto::{convert, v1};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use crate::relay::Relay;
use crate::shared::{self, DEADLINE, wait};

const CLUSTER: u64 = 5;
const SHARD: u64 = 7;
/// The node that learns.
pub const LEARNER: usize = 3;
/// Characters of a large document.
const LARGE: usize = 48 << 10;
/// Large documents of a batch: an entry has at most 4 MiB.
const BATCH: u64 = 20;
/// Ids of small documents begin here.
const SMALL: u64 = 1_000_000;

/// The nodes, with a folder each.
pub struct Cluster {
    folder: TempDir,
    configs: Vec<Config>,
    nodes: Vec<Option<Node>>,
    /// Before the learner, or the last voter where there is none.
    pub relay: Relay,
}

fn member(number: usize, node: u64) -> Member {
    Member {
        replica: number as u64 + 1,
        node,
    }
}

impl Cluster {
    /// Starts `count` nodes; the first three hold the shard.
    pub async fn start(count: usize) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let (mut configs, mut nodes) = (Vec::new(), Vec::new());
        for number in 0..count {
            let config = Config {
                log_segment_bytes: 8 << 20,
                log_budget_bytes: Config::default().log_budget_bytes,
                merge_threads: 0,
                ..shared::config(&folder.path().join(number.to_string()))
            };
            let node = start(config.clone()).await.unwrap();
            configs.push(Config {
                listen_data: node.data_address().into(),
                listen_raft: node.raft_address().into(),
                listen_metrics: node.metrics_address().into(),
                ..config
            });
            nodes.push(Some(node));
        }
        let relay = Relay::start(configs[count - 1].listen_raft.clone()).await;
        let cluster = Cluster {
            folder,
            configs,
            nodes,
            relay,
        };
        for number in 0..count {
            cluster.tell_addresses(number);
            let birth = EnsureReplicaRequest {
                cluster: CLUSTER,
                shard: SHARD,
                replica: number as u64 + 1,
                epoch: 1,
                collection_name: "snapshots".into(),
                schema: Some(v1::Schema::default()),
                index: Some(IndexSettings::default()),
                ..EnsureReplicaRequest::default()
            };
            assert!(cluster.node(number).holdings().ensure(birth).await.unwrap());
        }
        let voters: Vec<Member> = (0..3).map(|number| member(number, cluster.node(number).id())).collect();
        cluster.group(0).initialize(&voters).await.unwrap();
        let epoch = Epoch {
            epoch: 1,
            range_start: 0,
            range_end: u64::MAX,
            schema: Some(v1::Schema::default()),
        };
        cluster.propose(&command::fence(epoch)).await;
        cluster
    }

    /// Tells a node where the others are.
    fn tell_addresses(&self, number: usize) {
        let book = self.node(number).holdings().groups().peers().book();
        let last = self.nodes.len() - 1;
        for (other, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let address = match other == last {
                true => self.relay.address(),
                false => node.raft_address().to_owned(),
            };
            book.learn(NodeRecord {
                node: node.id(),
                raft_address: address,
                ..NodeRecord::default()
            });
        }
    }

    fn node(&self, number: usize) -> &Node {
        self.nodes[number].as_ref().expect("it runs")
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].is_some())
    }

    fn group(&self, number: usize) -> Arc<Group> {
        let holdings = self.node(number).holdings();
        let group = holdings.groups().group(ShardId(SHARD));
        group.unwrap_or_else(|| panic!("node {number}: {:?}", holdings.unopened(SHARD)))
    }

    /// Dies, like a process that is killed, and is gone for good on return.
    pub async fn kill(&mut self, number: usize) {
        let group = Arc::downgrade(&self.group(number));
        self.nodes[number].take().expect("it runs");
        wait("the node to be gone", async || group.upgrade().is_none().then_some(())).await;
    }

    /// Starts a node that was killed; its lock may take a moment to fall.
    pub async fn restart(&mut self, number: usize) {
        let config = self.configs[number].clone();
        let node = wait("the folder's lock", async || start(config.clone()).await.ok()).await;
        self.nodes[number] = Some(node);
        for other in self.running() {
            self.tell_addresses(other);
        }
    }

    /// The node that leads the shard.
    pub async fn leader(&self) -> usize {
        wait("a leader", async || {
            self.running().find(|number| self.group(*number).status().leader)
        })
        .await
    }

    async fn propose(&self, command: &Command) {
        let encoded: Bytes = command::encode(command).unwrap();
        let applied = wait("an answer", async || {
            let group = self.group(self.leader().await);
            group.propose(encoded.clone(), Instant::now() + DEADLINE).await.ok()
        })
        .await;
        assert_eq!(Applied::decode(applied).unwrap().refused, "");
    }

    async fn write(&self, documents: impl Iterator<Item = (u64, String)>) {
        let put = |(number, text): (u64, String)| {
            operation::Kind::Put(v1::Document {
                id: Some(convert::id::write(&DocId::Number(number))),
                payload_json: format!("{{\"text\":\"{text}\"}}").into(),
                ..v1::Document::default()
            })
        };
        let operations = (0..).zip(documents.map(put)).map(|(ordinal, kind)| Operation {
            kind: Some(kind),
            ordinal,
            ..Operation::default()
        });
        let batch = WriteBatch {
            operations: operations.collect(),
            ..WriteBatch::default()
        };
        self.propose(&command::write(RequestId(rand::random()), 1, 0, batch))
            .await;
    }

    /// Documents that no compression makes small.
    pub async fn write_large(&self, numbers: Range<u64>) {
        let text = |number: u64| -> String {
            let mut random = StdRng::seed_from_u64(number);
            (0..LARGE).map(|_| random.random_range(b'a'..=b'z') as char).collect()
        };
        for from in numbers.clone().step_by(BATCH as usize) {
            let batch = from..numbers.end.min(from + BATCH);
            self.write(batch.map(|number| (number, text(number)))).await;
        }
    }

    /// A document an entry.
    pub async fn write_small(&self, numbers: Range<u64>) {
        for number in numbers {
            self.write([(SMALL + number, String::new())].into_iter()).await;
        }
    }

    /// Seals everything written; on return the leader has.
    pub async fn seal(&self) -> u64 {
        self.propose(&command::seal()).await;
        let group = self.group(self.leader().await);
        let applied = group.status().applied;
        wait("a seal", async || (group.status().sealed >= applied).then_some(())).await;
        applied
    }

    /// Until no log that runs reaches back to the large documents: who lacks them needs a snapshot.
    pub async fn purged(&self) {
        for number in self.running() {
            let log = self.node(number).holdings().groups().log().clone();
            wait("a purge", async || {
                (log.stats().entry_bytes < LARGE as u64).then_some(())
            })
            .await;
        }
    }

    /// On return all voters that run have sealed too.
    pub async fn seal_everywhere(&self) {
        let sealed = self.seal().await;
        for number in self.running().filter(|number| *number != LEARNER) {
            let group = self.group(number);
            wait("a seal of each", async || {
                (group.status().sealed >= sealed).then_some(())
            })
            .await;
        }
    }

    /// Bytes of sealed files, as a node counts them.
    pub fn sealed_bytes(&self, number: usize) -> u64 {
        let replica = self.node(number).holdings().replicas().find(SHARD).unwrap();
        replica.machine.stats().index.disk_bytes
    }

    /// The shard gets the last node as a learner.
    pub async fn add_learner(&self) {
        let learner = member(LEARNER, self.node(LEARNER).id());
        wait("a learner", async || {
            let group = self.group(self.leader().await);
            group.add_learner(learner, Instant::now() + DEADLINE).await.ok()
        })
        .await
    }

    /// Until a node has applied all that the leader has.
    pub async fn caught_up(&self, number: usize) {
        let committed = self.group(self.leader().await).status().applied;
        let group = self.group(number);
        wait("a replica to catch up", async || {
            (group.status().applied >= committed).then_some(())
        })
        .await;
    }

    /// Until a node has counted its snapshot, and nothing is left of the transfer.
    pub async fn transfer_over(&self, number: usize) {
        let incoming = self.incoming(number);
        wait("the end of a transfer", async || {
            (self.transferred(number).installed > 0 && !incoming.exists()).then_some(())
        })
        .await;
    }

    /// What a node sent and received of snapshots.
    pub fn transferred(&self, number: usize) -> Transferred {
        self.node(number).holdings().groups().peers().transferred()
    }

    /// All documents of a node, with a digest of their payload.
    pub async fn documents(&self, number: usize) -> Vec<(DocId, u64)> {
        let replica = self.node(number).holdings().replicas().find(SHARD).unwrap();
        let view = replica.machine.pin().view;
        let rows = view.scan(&Filter::default(), None, 1_000_000, &|| false).unwrap();
        let digest = |row| xxh3_64(&view.payload(row).unwrap());
        rows.into_iter().map(|(id, row)| (id, digest(row))).collect()
    }

    fn replica_folder(&self, number: usize) -> PathBuf {
        let name = format!("{SHARD:016x}-{:016x}", number + 1);
        self.folder.path().join(number.to_string()).join("shards").join(name)
    }

    /// Where a node's snapshots come in.
    pub fn incoming(&self, number: usize) -> PathBuf {
        self.replica_folder(number).join("incoming")
    }

    /// Every byte that a node has sealed is as it was written. Kills it.
    pub async fn check_files(&mut self, number: usize) {
        self.kill(number).await;
        let folder = self.folder.path().join(number.to_string());
        let report = wait("the folder's lock", async || granum_node::verify::verify(&folder).ok()).await;
        assert!(report.is_sound() && report.segments > 0, "{report:?}");
    }
}
