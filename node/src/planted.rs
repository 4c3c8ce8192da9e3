//! Which faults are built in on purpose, to see whether the tests that should find such faults do?
//!
//! None, unless the feature `planted-bugs` is on, and then the one that a test chose for its own thread. A release build
//! with the feature doesn't compile.

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("planted-bugs is for tests: it can't be part of a release build");

/// A fault that breaks a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The log says that entries and votes are durable before they are.
    AcknowledgeBeforeSync,
    /// A leader answers linearizable reads without asking a majority whether it still leads.
    LeaderReadsUnasked,
    /// A seal lacks the table of requests that had their effect.
    DedupNotSealed,
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// This thread's nodes have this fault from now on.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this thread's nodes have the fault.
#[cfg(feature = "planted-bugs")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this thread's nodes have the fault: never.
#[cfg(not(feature = "planted-bugs"))]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
