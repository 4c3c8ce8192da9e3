//! How do committed entries reach a [`StateMachine`], and how do its seals become Raft's snapshots?
//!
//! openraft runs this beside its core, on a task of the group's own; the calls themselves block (they read and write
//! files) and so run on blocking threads. Entries are applied in order, in batches, each client answered as soon as its
//! entry is in. Where memory is short a follower's task waits between two entries ([`Pressure`]); the core goes on voting,
//! appending and answering heartbeats meanwhile. A [`Fault`] ends the group; what it was stays readable in [`Progress`].

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use prost::Message;
use tokio::sync::{Notify, watch};

use super::blocking::{Blocking, Undone};
use super::type_config::{Applied, CommittedLeader, Entry, LogId, Payload, Peer, StoredMembership, TypeConfig};
use super::wire;
use crate::shard::{self, Fault, LogPosition, Pressure, Sealed, SnapshotFiles, StateMachine};

/// Most entries handed to a blocking thread at once.
const APPLY_BATCH_ENTRIES: usize = 64;
/// Longest time between two looks whether there is memory again.
const PRESSURE_INTERVAL: Duration = Duration::from_secs(1);

/// Files of a snapshot; `None` where openraft asks for metadata only (a seal that was just built).
pub type SnapshotData = Option<Arc<SnapshotFiles>>;
/// A snapshot with its position and membership.
pub type Snapshot = openraft::Snapshot<CommittedLeader, u64, Peer, SnapshotData>;
/// Position and membership of a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeader, u64, Peer>;

/// How far a replica's state machine is; shared by the adapter and the group that holds it.
#[derive(Debug)]
pub struct Progress {
    /// Index of the last applied entry; 0: none (an entry at 0 is a group's first membership).
    pub applied: watch::Sender<u64>,
    /// Index of the last entry in the standing seal; 0: none.
    pub sealed: watch::Sender<u64>,
    /// Index of the newest seal point applied; 0: none.
    pub seal_point: AtomicU64,
    /// Why the state machine stopped.
    pub fault: OnceLock<Fault>,
    /// Rung when something may have to be sealed.
    pub seal_wanted: Notify,
}

impl Progress {
    /// Where `sealed` leaves a replica that has just been opened.
    pub fn new(sealed: &Sealed) -> Arc<Progress> {
        let index = sealed.last.map_or(0, |last| last.index);
        Arc::new(Progress {
            applied: watch::Sender::new(index),
            sealed: watch::Sender::new(index),
            seal_point: AtomicU64::new(0),
            fault: OnceLock::new(),
            seal_wanted: Notify::new(),
        })
    }

    fn stop(&self, fault: &Fault) -> io::Error {
        tracing::error!(fault = %fault, "a replica stops");
        let _ = self.fault.set(fault.clone());
        io::Error::other(fault.to_string())
    }
}

/// A [`StateMachine`] as openraft drives it.
pub struct Machine {
    group: u64,
    machine: Arc<dyn StateMachine>,
    progress: Arc<Progress>,
    place: Blocking,
    last: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    /// Continues from the standing seal.
    pub fn new(
        group: u64,
        machine: Arc<dyn StateMachine>,
        progress: Arc<Progress>,
        place: Blocking,
    ) -> Result<Machine, Fault> {
        let sealed = machine.sealed();
        let membership = wire::stored_membership_in(sealed.membership.as_ref()).map_err(Fault::new)?;
        Ok(Machine {
            group,
            machine,
            progress,
            place,
            last: sealed.last.map(wire::log_id_at),
            membership,
        })
    }

    /// Waits until memory was freed, or might have been. The seal is made here where it is this replica's: openraft asks for
    /// one through the very task that waits.
    async fn wait_for_memory(&self) -> io::Result<()> {
        match self.machine.pressure() {
            Pressure::None => {}
            Pressure::Seal => {
                self.blocking(|machine| machine.seal()).await?;
            }
            Pressure::Others(mut changes) => {
                // Closed or late: it is looked at again in either case.
                let _ = tokio::time::timeout(PRESSURE_INTERVAL, changes.changed()).await;
            }
        }
        Ok(())
    }

    /// Runs `work` on a blocking thread; its fault, or a panic, stops the group.
    async fn blocking<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn StateMachine) -> Result<T, Fault> + Send + 'static,
    {
        blocking(self.place, self.group, &self.machine, &self.progress, work).await
    }
}

async fn blocking<T, F>(
    place: Blocking,
    group: u64,
    machine: &Arc<dyn StateMachine>,
    progress: &Progress,
    work: F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce(&dyn StateMachine) -> Result<T, Fault> + Send + 'static,
{
    let machine = machine.clone();
    match place.run(move || work(machine.as_ref())).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fault)) => Err(progress.stop(&fault)),
        Err(stops @ Undone::Cancelled) => Err(io::Error::other(stops)),
        Err(Undone::Panicked) => Err(progress.stop(&Fault::new(format!("group {group}: the state machine panicked")))),
    }
}

type Batch = VecDeque<EntryResponder<TypeConfig>>;

/// Applies `batch` in order, answering each client at once, as far as memory reaches; what is left waits for some.
fn apply_batch(machine: &dyn StateMachine, progress: &Progress, mut batch: Batch) -> Result<Batch, Fault> {
    while let Some((entry, responder)) = batch.pop_front() {
        // Whoever waits for an answer was admitted by this leader: its entry is not kept waiting.
        if responder.is_none() && !matches!(machine.pressure(), Pressure::None) {
            batch.push_front((entry, responder));
            break;
        }
        let position = wire::position(entry.log_id);
        let applied = machine.apply(position, entry_for(entry))?;
        if applied.seal_point {
            progress.seal_point.store(position.index, Ordering::Release);
            progress.seal_wanted.notify_one();
        }
        progress.applied.send_replace(position.index);
        if let Some(responder) = responder {
            responder.send(Applied(applied.reply));
        }
    }
    if machine.wants_seal(Duration::ZERO) {
        progress.seal_wanted.notify_one();
    }
    Ok(batch)
}

fn entry_for(entry: Entry) -> shard::Entry {
    match entry.payload {
        Payload::Blank => shard::Entry::Blank,
        Payload::Normal(command) => shard::Entry::Command(command.0),
        Payload::Membership(membership) => {
            shard::Entry::Membership(wire::membership_out(&membership).encode_to_vec().into())
        }
    }
}

/// What openraft keeps of a seal.
fn meta_of(sealed: &Sealed) -> io::Result<SnapshotMeta> {
    let last_membership = wire::stored_membership_in(sealed.membership.as_ref()).map_err(io::Error::other)?;
    Ok(SnapshotMeta {
        last_log_id: sealed.last.map(wire::log_id_at),
        last_membership,
    })
}

/// The seal that `meta` describes; what a received snapshot is installed with.
pub fn sealed_of(meta: &SnapshotMeta) -> Sealed {
    let membership = meta.last_membership.log_id().map(|at| {
        let encoded = wire::membership_out(meta.last_membership.membership()).encode_to_vec();
        (wire::position(at), encoded.into())
    });
    Sealed {
        last: meta.last_log_id.map(wire::position),
        membership,
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Sealer;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH_ENTRIES);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<io::Result<Vec<_>>>()?;
            let last = batch.last().map(|(entry, _)| entry.log_id);
            let membership = batch.iter().rev().find_map(|(entry, _)| match &entry.payload {
                Payload::Membership(membership) => Some(StoredMembership::new(Some(entry.log_id), membership.clone())),
                _ => None,
            });
            let mut batch = Batch::from(batch);
            while !batch.is_empty() {
                let progress = self.progress.clone();
                batch = self
                    .blocking(move |machine| apply_batch(machine, &progress, batch))
                    .await?;
                if !batch.is_empty() {
                    self.wait_for_memory().await?;
                }
            }
            self.last = last.or(self.last);
            self.membership = membership.unwrap_or_else(|| self.membership.clone());
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Sealer {
        Sealer {
            group: self.group,
            place: self.place,
            machine: self.machine.clone(),
            progress: self.progress.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let files = snapshot.ok_or_else(|| io::Error::other("a snapshot without files can't be installed"))?;
        let sealed = sealed_of(meta);
        let index = sealed.last.map_or(0, |last: LogPosition| last.index);
        self.blocking(move |machine| machine.install(&files.directory, sealed))
            .await?;
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.progress.sealed.send_replace(index);
        self.progress.applied.send_replace(index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        match self.blocking(StateMachine::snapshot).await? {
            None => Ok(None),
            Some(files) => Ok(Some(Snapshot {
                meta: meta_of(&files.sealed)?,
                snapshot: Some(Arc::new(files)),
            })),
        }
    }
}

/// Makes the newest seal point durable, beside the entries that go on being applied.
pub struct Sealer {
    group: u64,
    place: Blocking,
    machine: Arc<dyn StateMachine>,
    progress: Arc<Progress>,
}

impl RaftSnapshotBuilder<TypeConfig> for Sealer {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let sealed = blocking(self.place, self.group, &self.machine, &self.progress, |machine| {
            machine.seal()
        })
        .await?;
        let meta = meta_of(&sealed)?;
        self.progress
            .sealed
            .send_replace(sealed.last.map_or(0, |last| last.index));
        Ok(Snapshot { meta, snapshot: None })
    }
}

#[cfg(test)]
mod tests;
