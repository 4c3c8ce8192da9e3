//! How does a cluster begin? Once: every node named must answer and belong to none; then the founder mints the cluster's
//! id and the register's first members, keeps both durably, and orders the replicas. Each step may be repeated.

use granum_model::ids::REGISTER;
use granum_proto::internal::shard_client::ShardClient;
use granum_proto::internal::{EnsureReplicaRequest, HelloResponse, Member};
use granum_proto::status::Failure;

use super::{Joining, answer, channel};

impl Joining {
    /// Founds a cluster whose register these nodes hold, this one among them. Answers its id.
    pub async fn found(&self, addresses: Vec<String>) -> Result<u64, Failure> {
        if ![1, 3, 5].contains(&addresses.len()) {
            return Err(Failure::Invalid(format!(
                "addresses: {} nodes, must be 1, 3 or 5",
                addresses.len()
            )));
        }
        self.found_with(&addresses, addresses.len()).await
    }

    /// Founds a cluster: all of `addresses` must answer and belong to none; the first `voters` hold the register.
    pub(super) async fn found_with(&self, addresses: &[String], voters: usize) -> Result<u64, Failure> {
        let mine = self.record().node;
        let mut nodes = Vec::with_capacity(addresses.len());
        for address in addresses {
            let hello = match *address == self.record().data_address {
                true => HelloResponse {
                    node: mine,
                    cluster: self.cluster(),
                    ..HelloResponse::default()
                },
                false => self.hello(address).await?,
            };
            if hello.cluster != 0 {
                return Err(Failure::Precondition(format!(
                    "{address} belongs to cluster {:016x} already",
                    hello.cluster
                )));
            }
            if nodes.contains(&hello.node) {
                return Err(Failure::Invalid(format!("addresses: {address} is a node named before")));
            }
            nodes.push(hello.node);
        }
        let members: Vec<Member> = nodes
            .iter()
            .take(voters)
            .zip(1..)
            .map(|(node, replica)| Member { replica, node: *node })
            .collect();
        if !members.iter().any(|member| member.node == mine) {
            return Err(Failure::Invalid(
                "addresses: the node that founds must be among the first voters".into(),
            ));
        }
        let cluster = (self.new_id)().max(1);
        self.holdings.begin_founding(cluster, members).await?;
        self.finish_founding().await?;
        tracing::info!(cluster = format!("{cluster:016x}"), "founded a cluster");
        Ok(cluster)
    }

    /// Orders the register's replicas, this node's first, and initialises the group. Every step may be repeated.
    pub(super) async fn finish_founding(&self) -> Result<(), Failure> {
        let identity = self.holdings.directory().identity();
        let order = |member: &Member| EnsureReplicaRequest {
            cluster: identity.cluster,
            shard: REGISTER.0,
            replica: member.replica,
            epoch: 1,
            collection_name: "register".into(),
            ..EnsureReplicaRequest::default()
        };
        let (mine, others): (Vec<_>, Vec<_>) = identity
            .founding
            .iter()
            .partition(|member| member.node == identity.node);
        for member in mine {
            self.holdings.ensure(order(member)).await?;
        }
        for member in others {
            let record = self.book.find(member.node).ok_or_else(|| {
                Failure::Unavailable(format!("node {:016x}, a first voter, does not answer", member.node))
            })?;
            let address = record.data_address;
            let mut shards = ShardClient::new(channel(&address)?);
            answer(&address, shards.ensure_replica(order(member))).await?;
        }
        let register = self
            .holdings
            .register()
            .ok_or_else(|| Failure::Fault("the register can't be opened".into()))?;
        register.group.initialize(&identity.founding).await?;
        self.holdings.end_founding().await
    }
}
