//! One leader a term: no two replicas ever send entries or heartbeats in the name of the same term.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Who led in which term.
#[derive(Debug, Default)]
pub struct Leaders {
    terms: Mutex<(BTreeMap<u64, u64>, Vec<String>)>,
}

impl Leaders {
    /// `replica` sent an append of `term`.
    pub fn saw(&self, term: u64, replica: u64) {
        let mut terms = self.terms.lock().unwrap();
        let leader = *terms.0.entry(term).or_insert(replica);
        if leader != replica {
            terms
                .1
                .push(format!("leaders: term {term} has two, replicas {leader} and {replica}"));
        }
    }

    /// Terms that had a leader, and what broke the rule.
    pub fn found(&self) -> (u64, Vec<String>) {
        let terms = self.terms.lock().unwrap();
        (terms.0.len() as u64, terms.1.clone())
    }
}
