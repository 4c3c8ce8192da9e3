//! Read your writes, and never go back: a session read is at least at the sequence that its client has seen.

use crate::history::{History, Level};

/// Complaints about session reads below their token.
pub fn check(history: &History) -> Vec<String> {
    let mut complaints = Vec::new();
    for read in &history.reads {
        if let Level::Session(token) = read.level
            && read.sequence < token
        {
            complaints.push(format!(
                "sessions: client {} had seen {token} and was shown {} by node {} at {:?}",
                read.client, read.sequence, read.node, read.answered.at
            ));
        }
    }
    complaints
}
