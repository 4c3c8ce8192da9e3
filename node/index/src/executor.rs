//! Who runs the pieces of a long computation? The caller: this crate has no threads of its own.

use std::sync::OnceLock;

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
    let slots: Vec<OnceLock<Result<T, Stopped>>> = (0..tasks).map(|_| OnceLock::new()).collect();
    executor.run(tasks, &|number| {
        let result = go_on(executor).map(|()| task(number));
        let is_first = slots[number].set(result).is_ok();
        assert!(is_first, "piece {number} was run twice");
    });
    let results = slots.into_iter().map(OnceLock::into_inner);
    results
        .map(|slot| slot.expect("the executor ran every piece"))
        .collect()
}
