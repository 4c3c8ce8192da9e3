//! Does a follower wait for memory, and only for what will free some?

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use futures::{FutureExt, stream};
use granum_proto::internal::{Command, EnsureReplicaRequest, operation};

use super::*;
use crate::disk::RealDisk;
use crate::raft::type_config::{self, log_id};
use crate::shard::sample::{fence, put, write};
use crate::shard::{Applied as ShardApplied, Budget, Options, ShardMachine, command};

/// Entries as a follower is given them: nobody waits for their answers.
fn entries(commands: Vec<Command>) -> Vec<io::Result<EntryResponder<TypeConfig>>> {
    let entry = |(index, command): (u64, Command)| Entry {
        log_id: log_id(1, index),
        payload: Payload::Normal(type_config::Command(command::encode(&command).unwrap())),
    };
    (1..)
        .zip(commands)
        .map(|numbered| Ok((entry(numbered), None)))
        .collect()
}

fn adapter(machine: Arc<dyn StateMachine>) -> (Machine, Arc<Progress>) {
    let progress = Progress::new(&machine.sealed());
    (
        Machine::new(1, machine, progress.clone(), Blocking::Pool).unwrap(),
        progress,
    )
}

/// A shard that notes the most memory that was ever used after an entry.
struct Watched {
    shard: Arc<ShardMachine>,
    budget: Arc<Budget>,
    most_bytes: AtomicU64,
}

impl StateMachine for Watched {
    fn sealed(&self) -> Sealed {
        self.shard.sealed()
    }

    fn apply(&self, position: LogPosition, entry: shard::Entry) -> Result<ShardApplied, Fault> {
        let applied = self.shard.apply(position, entry)?;
        self.most_bytes.fetch_max(self.budget.used_bytes(), Ordering::Relaxed);
        Ok(applied)
    }

    fn wants_seal(&self, quiet: Duration) -> bool {
        self.shard.wants_seal(quiet)
    }

    fn pressure(&self) -> Pressure {
        self.shard.pressure()
    }

    fn seal(&self) -> Result<Sealed, Fault> {
        self.shard.seal()
    }

    fn snapshot(&self) -> Result<Option<SnapshotFiles>, Fault> {
        self.shard.snapshot()
    }

    fn incoming(&self) -> PathBuf {
        self.shard.incoming()
    }

    fn install(&self, directory: &Path, sealed: Sealed) -> Result<(), Fault> {
        self.shard.install(directory, sealed)
    }
}

/// Nobody seals but the apply task itself: it has to, or the memory of all these entries is used at once.
#[tokio::test]
async fn a_follower_far_behind_catches_up_within_the_nodes_memory() {
    const DOCUMENTS: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let documents = |at: u64| -> Vec<operation::Kind> { (at..at + DOCUMENTS).map(|id| put(id, 1)).collect() };
    let measured = {
        let options = Options::new(Arc::new(RealDisk), None);
        let machine = ShardMachine::open(
            &EnsureReplicaRequest::default(),
            &folder.path().join("measured"),
            &options,
        )
        .unwrap();
        let (mut adapter, _) = adapter(machine);
        let two = vec![fence(1), write(0, 1, documents(0))];
        adapter.apply(stream::iter(entries(two))).await.unwrap();
        options.budget.used_bytes()
    };
    assert!(measured > 0);

    let budget = Arc::new(Budget::new(measured * 12));
    let options = Options {
        budget: budget.clone(),
        ..Options::new(Arc::new(RealDisk), None)
    };
    let shard = ShardMachine::open(&EnsureReplicaRequest::default(), &folder.path().join("shard"), &options).unwrap();
    let machine = Arc::new(Watched {
        shard,
        budget: budget.clone(),
        most_bytes: AtomicU64::new(0),
    });
    let mut commands = vec![fence(1)];
    for batch in 0..60 {
        commands.push(write(batch, 1, documents(u64::from(batch) * DOCUMENTS)));
        if batch % 6 == 5 {
            commands.push(command::seal());
        }
    }
    let last = commands.len() as u64;
    let (mut adapter, progress) = adapter(machine.clone());
    adapter.apply(stream::iter(entries(commands))).await.unwrap();
    assert_eq!(*progress.applied.borrow(), last);
    assert_eq!(machine.shard.stats().index.documents, 60 * DOCUMENTS);
    let (most, limit) = (machine.most_bytes.load(Ordering::Relaxed), budget.limit_bytes());
    assert!(most > limit, "the budget was never reached: {most} of {limit} bytes");
    // The entry that exceeds it is in; ids grow from one digit to four, so batches are not quite equal.
    assert!(
        most <= limit + measured * 2,
        "{most} bytes were used, {limit} are allowed, {measured} an entry"
    );
}

/// A replica whose memory is held by others of its node.
#[derive(Default)]
struct Crowded {
    freed: AtomicBool,
    changes: watch::Sender<()>,
    applied: AtomicU64,
}

impl StateMachine for Crowded {
    fn sealed(&self) -> Sealed {
        Sealed::default()
    }

    fn apply(&self, position: LogPosition, _entry: shard::Entry) -> Result<ShardApplied, Fault> {
        self.applied.store(position.index, Ordering::SeqCst);
        Ok(ShardApplied {
            reply: Default::default(),
            seal_point: false,
        })
    }

    fn wants_seal(&self, _: Duration) -> bool {
        false
    }

    fn pressure(&self) -> Pressure {
        let changes = self.changes.subscribe();
        match self.freed.load(Ordering::SeqCst) {
            true => Pressure::None,
            false => Pressure::Others(changes),
        }
    }

    fn seal(&self) -> Result<Sealed, Fault> {
        unreachable!("it has nothing to seal")
    }

    fn snapshot(&self) -> Result<Option<SnapshotFiles>, Fault> {
        Ok(None)
    }

    fn incoming(&self) -> PathBuf {
        unreachable!("no snapshot comes")
    }

    fn install(&self, _directory: &Path, _sealed: Sealed) -> Result<(), Fault> {
        unreachable!("no snapshot comes")
    }
}

#[tokio::test]
async fn a_follower_waits_while_others_hold_the_memory_and_goes_on_when_they_free_it() {
    let machine = Arc::new(Crowded::default());
    let (mut adapter, _) = adapter(machine.clone());
    let applying = adapter.apply(stream::iter(entries(vec![fence(1), command::seal()])));
    let mut applying = std::pin::pin!(applying);
    // It waits: that it listens for changes is how one sees it.
    std::future::poll_fn(|context| {
        assert!(applying.poll_unpin(context).is_pending());
        match machine.changes.receiver_count() {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
    assert_eq!(machine.applied.load(Ordering::SeqCst), 0);
    machine.freed.store(true, Ordering::SeqCst);
    machine.changes.send_replace(());
    applying.await.unwrap();
    assert_eq!(machine.applied.load(Ordering::SeqCst), 2);
}
