//! How many extra calls may the cluster be asked for? A share of those that were made anyway, saved up to a few: what helps when
//! one call in a hundred is unlucky would hurt when all are.

use std::sync::Mutex;

/// Extra calls that calls pay for.
pub(super) struct Allowance {
    /// What a call earns.
    share: f64,
    /// Extra calls that may be saved up.
    most: f64,
    saved: Mutex<f64>,
}

impl Allowance {
    /// Begins with `saved` extra calls.
    pub fn new(share: f64, most: f64, saved: f64) -> Self {
        Allowance {
            share,
            most,
            saved: Mutex::new(saved),
        }
    }

    /// A call is made.
    pub fn earn(&self) {
        let mut saved = self.saved.lock().expect("nothing panics while holding it");
        *saved = (*saved + self.share).min(self.most);
    }

    /// Whether an extra call is paid for.
    pub fn spend(&self) -> bool {
        let mut saved = self.saved.lock().expect("nothing panics while holding it");
        if *saved < 1.0 {
            return false;
        }
        *saved -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_calls_are_a_share_of_all_and_few_after_a_quiet_time() {
        let allowance = Allowance::new(0.05, 10.0, 1.0);
        let calls = || {
            (0..2_000).filter(|_| {
                allowance.earn();
                allowance.spend()
            })
        };
        assert!((99..=101).contains(&calls().count()));
        (0..10_000).for_each(|_| allowance.earn());
        assert_eq!((0..100).filter(|_| allowance.spend()).count(), 10);
        assert!((99..=101).contains(&calls().count()));
    }
}
