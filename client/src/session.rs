//! What a session has seen: shard -> sequence, only ever growing.

use std::sync::Mutex;

use crate::v1;

/// Grows with each reply. Bounded by the number of shards the cluster ever had.
#[derive(Debug, Default)]
pub(crate) struct Session {
    seen: Mutex<v1::SessionToken>,
}

impl Session {
    /// Takes in a reply's token.
    pub fn saw(&self, token: Option<&v1::SessionToken>) {
        let mut seen = self.seen.lock().expect("no holder of this lock panics");
        for (&shard, &sequence) in token.iter().flat_map(|token| &token.sequences) {
            let known = seen.sequences.entry(shard).or_default();
            *known = (*known).max(sequence);
        }
    }

    /// All that was seen.
    pub fn token(&self) -> v1::SessionToken {
        self.seen.lock().expect("no holder of this lock panics").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_never_shrinks() {
        let session = Session::default();
        for (shard, sequence) in [(1, 5), (1, 3), (2, 1)] {
            session.saw(Some(&v1::SessionToken {
                sequences: [(shard, sequence)].into(),
            }));
        }
        session.saw(None);
        assert_eq!(session.token().sequences, [(1, 5), (2, 1)].into());
    }
}
