//! How much do searches find of what they should? A few of them are asked again, exactly, when the node has nothing better
//! to do. What they missed is a metric, `granum_recall_at_k`, and is told to the index, which widens its walks where the
//! recall that was wanted is not had.
//!
//! One of so many dense searches (`recall_check_every`) is drawn as it is answered, and kept with its hits and the very view
//! that it was answered from: what is written afterwards is no miss. The view pins files and memory, so at most one waits,
//! and not for long. It is checked on a thread of its own at the lowest priority, while nothing merges or is derived. An exact
//! search reads every row of its vector, so after a check comes a rest, by the time and by the bytes that the check took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use granum_index::{Checked, Found, Index, Query, RowHit, SearchError, View};
use granum_model::VectorKind;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::merging::Merging;
use crate::process;
use crate::shard::Pinned;
use crate::worker::Workers;

/// How often it is asked whether there is something to check and time for it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Least time from one search that is drawn to the next.
const DRAW_INTERVAL: Duration = Duration::from_secs(1);
/// How long a search may wait for its check.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a check may take.
const CHECK_MAX: Duration = Duration::from_secs(10);
/// Rest after a check, as a multiple of its time: a tenth of one processor is spent.
const REST_SHARE: u32 = 9;
/// Bytes of rows that checks read in a second, taken over a check and its rest: what the page cache may lose to them.
const READ_BYTES_PER_SECOND: u64 = 16 << 20;
/// Checks that the moving mean remembers.
const MEAN_CHECKS: u64 = 64;

const _: () = assert!(
    WAIT_MAX.as_secs() > LOOK_INTERVAL.as_secs(),
    "an idle node checks all that is drawn"
);

/// The recall checks of a node.
pub struct RecallChecks {
    /// One search of so many is drawn; 0: none.
    every: u64,
    /// Searches that might have been drawn.
    searches: AtomicU64,
    desk: Mutex<Desk>,
    means: Mutex<BTreeMap<(u64, String), Mean>>,
    made: AtomicU64,
    dropped: AtomicU64,
    worker: Workers,
    stop: CancellationToken,
}

/// What is to be checked next.
#[derive(Default)]
struct Desk {
    waiting: Option<Answer>,
    /// No search is drawn before.
    rests_until: Option<Instant>,
    /// A check runs; no search is drawn meanwhile.
    is_busy: bool,
}

/// An answer as it was given.
struct Answer {
    shard: u64,
    view: View,
    index: Weak<Index>,
    query: Query,
    walked: bool,
    hits: Vec<RowHit>,
    /// Dropped if it still waits then.
    until: Instant,
}

/// What a check has shown.
struct Lesson {
    index: Weak<Index>,
    query: Query,
    walked: bool,
    checked: Checked,
}

impl Lesson {
    /// Tells the index, if it is still there.
    fn teach(&self) {
        if let Some(index) = self.index.upgrade() {
            index.learn(&self.query, self.walked, &self.checked);
        }
    }
}

/// A moving mean: of all values while they are few, then with a constant weight on the newest.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    values: u64,
    mean: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.values = (self.values + 1).min(MEAN_CHECKS);
        self.mean += (value - self.mean) / self.values as f64;
    }
}

/// What was found out about a vector of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardRecall {
    /// The shard.
    pub shard: u64,
    /// Name of the vector.
    pub vector: String,
    /// Moving mean, 0..=1.
    pub recall: f64,
}

impl RecallChecks {
    /// `every`: one dense search of so many is checked, 0 for none. Ends with `stop`.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn new(every: u64, stop: CancellationToken) -> std::io::Result<Arc<RecallChecks>> {
        Ok(Arc::new(RecallChecks {
            every,
            searches: AtomicU64::new(0),
            desk: Mutex::default(),
            means: Mutex::default(),
            made: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            worker: Workers::start("recall", 1, 1)?,
            stop,
        }))
    }

    /// A search was answered: keeps it if it is drawn. Cheap.
    pub fn answered(&self, now: Instant, shard: u64, pinned: &Pinned, query: &Query, found: &Found) {
        let is_dense = |field: &granum_model::VectorField| matches!(field.kind, VectorKind::Dense { .. });
        // An exact search would be compared with itself.
        if query.params.exact || !pinned.schema.vector(&query.using).is_some_and(is_dense) || !self.is_drawn() {
            return;
        }
        let mut desk = self.desk();
        if desk.is_busy || desk.waiting.is_some() || desk.rests_until.is_some_and(|until| now < until) {
            return;
        }
        desk.rests_until = Some(now + DRAW_INTERVAL);
        desk.waiting = Some(Answer {
            shard,
            view: pinned.view.clone(),
            index: pinned.index.clone(),
            query: query.clone(),
            walked: found.walked,
            hits: found.hits.clone(),
            until: now + WAIT_MAX,
        });
    }

    /// Mixed, so that searches that come in turns are not all of one kind.
    fn is_drawn(&self) -> bool {
        self.every > 0 && {
            let number = self.searches.fetch_add(1, Ordering::Relaxed);
            xxh3_64(&number.to_le_bytes()).is_multiple_of(self.every)
        }
    }

    /// Checks what is drawn until the node stops.
    pub async fn run(self: Arc<Self>, merging: Arc<Merging>) {
        if self.every == 0 {
            return;
        }
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let Some(answer) = self.take(Instant::now(), merging.stats().running == 0) else {
                continue;
            };
            let this = self.clone();
            let checked = self.worker.run(Instant::now() + CHECK_MAX, move || {
                process::yield_to_others();
                this.check(answer)
            });
            match checked.await {
                // Here, because who yields to others should hold no lock that they wait for.
                Ok(lesson) => lesson.iter().for_each(Lesson::teach),
                Err(error) => {
                    tracing::warn!(%error, "a recall check was not made");
                    self.rest(Instant::now(), CHECK_MAX * REST_SHARE);
                }
            }
        }
        self.desk().waiting = None;
    }

    /// The answer to be checked now. One that has waited for too long is dropped.
    fn take(&self, now: Instant, is_idle: bool) -> Option<Answer> {
        let mut desk = self.desk();
        if desk.waiting.as_ref().is_some_and(|answer| now >= answer.until) {
            desk.waiting = None;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let answer = desk.waiting.take_if(|_| is_idle)?;
        desk.is_busy = true;
        Some(answer)
    }

    /// What is to be learned of the answer, if it could be checked.
    fn check(&self, answer: Answer) -> Option<Lesson> {
        let begun = Instant::now();
        let stop = || self.stop.is_cancelled() || begun.elapsed() >= CHECK_MAX;
        let checked = answer.view.check(&answer.query, &answer.hits, &stop);
        let took = begun.elapsed();
        let lesson = checked.as_ref().ok().map(|checked| Lesson {
            index: answer.index.clone(),
            query: answer.query.clone(),
            walked: answer.walked,
            checked: *checked,
        });
        let read_bytes = checked.as_ref().map_or(0, |checked| checked.usage.bytes_read);
        self.record(answer.shard, &answer.query.using, checked);
        self.rest(begun + took, rest(took, read_bytes));
        lesson
    }

    fn record(&self, shard: u64, vector: &str, checked: Result<Checked, SearchError>) {
        match checked {
            Ok(checked) => {
                self.made.fetch_add(1, Ordering::Relaxed);
                if let Some(recall) = checked.recall() {
                    let mut means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
                    means.entry((shard, vector.to_owned())).or_default().add(recall);
                }
            }
            Err(error) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                if !matches!(error, SearchError::Stopped) {
                    tracing::error!(shard, %error, "a search could not be asked again");
                }
            }
        }
    }

    fn rest(&self, now: Instant, pause: Duration) {
        let mut desk = self.desk();
        desk.is_busy = false;
        desk.rests_until = Some(now + pause);
    }

    /// The moving means of shards that `lives` names; those of others are forgotten.
    pub fn recalls(&self, lives: impl Fn(u64) -> bool) -> Vec<ShardRecall> {
        let mut means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        means.retain(|(shard, _), _| lives(*shard));
        let recall = |((shard, vector), mean): (&(u64, String), &Mean)| ShardRecall {
            shard: *shard,
            vector: vector.clone(),
            recall: mean.mean,
        };
        means.iter().map(recall).collect()
    }

    /// Checks made, and searches that were drawn and not checked: they waited for too long, or their check took too long.
    pub fn counts(&self) -> (u64, u64) {
        (self.made.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    /// Nothing is computed under this lock, so a poisoned one still holds a sound desk.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long no search is drawn after a check.
fn rest(took: Duration, read_bytes: u64) -> Duration {
    let by_bytes = Duration::from_secs_f64(read_bytes as f64 / READ_BYTES_PER_SECOND as f64);
    DRAW_INTERVAL.max(took * REST_SHARE).max(by_bytes.saturating_sub(took))
}

#[cfg(test)]
mod tests;
