//! What lives on this node? Replicas are ordered, opened, restarted after a fault, and dropped, here and nowhere else.
//!
//! The identity file is what counts: a replica is in it before anything of it is made, and out of it before anything of
//! it is removed. So a half-dropped replica can't come back with its votes forgotten: what is not in the file is swept
//! away at the next start. One change runs at a time.

mod supervise;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::{StreamExt, stream};
use granum_model::ids::REGISTER;
use granum_model::{ReplicaId, ShardId};
use granum_proto::internal::{DropReplicaRequest, EnsureReplicaRequest, Member};
use granum_proto::status::Failure;

use crate::disk::SharedDisk;
use crate::identity::{Directory, DirectoryError, Identity};
use crate::raft::{Group, Groups};
use crate::service::{Context, Replica, Replicas};
use crate::shard::{self, RegisterMachine, ShardMachine};

/// Replicas opened at once when a node starts.
const OPENING_MAX: usize = 8;
/// Most replicas of a node: idle groups cost heartbeats.
pub const REPLICAS_MAX: usize = 4096;

/// The register's replica on this node.
pub struct Register {
    /// Its state.
    pub machine: Arc<RegisterMachine>,
    /// Its group.
    pub group: Arc<Group>,
}

/// The replicas of a node, and where they come from.
pub struct Holdings {
    directory: Arc<Directory>,
    disk: SharedDisk,
    groups: Arc<Groups>,
    options: shard::Options,
    context: Arc<Context>,
    register: RwLock<Option<Arc<Register>>>,
    /// Replicas that could not be opened, by shard.
    failed: Mutex<BTreeMap<u64, Unopened>>,
    /// What a look at all of a replica's files has found damaged, by shard and replica.
    damaged: Mutex<BTreeMap<(u64, u64), String>>,
    changing: tokio::sync::Mutex<()>,
}

/// Why a replica could not be opened.
#[derive(Clone, Debug)]
struct Unopened {
    why: Failure,
    is_damaged: bool,
}

impl From<Failure> for Unopened {
    fn from(why: Failure) -> Unopened {
        Unopened { why, is_damaged: false }
    }
}

fn durable(error: DirectoryError) -> Failure {
    Failure::ReadOnly(format!("the node's identity can't be written: {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::Unavailable("the node stops".into()))
}

impl Holdings {
    /// Nothing is open yet.
    pub fn new(
        directory: Arc<Directory>,
        disk: SharedDisk,
        groups: Arc<Groups>,
        options: shard::Options,
        context: Arc<Context>,
    ) -> Arc<Holdings> {
        Arc::new(Holdings {
            directory,
            disk,
            groups,
            options,
            context,
            register: RwLock::default(),
            failed: Mutex::default(),
            damaged: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// The replicas of shards that are open.
    pub fn replicas(&self) -> &Replicas {
        &self.context.replicas
    }

    /// Bytes that may still be written where the data directory is; 0 if nobody can say.
    pub fn available_bytes(&self) -> u64 {
        self.disk.available_space(self.directory.path()).unwrap_or(0)
    }

    /// Memory of documents that are not sealed yet, all shards, and what it may be.
    pub fn recent_bytes(&self) -> (u64, u64) {
        (self.options.budget.used_bytes(), self.options.budget.limit_bytes())
    }

    /// The groups of this node.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// The data directory.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The register's replica, if it is open here.
    pub fn register(&self) -> Option<Arc<Register>> {
        self.register.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why a shard's replica can't be opened, if it can't.
    pub fn unopened(&self, shard: u64) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(&shard).map(|unopened| unopened.why.to_string())
    }

    /// Whether every replica of this node is open.
    pub fn all_open(&self) -> bool {
        let identity = self.directory.identity();
        identity
            .replicas
            .iter()
            .all(|record| self.groups.group(ShardId(record.shard)).is_some())
    }

    /// Sweeps away what no longer belongs here, then opens every replica. One that can't be opened is left for later.
    pub async fn open_all(&self) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        let identity = self.directory.identity();
        self.sweep(&identity).await?;
        stream::iter(identity.replicas)
            .for_each_concurrent(OPENING_MAX, |record| async move {
                let shard = record.shard;
                if let Err(why) = self.open(record).await {
                    tracing::error!(shard, %why, "a replica can't be opened");
                }
            })
            .await;
        Ok(())
    }

    async fn sweep(&self, identity: &Identity) -> Result<(), Failure> {
        for group in self.groups.log().groups() {
            if !identity.replicas.iter().any(|record| record.shard == group) {
                self.groups.drop_group(ShardId(group)).await?;
            }
        }
        let (disk, directory) = (self.disk.clone(), self.directory.clone());
        let kept: Vec<_> = identity
            .replicas
            .iter()
            .map(|record| directory.replica_path(record.shard, record.replica))
            .collect();
        blocking(move || {
            let shards = directory.path().join("shards");
            disk.create_dir_all(&shards)?;
            for name in disk.list_dirs(&shards)? {
                let path = shards.join(name);
                if !kept.contains(&path) {
                    disk.remove_dir_all(&path)?;
                }
            }
            Ok(())
        })
        .await?
        .map_err(|error: crate::disk::DiskError| Failure::Fault(error.to_string()))
    }

    async fn open(&self, record: EnsureReplicaRequest) -> Result<(), Failure> {
        let shard = record.shard;
        let opened = self.open_inner(record).await;
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match &opened {
            Ok(()) => failed.remove(&shard),
            Err(unopened) => failed.insert(shard, unopened.clone()),
        };
        opened.map_err(|unopened| unopened.why)
    }

    async fn open_inner(&self, record: EnsureReplicaRequest) -> Result<(), Unopened> {
        let (shard, replica) = (ShardId(record.shard), ReplicaId(record.replica));
        let path = self.directory.replica_path(record.shard, record.replica);
        let fault = |fault: shard::Fault| Unopened {
            why: Failure::Fault(format!("shard {shard}: {fault}")),
            is_damaged: fault.is_damage,
        };
        if shard == REGISTER {
            let disk = self.disk.clone();
            let machine = blocking(move || RegisterMachine::open(disk, &path))
                .await?
                .map_err(fault)?;
            let machine = Arc::new(machine);
            let group = self.groups.open(shard, replica, machine.clone()).await?;
            let register = Arc::new(Register { machine, group });
            *self.register.write().unwrap_or_else(PoisonError::into_inner) = Some(register);
        } else {
            let (options, birth) = (self.options.clone(), record.clone());
            let machine = blocking(move || ShardMachine::open(&birth, &path, &options))
                .await?
                .map_err(fault)?;
            let group = self.groups.open(shard, replica, machine.clone()).await?;
            self.context.replicas.insert(Arc::new(Replica {
                birth: record,
                machine,
                group,
                is_suspect: AtomicBool::new(false),
            }));
        }
        Ok(())
    }

    /// Waits until no replica's merge runs, and lets none begin: the node stops. Blocks.
    pub fn retire_all(&self) {
        for replica in self.context.replicas.all() {
            replica.machine.retire();
        }
    }

    async fn close(&self, shard: u64) {
        self.groups.close(ShardId(shard)).await;
        if let Some(replica) = self.context.replicas.remove(shard) {
            // Another may be opened in its folder, or the folder removed: a merge must have ended by then.
            let _ = blocking(move || replica.machine.retire()).await;
        }
        if shard == REGISTER.0 {
            *self.register.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Makes this node hold a replica; `false`: it does already. Durable on return. A node without a cluster joins the
    /// caller's.
    pub async fn ensure(&self, record: EnsureReplicaRequest) -> Result<bool, Failure> {
        let _changing = self.changing.lock().await;
        let identity = self.directory.identity();
        self.check_cluster(record.cluster)?;
        let held = identity.replicas.iter().find(|held| held.shard == record.shard);
        match held {
            Some(held) if held.replica == record.replica => {
                if self.groups.group(ShardId(record.shard)).is_none() {
                    self.open(record).await?;
                }
                return Ok(false);
            }
            Some(held) => {
                let problem = format!(
                    "shard {}: replica {} lives here, drop it first",
                    held.shard, held.replica
                );
                return Err(Failure::Exists(problem));
            }
            None if record.replica == 0 => return Err(Failure::Invalid("replica: 0 names none".into())),
            None if identity.replicas.len() >= REPLICAS_MAX => {
                return Err(Failure::Precondition(format!(
                    "this node holds {REPLICAS_MAX} replicas, the most it may"
                )));
            }
            None => {}
        }
        let directory = self.directory.clone();
        let ordered = record.clone();
        blocking(move || {
            directory.update(|identity| {
                identity.cluster = ordered.cluster;
                identity.replicas.push(ordered);
            })
        })
        .await?
        .map_err(durable)?;
        self.groups.peers().join_cluster(record.cluster);
        self.open(record).await?;
        Ok(true)
    }

    /// Refuses another cluster than this node's.
    pub fn check_cluster(&self, cluster: u64) -> Result<(), Failure> {
        let mine = self.directory.identity().cluster;
        if cluster == 0 {
            return Err(Failure::Invalid("cluster: 0 names none".into()));
        }
        if mine != 0 && mine != cluster {
            return Err(Failure::Precondition(format!(
                "this node belongs to cluster {mine:016x}, not {cluster:016x}"
            )));
        }
        Ok(())
    }

    /// This node belongs to `cluster`, durably.
    pub async fn join(&self, cluster: u64) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        self.check_cluster(cluster)?;
        let directory = self.directory.clone();
        blocking(move || directory.update(|identity| identity.cluster = cluster))
            .await?
            .map_err(durable)?;
        self.groups.peers().join_cluster(cluster);
        Ok(())
    }

    /// This node founds `cluster` with these members of the register, its own the first: durable before any of them is
    /// told, so that a founder that dies on the way goes on where it was.
    pub async fn begin_founding(&self, cluster: u64, members: Vec<Member>) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        let directory = self.directory.clone();
        let founded = blocking(move || {
            let mut begun = false;
            let updated = directory.update(|identity| {
                begun = identity.cluster == 0;
                if begun {
                    (identity.cluster, identity.founding) = (cluster, members);
                }
            });
            updated.map(|()| begun)
        });
        match founded.await?.map_err(durable)? {
            true => {
                self.groups.peers().join_cluster(cluster);
                Ok(())
            }
            false => Err(Failure::Precondition("this node belongs to a cluster already".into())),
        }
    }

    /// The register has its members: the founding is over.
    pub async fn end_founding(&self) -> Result<(), Failure> {
        let directory = self.directory.clone();
        blocking(move || directory.update(|identity| identity.founding.clear()))
            .await?
            .map_err(durable)
    }

    /// Removes a replica with all it keeps; `false`: there was none.
    pub async fn drop_replica(&self, request: &DropReplicaRequest) -> Result<bool, Failure> {
        let _changing = self.changing.lock().await;
        let identity = self.directory.identity();
        let Some(held) = identity.replicas.iter().find(|held| held.shard == request.shard) else {
            return Ok(false);
        };
        if held.replica != request.replica {
            let problem = format!(
                "shard {}: replica {} lives here, not {}",
                held.shard, held.replica, request.replica
            );
            return Err(Failure::Precondition(problem));
        }
        let (shard, replica) = (held.shard, held.replica);
        let directory = self.directory.clone();
        blocking(move || directory.update(|identity| identity.replicas.retain(|held| held.shard != shard)))
            .await?
            .map_err(durable)?;
        self.close(shard).await;
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&shard);
        self.damaged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(shard, replica));
        self.groups.drop_group(ShardId(shard)).await?;
        let (disk, path, trees) = (
            self.disk.clone(),
            self.directory.replica_path(shard, replica),
            self.options.trees.clone(),
        );
        blocking(move || {
            if let Some(trees) = trees
                && let Err(error) = trees.drop_tree(&shard::tree_name(replica))
            {
                tracing::warn!(%error, shard, "the table of a dropped replica stays in the cache");
            }
            disk.remove_dir_all(&path)
        })
        .await?
        .map_err(|error| Failure::Fault(error.to_string()))?;
        Ok(true)
    }
}
