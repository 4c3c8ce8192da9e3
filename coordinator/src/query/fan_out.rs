//! One call to each shard at once; then either all answered, or the request allowed a partial answer, which says so.
//! A shard that is missing is never silent, and dropping a fan-out cancels what is still under way.

use std::sync::Arc;

use futures::future::join_all;
use granum_proto::convert;
use granum_proto::internal::{
    ShardAnswer, ShardCountResponse, ShardDocuments, ShardFacetResponse, ShardSearchResponse,
};
use granum_proto::status::Failure;
use granum_proto::v1::{self, ReadLevel};

use super::level;
use crate::context::Context;
use crate::map::Shard;
use crate::route::call::Budget;
use crate::route::rpc::ShardRpc;

/// A reply of a shard that says what it was made from.
pub(crate) trait ReadReply {
    /// Takes that out.
    fn take_answer(&mut self) -> Option<ShardAnswer>;
}

macro_rules! read_reply {
    ($($reply:ty),*) => {
        $(impl ReadReply for $reply {
            fn take_answer(&mut self) -> Option<ShardAnswer> {
                self.answer.take()
            }
        })*
    };
}

read_reply!(
    ShardSearchResponse,
    ShardDocuments,
    ShardCountResponse,
    ShardFacetResponse
);

/// Answers of shards, in the order of the calls (missing ones left out), and what they were made from.
pub(crate) struct Gathered<T> {
    pub answers: Vec<(Arc<Shard>, T)>,
    pub info: v1::ReplyInfo,
    /// Fields that shards miss an index over, each once.
    unindexed: Vec<v1::PayloadField>,
}

impl<T> Gathered<T> {
    /// Says in the reply what would have made it faster.
    pub fn warn(&mut self, collection: &str) {
        let missing = self.unindexed.drain(..).map(|field| unindexed(&field, collection));
        self.info.warnings.extend(missing);
    }
}

fn unindexed(field: &v1::PayloadField, collection: &str) -> String {
    let kind = convert::schema::read_payload_field(field).map_or("KIND", |field| field.kind.name());
    format!(
        "filter: there is no index over {:?}, so documents had to be read; add one: {}",
        field.key,
        add_index(collection, &field.key, kind)
    )
}

/// The command that adds a payload index.
pub(crate) fn add_index(collection: &str, key: &str, kind: &str) -> String {
    let (name, index) = (shell_word(collection), shell_word(&format!("{key}={kind}")));
    format!("granum collection index add {name} {index}")
}

/// A text as one word of a shell's command.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Calls every shard with its request.
pub(crate) async fn fan_out<R>(
    context: &Context,
    calls: Vec<(Arc<Shard>, R)>,
    read: &ReadLevel,
    partial: bool,
    budget: Budget,
) -> Result<Gathered<R::Reply>, Failure>
where
    R: ShardRpc<Reply: ReadReply>,
{
    let call = |(shard, request): (Arc<Shard>, R)| async move {
        let level = level::for_shard(read, &shard);
        let answered = context.caller.read(shard.id, request, &level, budget).await;
        match answered {
            Err(failure) if !partial => Err(failure),
            answered => Ok((shard, answered)),
        }
    };
    let answered: Vec<_> = match partial {
        false => futures::future::try_join_all(calls.into_iter().map(call)).await?,
        true => join_all(calls.into_iter().map(call))
            .await
            .into_iter()
            .collect::<Result<_, _>>()?,
    };
    gather(context, answered)
}

type Answered<T> = (Arc<Shard>, Result<T, Failure>);

fn gather<T: ReadReply>(context: &Context, answered: Vec<Answered<T>>) -> Result<Gathered<T>, Failure> {
    let mut info = new_info(answered.len());
    let mut answers = Vec::with_capacity(answered.len());
    let mut unindexed: Vec<v1::PayloadField> = Vec::new();
    let mut failed = None;
    for (shard, answered) in answered {
        match answered {
            Ok(mut reply) => {
                let mut answer = reply.take_answer().unwrap_or_default();
                unindexed.append(&mut answer.unindexed);
                note_answer(&mut info, &shard, answer);
                answers.push((shard, reply));
            }
            Err(failure) => {
                context.metrics.missing_shards.inc();
                note_missing(&mut info, &shard, &failure);
                failed = Some(failure);
            }
        }
    }
    match failed {
        Some(failure) if answers.is_empty() => Err(failure),
        _ => {
            unindexed.sort_by(|left, right| left.key.cmp(&right.key));
            unindexed.dedup_by(|left, right| left.key == right.key);
            Ok(Gathered {
                answers,
                info,
                unindexed,
            })
        }
    }
}

/// A reply's account of itself, before any shard answered.
pub(crate) fn new_info(asked: usize) -> v1::ReplyInfo {
    v1::ReplyInfo {
        coverage: Some(v1::Coverage {
            asked: u32::try_from(asked).unwrap_or(u32::MAX),
            answered: 0,
        }),
        token: Some(v1::SessionToken::default()),
        usage: Some(v1::Usage::default()),
        ..v1::ReplyInfo::default()
    }
}

fn note_answer(info: &mut v1::ReplyInfo, shard: &Shard, answer: ShardAnswer) {
    let id = shard.id.0;
    info.coverage.get_or_insert_default().answered += 1;
    let sequences = &mut info.token.get_or_insert_default().sequences;
    sequences.insert(id, answer.sequence);
    add_usage(info.usage.get_or_insert_default(), answer.usage.unwrap_or_default());
    info.stages.extend(answer.stages.into_iter().map(|stage| v1::Stage {
        name: format!("shard {id}: {}", stage.name),
        ..stage
    }));
    info.shards.push(v1::ShardReport {
        shard: id,
        epoch: shard.epoch,
        applied_index: answer.applied_index,
        sequence: answer.sequence,
        staleness_ms: answer.staleness_ms,
        level: answer.level,
        complete: true,
        error: String::new(),
        node: answer.node,
    });
}

fn note_missing(info: &mut v1::ReplyInfo, shard: &Shard, failure: &Failure) {
    info.shards.push(v1::ShardReport {
        shard: shard.id.0,
        epoch: shard.epoch,
        error: failure.to_string(),
        ..v1::ShardReport::default()
    });
}

fn add_usage(sum: &mut v1::Usage, usage: v1::Usage) {
    sum.rows_scored += usage.rows_scored;
    sum.rows_read += usage.rows_read;
    sum.bytes_read += usage.bytes_read;
    sum.rows_filtered += usage.rows_filtered;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_command_that_can_be_pasted() {
        let field = |key: &str| v1::PayloadField {
            key: key.into(),
            kind: v1::PayloadKind::Keyword.into(),
        };
        let said = unindexed(&field("section"), "packages");
        assert!(
            said.ends_with(": granum collection index add packages section=keyword"),
            "{said}"
        );
        let said = unindexed(&field("diet[].food"), "it's mine");
        assert!(
            said.ends_with(r"index add 'it'\''s mine' 'diet[].food=keyword'"),
            "{said}"
        );
    }
}
