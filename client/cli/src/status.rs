//! Is the cluster well? Nodes, shards, leaders, lag, and a line for each thing that is not as it should be.

use anyhow::bail;
use clap::Args;
use granum_client::v1;
use serde_json::json;

use crate::collection;
use crate::connect::Connect;
use crate::json;
use crate::output::{grouped, note, sized};
use crate::table::Table;

/// Entries behind the leader from which a replica is worth a warning.
const LAG_ENTRIES: u64 = 1000;
/// Share of a disk in use from which it is worth a warning, in percent.
const DISK_PERCENT: u64 = 90;

/// Show nodes, shards, leaders and lag, and warn of what is wrong
#[derive(Args, Debug)]
pub struct Status {
    /// End with exit code 1 where there is a warning
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    connect: Connect,
}

/// `granum status`
pub async fn run(command: Status) -> anyhow::Result<()> {
    let output = command.connect.output();
    let status = command.connect.client()?.status().await?;
    let warnings = warnings(&status);
    if output.json {
        output.json(&json!({
            "cluster": json::node_id(status.cluster),
            "map_revision": status.map_revision,
            "coordinator_version": status.coordinator_version,
            "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
            "register": status.register.as_ref().map(|own| json::register(own, status.register_wanted)),
            "collections": status.collections.iter().map(json::collection).collect::<Vec<_>>(),
            "warnings": warnings,
        }))?;
    } else {
        output.line(&format!(
            "cluster {}, map revision {}, coordinator {}",
            json::node_id(status.cluster),
            status.map_revision,
            status.coordinator_version
        ))?;
        output.line("")?;
        output.table(&nodes(&status))?;
        if !status.collections.is_empty() {
            output.line("")?;
            collection::shards(&output, &status.collections)?;
        }
        for warning in &warnings {
            note(&format!("warning: {warning}"));
        }
    }
    match (command.check, warnings.len()) {
        (true, count @ 1..) => bail!("{count} warnings"),
        _ => Ok(()),
    }
}

fn node(node: &v1::NodeInfo) -> serde_json::Value {
    json!({
        "id": json::node_id(node.id), "data_address": node.data_address, "raft_address": node.raft_address,
        "metrics_address": node.metrics_address, "reachable": node.reachable, "version": node.version,
        "replicas": node.replicas, "leaders": node.leaders, "disk_used_bytes": node.disk_used_bytes,
        "disk_available_bytes": node.disk_available_bytes, "memory_bytes": node.memory_bytes,
        "draining": node.draining, "register_voter": node.register_voter, "read_only": node.read_only,
    })
}

fn nodes(status: &v1::ClusterStatusResponse) -> Table {
    let headings = [
        "node",
        "data address",
        "state",
        ">replicas",
        ">leaders",
        ">on disk",
        ">disk free",
        ">memory",
        "register",
    ];
    let mut table = Table::new(headings);
    for node in &status.nodes {
        let state = match (node.reachable, node.draining) {
            (false, _) => "unreachable",
            (true, true) => "draining",
            (true, false) => "up",
        };
        table.row([
            json::node_id(node.id),
            node.data_address.clone(),
            state.to_owned(),
            node.replicas.to_string(),
            node.leaders.to_string(),
            sized(node.disk_used_bytes),
            sized(node.disk_available_bytes),
            sized(node.memory_bytes),
            if node.register_voter { "voter" } else { "" }.to_owned(),
        ]);
    }
    table
}

/// What is not as it should be, worst first.
fn warnings(status: &v1::ClusterStatusResponse) -> Vec<String> {
    let mut warnings = Vec::new();
    if status.nodes.is_empty() {
        warnings.push("the coordinator knows no node".to_owned());
    }
    for node in &status.nodes {
        let name = format!("node {} ({})", json::node_id(node.id), node.data_address);
        if !node.reachable {
            warnings.push(format!("{name} is unreachable"));
            continue;
        }
        if node.read_only {
            let left = sized(node.disk_available_bytes);
            warnings.push(format!("{name} takes no writes: {left} left on its disk"));
            continue;
        }
        let disk_bytes = node.disk_used_bytes.saturating_add(node.disk_available_bytes);
        if disk_bytes > 0 && node.disk_used_bytes.saturating_mul(100) / disk_bytes >= DISK_PERCENT {
            warnings.push(format!(
                "{name} has {} left on its disk",
                sized(node.disk_available_bytes)
            ));
        }
    }
    match &status.register {
        Some(register) if register.replicas.is_empty() => {
            warnings.push("it is not known which nodes hold the cluster's map".to_owned());
        }
        Some(register) => {
            let wanted = status.register_wanted as usize;
            let what_fails = "so no collection, replica or node can be changed";
            group_warnings("the cluster's map", register, wanted, what_fails, &mut warnings);
        }
        // A coordinator that does not tell.
        None => {}
    }
    for collection in &status.collections {
        let (wanted, what_fails) = (
            collection.replication_factor as usize,
            "so no writes and no linearizable reads",
        );
        for shard in &collection.shards {
            let name = format!("{}, shard {}", collection.name, shard.id);
            group_warnings(&name, shard, wanted, what_fails, &mut warnings);
        }
    }
    warnings
}

/// Of a group that is to have `wanted` replicas.
fn group_warnings(name: &str, group: &v1::ShardInfo, wanted: usize, what_fails: &str, warnings: &mut Vec<String>) {
    let mut all = group.replicas.iter().chain(&group.joining);
    if !all.any(|replica| replica.reachable && replica.leader) {
        warnings.push(format!("{name}: no leader, {what_fails}"));
    }
    if group.diverged_at > 0 {
        let index = grouped(group.diverged_at);
        warnings.push(format!(
            "{name}: its replicas hold different documents as of log index {index}"
        ));
    }
    if let Some(joining) = &group.joining {
        let (node, behind) = (json::node_id(joining.node), grouped(joining.lag_entries));
        let what_for = match group.leaving {
            0 => format!("a replica is being added on node {node}"),
            leaving => format!("replica {leaving} is being replaced by one on node {node}"),
        };
        warnings.push(format!("{name}: {what_for}, which is {behind} entries behind"));
    } else if group.replicas.len() < wanted {
        warnings.push(format!("{name}: has {} of {wanted} replicas", group.replicas.len()));
    }
    let stays = |replica: &&v1::ReplicaInfo| replica.replica != group.leaving || group.leaving == 0;
    let staying: Vec<_> = group.replicas.iter().filter(stays).collect();
    let (due, up) = (
        staying.len(),
        staying.iter().filter(|replica| replica.reachable).count(),
    );
    if up < due {
        warnings.push(format!("{name}: {up} of {due} replicas are up"));
    }
    let lags = |replica: &&v1::ReplicaInfo| replica.reachable && replica.lag_entries >= LAG_ENTRIES;
    for replica in group.replicas.iter().filter(lags) {
        let behind = grouped(replica.lag_entries);
        warnings.push(format!(
            "{name}: the replica on node {} is {behind} entries behind",
            json::node_id(replica.node)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: u64, leader: bool) -> v1::ReplicaInfo {
        v1::ReplicaInfo {
            node,
            leader,
            reachable: true,
            ..Default::default()
        }
    }

    fn cluster(replicas: Vec<v1::ReplicaInfo>) -> v1::ClusterStatusResponse {
        let node = v1::NodeInfo {
            id: 1,
            reachable: true,
            ..Default::default()
        };
        let shard = v1::ShardInfo {
            id: 7,
            replicas,
            ..Default::default()
        };
        let collection = v1::CollectionInfo {
            name: "c".into(),
            replication_factor: 2,
            shards: vec![shard],
            ..Default::default()
        };
        v1::ClusterStatusResponse {
            nodes: vec![node],
            collections: vec![collection],
            ..Default::default()
        }
    }

    #[test]
    fn a_healthy_cluster_brings_no_warning() {
        assert_eq!(
            warnings(&cluster(vec![replica(1, true), replica(2, false)])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_fault_brings_its_warning() {
        let lagging = v1::ReplicaInfo {
            lag_entries: 5000,
            ..replica(2, false)
        };
        let found = warnings(&cluster(vec![replica(1, true), lagging]));
        assert_eq!(
            found,
            ["c, shard 7: the replica on node 0000000000000002 is 5,000 entries behind"]
        );
        let found = warnings(&cluster(vec![replica(1, false)]));
        assert_eq!(found.len(), 2, "{found:?}");
        let mut diverged = cluster(vec![replica(1, true), replica(2, false)]);
        diverged.collections[0].shards[0].diverged_at = 1200;
        assert_eq!(
            warnings(&diverged),
            ["c, shard 7: its replicas hold different documents as of log index 1,200"]
        );
        let mut down = cluster(vec![replica(1, true), replica(2, false)]);
        down.nodes[0].reachable = false;
        assert!(warnings(&down)[0].contains("unreachable"));
        down.nodes[0] = v1::NodeInfo {
            reachable: true,
            disk_used_bytes: 95,
            disk_available_bytes: 5,
            ..Default::default()
        };
        assert!(warnings(&down)[0].contains("5 B left"));
        down.nodes[0].read_only = true;
        assert!(warnings(&down)[0].contains("takes no writes"));
    }

    #[test]
    fn the_group_that_holds_the_map_is_watched_too() {
        let mut status = cluster(vec![replica(1, true), replica(2, false)]);
        let register = |replicas, joining| v1::ShardInfo {
            replicas,
            joining,
            ..Default::default()
        };
        status.register_wanted = 3;
        status.register = Some(register(vec![replica(1, true)], None));
        assert_eq!(warnings(&status), ["the cluster's map: has 1 of 3 replicas"]);
        status.register = Some(register(vec![replica(1, true)], Some(replica(2, false))));
        assert_eq!(
            warnings(&status),
            ["the cluster's map: a replica is being added on node 0000000000000002, which is 0 entries behind"]
        );
        status.register_wanted = 1;
        status.register = Some(register(vec![replica(1, true)], None));
        assert_eq!(warnings(&status), Vec::<String>::new());
        status.register = Some(register(Vec::new(), None));
        assert_eq!(
            warnings(&status),
            ["it is not known which nodes hold the cluster's map"]
        );
        status.register = Some(register(vec![replica(1, false)], None));
        assert!(warnings(&status)[0].contains("no leader, so no collection"));
        let down = v1::ReplicaInfo {
            reachable: false,
            ..replica(2, false)
        };
        status.register_wanted = 3;
        status.register = Some(register(vec![replica(1, true), down], Some(replica(3, false))));
        let found = warnings(&status);
        assert!(
            found[0].contains("is being added") && found[1].contains("1 of 2 replicas are up"),
            "{found:?}"
        );
        // Of one that is being replaced it is said only that; it counts for nothing, and its successor not yet.
        let mut replaced = register(vec![replica(1, true), down], Some(replica(3, false)));
        replaced.replicas.push(v1::ReplicaInfo {
            replica: 7,
            ..replica(4, false)
        });
        replaced.leaving = 7;
        status.register = Some(replaced);
        let found = warnings(&status);
        assert!(
            found[0].contains("replica 7 is being replaced") && found[1].contains("1 of 2 replicas are up"),
            "{found:?}"
        );
        status.register = None;
        assert_eq!(warnings(&status), Vec::<String>::new());
    }
}
