//! How does a change reach a shard? Checked at the edge, proposed by the leader, answered when a majority holds it and the
//! leader applied it.
//!
//! The first change of a shard is preceded by the fence that tells its log what the shard is; whoever leads then proposes
//! it, and a second one is refused without effect. A delete by filter is resolved by the leader in chunks at one pinned
//! sequence; its last command is empty and carries the request id, so that a repeated request is answered from the table
//! and one that broke off goes on where it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use granum_model::{DocId, Filter, RequestId};
use granum_proto::internal::{
    AlterSchemaRequest, Applied, Command, Epoch, Operation, ShardCall, ShardDeleteByFilterRequest, ShardWriteRequest,
    ShardWriteResponse, WriteBatch, applied::Refusal, operation,
};
use granum_proto::limits::{BATCH_DOCUMENTS_MAX, Invalid, PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX, at_most};
use granum_proto::status::Failure;
use granum_proto::v1::{self, document_write};
use granum_proto::{convert, ids};
use prost::Message;
use serde_json::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::replicas::{Context, Replica};
use super::search::{Reading, matching};
use crate::shard::command;

/// Documents that one command of a delete by filter removes.
const DELETE_CHUNK: usize = 2_000;

/// Writes and deletes, atomic per shard.
pub async fn write(context: &Context, request: ShardWriteRequest) -> Result<ShardWriteResponse, Failure> {
    let (replica, call) = context.called(request.call)?;
    let deadline = deadline_of(&call);
    let request_id = required_request_id(&call)?;
    let batch = request.batch.unwrap_or_default();
    if batch.operations.is_empty() {
        return Err(Invalid::new("batch.operations", "must not be empty").into());
    }
    at_most(
        "batch.operations",
        batch.operations.len(),
        BATCH_DOCUMENTS_MAX,
        "operations",
    )?;
    admit(&replica, &call)?;
    let digest = match request.digest {
        0 => xxh3_64(&batch.encode_to_vec()),
        digest => digest,
    };
    let checked = move || check_payloads(&batch).map(|()| batch);
    let batch = context.workers.run(deadline, checked).await??;
    be_born(&replica, &call, deadline).await?;
    let applied = propose(
        &replica,
        &call,
        command::write(request_id, call.epoch, digest, batch),
        deadline,
    )
    .await?;
    Ok(response(context, applied))
}

/// Deletes what a filter wants as of one sequence, in chunks.
pub async fn delete_by_filter(
    context: &Context,
    request: ShardDeleteByFilterRequest,
) -> Result<ShardWriteResponse, Failure> {
    let (replica, call) = context.called(request.call)?;
    let deadline = deadline_of(&call);
    let request_id = required_request_id(&call)?;
    let message = request.filter.ok_or_else(|| Invalid::new("filter", "missing"))?;
    let filter = convert::filter::read(Some(&message)).map_err(|error| error.within("filter"))?;
    granum_index::check_filter(&filter).map_err(super::search::search_failure)?;
    admit(&replica, &call)?;
    be_born(&replica, &call, deadline).await?;

    let linearizable = ShardCall {
        read: None,
        ..call.clone()
    };
    let reading = Reading::of(&replica, &linearizable, deadline).await?;
    let digest = xxh3_64(&message.encode_to_vec());
    match replica.machine.answered(request_id) {
        Some((known, applied)) if known == digest => return Ok(response(context, applied)),
        Some(_) => {
            return Err(Failure::Precondition(
                "request_id: it named another request before".into(),
            ));
        }
        None => {}
    }
    let deletion = Deletion {
        context,
        replica: &replica,
        call: &call,
        filter: Arc::new(filter),
        message,
        deadline,
    };
    let prior_changed = deletion.run(&reading, request_id).await?;
    let receipt = WriteBatch {
        prior_changed,
        ..WriteBatch::default()
    };
    let receipt = command::write(request_id, call.epoch, digest, receipt);
    Ok(response(context, propose(&replica, &call, receipt, deadline).await?))
}

/// Replaces the schema.
pub async fn alter_schema(context: &Context, request: AlterSchemaRequest) -> Result<ShardWriteResponse, Failure> {
    let (replica, call) = context.called(request.call)?;
    let deadline = deadline_of(&call);
    let request_id = required_request_id(&call)?;
    let schema = request.schema.ok_or_else(|| Invalid::new("schema", "missing"))?;
    convert::schema::read(Some(&schema)).map_err(|error| error.within("schema"))?;
    be_born(&replica, &call, deadline).await?;
    let altered = command::alter_schema(request_id, call.epoch, schema);
    Ok(response(context, propose(&replica, &call, altered, deadline).await?))
}

/// A delete by filter under way.
struct Deletion<'a> {
    context: &'a Context,
    replica: &'a Replica,
    call: &'a ShardCall,
    filter: Arc<Filter>,
    message: v1::Filter,
    deadline: Instant,
}

impl Deletion<'_> {
    /// Removes everything that matches in the pinned view; how many documents that were.
    async fn run(&self, reading: &Reading, request: RequestId) -> Result<u64, Failure> {
        let mut changed = 0;
        let mut from = None;
        for chunk in 0u64.. {
            let found = self.page(reading, from.clone()).await?;
            let fresh: Vec<&(DocId, u64)> = found.iter().filter(|(id, _)| from.as_ref() != Some(id)).collect();
            if fresh.is_empty() {
                break;
            }
            let batch = self.batch(&fresh);
            let request = chunk_id(request, reading.pinned.sequence, chunk);
            let command = command::write(request, self.call.epoch, 0, batch);
            changed += propose(self.replica, self.call, command, self.deadline).await?.changed;
            if found.len() < DELETE_CHUNK {
                break;
            }
            from = found.last().map(|(id, _)| id.clone());
        }
        Ok(changed)
    }

    /// The next matches, from the last one on.
    async fn page(&self, reading: &Reading, from: Option<DocId>) -> Result<Vec<(DocId, u64)>, Failure> {
        let (pinned, filter, deadline) = (reading.pinned.clone(), self.filter.clone(), self.deadline);
        let page = move || {
            matching(&pinned, &filter, from.as_ref(), DELETE_CHUNK, &|| {
                Instant::now() >= deadline
            })
        };
        self.context.workers.run(deadline, page).await?
    }

    fn batch(&self, matches: &[&(DocId, u64)]) -> WriteBatch {
        let delete = |(ordinal, (id, version)): (u32, &&(DocId, u64))| Operation {
            kind: Some(operation::Kind::Delete(convert::id::write(id))),
            condition: Some(document_write::Condition {
                kind: Some(document_write::condition::Kind::IfVersion(*version)),
            }),
            ordinal,
            ..Operation::default()
        };
        WriteBatch {
            operations: (0..).zip(matches).map(delete).collect(),
            only_if: Some(self.message.clone()),
            ..WriteBatch::default()
        }
    }
}

/// Names a chunk: another attempt, pinned at another sequence, is another request.
fn chunk_id(request: RequestId, sequence: u64, chunk: u64) -> RequestId {
    let parts = [&request.0[..], &sequence.to_le_bytes(), &chunk.to_le_bytes()].concat();
    RequestId(xxh3_128(&parts).to_le_bytes())
}

fn deadline_of(call: &ShardCall) -> Instant {
    Instant::now() + Duration::from_millis(call.timeout_ms)
}

fn required_request_id(call: &ShardCall) -> Result<RequestId, Failure> {
    let id = ids::request_id(&call.request_id)?;
    Ok(id.ok_or_else(|| Invalid::new("call.request_id", "missing: a write is repeatable by its id"))?)
}

fn admit(replica: &Replica, call: &ShardCall) -> Result<(), Failure> {
    replica.check_epoch(call, &replica.machine.epoch())?;
    replica.machine.admit()
}

/// Sees to it that the log says what the shard is.
async fn be_born(replica: &Replica, call: &ShardCall, deadline: Instant) -> Result<(), Failure> {
    if replica.machine.epoch().epoch != 0 {
        return Ok(());
    }
    let birth = &replica.birth;
    let fence = command::fence(Epoch {
        epoch: birth.epoch,
        range_start: birth.range_start,
        range_end: birth.range_end,
        schema: Some(birth.schema.clone().unwrap_or_default()),
    });
    match propose(replica, call, fence, deadline).await {
        Ok(_) | Err(Failure::WrongEpoch { .. }) => Ok(()),
        // Nothing of the caller's has been proposed yet.
        Err(Failure::Unknown(problem)) => Err(Failure::Unavailable(problem)),
        Err(failure) => Err(failure),
    }
}

async fn propose(replica: &Replica, call: &ShardCall, command: Command, deadline: Instant) -> Result<Applied, Failure> {
    let reply = replica.group.propose(command::encode(&command)?, deadline).await?;
    // It has happened, with what outcome nobody can read: the caller must not take it for undone.
    let applied = Applied::decode(reply).map_err(|error| Failure::Unknown(format!("its outcome: {error}")))?;
    match applied.refusal() {
        Refusal::Unspecified => Ok(applied),
        Refusal::Invalid => Err(Failure::Invalid(applied.refused)),
        Refusal::Epoch => Err(Failure::WrongEpoch {
            shard: call.shard,
            current: applied.current_epoch,
        }),
        Refusal::Expired => Err(Failure::Expired(applied.refused)),
        Refusal::Reused => Err(Failure::Precondition(applied.refused)),
    }
}

fn response(context: &Context, applied: Applied) -> ShardWriteResponse {
    ShardWriteResponse {
        outcomes: applied.outcomes,
        sequence: applied.sequence,
        changed: applied.changed,
        node: context.node,
    }
}

/// Refuses a batch with a payload that is no JSON object within its limits: nothing that can't be read back is kept.
fn check_payloads(batch: &WriteBatch) -> Result<(), Failure> {
    for (at, operation) in batch.operations.iter().enumerate() {
        if let Some(operation::Kind::Put(document)) = &operation.kind {
            check_payload(&document.payload_json).map_err(|error| error.within(&format!("batch.operations[{at}]")))?;
        }
    }
    Ok(())
}

fn check_payload(payload: &[u8]) -> Result<(), Invalid> {
    const FIELD: &str = "payload_json";
    at_most(FIELD, payload.len(), PAYLOAD_BYTES_MAX, "bytes")?;
    if payload.is_empty() {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(payload).map_err(|error| Invalid::new(FIELD, error.to_string()))?;
    if !value.is_object() {
        return Err(Invalid::new(FIELD, "must be an object"));
    }
    at_most(FIELD, depth(&value), PAYLOAD_DEPTH_MAX, "levels")
}

/// Levels of lists and objects; serde_json has bounded them to 128.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_an_object_of_bounded_depth() {
        let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert_eq!(check_payload(b""), Ok(()));
        assert_eq!(check_payload(b"{\"a\": [1, {}]}"), Ok(()));
        assert_eq!(check_payload(nested(PAYLOAD_DEPTH_MAX).as_bytes()), Ok(()));
        for (payload, said) in [
            (nested(PAYLOAD_DEPTH_MAX + 1), "65 levels, at most 64"),
            (nested(500), "recursion limit"),
            ("[]".into(), "must be an object"),
            ("{\"a\":}".into(), "line 1 column 6"),
            ("{\"a\":1e999}".into(), "out of range"),
            ("{} {}".into(), "trailing"),
        ] {
            let error = check_payload(payload.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("payload_json: ") && error.contains(said), "{error}");
        }
        assert!(check_payload(&[b'{', b'"', 0xff, b'"', b':', b'1', b'}']).is_err());
    }

    #[test]
    fn chunks_of_one_attempt_and_of_another_are_all_told_apart() {
        let request = RequestId([7; 16]);
        let ids = [
            chunk_id(request, 5, 0),
            chunk_id(request, 5, 1),
            chunk_id(request, 6, 0),
            request,
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    }
}
