//! A write that was refused each time it was tried has not happened, and will not.

use crate::history::{Fate, History};
use crate::ledger::Ledger;

/// Complaints about refused writes that had an effect.
pub fn check(history: &History, ledger: &Ledger) -> Vec<String> {
    let refused = history.writes.iter().filter(|write| write.fate == Fate::Refused);
    let happened = refused.filter(|write| ledger.had_effect(write.request));
    happened
        .map(|write| {
            format!(
                "refusals: {:?} of document {} by client {} was refused and yet happened",
                write.change, write.key, write.client
            )
        })
        .collect()
}
