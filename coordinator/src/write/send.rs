//! Sends entries to the leaders of their shards and collects an outcome for every document, in the order written.
//!
//! Shards are written at once, the entries of one shard one after the other. A shard that fails leaves its documents
//! with the outcome `UNKNOWN` and the reason: repeating the request (same request id) tells, and does what was not done,
//! at once or when a disk has room again. If no shard took anything, the failure is the answer.

use futures::future::join_all;
use granum_model::ShardId;
use granum_proto::internal::ShardWriteRequest;
use granum_proto::status::Failure;
use granum_proto::v1::{self, Outcome, outcome};

use super::split::{Chunk, Split};
use crate::context::Context;
use crate::route::call::Budget;

/// What became of a shard's part.
struct Part {
    shard: ShardId,
    /// Ordinal and outcome.
    outcomes: Vec<(u32, Outcome)>,
    sequence: u64,
    changed: u64,
    failed: Option<Failure>,
}

/// Sends all chunks.
pub(super) async fn send(context: &Context, split: Split, budget: Budget) -> Result<v1::WriteResponse, Failure> {
    let digest = split.digest;
    let parts = split.chunks.into_iter();
    let parts = parts.map(|(shard, chunks)| send_shard(context, shard, chunks, digest, budget));
    let parts = join_all(parts).await;
    if parts.iter().all(|part| part.sequence == 0) {
        // A part that may have happened speaks for all of them.
        let failures = || parts.iter().filter_map(|part| part.failed.clone());
        let unknown = failures().find(|failure| matches!(failure, Failure::Unknown(_)));
        if let Some(failure) = unknown.or_else(|| failures().next()) {
            return Err(failure);
        }
    }
    let mut answer = v1::WriteResponse {
        outcomes: vec![Outcome::default(); split.operations],
        ..v1::WriteResponse::default()
    };
    for part in parts {
        answer.changed += part.changed;
        if part.sequence > 0 {
            let sequences = &mut answer.token.get_or_insert_default().sequences;
            sequences.insert(part.shard.0, part.sequence);
        }
        for (ordinal, outcome) in part.outcomes {
            answer.outcomes[ordinal as usize] = outcome;
        }
    }
    Ok(answer)
}

async fn send_shard(context: &Context, shard: ShardId, chunks: Vec<Chunk>, digest: u64, budget: Budget) -> Part {
    let mut part = Part {
        shard,
        outcomes: Vec::with_capacity(chunks.iter().map(|chunk| chunk.batch.operations.len()).sum()),
        sequence: 0,
        changed: 0,
        failed: None,
    };
    for chunk in chunks {
        let ordinals: Vec<u32> = chunk
            .batch
            .operations
            .iter()
            .map(|operation| operation.ordinal)
            .collect();
        if let Some(failure) = &part.failed {
            let outcome = failed(failure);
            part.outcomes
                .extend(ordinals.into_iter().map(|ordinal| (ordinal, outcome.clone())));
            continue;
        }
        let request = ShardWriteRequest {
            call: None,
            batch: Some(chunk.batch),
            digest,
        };
        match context.caller.write(shard, request, budget).await {
            Ok(reply) if reply.outcomes.len() == ordinals.len() => {
                part.sequence = part.sequence.max(reply.sequence);
                part.changed += reply.changed;
                part.outcomes.extend(ordinals.into_iter().zip(reply.outcomes));
            }
            answered => {
                let wrong = |count| format!("shard {shard} sent {count} outcomes for {} documents", ordinals.len());
                let failure =
                    answered.map_or_else(|failure| failure, |reply| Failure::Fault(wrong(reply.outcomes.len())));
                let outcome = failed(&failure);
                part.outcomes
                    .extend(ordinals.iter().map(|&ordinal| (ordinal, outcome.clone())));
                part.failed = Some(failure);
            }
        }
    }
    part
}

/// The outcome of a document whose shard failed: never `REFUSED`, which says that a condition of its own did not hold, and
/// which callers may pass over.
fn failed(failure: &Failure) -> Outcome {
    Outcome {
        kind: outcome::Kind::Unknown.into(),
        version: 0,
        reason: failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_a_failed_shard_are_never_told_as_refused_by_a_condition() {
        let text = || "why".to_owned();
        for failure in [
            Failure::ReadOnly(text()),
            Failure::Busy(text()),
            Failure::Expired(text()),
            Failure::Fault(text()),
        ] {
            let outcome = failed(&failure);
            assert_eq!((outcome.kind(), outcome.reason), (outcome::Kind::Unknown, text()));
        }
    }
}
