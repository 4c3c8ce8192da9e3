//! What did this replica hold at its last seals? Replicas of a shard seal at the same entries of its log, so their
//! censuses as of one entry are equal, or one of them has diverged. Coordinators compare them (`control/compare.rs`).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use granum_index::Census;
use granum_proto::internal::SealCensus;

use super::Sealed;

/// Seals remembered: a replica that seals later than others is still compared with them.
const SEALS_KEPT: usize = 16;

/// The newest seals, the oldest first. In memory: a restart begins with the seal that stands.
#[derive(Debug, Default)]
pub(super) struct Censuses(Mutex<VecDeque<SealCensus>>);

impl Censuses {
    /// Of a replica that begins with this seal.
    pub fn beginning(sealed: &Sealed, census: Census) -> Censuses {
        let censuses = Censuses::default();
        censuses.push(sealed, census);
        censuses
    }

    /// Remembers a seal; nothing where nothing was ever sealed.
    pub fn push(&self, sealed: &Sealed, census: Census) {
        let Some(last) = sealed.last else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SEALS_KEPT {
            kept.pop_front();
        }
        kept.push_back(SealCensus {
            index: last.index,
            documents: census.documents,
            digest: census.digest,
        });
    }

    /// All that are remembered.
    pub fn list(&self) -> Vec<SealCensus> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle::{Replica, apply};
    use super::super::sample::{delete, fence, put, write};
    use super::super::{StateMachine, command};
    use super::*;

    /// What a replica says of its last seal after these operations.
    fn census(operations: Vec<granum_proto::internal::operation::Kind>) -> SealCensus {
        let replica = Replica::new(true);
        let commands = [fence(1), write(1, 1, operations), command::seal()];
        for (index, command) in (1..).zip(&commands) {
            apply(replica.machine(), index, command);
        }
        replica.machine().seal().unwrap();
        *replica.machine().stats().seals.last().unwrap()
    }

    #[test]
    fn one_document_more_or_another_payload_is_another_census() {
        let held = census(vec![put(1, 5), put(2, 5), delete(1)]);
        assert_eq!(held.documents, 1);
        assert_eq!(census(vec![put(1, 5), put(2, 5), delete(1)]), held);
        assert_ne!(census(vec![put(1, 5), put(2, 6), delete(1)]).digest, held.digest);
        assert_ne!(census(vec![put(1, 5), put(2, 5), delete(2)]).digest, held.digest);
        assert_eq!(census(vec![put(1, 5), put(2, 5)]).documents, 2);
    }
}
