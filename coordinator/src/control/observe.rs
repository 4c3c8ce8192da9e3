//! What do the nodes say about themselves?

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use granum_model::{NodeId, ReplicaId, ShardId};
use granum_proto::internal::shard_client::ShardClient;
use granum_proto::internal::{NodeReport, ReplicaReport, ReportRequest};
use granum_proto::limits::MESSAGE_OUT_BYTES_MAX;
use tokio::time::timeout;

use crate::map::{Shard, ShardMap};
use crate::route::call::Caller;

/// Time a node has to report; one that doesn't is counted as unreachable.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Reports of the nodes that answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    nodes: BTreeMap<NodeId, NodeReport>,
}

impl Reports {
    /// Of these nodes.
    pub fn new(reports: impl IntoIterator<Item = NodeReport>) -> Self {
        let keyed = |report: NodeReport| (NodeId(report.node), report);
        Reports {
            nodes: reports.into_iter().map(keyed).collect(),
        }
    }

    /// How many answered.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All of them, by node.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &NodeReport)> {
        self.nodes.iter().map(|(&node, report)| (node, report))
    }

    /// What a node said.
    pub fn node(&self, node: NodeId) -> Option<&NodeReport> {
        self.nodes.get(&node)
    }

    /// What a node said about its replica of a shard.
    pub fn replica(&self, node: NodeId, shard: ShardId) -> Option<&ReplicaReport> {
        let mut replicas = self.nodes.get(&node)?.replicas.iter();
        replicas.find(|replica| replica.shard == shard.0)
    }

    /// Whether the replica that the map wants on a node is there.
    pub fn has(&self, node: NodeId, shard: ShardId, replica: ReplicaId) -> bool {
        self.replica(node, shard)
            .is_some_and(|report| report.replica == replica.0)
    }

    /// Who leads a shard: the replica that says so in the highest term, and its report. One that takes another's place may,
    /// from its promotion on.
    pub fn leader(&self, shard: &Shard) -> Option<(NodeId, &ReplicaReport)> {
        let joining = shard.joining().map(|joining| NodeId(joining.node));
        let reports = shard
            .nodes()
            .chain(joining)
            .filter_map(|node| Some((node, self.replica(node, shard.id)?)));
        reports
            .filter(|(_, report)| report.leader)
            .max_by_key(|(_, report)| report.term)
    }
}

/// Asks every node of the map; those of another cluster don't count.
pub(crate) async fn observe(map: &ShardMap, caller: &Caller, cluster: u64) -> Reports {
    let asked = map
        .nodes
        .iter()
        .map(|(node, record)| report(caller, *node, &record.data_address));
    let reports = join_all(asked).await.into_iter().flatten();
    Reports::new(reports.filter(|report| report.cluster == cluster))
}

async fn report(caller: &Caller, node: NodeId, address: &str) -> Option<NodeReport> {
    let channel = caller.pool.channel(address).ok()?;
    let mut client = ShardClient::new(channel).max_decoding_message_size(MESSAGE_OUT_BYTES_MAX);
    let report = timeout(REPORT_TIMEOUT, client.report(ReportRequest {}))
        .await
        .ok()?
        .ok()?
        .into_inner();
    (report.node == node.0).then_some(report)
}
