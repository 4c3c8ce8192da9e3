//! Plans carried out on a model of nodes and register, until nothing is due.
//!
//! Over 400 lines because every rule is tried on the one model.

mod register;

use granum_proto::internal::{NodeReport, ReplicaReport, SealCensus};
use proptest::prelude::*;

use super::*;
use crate::control::apply::standing;
use crate::map::change;
use crate::map::change::tests::{Register, wish};

/// Nodes, as a model: which replicas they hold and who leads.
struct Cluster {
    register: Register,
    nodes: Vec<NodeReport>,
}

impl Cluster {
    fn new(nodes: u64) -> Cluster {
        let node = |node| NodeReport {
            node,
            ..NodeReport::default()
        };
        Cluster {
            register: Register::with_nodes(nodes),
            nodes: (1..=nodes).map(node).collect(),
        }
    }

    #[track_caller]
    fn create(&mut self, shards: u32, factor: u32) {
        let swap = change::create(&self.register.map(), &wish("a", shards, factor)).unwrap();
        assert!(self.register.swap(&swap));
    }

    #[track_caller]
    fn begin_delete(&mut self) {
        let map = self.register.map();
        assert!(self.register.swap(&change::begin_delete(&map, map.named("a").unwrap())));
    }

    fn reports(&self, down: &[u64]) -> Reports {
        Reports::new(self.nodes.iter().filter(|node| !down.contains(&node.node)).cloned())
    }

    fn replicas(&mut self, node: NodeId) -> &mut Vec<ReplicaReport> {
        &mut self.nodes[node.0 as usize - 1].replicas
    }

    /// Takes a step as nodes and register would.
    fn take(&mut self, step: &Step) {
        let swap = match step {
            Step::Place(collection, candidates) => change::place(&self.register.map(), collection, candidates).unwrap(),
            Step::NoteInitialized(shard) => Some(change::note_shard(shard, |record| record.initialized = true)),
            Step::Activate(collection) => Some(change::note_collection(collection, |record| {
                record.set_state(State::Active)
            })),
            Step::Forget(collection) => Some(change::forget(collection)),
            Step::AlterSchema(collection, shard) => {
                let version = collection.record.schema_version;
                Some(change::note_shard(shard, |record| record.schema_version = version))
            }
            Step::Ensure(collection, shard, node, replica) => {
                self.replicas(*node).push(ReplicaReport {
                    shard: shard.id.0,
                    replica: replica.0,
                    collection: collection.as_ref().map_or(0, |own| own.id.0),
                    ..ReplicaReport::default()
                });
                None
            }
            Step::Initialize(shard, node) => {
                self.lead(shard, shard.replica_on(*node).unwrap());
                None
            }
            Step::TransferLeader(shard, _, replica) => {
                self.lead(shard, *replica);
                None
            }
            Step::BeginReplacing(shard, leaving, node) => {
                let map = self.register.map();
                change::begin_replacing(&map, (shard, &standing(&map, shard).unwrap()), *leaving, *node)
            }
            Step::AddLearner(shard, _, joining) => {
                self.change_members(shard, |members, _| members.push(*joining));
                None
            }
            Step::Promote(shard, _, Replacing { joining, leaving }) => {
                self.change_members(shard, |members, voters| {
                    members.retain(|member| Some(*member) != *leaving);
                    voters.retain(|voter| leaving.is_none_or(|leaving| *voter != leaving.replica));
                    voters.push(joining.replica);
                });
                None
            }
            Step::EndReplacing(shard) => {
                change::end_replacing((shard, &standing(&self.register.map(), shard).unwrap()))
            }
            Step::Drop(node, shard, _) => {
                self.replicas(*node).retain(|report| report.shard != shard.0);
                None
            }
        };
        if let Some(swap) = swap {
            self.register.swap(&swap);
        }
    }

    /// Changes the members that the shard's leader reports.
    fn change_members(&mut self, shard: &Shard, change: impl Fn(&mut Vec<Member>, &mut Vec<u64>)) {
        let replicas = self.nodes.iter_mut().flat_map(|node| &mut node.replicas);
        let mut own = replicas.filter(|replica| replica.shard == shard.id.0);
        let leader = own.find(|replica| replica.leader).expect("a shard that changes is led");
        if leader.members.is_empty() {
            leader.members.clone_from(&shard.record.replicas);
            leader.voters = shard.record.replicas.iter().map(|member| member.replica).collect();
        }
        change(&mut leader.members, &mut leader.voters);
    }

    fn lead(&mut self, shard: &Shard, leader: ReplicaId) {
        for node in shard.nodes() {
            let replicas = self
                .replicas(node)
                .iter_mut()
                .filter(|report| report.shard == shard.id.0);
            replicas.for_each(|report| report.leader = report.replica == leader.0);
        }
    }

    fn join(&mut self, node: u64) {
        self.register.add_node(node);
        self.nodes.push(NodeReport {
            node,
            ..NodeReport::default()
        });
    }

    fn remove(&mut self, node: u64) {
        let removed = change::remove_node(&self.register.map().nodes[&NodeId(node)]);
        assert!(self.register.swap(&removed));
    }

    /// Runs passes until nothing is due.
    fn settle(&mut self, down: &[u64]) {
        for _ in 0..10 {
            let steps = plan(&self.register.map(), &self.reports(down));
            if steps.is_empty() {
                return;
            }
            steps.iter().for_each(|step| self.take(step));
        }
        panic!("still due: {:?}", plan(&self.register.map(), &self.reports(down)));
    }
}

proptest! {
    #[test]
    fn a_new_collection_becomes_active_and_a_deleted_one_leaves_nothing(
        nodes in 1u64..6, factor in 1u32..4, shards in 1u32..=20
    ) {
        prop_assume!(u64::from(factor) <= nodes);
        let mut cluster = Cluster::new(nodes);
        cluster.create(shards, factor);
        cluster.settle(&[]);
        let map = cluster.register.map();
        let reports = cluster.reports(&[]);
        for shard in &map.usable("a").unwrap().shards {
            prop_assert_eq!(reports.leader(shard).map(|(node, _)| node), shard.nodes().next(), "led as placed");
        }
        cluster.begin_delete();
        cluster.settle(&[]);
        prop_assert!(cluster.register.map().collections.is_empty());
        prop_assert!(cluster.nodes.iter().all(|node| node.replicas.is_empty()));
    }
}

#[test]
fn a_node_that_is_down_gets_its_replica_when_it_is_back() {
    let mut cluster = Cluster::new(3);
    cluster.create(2, 3);
    let steps = plan(&cluster.register.map(), &cluster.reports(&[]));
    steps.iter().for_each(|step| cluster.take(step));
    cluster.settle(&[2]);
    assert!(cluster.register.map().usable("a").is_ok(), "a majority is enough");
    assert!(cluster.nodes[1].replicas.is_empty());
    cluster.settle(&[]);
    assert_eq!(cluster.nodes[1].replicas.len(), 2);
}

/// Three nodes hold two shards, a fourth holds nothing; the entries of all replicas are applied.
fn settled() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.create(2, 3);
    cluster.settle(&[]);
    for node in &mut cluster.nodes {
        node.replicas.iter_mut().for_each(|replica| replica.applied_index = 100);
    }
    cluster
}

fn steps(cluster: &Cluster, down: &[u64]) -> Vec<String> {
    let steps = plan(&cluster.register.map(), &cluster.reports(down));
    steps.iter().map(Step::to_string).collect()
}

/// Takes all steps until none is due; `applied` of a new replica grows to 100 once it learns.
fn settle_all(cluster: &mut Cluster, down: &[u64]) -> Vec<String> {
    let mut taken = Vec::new();
    for _ in 0..20 {
        let due = plan(&cluster.register.map(), &cluster.reports(down));
        if due.is_empty() {
            return taken;
        }
        for step in &due {
            taken.push(step.to_string());
            cluster.take(step);
            if let Step::AddLearner(shard, _, joining) = step {
                let replicas = cluster.replicas(NodeId(joining.node)).iter_mut();
                let learning = replicas.filter(|replica| replica.shard == shard.id.0);
                learning.for_each(|replica| replica.applied_index = 100);
            }
        }
    }
    panic!("still due: {:?}", steps(cluster, down));
}

#[test]
fn a_leader_without_room_hands_over_where_there_is_room() {
    let mut cluster = settled();
    for shard in cluster.register.map().shards().cloned().collect::<Vec<_>>() {
        cluster.lead(&shard, shard.replica_on(NodeId(1)).unwrap());
    }
    assert!(steps(&cluster, &[]).is_empty());
    cluster.nodes[0].read_only = true;
    cluster.nodes[1].read_only = true;
    assert_eq!(steps(&cluster, &[3]), Vec::<String>::new(), "nobody else takes writes");
    cluster.replicas(NodeId(3))[0].fault = "stopped".to_owned();
    assert_eq!(
        steps(&cluster, &[]).len(),
        1,
        "a replica that has stopped is not asked to lead"
    );
    cluster.replicas(NodeId(3))[0].fault.clear();
    settle_all(&mut cluster, &[]);
    let reports = cluster.reports(&[]);
    let map = cluster.register.map();
    let leaders = map.shards().map(|shard| reports.leader(shard).unwrap().0);
    assert!(leaders.eq([NodeId(3); 2]));
}

#[test]
fn replicas_of_a_node_that_is_given_up_are_made_anew_where_there_is_room() {
    let mut cluster = settled();
    assert!(steps(&cluster, &[3]).is_empty(), "a node that is down is waited for");
    let map = cluster.register.map();
    assert!(cluster.register.swap(&change::remove_node(&map.nodes[&NodeId(3)])));
    for shard in map.shards().cloned().collect::<Vec<_>>() {
        cluster.lead(&shard, shard.replica_on(NodeId(1)).unwrap());
    }
    assert!(steps(&cluster, &[3]).is_empty(), "there is no node to make them on");
    cluster.register.add_node(4);
    cluster.nodes.push(NodeReport {
        node: 4,
        read_only: true,
        ..NodeReport::default()
    });
    assert!(steps(&cluster, &[3]).is_empty(), "the new node's disk is full");
    cluster.nodes[3].read_only = false;
    let taken = settle_all(&mut cluster, &[3]);
    let map = cluster.register.map();
    for shard in map.shards() {
        let nodes: BTreeSet<NodeId> = shard.nodes().collect();
        assert_eq!(nodes, BTreeSet::from([NodeId(1), NodeId(2), NodeId(4)]), "{taken:?}");
        assert!(shard.replacing().is_none());
    }
    // Back again, it gives up what it holds.
    cluster.register.add_node(3);
    settle_all(&mut cluster, &[]);
    assert!(cluster.nodes[2].replicas.is_empty());
    assert_eq!(cluster.nodes[3].replicas.len(), 2);
}

#[test]
fn a_damaged_replica_is_made_anew_on_its_own_node_where_there_is_no_other_and_never_while_it_leads() {
    let mut cluster = settled();
    let shard = cluster.register.map().shards().next().unwrap().clone();
    let first = shard.nodes().next().unwrap();
    let old = shard.replica_on(first).unwrap();
    for replica in cluster
        .replicas(first)
        .iter_mut()
        .filter(|replica| replica.shard == shard.id.0)
    {
        assert!(replica.leader);
        replica.damage = "page 7".into();
    }
    let taken = settle_all(&mut cluster, &[]);
    assert!(taken[0].starts_with("transfer_leader"), "{taken:?}");
    let map = cluster.register.map();
    let new = map.shard(shard.id).unwrap().replica_on(first).unwrap();
    assert!(new.0 > old.0, "another id: {taken:?}");
    let held: Vec<u64> = cluster.replicas(first).iter().map(|replica| replica.replica).collect();
    assert!(held.contains(&new.0) && !held.contains(&old.0));
}

#[test]
fn a_new_replica_that_is_damaged_before_it_has_joined_is_made_anew_on_its_own_node_where_there_is_no_other() {
    let mut cluster = settled();
    let map = cluster.register.map();
    for shard in map.shards() {
        cluster.lead(shard, shard.replica_on(NodeId(1)).unwrap());
    }
    cluster.join(4);
    cluster.remove(3);
    while cluster.nodes[3].replicas.len() < 2 {
        for step in plan(&cluster.register.map(), &cluster.reports(&[3])) {
            cluster.take(&step);
        }
    }
    let held: Vec<u64> = cluster.nodes[3]
        .replicas
        .iter()
        .map(|replica| replica.replica)
        .collect();
    for replica in &mut cluster.nodes[3].replicas {
        replica.damage = "page 7".into();
    }
    assert!(
        steps(&cluster, &[2, 3]).is_empty(),
        "its vote, if it has one already, may be needed"
    );
    let taken = settle_all(&mut cluster, &[3]);
    for shard in cluster.register.map().shards() {
        let new = shard.replica_on(NodeId(4)).unwrap();
        assert!(shard.replacing().is_none() && !held.contains(&new.0), "{taken:?}");
    }
}

#[test]
fn a_replica_that_most_others_contradict_is_made_anew() {
    let mut cluster = settled();
    let shard = cluster.register.map().shards().next().unwrap().clone();
    let odd = shard.record.replicas[1];
    for member in &shard.record.replicas {
        let seal = SealCensus {
            index: 90,
            documents: 7,
            digest: u64::from(member == &odd),
        };
        let mut held = cluster.replicas(NodeId(member.node)).iter_mut();
        held.find(|replica| replica.shard == shard.id.0).unwrap().seals = vec![seal];
    }
    assert!(
        steps(&cluster, &[shard.record.replicas[0].node]).is_empty(),
        "of two that differ it is not known who is wrong"
    );
    settle_all(&mut cluster, &[]);
    let new = cluster
        .register
        .map()
        .shard(shard.id)
        .unwrap()
        .replica_on(NodeId(odd.node));
    assert!(new.unwrap().0 > odd.replica, "another id");
}

/// Elected between its promotion and its place in the map, it must not be nobody.
#[test]
fn a_new_replica_that_leads_before_it_has_its_place_gets_it() {
    let mut cluster = settled();
    cluster.register.add_node(4);
    cluster.nodes.push(NodeReport {
        node: 4,
        ..NodeReport::default()
    });
    let map = cluster.register.map();
    let shard = map.shards().next().unwrap().clone();
    let leaving = *shard.record.replicas.last().unwrap();
    let begun = change::begin_replacing(&map, (&shard, &shard), Some(leaving), NodeId(4)).unwrap();
    assert!(cluster.register.swap(&begun));
    let joining = cluster.register.map().shard(shard.id).unwrap().joining().unwrap();
    for node in &mut cluster.nodes {
        node.replicas
            .iter_mut()
            .filter(|replica| replica.shard == shard.id.0)
            .for_each(|replica| replica.leader = false);
    }
    let members: Vec<Member> = [&shard.record.replicas[..2], &[joining]].concat();
    cluster.replicas(NodeId(4)).push(ReplicaReport {
        shard: shard.id.0,
        replica: joining.replica,
        leader: true,
        term: 9,
        voters: members.iter().map(|member| member.replica).collect(),
        members,
        ..ReplicaReport::default()
    });
    let taken = settle_all(&mut cluster, &[]);
    assert!(taken[0].starts_with("end_replacing"), "{taken:?}");
}

#[test]
fn a_damaged_replica_that_leads_again_while_it_is_replaced_hands_over_again() {
    let mut cluster = settled();
    let map = cluster.register.map();
    let shard = map.shards().next().unwrap().clone();
    let leaving = shard.record.replicas[0];
    let begun = change::begin_replacing(&map, (&shard, &shard), Some(leaving), NodeId(leaving.node)).unwrap();
    assert!(cluster.register.swap(&begun));
    let due = steps(&cluster, &[shard.record.replicas[1].node]);
    let to = shard.record.replicas[2].replica;
    assert!(
        due.contains(&format!("transfer_leader shard {} to replica {to}", shard.id)),
        "{due:?}"
    );
}

#[test]
fn a_damaged_replica_keeps_its_vote_while_the_others_need_it() {
    let mut cluster = settled();
    let shard = cluster.register.map().shards().next().unwrap().clone();
    let nodes: Vec<NodeId> = shard.nodes().collect();
    let mut held = cluster.replicas(nodes[1]).iter_mut();
    held.find(|replica| replica.shard == shard.id.0).unwrap().damage = "page 7".into();
    assert!(
        steps(&cluster, &[nodes[2].0]).is_empty(),
        "with two of three, both are needed"
    );
    assert!(!steps(&cluster, &[]).is_empty());
}

#[test]
fn of_two_coordinators_one_chooses_the_successor() {
    let mut cluster = settled();
    let map = cluster.register.map();
    let shard = map.shards().next().unwrap().clone();
    let leaving = shard.record.replicas[2];
    let begin = |map: &ShardMap, node| {
        let stands = map.shard(shard.id).unwrap();
        change::begin_replacing(map, (&shard, stands), Some(leaving), NodeId(node))
    };
    assert!(cluster.register.swap(&begin(&map, 4).unwrap()));
    assert!(begin(&cluster.register.map(), 5).is_none());
}

/// The slower one would else give a place to a replica that has only been chosen.
#[test]
fn of_two_coordinators_one_ends_a_replacement_and_the_other_does_not_end_the_next() {
    let mut cluster = settled();
    let id = cluster.register.map().shards().next().unwrap().id;
    let shard = |cluster: &Cluster| cluster.register.map().shard(id).unwrap().clone();
    let begin = |cluster: &mut Cluster, node| {
        let now = shard(cluster);
        let (map, leaving) = (cluster.register.map(), now.record.replicas.last().copied());
        let begun = change::begin_replacing(&map, (&now, &now), leaving, NodeId(node)).unwrap();
        assert!(cluster.register.swap(&begun));
    };
    begin(&mut cluster, 4);
    let seen = shard(&cluster);
    let ended = change::end_replacing((&seen, &seen)).unwrap();
    assert!(cluster.register.swap(&ended));
    begin(&mut cluster, 5);
    assert!(change::end_replacing((&seen, &shard(&cluster))).is_none());
    let chosen = shard(&cluster);
    assert!(change::end_replacing((&chosen, &chosen)).is_some());
}

#[test]
fn a_shard_without_a_leader_is_left_as_it_is() {
    let mut cluster = settled();
    for node in &mut cluster.nodes {
        for replica in &mut node.replicas {
            (replica.leader, replica.damage) = (false, "page 7".into());
        }
    }
    assert!(steps(&cluster, &[]).is_empty());
}

#[test]
fn a_deleted_collection_is_remembered_while_a_node_that_is_down_may_hold_it() {
    let mut cluster = Cluster::new(3);
    cluster.create(2, 3);
    cluster.settle(&[]);
    cluster.begin_delete();
    cluster.settle(&[2]);
    assert_eq!(cluster.register.map().collections.len(), 1);
    cluster.settle(&[]);
    assert!(cluster.register.map().collections.is_empty() && cluster.nodes[1].replicas.is_empty());
}

#[test]
fn only_strays_of_known_age_are_dropped() {
    let mut cluster = Cluster::new(1);
    cluster.create(2, 1);
    cluster.settle(&[]);
    for (shard, replica) in [(9, 9), (77, 1), (0, 1)] {
        let stray = ReplicaReport {
            shard,
            replica,
            ..ReplicaReport::default()
        };
        cluster.replicas(NodeId(1)).push(stray);
    }
    let mut map = cluster.register.map();
    assert!(
        plan(&map, &cluster.reports(&[])).is_empty(),
        "too new to judge, or the register"
    );
    (map.counters.0.next_shard, map.counters.0.next_replica) = (78, 10);
    let steps: Vec<String> = plan(&map, &cluster.reports(&[])).iter().map(Step::to_string).collect();
    assert_eq!(
        steps,
        ["drop shard 9 replica 9 on node 1", "drop shard 77 replica 1 on node 1"]
    );
}
