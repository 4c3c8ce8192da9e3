//! Who merges when? One task a node looks at its replicas and lets those that need it merge, a few at a time.
//!
//! A replica is asked every [`LOOK_INTERVAL`] whether a merge is due (after a seal, then, or when enough has died); asking
//! costs no more than its number of segments. At most `merge_threads` merge at once, on a pool of their own, one merge a
//! replica, and together they write at most `merge_bytes_per_second`. The same pool builds the codes, graphs and payload indexes that
//! segments lack, where no merge is due that would build them for more rows at once. A replica whose merge failed is left alone for a
//! while ([`failures`]): what is damaged or full now would be read in vain each second. It is said once, and again when it changes.

mod failures;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use granum_proto::status::Failure;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::service::{Replica, Replicas};
use crate::shard::{MergeDone, NotMerged};
use crate::worker::Workers;
use failures::{Failed, Failures};

/// How often replicas are asked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A merge finds its worker free; that it doesn't means that the node stops.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a merge sleeps without a look at whether the node stops.
const NAP_MAX: Duration = Duration::from_millis(50);
/// Least that `merge_bytes_per_second` may say, in bytes: a merge asks how to go on every 256 KiB.
pub const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// The merges of a node.
pub struct Merging {
    workers: Workers,
    threads: usize,
    rate: Rate,
    running: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    failing: AtomicU64,
    written_bytes: AtomicU64,
    stop: CancellationToken,
}

/// What a node has merged since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStats {
    /// Merges under way.
    pub running: u64,
    /// Merges made.
    pub done: u64,
    /// Merges that failed.
    pub failed: u64,
    /// Replicas whose last merge failed.
    pub failing: u64,
    /// Bytes written by all of them, finished or not.
    pub written_bytes: u64,
}

impl Merging {
    /// `threads`: merges at once, 0 for none; `bytes_per_second`: what they may write together, 0 for any. Ends with `stop`.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn new(threads: usize, bytes_per_second: u64, stop: CancellationToken) -> std::io::Result<Arc<Merging>> {
        Ok(Arc::new(Merging {
            workers: Workers::start("merge", threads.max(1), threads.max(1))?,
            threads,
            rate: Rate::new(bytes_per_second),
            running: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            stop,
        }))
    }

    /// Sizes now.
    pub fn stats(&self) -> MergeStats {
        MergeStats {
            running: self.running.load(Ordering::Relaxed),
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            failing: self.failing.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }

    /// Lets replicas merge until the node stops; returns when no merge runs any more.
    pub async fn run(self: Arc<Self>, replicas: Replicas) {
        let mut running = JoinSet::new();
        let (mut busy, mut failures) = (HashSet::new(), Failures::none());
        while !self.stop.is_cancelled() {
            let (now, all) = (Instant::now(), replicas.all());
            failures.retain(|own| all.iter().any(|replica| key(replica) == *own));
            for replica in all {
                let own = key(&replica);
                let is_free =
                    running.len() < self.threads.max(1) && !busy.contains(&own) && !failures.is_resting(&own, now);
                if is_free && (self.is_merge_due(&replica) || replica.machine.is_derive_due()) {
                    busy.insert(own);
                    running.spawn(self.clone().merge(replica));
                }
            }
            tokio::select! {
                _ = self.stop.cancelled() => {}
                _ = tokio::time::sleep(LOOK_INTERVAL) => {}
                Some(Ok((own, merged))) = running.join_next() => {
                    busy.remove(&own);
                    self.note(own, merged, &mut failures);
                }
            }
            self.failing.store(failures.count() as u64, Ordering::Relaxed);
        }
        while running.join_next().await.is_some() {}
    }

    fn is_merge_due(&self, replica: &Replica) -> bool {
        self.threads > 0 && replica.machine.is_merge_due()
    }

    /// One merge, or where none is due what segments lack; whose, and what came of it or why nothing did.
    async fn merge(self: Arc<Self>, replica: Arc<Replica>) -> (Key, Result<Option<MergeDone>, Failed>) {
        let (own, this) = (key(&replica), self.clone());
        self.running.fetch_add(1, Ordering::Relaxed);
        let merged = self.workers.run(Instant::now() + START_TIMEOUT, move || {
            let pace = |bytes| this.pace(bytes);
            match this.is_merge_due(&replica) {
                true => replica.machine.merge(&pace),
                false => replica.machine.derive(&pace).map(|()| None),
            }
        });
        let merged = merged.await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        let merged = match merged {
            Ok(merged) => merged.map_err(|why| match &why {
                NotMerged::NoRoom { .. } => Failed::heals(&why),
                NotMerged::Failed(_) | NotMerged::Fault(_) => Failed::stays(&why),
            }),
            // The node stops.
            Err(Failure::Unavailable(_)) => Ok(None),
            Err(why) => Err(Failed::stays(&why)),
        };
        (own, merged)
    }

    /// Bytes were written, or a piece of a computation is done: waits where writing was too fast, and says whether to give up.
    fn pace(&self, bytes: u64) -> bool {
        if bytes > 0 {
            self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
            let mut pause = self.rate.take(Instant::now(), bytes);
            while !pause.is_zero() && !self.stop.is_cancelled() {
                let nap = pause.min(NAP_MAX);
                std::thread::sleep(nap);
                pause -= nap;
            }
        }
        self.stop.is_cancelled()
    }

    /// Counts a merge that has ended, and says what is new.
    fn note(&self, own: Key, merged: Result<Option<MergeDone>, Failed>, failures: &mut Failures<Key>) {
        let (shard, _) = own;
        match merged {
            Ok(done) => {
                if let Some(done) = done {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(shard, sources = done.sources, bytes = done.bytes, "segments merged");
                }
                if failures.succeeded(&own) {
                    tracing::info!(shard, "segments are merged again");
                }
            }
            Err(failed) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let why = failed.why.clone();
                match failures.failed(own, Instant::now(), failed) {
                    true => tracing::warn!(shard, why, "segments not merged, to be tried again within the hour"),
                    false => tracing::debug!(shard, why, "segments not merged again"),
                }
            }
        }
    }
}

/// A replica: its shard, and its own number, which a replica that takes its place does not have.
type Key = (u64, u64);

fn key(replica: &Replica) -> Key {
    (replica.birth.shard, replica.birth.replica)
}

/// So many bytes a second, whoever writes them.
struct Rate {
    /// 0: any.
    bytes_per_second: u64,
    /// When all that was written is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Rate {
    fn new(bytes_per_second: u64) -> Rate {
        Rate {
            bytes_per_second,
            paid: Mutex::default(),
        }
    }

    /// How long whoever wrote `bytes` is to wait.
    fn take(&self, now: Instant, bytes: u64) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = paid.map_or(now, |paid| paid.max(now));
        let end = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        *paid = Some(end);
        end - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_write_share_one_rate_and_idle_time_is_not_saved_up() {
        let (rate, start) = (Rate::new(1000), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.take(at(0), 500), Duration::from_millis(500));
        assert_eq!(rate.take(at(0), 500), Duration::from_millis(1000));
        assert_eq!(rate.take(at(10), 250), Duration::from_millis(250));
        assert_eq!(Rate::new(0).take(start, u64::MAX), Duration::ZERO);
    }
}
