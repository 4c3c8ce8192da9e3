//! What does openraft run on? Tokio, with chance that a simulation decides.
//!
//! openraft rolls dice for the time before an election and for the phase of its ticks. Where a seed is set on the thread
//! that does so, the dice are that seed's; everywhere else they are the operating system's.

use std::cell::Cell;
use std::time::Duration;

use futures::FutureExt;
use openraft::OptionalSend;
use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;

// Its new home is a package that nothing else here needs.
#[allow(deprecated)]
use openraft::impls::TokioRuntime;

type Seeded = DeterministicRng<TokioRuntime>;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's dice are those of `seed`; `None`: the operating system's again. For simulations.
pub fn seed_chance(seed: Option<u64>) {
    SEED.set(seed);
}

/// A new seed each time.
fn next_seed() -> u64 {
    match SEED.get() {
        None => rand::random(),
        Some(seed) => {
            SEED.set(Some(seed.wrapping_add(1)));
            seed
        }
    }
}

/// Tokio's runtime, but for the dice.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Seeded as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Seeded::scope(next_seed(), async { Seeded::thread_rng() })
            .now_or_never()
            .expect("it waits for nothing")
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
