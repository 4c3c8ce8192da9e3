//! How does a simulated node begin and end? The log, the groups and the shard's machine of a real one, on disks that can
//! crash and with a messenger for a network.
//!
//! A node that crashed lives on as a ghost for a moment: its disks were copied, its messages go nowhere, what it applies is
//! not recorded, and clients that waited for it are told that nobody knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use granum_index::MergePolicy;
use granum_model::{ReplicaId, ShardId};
use granum_node::disk::{Disk, MemoryDisk, Survival};
use granum_node::raft::log::{Log, LogOptions};
use granum_node::raft::network::Peers;
use granum_node::raft::serve::Inbox;
use granum_node::raft::{Blocking, Group, Groups, Timing};
use granum_node::shard::{Budget, Options, ShardMachine};
use granum_proto::internal::{EnsureReplicaRequest, IndexSettings};
use tokio_util::sync::CancellationToken;

use crate::dice::disk_delay;
use crate::ledger::{Ledger, Watched};
use crate::post::{Messenger, Office};
use crate::volume::Volume;

/// The one shard.
pub const SHARD: ShardId = ShardId(1);
const CLUSTER: u64 = 0xC1;
const LOG_FOLDER: &str = "/log";

/// How fast a lost leader is noticed.
pub const TIMING: Timing = Timing {
    election_timeout: Duration::from_millis(300),
    heartbeat: Duration::from_millis(80),
};

/// Small sizes, so that seals, purges and new segments happen all the time.
const SEGMENT_BYTES: usize = 32 << 10;
const SEAL_BYTES: u64 = 6 << 10;
const LOG_BUDGET_BYTES: u64 = 96 << 10;
const RESERVE_BYTES: u64 = 64 << 10;

/// One life of a node.
pub struct Running {
    /// Its number: node id and replica id.
    pub number: u64,
    /// Which life.
    pub life: u64,
    /// The disk of manifests and segments.
    pub volume: Volume,
    /// All its groups.
    pub groups: Arc<Groups>,
    /// Its replica.
    pub group: Arc<Group>,
    /// The replica's documents.
    pub machine: Arc<ShardMachine>,
    /// Cancelled when it died.
    pub dead: CancellationToken,
}

/// What a life begins with.
pub struct Birth {
    /// Node id and replica id.
    pub number: u64,
    /// Which life.
    pub life: u64,
    /// Its folder.
    pub root: PathBuf,
    /// Its log's disk.
    pub log: MemoryDisk,
}

impl Birth {
    /// The first life of a node.
    pub fn first(number: u64, folder: &Path) -> Birth {
        let root = folder_of(folder, number, 1);
        std::fs::create_dir_all(&root).unwrap();
        let log = MemoryDisk::new();
        log.create_dir_all(Path::new(LOG_FOLDER)).unwrap();
        Birth {
            number,
            life: 1,
            root,
            log,
        }
    }

    /// Starts the node: its log, then its replica.
    pub async fn start(self, office: &Arc<Office>, ledger: &Arc<Ledger>) -> Result<Arc<Running>, String> {
        let (number, life) = (self.number, self.life);
        let failed = |why: &dyn std::fmt::Display| format!("node {number}, life {life}: it does not start: {why}");
        let options = LogOptions {
            owner: number,
            create: life == 1,
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: 8 << 10,
            reserve_bytes: RESERVE_BYTES,
            blocking: Blocking::Inline(disk_delay),
            ..LogOptions::default()
        };
        let log =
            Log::open(Arc::new(self.log.clone()), Path::new(LOG_FOLDER), options).map_err(|error| failed(&error))?;
        let volume = Volume::new(self.root.clone(), self.log);
        let disk = Arc::new(volume.clone());
        let messenger = Messenger {
            office: office.clone(),
            node: number,
            life,
        };
        let peers = Peers::simulated(number, CLUSTER, disk.clone(), Arc::new(messenger));
        let runtime = tokio::runtime::Handle::current();
        let groups =
            Groups::new(runtime, TIMING, peers, Arc::new(log), LOG_BUDGET_BYTES).map_err(|error| failed(&error))?;
        let birth = EnsureReplicaRequest {
            replica: number,
            index: Some(IndexSettings {
                builder: "scan".into(),
                ..IndexSettings::default()
            }),
            ..EnsureReplicaRequest::default()
        };
        let options = Options {
            seal_bytes: SEAL_BYTES,
            budget: Arc::new(Budget::new(1 << 20)),
            merge: MergePolicy {
                segments_max: 2,
                dead_percent: 20,
                floor_bytes: 0,
                ..MergePolicy::default()
            },
            ..Options::new(disk, None)
        };
        let machine = ShardMachine::open(&birth, &self.root.join("shard"), &options).map_err(|error| failed(&error))?;
        let dead = CancellationToken::new();
        let watched = Arc::new(Watched {
            machine: machine.clone(),
            replica: number,
            ledger: ledger.clone(),
            dead: dead.clone(),
        });
        let group = groups.open(SHARD, ReplicaId(number), watched).await;
        let group = group.map_err(|error| failed(&error))?;
        office.plug_in(number, life, Inbox::new(groups.clone()));
        Ok(Arc::new(Running {
            number,
            life,
            volume,
            groups,
            group,
            machine,
            dead,
        }))
    }
}

impl Running {
    /// Dies now; what the next life begins with.
    pub fn crash(&self, office: &Office, survival: Survival, folder: &Path) -> Birth {
        office.unplug(self.number);
        self.dead.cancel();
        let root = self.next_root(folder);
        let log = self.volume.crash(survival, &root);
        let ghost = self.groups.clone();
        tokio::spawn(async move { ghost.shutdown(tokio::time::Instant::now().into_std()).await });
        Birth {
            number: self.number,
            life: self.life + 1,
            root,
            log,
        }
    }

    /// Where the next life's files will be.
    pub fn next_root(&self, folder: &Path) -> PathBuf {
        folder_of(folder, self.number, self.life + 1)
    }
}

fn folder_of(folder: &Path, number: u64, life: u64) -> PathBuf {
    folder.join(format!("node-{number}-{life}"))
}
