//! Where does work run that takes longer than a network task may? On a few plain threads behind a bounded queue.
//!
//! Two pools a node: one for searches, one for merges, so that neither waits for the other. A full queue is said at once
//! ([`Failure::Busy`]) instead of growing; a job whose deadline has passed while it waited is not begun; a job that
//! panics costs its caller an error and the pool nothing. Raft runs elsewhere: no job here can delay a heartbeat.
//!
//! How many may wait follows how long jobs take: what would not end by its deadline is refused when it comes, while there is
//! time to try again or elsewhere, instead of when its time is up.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use granum_proto::status::Failure;

/// Jobs that may wait for a search worker, for each of them. More wait longer than callers do.
pub const SEARCH_QUEUE_PER_WORKER: usize = 256;

/// Share of a job in the mean of how long jobs take.
const MEAN_SHARE: f64 = 1.0 / 32.0;

/// Says whether it did what it was for: a job whose time was up, or whose caller has gone, teaches nothing about the others.
type Job = Box<dyn FnOnce() -> bool + Send>;

/// Threads that take jobs from one queue in order. Clones share them; the last one to go ends them.
#[derive(Clone, Debug)]
pub struct Workers {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue {
    name: String,
    threads: usize,
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    running: usize,
    /// Mean time of the last jobs, in seconds; begins at 0, so that no one job closes the queue.
    job_seconds: f64,
    closed: bool,
}

impl State {
    fn learn(&mut self, job_seconds: f64) {
        self.job_seconds += (job_seconds - self.job_seconds) * MEAN_SHARE;
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting, {} running", self.jobs.len(), self.running)
    }
}

/// How busy a pool is, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Jobs that wait.
    pub waiting: usize,
    /// Jobs under way.
    pub running: usize,
    /// Jobs that may wait.
    pub capacity: usize,
}

impl Workers {
    /// Starts `threads` (at least one) threads called `name`, with room for `capacity` waiting jobs.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(name: &str, threads: usize, capacity: usize) -> std::io::Result<Workers> {
        let queue = Arc::new(Queue {
            name: name.to_owned(),
            threads: threads.max(1),
            capacity,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut pool = Pool {
            queue: queue.clone(),
            threads: Vec::new(),
        };
        for _ in 0..queue.threads {
            let queue = queue.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            pool.threads.push(thread.spawn(move || queue.work())?);
        }
        Ok(Workers { pool: Arc::new(pool) })
    }

    /// Runs `job` on a worker and hands back what it returns. A job that has begun runs to its end, wanted or not.
    ///
    /// # Errors
    /// `Busy` when the queue is full, or so long that `deadline` would pass in it, `Unavailable` when `deadline` passed before a
    /// worker was free, or the pool is closing, `Fault` when it panicked.
    pub async fn run<T, F>(&self, deadline: Instant, job: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let queue = self.pool.queue.clone();
        let job = Box::new(move || {
            if Instant::now() >= deadline {
                let _ = answer.send(Err(Failure::Unavailable(format!(
                    "{}: the deadline passed in the queue",
                    queue.name
                ))));
                return false;
            }
            if answer.is_closed() {
                return false;
            }
            let result = catch_unwind(AssertUnwindSafe(job)).map_err(|panic| queue.fault(&*panic));
            let _ = answer.send(result);
            true
        });
        let patience = deadline.saturating_duration_since(Instant::now());
        self.pool.queue.push(job, patience)?;
        let closing = || Failure::Unavailable(format!("{}: closing", self.pool.queue.name));
        answered.await.unwrap_or_else(|_| Err(closing()))
    }

    /// How busy the pool is now.
    pub fn load(&self) -> Load {
        let state = self.pool.queue.lock();
        Load {
            waiting: state.jobs.len(),
            running: state.running,
            capacity: self.pool.queue.capacity,
        }
    }
}

impl Queue {
    /// No job runs under this lock, so a poisoned one still holds a sound queue.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that may wait so that a new one, behind them, ends within `patience`. As many as there are workers may always.
    fn room(&self, state: &State, patience: Duration) -> usize {
        let to_begin = (patience.as_secs_f64() - state.job_seconds).max(0.0);
        let in_time = to_begin * self.threads as f64 / state.job_seconds.max(1e-9);
        self.capacity.min((in_time as usize).max(self.threads))
    }

    fn push(&self, job: Job, patience: Duration) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.closed {
            return Err(Failure::Unavailable(format!("{}: closing", self.name)));
        }
        let (waiting, room) = (state.jobs.len(), self.room(&state, patience));
        if waiting >= room {
            return Err(Failure::Busy(format!(
                "{}: {waiting} jobs wait, at most {room} where one takes {:.1} ms and this one has {} ms",
                self.name,
                state.job_seconds * 1e3,
                patience.as_millis()
            )));
        }
        state.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// A worker's life: jobs until the pool closes.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let job = loop {
                if state.closed {
                    return;
                }
                match state.jobs.pop_front() {
                    Some(job) => break job,
                    None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            state.running += 1;
            drop(state);
            let begun = Instant::now();
            let did = job();
            let took = begun.elapsed().as_secs_f64();
            let mut state = self.lock();
            state.running -= 1;
            if did {
                state.learn(took);
            }
        }
    }

    fn fault(&self, panic: &(dyn std::any::Any + Send)) -> Failure {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        tracing::error!(pool = self.name, panic = said, "a job panicked");
        Failure::Fault(format!("{}: a job panicked: {said}", self.name))
    }
}

impl Drop for Pool {
    /// Drops what waits and lets what runs end.
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.queue.lock();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(waiting);
        self.queue.changed.notify_all();
        let here = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // A job may hold the last handle of its own pool: a thread can't wait for itself.
            if thread.thread().id() != here {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// One worker that is busy until the sender goes.
    async fn occupied(capacity: usize) -> (Workers, mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let workers = Workers::start("test", 1, capacity).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let pool = workers.clone();
        let first = tokio::spawn(async move {
            let job = move || {
                begun.send(()).unwrap();
                let _ = held.recv();
            };
            pool.run(soon(), job).await.unwrap();
        });
        has_begun.await.unwrap();
        (workers, release, first)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (workers, release, first) = occupied(1).await;
        let pool = workers.clone();
        let waiting = tokio::spawn(async move { pool.run(soon(), || 2).await });
        while workers.load().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            workers.load(),
            Load {
                waiting: 1,
                running: 1,
                capacity: 1
            }
        );
        assert!(matches!(workers.run(soon(), || 3).await, Err(Failure::Busy(_))));
        drop(release);
        first.await.unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(2));
    }

    #[tokio::test]
    async fn what_would_not_end_in_time_is_refused_at_once() {
        let (workers, release, first) = occupied(1000).await;
        let queue = &workers.pool.queue;
        let room = |job_ms: f64, patience_ms| {
            let state = State {
                job_seconds: job_ms / 1e3,
                ..State::default()
            };
            queue.room(&state, Duration::from_millis(patience_ms))
        };
        assert_eq!(room(0.0, 500), 1000, "nothing has ended yet");
        assert_eq!((room(0.05, 500), room(5.0, 500), room(50.0, 500)), (1000, 99, 9));
        assert_eq!(room(5.0, 20), 3);
        assert_eq!((room(2000.0, 500), room(5.0, 0)), (1, 1), "one a worker");

        queue.lock().job_seconds = 0.3;
        let job = || Box::new(|| false);
        let patience = Duration::from_millis(500);
        assert_eq!(queue.push(job(), patience), Ok(()));
        let refused = queue.push(job(), patience).unwrap_err();
        assert_eq!(
            refused,
            Failure::Busy("test: 1 jobs wait, at most 1 where one takes 300.0 ms and this one has 500 ms".into())
        );
        assert_eq!(queue.push(job(), Duration::from_secs(1)), Ok(()), "it has time");
        drop(release);
        first.await.unwrap();
    }

    #[tokio::test]
    async fn how_long_jobs_take_is_learned_from_those_that_ran() {
        let mut state = State::default();
        state.learn(3.2);
        assert!((state.job_seconds - 0.1).abs() < 1e-9, "no one job closes the queue");
        (0..500).for_each(|_| state.learn(0.002));
        assert!((state.job_seconds - 0.002).abs() < 1e-4);

        let workers = Workers::start("test", 1, 4).unwrap();
        workers.pool.queue.lock().job_seconds = 0.3;
        // What the first one taught is noted before the second one is taken up.
        for _ in 0..2 {
            assert!(workers.run(Instant::now(), || ()).await.is_err());
        }
        assert_eq!(workers.pool.queue.lock().job_seconds, 0.3);
    }

    #[tokio::test]
    async fn a_job_past_its_deadline_is_not_begun() {
        let workers = Workers::start("test", 1, 4).unwrap();
        let answer = workers.run(Instant::now(), || unreachable!("too late")).await;
        assert!(matches!(answer, Err::<(), _>(Failure::Unavailable(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_panic_costs_its_caller_an_error_and_the_pool_nothing() {
        let workers = Workers::start("test", 1, 4).unwrap();
        let answer = workers.run(soon(), || -> u32 { panic!("row {} is odd", 7) }).await;
        assert_eq!(answer, Err(Failure::Fault("test: a job panicked: row 7 is odd".into())));
        assert_eq!(workers.run(soon(), || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn what_waits_when_the_pool_goes_is_told_so() {
        let (workers, release, first) = occupied(4).await;
        first.abort();
        let queue = workers.pool.queue.clone();
        let waiting = {
            let (answer, answered) = tokio::sync::oneshot::channel::<()>();
            let job = Box::new(move || answer.send(()).is_ok());
            queue.push(job, Duration::MAX).unwrap();
            answered
        };
        let _ = first.await;
        let dropper = std::thread::spawn(move || drop(workers));
        assert!(waiting.await.is_err());
        drop(release);
        dropper.join().unwrap();
        assert!(matches!(
            queue.push(Box::new(|| true), Duration::MAX),
            Err(Failure::Unavailable(_))
        ));
    }
}
