//! When is a second replica asked because the first is slow? After the time that 95 % of calls take, and for at most one
//! call in twenty, so that a slow cluster isn't made slower.

use std::sync::Mutex;
use std::time::Duration;

use super::allowance::Allowance;

/// Share of calls that may be hedged.
const BUDGET: f64 = 0.05;
/// Hedges that may be saved up.
const SAVED_MAX: f64 = 10.0;
/// The quantile after which a call counts as slow.
const QUANTILE: f64 = 0.95;
/// Never sooner, and the first guess, in microseconds.
const DELAY_MIN_US: f64 = 2_000.0;
const DELAY_FIRST_US: f64 = 50_000.0;

/// Learns how long calls take and keeps the budget.
pub(crate) struct Hedge {
    quantile_us: Mutex<f64>,
    budget: Allowance,
}

impl Hedge {
    /// Knows nothing: hedges after 50 ms.
    pub fn new() -> Self {
        Hedge {
            quantile_us: Mutex::new(DELAY_FIRST_US),
            budget: Allowance::new(BUDGET, SAVED_MAX, 1.0),
        }
    }

    /// A call begins: when it would count as slow.
    pub fn delay(&self) -> Duration {
        self.budget.earn();
        let quantile_us = *self.quantile_us.lock().expect("nothing panics while holding it");
        Duration::from_micros(quantile_us.max(DELAY_MIN_US) as u64)
    }

    /// A call took so long. The estimate moves up by 19 steps or down by one, so it rests where 95 % lie below.
    pub fn took(&self, time: Duration) {
        let mut quantile_us = self.quantile_us.lock().expect("nothing panics while holding it");
        let step = *quantile_us / 100.0;
        let above = time.as_micros() as f64 > *quantile_us;
        *quantile_us += if above {
            step * QUANTILE
        } else {
            -step * (1.0 - QUANTILE)
        };
        *quantile_us = quantile_us.max(1.0);
    }

    /// A call is slow: whether the budget pays for a second one.
    pub fn affordable(&self) -> bool {
        self.budget.spend()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_twenty_is_hedged_at_most() {
        let hedge = Hedge::new();
        let hedged = (0..2_000).filter(|_| {
            hedge.delay();
            hedge.affordable()
        });
        assert!((95..=111).contains(&hedged.count()));
    }

    #[test]
    fn the_delay_settles_where_most_calls_have_ended() {
        let hedge = Hedge::new();
        for call in 0..50_000u64 {
            hedge.took(Duration::from_millis(1 + call * 7 % 100));
        }
        let delay = hedge.delay().as_millis();
        assert!(
            (85..=105).contains(&delay),
            "{delay} ms, and 95 % of calls take 95 ms at most"
        );
    }
}
