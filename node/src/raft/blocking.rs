//! Where does work run that blocks, because it reads and writes files? On tokio's pool, or, in a simulation, right here.
//!
//! A simulation has one thread and a clock of its own: work for other threads would take real time and come back in an
//! order that no seed decides. There it is done between two awaits, after the delay that the simulation asks for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Where work that blocks runs.
#[derive(Clone, Copy, Debug, Default)]
pub enum Blocking {
    /// On a thread where waiting harms nobody.
    #[default]
    Pool,
    /// On the caller's own, after a delay of its clock. For simulations.
    Inline(fn() -> Duration),
}

/// Why work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// The runtime stops.
    #[error("the runtime stops")]
    Cancelled,
    /// It panicked, which was printed then.
    #[error("it panicked")]
    Panicked,
}

impl Blocking {
    /// Runs `work` and waits for it.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Undone> {
        match self {
            Blocking::Pool => tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| match error.is_panic() {
                    true => Undone::Panicked,
                    false => Undone::Cancelled,
                }),
            Blocking::Inline(delay) => {
                tokio::time::sleep(delay()).await;
                catch_unwind(AssertUnwindSafe(work)).map_err(|_| Undone::Panicked)
            }
        }
    }
}
