//! What becomes of replicas that stopped or met a fault? They are opened again, or known to be damaged.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use granum_model::ShardId;
use granum_proto::internal::EnsureReplicaRequest;
use tokio_util::sync::CancellationToken;

use super::{Holdings, blocking};

/// How long a replica that stopped is left alone before it is opened again, and one that met a fault before all of its files
/// are looked at.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

impl Holdings {
    /// What of a replica's log or files is damaged, as far as is known: opening it again does not help, it must be replaced.
    pub fn damage(&self, record: &EnsureReplicaRequest) -> Option<String> {
        let (shard, replica) = (record.shard, record.replica);
        let in_log = self.groups.log().damage(shard);
        let at_opening = || {
            let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            let unopened = failed.get(&shard).filter(|unopened| unopened.is_damaged)?;
            Some(unopened.why.to_string())
        };
        let in_files = || {
            let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.get(&(shard, replica)).cloned()
        };
        let while_running = || {
            let status = self.groups.group(ShardId(shard))?.status();
            status.is_damaged.then_some(status.fault)
        };
        in_log.or_else(at_opening).or_else(in_files).or_else(while_running)
    }

    /// Reads all files of replicas that met a fault, and notes what is damaged.
    async fn look_at_suspects(&self) {
        for replica in self.context.replicas.all() {
            if !replica.is_suspect.swap(false, Ordering::AcqRel) {
                continue;
            }
            let (shard, id) = (replica.birth.shard, replica.birth.replica);
            let looked_at = blocking(move || replica.machine.find_damage()).await;
            match looked_at {
                Ok(Ok(None)) | Err(_) => {}
                Ok(Ok(Some(damage))) => {
                    tracing::error!(shard, damage, "a replica's files are damaged: it must be replaced");
                    let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
                    damaged.insert((shard, id), damage);
                }
                Ok(Err(fault)) => tracing::warn!(shard, %fault, "a replica's files can't be looked at"),
            }
        }
    }

    /// Opens again what has stopped or could not be opened, until `stop`.
    pub async fn supervise(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(RESTART_PAUSE) => {}
            }
            self.look_at_suspects().await;
            let _changing = self.changing.lock().await;
            for record in self.directory.identity().replicas {
                let shard = record.shard;
                let fault = self.groups.group(ShardId(shard)).map(|group| group.status().fault);
                let why = match fault {
                    Some(fault) if fault.is_empty() => continue,
                    fault => fault.unwrap_or_else(|| "it could not be opened".into()),
                };
                self.close(shard).await;
                match self.open(record).await {
                    Ok(()) => tracing::warn!(shard, why, "a replica that had stopped runs again"),
                    Err(why) => tracing::warn!(shard, %why, "a replica stays stopped"),
                }
            }
        }
    }
}
