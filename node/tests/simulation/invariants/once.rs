//! Exactly once: however often a request is repeated, it has one effect, and each repetition gets the first answer.

use granum_model::RequestId;

use crate::ledger::read_reply;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Index of the entry.
    pub index: u64,
    /// The whole command was refused (it was proposed under another epoch): nothing happened.
    pub refused: bool,
    /// The answer.
    pub reply: Vec<u8>,
}

impl Effect {
    /// What the entry at `index` answered.
    pub fn of(index: u64, reply: &[u8]) -> Effect {
        Effect {
            index,
            refused: !read_reply(reply).refused.is_empty(),
            reply: reply.to_vec(),
        }
    }
}

/// Compares what is known of a request with what an entry did; answers what is to be remembered.
pub fn check(request: RequestId, standing: &Effect, seen: &Effect) -> Result<Effect, String> {
    if standing.refused {
        return Ok(seen.clone());
    }
    if standing.reply == seen.reply {
        return Ok(standing.clone());
    }
    Err(format!(
        "once: request {:02x?} was answered {:?} at index {} and {:?} at index {}",
        &request.0[..],
        read_reply(&standing.reply),
        standing.index,
        read_reply(&seen.reply),
        seen.index
    ))
}
