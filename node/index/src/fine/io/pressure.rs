//! Does this thread read from the disk? If so, memory is short, or the files are new to it.
//!
//! A page that was read once is taken to be in memory still: to ask the system costs 0.3 to 1 us a page (mincore, preadv2,
//! cachestat), a third of a query that finds all in memory. Where the system has taken pages away, each costs a wait of its
//! own, and what the system reads around it. So a thread looks at what it has read, once in many rounds; after rounds in which
//! that was much, all is asked for ahead, whether it was read before or not.

use std::cell::Cell;

/// Rounds of reads between two looks: a look costs 0.3 us.
const ROUNDS: u32 = 64;
/// Pages read from the disk in so many rounds that make it worth asking for all in as many: a wait saved is some 40 us, asking
/// for the dozen pages of a round 8 us.
const PAGES_MANY: u64 = 12;

#[derive(Clone, Copy, Default)]
struct Look {
    /// Rounds until the next one.
    rounds: u32,
    pages_read: u64,
    is_short: bool,
}

thread_local! {
    static LOOK: Cell<Look> = Cell::default();
}

/// Asked once a round of reads: whether pages that were read before had better be asked for again.
pub(crate) fn is_memory_short() -> bool {
    let mut look = LOOK.get();
    if look.rounds == 0 {
        let pages_read = pages_read();
        look = Look {
            rounds: ROUNDS,
            pages_read,
            is_short: pages_read - look.pages_read >= PAGES_MANY,
        };
    }
    look.rounds -= 1;
    LOOK.set(look);
    look.is_short
}

/// Pages that this thread has had read from a disk, ahead of use or in a fault; 0 where the system does not tell.
fn pages_read() -> u64 {
    #[cfg(target_os = "linux")]
    {
        const BLOCKS_PAGE: u64 = 4096 / 512;
        // SAFETY: a rusage is numbers only, for which zero bytes are a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a rusage of ours, which lives on.
        let done = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        if done == 0 {
            return u64::try_from(usage.ru_inblock).unwrap_or(0) / BLOCKS_PAGE;
        }
    }
    0
}
