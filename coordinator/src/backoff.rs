//! How long to wait before trying again: twice as long each time up to a bound, and never in step with others.

use std::time::Duration;

use rand::Rng;

/// First pause, before chance halves it at most.
const FIRST: Duration = Duration::from_millis(10);
/// Longest pause.
const LONGEST: Duration = Duration::from_millis(500);

/// Pauses that grow.
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Begins with the shortest pause.
    pub fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// The next pause: between half and all of what is due.
    pub fn next_pause(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(LONGEST);
        due.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Begins again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST / 2);
        assert!(pauses[19] <= LONGEST && pauses[19] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_pause() <= FIRST);
    }
}
