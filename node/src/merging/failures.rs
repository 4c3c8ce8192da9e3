//! A replica whose merge failed: when is it tried again, and is there anything new to say of it?
//!
//! What is damaged now is damaged in a minute too: each failure in a row doubles the pause, up to an hour. A full disk gets
//! room again without anybody telling: it is looked at every minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a replica is left alone after a failure; twice as long after each further one,
const PAUSE_MIN: Duration = Duration::from_secs(60);
/// but not longer.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// Replicas whose last merge failed, by any key that tells them apart.
#[derive(Debug)]
pub(super) struct Failures<K> {
    failing: HashMap<K, Failing>,
}

#[derive(Debug)]
struct Failing {
    pause: Duration,
    until: Instant,
    why: String,
}

/// Why a merge was not made.
#[derive(Debug)]
pub(super) struct Failed {
    /// In words.
    pub why: String,
    heals: bool,
}

impl Failed {
    /// It may go well any time.
    pub fn heals(why: &dyn std::fmt::Display) -> Failed {
        Failed {
            why: why.to_string(),
            heals: true,
        }
    }

    /// It goes well when somebody has done something about it.
    pub fn stays(why: &dyn std::fmt::Display) -> Failed {
        Failed {
            why: why.to_string(),
            heals: false,
        }
    }
}

impl<K: std::hash::Hash + Eq> Failures<K> {
    /// None yet.
    pub fn none() -> Failures<K> {
        Failures {
            failing: HashMap::new(),
        }
    }

    /// Whether a replica is left alone now.
    pub fn is_resting(&self, replica: &K, now: Instant) -> bool {
        self.failing.get(replica).is_some_and(|own| now < own.until)
    }

    /// A merge failed; whether that is worth saying: it failed for another reason before, or did not fail.
    pub fn failed(&mut self, replica: K, now: Instant, failed: Failed) -> bool {
        let before = self.failing.get(&replica).filter(|_| !failed.heals);
        let pause = before.map_or(PAUSE_MIN, |before| (before.pause * 2).min(PAUSE_MAX));
        let is_new = self.failing.get(&replica).is_none_or(|before| before.why != failed.why);
        let failing = Failing {
            pause,
            until: now + pause,
            why: failed.why,
        };
        self.failing.insert(replica, failing);
        is_new
    }

    /// A merge went well; whether that is worth saying: the last one failed.
    pub fn succeeded(&mut self, replica: &K) -> bool {
        self.failing.remove(replica).is_some()
    }

    /// Forgets replicas that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&K) -> bool) {
        self.failing.retain(|replica, _| is_there(replica));
    }

    /// Replicas whose last merge failed.
    pub fn count(&self) -> usize {
        self.failing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_begin_anew_once_it_went_well() {
        let (mut failures, start) = (Failures::none(), Instant::now());
        let mut now = start;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            failures.failed(7, now, Failed::stays(&"damaged"));
            let pause = Duration::from_secs(minutes * 60);
            assert!(
                failures.is_resting(&7, now + pause - Duration::from_secs(1)),
                "{minutes}"
            );
            now += pause;
            assert!(!failures.is_resting(&7, now), "{minutes}");
        }
        assert!(!failures.is_resting(&8, start), "another replica");
        assert!(failures.succeeded(&7) && !failures.succeeded(&7));
        failures.failed(7, now, Failed::stays(&"damaged"));
        assert!(!failures.is_resting(&7, now + PAUSE_MIN));
    }

    #[test]
    fn a_full_disk_is_looked_at_every_minute() {
        let (mut failures, mut now) = (Failures::none(), Instant::now());
        failures.failed(7, now, Failed::stays(&"damaged"));
        for _ in 0..3 {
            failures.failed(7, now, Failed::heals(&"no room"));
            now += PAUSE_MIN;
            assert!(!failures.is_resting(&7, now));
        }
    }

    #[test]
    fn a_reason_is_said_once_until_it_changes() {
        let (mut failures, now) = (Failures::none(), Instant::now());
        let said =
            ["damaged", "damaged", "full", "full", "damaged"].map(|why| failures.failed(7, now, Failed::stays(&why)));
        assert_eq!(said, [true, false, true, false, true]);
        assert!(failures.failed(8, now, Failed::stays(&"damaged")), "of another replica");
        assert_eq!(failures.count(), 2);
        failures.retain(|replica| *replica == 8);
        assert_eq!(failures.count(), 1);
        assert!(failures.failed(7, now, Failed::stays(&"damaged")));
    }
}
