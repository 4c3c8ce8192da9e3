//! Changes: documents written, documents deleted. A large write is split so that each part fits a message and a log
//! entry; parts go out one after the other, so that two writes of one document keep their order.

use granum_model::{Filter, RequestId};
use granum_proto::status::Failure;
use granum_proto::v1::write_client::WriteClient;
use granum_proto::{convert, limits, v1};
use tonic::transport::Channel;

use crate::call::{Effect, new_request_id};
use crate::client::Client;
use crate::document::{Document, Id};
use crate::error::{WriteError, WriteFailed};

/// Bytes of one part of a split write: it fits a log entry even if all its documents belong to one shard, with room for
/// vectors that the cluster makes of text.
const PART_BYTES_MAX: usize = 3 << 20;
/// Documents of one part.
const PART_DOCUMENTS_MAX: usize = limits::BATCH_DOCUMENTS_MAX;
/// What a text may become: 8192 components, 2 bytes each, are counted at once for each text of up to this many bytes.
const EMBEDDED_BYTES: usize = 2 * 384;

const _: () = assert!(PART_BYTES_MAX < limits::ENTRY_BYTES_MAX, "a part must fit an entry");

/// What became of a write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// One a document, in the order written; none for a delete by filter.
    pub outcomes: Vec<Outcome>,
    /// Documents written or deleted.
    pub changed: u64,
    /// What a later read must see to see this write.
    pub token: v1::SessionToken,
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written or deleted, at this version.
    Taken {
        /// The document's version.
        version: u64,
    },
    /// There was nothing to delete.
    NotFound,
    /// Its condition did not hold.
    Refused {
        /// The version that stands; 0: no such document.
        version: u64,
        /// Which condition, and why.
        reason: String,
    },
    /// It may have happened: write it again with the same request id to know.
    Unknown {
        /// Why that is not known.
        reason: String,
    },
}

impl Client {
    /// Writes documents: all of them are new, or replace what stands under their id. A write above the limits is split.
    pub async fn upsert(&self, collection: impl Into<String>, documents: Vec<Document>) -> Result<Written, WriteError> {
        self.upsert_as(collection, documents, new_request_id()).await
    }

    /// Writes documents under a request id of the caller's: the same documents sent again under it are applied once.
    pub async fn upsert_as(
        &self,
        collection: impl Into<String>,
        documents: Vec<Document>,
        request_id: RequestId,
    ) -> Result<Written, WriteError> {
        let collection = collection.into();
        let mut written = Written::default();
        for (ordinal, part) in split(documents).into_iter().enumerate() {
            let part_id = part_id(request_id, ordinal as u64);
            match self.upsert_part(&collection, part, part_id).await {
                Ok(reply) => written.join(reply),
                Err(failure) => {
                    return Err(WriteError::from(WriteFailed {
                        failure,
                        request_id,
                        acknowledged: written.outcomes.len(),
                    }));
                }
            }
        }
        Ok(written)
    }

    async fn upsert_part(
        &self,
        collection: &str,
        documents: Vec<v1::DocumentWrite>,
        request_id: RequestId,
    ) -> Result<Written, Failure> {
        let count = documents.len();
        let message = |info| v1::UpsertRequest {
            info: Some(info),
            collection: collection.to_owned(),
            documents: documents.clone(),
        };
        let send = |channel, request| async move { write(channel).upsert(request).await };
        let reply = self.call(Effect::Write, request_id, message, send).await?;
        self.read_written(reply, Some(count))
    }

    /// Deletes documents by id; at most 10,000. Outcomes tell which there were.
    pub async fn delete<I: Into<Id>>(
        &self,
        collection: impl Into<String>,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Written, WriteError> {
        let ids: Vec<v1::DocId> = ids.into_iter().map(|id| id.into().0).collect();
        let count = ids.len();
        let request = v1::DeleteRequest {
            collection: collection.into(),
            ids,
            ..Default::default()
        };
        self.delete_as(request, Some(count), new_request_id()).await
    }

    /// Deletes all documents that the filter lets through, as of one moment in each shard; not atomic over all of them.
    pub async fn delete_where(&self, collection: impl Into<String>, filter: &Filter) -> Result<Written, WriteError> {
        let request = v1::DeleteRequest {
            collection: collection.into(),
            filter: Some(convert::filter::write(filter)),
            ..Default::default()
        };
        self.delete_as(request, None, new_request_id()).await
    }

    async fn delete_as(
        &self,
        request: v1::DeleteRequest,
        count: Option<usize>,
        request_id: RequestId,
    ) -> Result<Written, WriteError> {
        let message = |info| v1::DeleteRequest {
            info: Some(info),
            ..request.clone()
        };
        let send = |channel, request| async move { write(channel).delete(request).await };
        let reply = self.call(Effect::Write, request_id, message, send).await;
        let written = reply.and_then(|reply| self.read_written(reply, count));
        written.map_err(|failure| {
            WriteError::from(WriteFailed {
                failure,
                request_id,
                acknowledged: 0,
            })
        })
    }

    /// `count` outcomes are due, where the number is known.
    fn read_written(&self, reply: v1::WriteResponse, count: Option<usize>) -> Result<Written, Failure> {
        if let Some(session) = &self.session {
            session.saw(reply.token.as_ref());
        }
        if count.is_some_and(|count| count != reply.outcomes.len()) {
            let text = format!("{} outcomes for {} documents", reply.outcomes.len(), count.unwrap_or(0));
            return Err(Failure::Fault(text));
        }
        Ok(Written {
            outcomes: reply.outcomes.into_iter().map(Outcome::read).collect(),
            changed: reply.changed,
            token: reply.token.unwrap_or_default(),
        })
    }
}

impl Written {
    /// Takes in what became of the next part.
    fn join(&mut self, next: Written) {
        self.outcomes.extend(next.outcomes);
        self.changed += next.changed;
        for (shard, sequence) in next.token.sequences {
            let seen = self.token.sequences.entry(shard).or_default();
            *seen = (*seen).max(sequence);
        }
    }
}

impl Outcome {
    fn read(outcome: v1::Outcome) -> Self {
        use v1::outcome::Kind;
        match outcome.kind() {
            Kind::Taken => Outcome::Taken {
                version: outcome.version,
            },
            Kind::NotFound => Outcome::NotFound,
            Kind::Refused => Outcome::Refused {
                version: outcome.version,
                reason: outcome.reason,
            },
            Kind::Unknown | Kind::Unspecified => Outcome::Unknown { reason: outcome.reason },
        }
    }
}

fn write(channel: Channel) -> WriteClient<Channel> {
    WriteClient::new(channel).max_encoding_message_size(limits::MESSAGE_IN_BYTES_MAX)
}

/// The id of a part follows from the whole's, so that a repetition of the whole repeats its parts.
fn part_id(whole: RequestId, ordinal: u64) -> RequestId {
    let mut bytes = whole.0;
    let (_, low) = bytes.split_last_chunk_mut::<8>().expect("16 bytes end in 8");
    *low = u64::from_be_bytes(*low).wrapping_add(ordinal).to_be_bytes();
    RequestId(bytes)
}

/// At least one part, each within the bounds unless a single document is larger (which the cluster then refuses by name).
fn split(documents: Vec<Document>) -> Vec<Vec<v1::DocumentWrite>> {
    let mut parts = vec![Vec::new()];
    let mut part_bytes = 0;
    for document in documents {
        let document = document.into_wire();
        let bytes = document_bytes(&document);
        let part: &Vec<_> = parts.last().expect("there is always a part");
        if !part.is_empty() && (part_bytes + bytes > PART_BYTES_MAX || part.len() == PART_DOCUMENTS_MAX) {
            parts.push(Vec::new());
            part_bytes = 0;
        }
        part_bytes += bytes;
        parts.last_mut().expect("there is always a part").push(document);
    }
    parts
}

/// What a document takes in a log entry, about: vectors given, and those that its texts become.
fn document_bytes(write: &v1::DocumentWrite) -> usize {
    use v1::vector::Kind;
    const OVERHEAD_BYTES: usize = 64;
    let document = write.document.iter();
    let payload_bytes: usize = document.clone().map(|document| document.payload_json.len()).sum();
    let vectors = document.flat_map(|document| &document.vectors);
    let kinds = vectors.filter_map(|named| named.vector.as_ref()?.kind.as_ref());
    let vector_bytes: usize = kinds
        .map(|kind| match kind {
            Kind::Dense(dense) => dense.f32.len() * 4 + dense.f16.len(),
            Kind::Sparse(sparse) => sparse.indices.len() * 8,
            Kind::Multi(multi) => multi.f32.len() * 4 + multi.f16.len(),
            Kind::Text(text) => text.len().max(EMBEDDED_BYTES),
        })
        .sum();
    payload_bytes + vector_bytes + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parts(documents: usize, payload_bytes: usize, wanted: &[usize]) {
        let document = |id: usize| Document::new(id as u64).payload_json(vec![b' '; payload_bytes]);
        let split = split((0..documents).map(document).collect());
        assert_eq!(split.iter().map(Vec::len).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_write_above_the_limits_is_split_in_order() {
        parts(0, 0, &[0]);
        parts(10_000, 0, &[10_000]);
        parts(10_001, 0, &[10_000, 1]);
        parts(3, 2 << 20, &[1, 1, 1]);
        parts(1, 8 << 20, &[1]);
        parts(4, 1 << 20, &[2, 2]);
    }

    #[test]
    fn parts_of_one_write_have_ids_of_their_own_that_repeat() {
        let whole = RequestId([0xff; 16]);
        assert_eq!(part_id(whole, 0), whole);
        assert_ne!(part_id(whole, 1), whole);
        assert_eq!(part_id(whole, 1), part_id(whole, 1));
    }
}
