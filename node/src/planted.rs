//! Which faults are built in on purpose, to see whether the tests that should find such faults do?
//!
//! None, unless the feature `planted-bugs` is on, and then the one that a test chose for its own thread, or the environment for a
//! process. A release build with the feature doesn't compile.

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
impl Bug {
    const ALL: [Bug; 3] = [Bug::AcknowledgeBeforeSync, Bug::LeaderReadsUnasked, Bug::DedupNotSealed];
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

/// Whether this thread's nodes, or this process's, have the fault.
#[cfg(feature = "planted-bugs")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get().or(*OF_PROCESS) == Some(bug)
}

/// What the environment says: `GRANUM_PLANTED_BUG`, a [`Bug`] by its name.
#[cfg(feature = "planted-bugs")]
static OF_PROCESS: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
    let name = std::env::var("GRANUM_PLANTED_BUG").ok()?;
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    Some(found.unwrap_or_else(|| panic!("GRANUM_PLANTED_BUG={name}: not one of {:?}", Bug::ALL)))
});

/// Whether this thread's nodes have the fault: never.
#[cfg(not(feature = "planted-bugs"))]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
