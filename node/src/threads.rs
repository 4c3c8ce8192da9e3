//! Who computes the pieces of an index being built? Threads of their own, for as long as the computation takes.
//!
//! `granum-index` has no threads: it hands out numbered pieces, whose results do not depend on who computes them.

use std::sync::atomic::{AtomicUsize, Ordering};

use granum_index::Executor;

/// So many threads at once, the caller's among them.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    count: usize,
}

impl Threads {
    /// At least one.
    pub fn new(count: usize) -> Threads {
        Threads { count: count.max(1) }
    }
}

impl Executor for Threads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < tasks) {
                task(number);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.count.min(tasks) {
                scope.spawn(work);
            }
            work();
        });
    }
}

/// Threads that ask between pieces whether to go on, and tell how many bytes were written ([`Executor::pace`]).
pub struct Paced<'a> {
    /// Who computes.
    pub threads: Threads,
    /// Who is asked, from any of them.
    pub pace: &'a (dyn Fn(u64) -> bool + Sync),
}

impl Executor for Paced<'_> {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.threads.run(tasks, task);
    }

    fn pace(&self, bytes: u64) -> bool {
        (self.pace)(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_computed_once() {
        for (threads, tasks) in [(0, 5), (1, 0), (3, 100), (8, 2)] {
            let calls: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            Threads::new(threads).run(tasks, &|number| {
                calls[number].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1),
                "{threads} {tasks}"
            );
        }
    }
}
