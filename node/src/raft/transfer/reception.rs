//! Who may write into the folder in which a replica's snapshots come in, and when is what lies there of no use?
//!
//! One transfer at a time. A later one interrupts the one before and waits until that has let go: its sender is dead, or
//! deposed, or begins again. One of an earlier term is refused. What an interrupted transfer left stays for the next,
//! over restarts too, and so at most one set of leftovers a replica. It goes when a snapshot was installed, when the
//! leader sends entries again (the replica follows by log), and with the replica.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use granum_proto::status::Failure;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::disk::SharedDisk;
use crate::raft::blocking::Blocking;

/// The folder of one replica.
#[derive(Debug)]
pub struct Reception {
    disk: SharedDisk,
    directory: PathBuf,
    /// Held by whoever uses the folder.
    place: Arc<tokio::sync::Mutex<()>>,
    current: Mutex<Current>,
    /// The folder may hold something. So it may at the start.
    has_leftovers: AtomicBool,
    /// The replica follows by log since the last transfer began.
    is_superseded: AtomicBool,
}

#[derive(Debug, Default)]
struct Current {
    /// Highest term of a leader that sent something.
    term: u64,
    /// Of the newest transfer.
    interrupt: CancellationToken,
    is_closed: bool,
}

/// The right to use the folder, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    interrupt: CancellationToken,
    _place: OwnedMutexGuard<()>,
}

impl Turn {
    /// Fails once another transfer waits, or the replica closes.
    pub fn check(&self) -> Result<(), Failure> {
        match self.interrupt.is_cancelled() {
            true => Err(interrupted()),
            false => Ok(()),
        }
    }

    /// What interrupts.
    pub fn interrupt(&self) -> CancellationToken {
        self.interrupt.clone()
    }
}

/// Why a transfer ended that was interrupted.
pub fn interrupted() -> Failure {
    Failure::Unavailable("snapshot: another transfer begins, or the replica closes".into())
}

impl Reception {
    /// For the folder `directory`, which need not be there.
    pub fn new(disk: SharedDisk, directory: PathBuf) -> Reception {
        Reception {
            disk,
            directory,
            place: Arc::default(),
            current: Mutex::default(),
            has_leftovers: AtomicBool::new(true),
            is_superseded: AtomicBool::new(false),
        }
    }

    /// Where snapshots come in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Lets a transfer of the leader of `term` in, as soon as the one before has let go.
    pub async fn begin(&self, term: u64) -> Result<Turn, Failure> {
        let interrupt = {
            let mut current = self.current();
            if current.is_closed {
                return Err(interrupted());
            }
            if term < current.term {
                return Err(Failure::Precondition(format!(
                    "snapshot: of term {term}, and one of term {} has begun",
                    current.term
                )));
            }
            current.term = term;
            current.interrupt.cancel();
            current.interrupt = CancellationToken::new();
            current.interrupt.clone()
        };
        let turn = Turn {
            _place: self.place.clone().lock_owned().await,
            interrupt,
        };
        turn.check()?;
        self.has_leftovers.store(true, Ordering::Release);
        self.is_superseded.store(false, Ordering::Release);
        Ok(turn)
    }

    /// The leader sent entries: what lies here of a snapshot is not waited for.
    pub fn supersede(&self) {
        self.is_superseded.store(true, Ordering::Release);
    }

    /// Removes what an earlier transfer left, if that is of no use and nobody uses the folder.
    pub async fn sweep(&self, blocking: Blocking) {
        let is_of_no_use = self.has_leftovers.load(Ordering::Acquire) && self.is_superseded.load(Ordering::Acquire);
        if !is_of_no_use {
            return;
        }
        let Ok(place) = self.place.clone().try_lock_owned() else {
            return;
        };
        // A transfer that began and ended meanwhile left what may be of use.
        if self.is_superseded.swap(false, Ordering::AcqRel) {
            self.has_leftovers.store(false, Ordering::Release);
            self.remove(blocking, place).await;
        }
    }

    /// Removes everything after an install: `turn` is over.
    pub async fn clear(&self, blocking: Blocking, turn: impl Send + 'static) {
        self.remove(blocking, turn).await;
    }

    /// `held` keeps others away until it is done, even if the caller no longer waits.
    async fn remove(&self, blocking: Blocking, held: impl Send + 'static) {
        let (disk, directory) = (self.disk.clone(), self.directory.clone());
        let removed = blocking.run(move || {
            let removed = disk.remove_dir_all(&directory);
            drop(held);
            removed
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "what is left of a snapshot's transfer stays");
            self.has_leftovers.store(true, Ordering::Release);
        }
    }

    /// Interrupts what is under way and lets nothing in any more.
    pub fn close(&self) {
        let mut current = self.current();
        current.is_closed = true;
        current.interrupt.cancel();
    }

    /// Waits until nobody uses the folder.
    pub async fn wait_unused(&self) {
        drop(self.place.lock().await);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::disk::{Disk, MemoryDisk};

    fn reception() -> (SharedDisk, Reception) {
        let disk: SharedDisk = Arc::new(MemoryDisk::new());
        (disk.clone(), Reception::new(disk, PathBuf::from("/incoming")))
    }

    fn leave_something(disk: &dyn Disk) {
        disk.create_dir_all(Path::new("/incoming")).unwrap();
        disk.create(Path::new("/incoming/a")).unwrap();
    }

    fn is_empty(disk: &dyn Disk) -> bool {
        !disk.exists(Path::new("/incoming/a")).unwrap()
    }

    #[tokio::test]
    async fn a_later_transfer_interrupts_and_waits_for_the_one_before() {
        let (_, reception) = reception();
        let first = reception.begin(3).await.unwrap();
        let mut second = Box::pin(reception.begin(3));
        assert!((&mut second).now_or_never().is_none(), "the first has not let go");
        assert!(first.check().is_err());
        drop(first);
        second.await.unwrap().check().unwrap();
    }

    #[tokio::test]
    async fn of_two_that_wait_the_later_gets_in() {
        let (_, reception) = reception();
        let first = reception.begin(1).await.unwrap();
        let mut second = Box::pin(reception.begin(1));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(reception.begin(2));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!(second.await.is_err());
        third.await.unwrap().check().unwrap();
    }

    #[tokio::test]
    async fn an_earlier_leader_interrupts_nobody() {
        let (_, reception) = reception();
        let turn = reception.begin(5).await.unwrap();
        assert!(matches!(reception.begin(4).await, Err(Failure::Precondition(_))));
        turn.check().unwrap();
    }

    #[tokio::test]
    async fn a_closed_reception_lets_nobody_in_and_is_waited_for() {
        let (_, reception) = reception();
        let turn = reception.begin(1).await.unwrap();
        reception.close();
        assert!(turn.check().is_err() && reception.begin(2).await.is_err());
        assert!(reception.wait_unused().now_or_never().is_none());
        drop(turn);
        reception.wait_unused().await;
    }

    #[tokio::test]
    async fn leftovers_go_when_the_log_brings_what_they_were_for() {
        let (disk, reception) = reception();
        leave_something(disk.as_ref());
        reception.sweep(Blocking::Pool).await;
        assert!(!is_empty(disk.as_ref()), "nobody knows yet how the replica will follow");
        reception.supersede();
        let turn = reception.begin(1).await.unwrap();
        reception.sweep(Blocking::Pool).await;
        drop(turn);
        reception.sweep(Blocking::Pool).await;
        assert!(!is_empty(disk.as_ref()), "a transfer has begun since");
        reception.supersede();
        reception.sweep(Blocking::Pool).await;
        assert!(is_empty(disk.as_ref()));
    }

    #[tokio::test]
    async fn an_install_leaves_nothing() {
        let (disk, reception) = reception();
        leave_something(disk.as_ref());
        let turn = reception.begin(1).await.unwrap();
        reception.clear(Blocking::Pool, turn).await;
        assert!(is_empty(disk.as_ref()));
        reception.begin(1).await.unwrap();
    }
}
