//! The group that holds the cluster's map grows with it, and what is lost of it is replaced first.

use super::*;

/// `voters` nodes of `nodes` hold the register, the first leads.
fn founded(nodes: u64, voters: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    let members: Vec<Member> = (1..=voters).map(|id| Member { replica: id, node: id }).collect();
    for member in &members {
        cluster.replicas(NodeId(member.node)).push(ReplicaReport {
            shard: REGISTER.0,
            replica: member.replica,
            leader: member.replica == 1,
            voters: members.iter().map(|member| member.replica).collect(),
            members: members.clone(),
            ..ReplicaReport::default()
        });
    }
    cluster
}

impl Cluster {
    /// Takes the steps that are due now; the node that the register is to grow onto.
    fn begin_growing(&mut self) -> u64 {
        for step in plan(&self.register.map(), &self.reports(&[])) {
            self.take(&step);
        }
        let register = self.register.map().register.expect("it has begun to grow");
        register.joining().expect("it has begun to grow").node
    }

    /// Replicas of the register that vote, as its leader says.
    fn voters_alone(&self) -> Vec<u64> {
        let (map, reports) = (self.register.map(), self.reports(&[]));
        let register = replace::register(&map, &reports).unwrap();
        reports.leader(&register).unwrap().1.voters.clone()
    }

    /// Nodes that hold the register, as its leader and the map say.
    fn voters(&self) -> BTreeSet<NodeId> {
        let (map, reports) = (self.register.map(), self.reports(&[]));
        let register = replace::register(&map, &reports).unwrap();
        let (_, leader) = reports.leader(&register).unwrap();
        let members = leader.members.iter().map(|member| NodeId(member.node));
        assert_eq!(members.collect::<BTreeSet<_>>(), register.nodes().collect());
        assert_eq!(leader.voters.len(), leader.members.len());
        register.nodes().collect()
    }
}

#[test]
fn the_register_grows_with_the_cluster_by_as_many_as_bear_another_loss() {
    let mut cluster = founded(1, 1);
    for nodes in 1..=9 {
        let taken = settle_all(&mut cluster, &[]);
        let wanted = granum_model::ids::register_voters(nodes);
        assert_eq!(cluster.voters().len(), wanted, "{nodes} nodes: {taken:?}");
        cluster.join(nodes as u64 + 1);
    }
}

#[test]
fn the_register_does_not_begin_to_grow_where_it_would_stop_at_an_even_number() {
    let mut cluster = founded(7, 3);
    cluster.nodes[4].read_only = true;
    assert!(
        steps(&cluster, &[6, 7]).is_empty(),
        "one node is not enough for two more"
    );
    assert!(steps(&cluster, &[2]).is_empty(), "one of its replicas does not answer");
    cluster.nodes[4].read_only = false;
    let begun = cluster.register.map();
    let due = plan(&begun, &cluster.reports(&[7]));
    assert_eq!(
        due.iter().map(Step::to_string).collect::<Vec<_>>(),
        ["begin_replacing shard 0 one more on node 4"]
    );
}

#[test]
fn of_the_register_a_lost_replica_is_replaced_before_it_grows_further_and_one_on_its_way_too() {
    let mut cluster = founded(7, 3);
    let joining = cluster.begin_growing();
    cluster.remove(joining);
    cluster.remove(3);
    cluster.join(8);
    cluster.join(9);
    let taken = settle_all(&mut cluster, &[joining, 3]);
    let voters = cluster.voters();
    assert_eq!(voters.len(), 5, "{taken:?}");
    assert!(
        !voters.contains(&NodeId(joining)) && !voters.contains(&NodeId(3)),
        "{taken:?}"
    );
}

/// Given up between its vote and its place in the map, a replica would else stay a voter that nobody knows.
#[test]
fn a_replica_that_is_lost_as_soon_as_it_votes_gets_its_place_first_and_is_then_replaced() {
    let mut cluster = founded(9, 3);
    for _ in 0..10 {
        for step in plan(&cluster.register.map(), &cluster.reports(&[])) {
            if let Step::EndReplacing(register) = &step {
                let lost = register.joining().unwrap().node;
                cluster.remove(lost);
                let taken = settle_all(&mut cluster, &[lost]);
                assert!(taken[0].starts_with("end_replacing"), "{taken:?}");
                assert!(cluster.voters().len() == 5 && !cluster.voters().contains(&NodeId(lost)));
                return;
            }
            cluster.take(&step);
            if let Step::AddLearner(_, _, joining) = step {
                cluster.replicas(NodeId(joining.node))[0].applied_index = 100;
            }
        }
    }
    panic!("nobody got a vote");
}

#[test]
fn a_register_that_was_halfway_goes_on_though_the_cluster_has_become_smaller() {
    let mut cluster = founded(4, 2);
    cluster.remove(4);
    cluster.remove(3);
    assert!(steps(&cluster, &[3, 4]).is_empty(), "there is no node for a third");
    cluster.join(5);
    settle_all(&mut cluster, &[3, 4]);
    assert_eq!(cluster.voters().len(), 3);
}

#[test]
fn a_growth_that_waits_for_its_node_gives_way_to_replacing_what_is_lost() {
    let mut cluster = founded(9, 3);
    let waited_for = cluster.begin_growing();
    cluster.remove(3);
    settle_all(&mut cluster, &[3, waited_for]);
    let voters = cluster.voters();
    assert!(!voters.contains(&NodeId(3)) && voters.len() >= 3, "{voters:?}");
}

#[test]
fn a_node_that_drains_gets_no_further_vote() {
    let mut cluster = founded(7, 3);
    let joining = cluster.begin_growing();
    cluster.nodes[joining as usize - 1].draining = true;
    let taken = settle_all(&mut cluster, &[]);
    assert!(taken.iter().any(|step| step.starts_with("add_learner")), "{taken:?}");
    assert_eq!(cluster.voters_alone().len(), 3, "{taken:?}");
    cluster.nodes[joining as usize - 1].draining = false;
    settle_all(&mut cluster, &[]);
    assert_eq!(cluster.voters().len(), 5);
}
