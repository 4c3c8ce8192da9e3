//! Who runs the pieces of a long computation? The caller: this crate has no threads of its own.

use std::sync::OnceLock;

/// Runs the pieces of a long computation, one after another or on several threads.
pub trait Executor: Sync {
    /// Calls `task` once with each number below `tasks`, in any order, and returns when all calls have returned.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// Runs one piece after another on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// What `task` returns for each number below `tasks`, in the order of the numbers, whoever computed it.
pub(crate) fn map<T: Send + Sync>(executor: &dyn Executor, tasks: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let slots: Vec<OnceLock<T>> = (0..tasks).map(|_| OnceLock::new()).collect();
    executor.run(tasks, &|number| {
        let is_first = slots[number].set(task(number)).is_ok();
        assert!(is_first, "piece {number} was run twice");
    });
    let results = slots.into_iter().map(OnceLock::into_inner);
    results
        .map(|slot| slot.expect("the executor ran every piece"))
        .collect()
}
