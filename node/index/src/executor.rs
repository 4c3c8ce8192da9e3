//! Who runs the pieces of a long computation? The caller: this crate has no threads of its own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::pace::{Stopped, go_on};

/// Runs the pieces of a long computation, one after another or on several threads.
pub trait Executor: Sync {
    /// Calls `task` once with each number below `tasks`, in any order, and returns when all calls have returned.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));

    /// Is told now and then how many bytes were written since, 0 between two pieces; may take its time, and says whether to
    /// give the computation up, which then ends with an error as soon as the pieces under way have. From any thread.
    fn pace(&self, bytes: u64) -> bool {
        let _ = bytes;
        false
    }
}

/// Runs one piece after another on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// What `task` returns for each number below `tasks`, in the order of the numbers, whoever computed it. The executor is
/// asked before each piece whether to go on.
pub(crate) fn map<T: Send + Sync>(
    executor: &dyn Executor,
    tasks: usize,
    task: impl Fn(usize) -> T + Sync,
) -> Result<Vec<T>, Stopped> {
    let slots: Vec<OnceLock<T>> = (0..tasks).map(|_| OnceLock::new()).collect();
    let is_stopped = AtomicBool::new(false);
    executor.run(tasks, &|number| {
        if is_stopped.load(Ordering::Relaxed) || go_on(executor).is_err() {
            is_stopped.store(true, Ordering::Relaxed);
            return;
        }
        let is_first = slots[number].set(task(number)).is_ok();
        assert!(is_first, "piece {number} was run twice");
    });
    if is_stopped.into_inner() {
        return Err(Stopped);
    }
    let results = slots.into_iter().map(OnceLock::into_inner);
    Ok(results
        .map(|slot| slot.expect("the executor ran every piece"))
        .collect())
}
