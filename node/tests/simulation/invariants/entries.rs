//! State machine safety: an index holds the same entry on all replicas and in all their lives, and its answer is the same.

use crate::ledger::Line;

/// Compares what a replica applied at `index` with what stands there.
pub fn check(index: u64, standing: &Line, line: &Line) -> Result<(), String> {
    if (standing.term, standing.entry) != (line.term, line.entry) {
        return Err(format!(
            "entries: index {index} holds one entry on replica {} (term {}) and another on {} (term {})",
            standing.replica, standing.term, line.replica, line.term
        ));
    }
    if standing.reply != line.reply {
        return Err(format!(
            "entries: index {index} was answered one way by replica {} and another by {}",
            standing.replica, line.replica
        ));
    }
    Ok(())
}
