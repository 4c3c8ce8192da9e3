//! What does a committed command do to a shard? The deterministic core: command in, effects on a [`Store`] and an answer
//! out. No clock, no disk, no thread; two replicas that apply the same commands answer the same and stand the same.
//!
//! The order of checks: epoch, request id (a repeated request is answered, not applied), the whole batch against schema
//! and range, and only then the first effect; so a refused command has none. What a condition refuses is one operation's
//! outcome, and the others of its batch stand. The sequence grows by one with each operation taken and with each other
//! command; it is a document's version and what a session token holds.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use granum_index::Document;
use granum_model::{DocId, Filter, RequestId, Schema};
use granum_proto::convert;
use granum_proto::internal::{Applied, Command, Epoch, Manifest, WriteBatch, applied::Refusal, command::Kind};
use granum_proto::v1::{self, Outcome, outcome};
use prost::Message;

use super::check::{Change, Checked, check_alteration, check_batch};
use super::dedup::{Answered, Dedup, Seen};
use super::{Fault, command};

/// Documents as the core sees them. Two implementations: the index, and a map in the tests.
pub trait Store {
    /// Version of the live document of that id.
    fn version(&self, id: &DocId) -> Result<Option<u64>, Fault>;

    /// Whether the live document of that id is one that `filter` wants; `false` if there is none.
    fn matches(&self, id: &DocId, filter: &Filter) -> Result<bool, Fault>;

    /// Writes a document over the one of its id. It has passed [`check_document`](super::check::check_document).
    fn put(&mut self, document: Document) -> Result<(), Fault>;

    /// Removes the document of that id; whether there was one.
    fn delete(&mut self, id: &DocId) -> Result<bool, Fault>;

    /// From here on documents have this schema, which differs from the present one only by fields added or dropped.
    fn alter(&mut self, schema: &Schema) -> Result<(), Fault>;
}

/// Everything that replicas agree on but the documents themselves.
#[derive(Clone, Debug)]
pub struct Core {
    sequence: u64,
    tick_unix_ms: u64,
    epoch: Epoch,
    schema: Arc<Schema>,
    dedup: Dedup,
}

/// What became of a command.
#[derive(Debug)]
pub struct Step {
    /// The answer, equal on all replicas.
    pub applied: Applied,
    /// Whether this is a seal point.
    pub seal: bool,
}

impl Core {
    /// A shard before its first command, the fence that brings its epoch, range and schema: it takes no write. A replica
    /// that is born later, when the map says otherwise, must begin as the first ones did.
    pub fn unborn() -> Core {
        Core {
            sequence: 0,
            tick_unix_ms: 0,
            epoch: Epoch::default(),
            schema: Arc::default(),
            dedup: Dedup::default(),
        }
    }

    /// Whether the first fence is still to come.
    pub fn is_unborn(&self) -> bool {
        self.epoch.epoch == 0
    }

    /// Applies one command.
    pub fn apply(&mut self, store: &mut dyn Store, command: Command) -> Result<Step, Fault> {
        let fenced = matches!(command.kind, Some(Kind::Write(_) | Kind::AlterSchema(_)));
        if fenced && command.epoch != self.epoch.epoch {
            return Ok(self.refuse(
                Refusal::Epoch,
                format!("epoch {}, it is {}", command.epoch, self.epoch.epoch),
            ));
        }
        let request = command::request_id(&command);
        let digest = command.digest;
        match command.kind {
            Some(Kind::Write(batch)) => self.write(store, request, digest, batch),
            Some(Kind::AlterSchema(schema)) => self.alter_schema(store, request, digest, &schema),
            Some(Kind::Fence(epoch)) => self.fence(store, epoch),
            Some(Kind::Tick(tick)) => {
                self.tick_unix_ms = self.tick_unix_ms.max(tick.unix_ms);
                Ok(self.done())
            }
            Some(Kind::Seal(_)) => Ok(Step {
                seal: true,
                ..self.done()
            }),
            Some(Kind::Swap(_)) | None => Ok(self.refuse(Refusal::Invalid, "not a command for a shard")),
        }
    }

    /// The answer to bytes that are no command.
    pub fn malformed(&self, problem: String) -> Step {
        self.refuse(Refusal::Invalid, problem)
    }

    /// The shard's sequence.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The epoch that is taken, and the range of hashes.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The schema that stands.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// What was answered to a request as a whole (a schema, or a delete by filter that has ended), and the digest it had.
    pub fn answered(&self, request: RequestId) -> Option<(u64, Applied)> {
        let Seen::Answered(answers) = self.dedup.seen(request, &[]) else {
            return None;
        };
        let answered = answers.first()?;
        Some((answered.digest, Applied::decode(&answered.applied[..]).ok()?))
    }

    /// Answers in the dedup table.
    pub fn dedup_answers(&self) -> u64 {
        self.dedup.len() as u64
    }

    fn done(&mut self) -> Step {
        self.sequence += 1;
        Step {
            applied: Applied {
                sequence: self.sequence,
                ..Applied::default()
            },
            seal: false,
        }
    }

    fn refuse(&self, refusal: Refusal, reason: impl Into<String>) -> Step {
        let applied = Applied {
            sequence: self.sequence,
            refused: reason.into(),
            refusal: refusal.into(),
            current_epoch: if refusal == Refusal::Epoch { self.epoch.epoch } else { 0 },
            ..Applied::default()
        };
        Step { applied, seal: false }
    }

    fn fence(&mut self, store: &mut dyn Store, mut fence: Epoch) -> Result<Step, Fault> {
        if fence.epoch <= self.epoch.epoch {
            let reason = format!("fence {}, the epoch is {}", fence.epoch, self.epoch.epoch);
            return Ok(self.refuse(Refusal::Epoch, reason));
        }
        if let Some(message) = fence.schema.take() {
            match convert::schema::read(Some(&message)).and_then(|new| check_alteration(&self.schema, new)) {
                Ok(schema) => {
                    store.alter(&schema)?;
                    self.schema = Arc::new(schema);
                }
                Err(invalid) => return Ok(self.refuse(Refusal::Invalid, invalid.to_string())),
            }
        }
        self.epoch = fence;
        Ok(self.done())
    }

    /// What was answered to these operations of the request before; `Err`: the refusal.
    fn earlier(
        &self,
        request: Option<RequestId>,
        digest: u64,
        ordinals: &[u32],
    ) -> Result<Result<Earlier, Step>, Fault> {
        Ok(
            match request.map_or(Seen::New, |request| self.dedup.seen(request, ordinals)) {
                Seen::New => Ok(Earlier::default()),
                Seen::Expired => Err(self.refuse(Refusal::Expired, "request_id: older than the dedup window")),
                Seen::Answered(answers) => match answers.iter().find(|answered| answered.ordinals == ordinals) {
                    Some(same) if same.digest != digest => {
                        Err(self.refuse(Refusal::Reused, "request_id: it named another request before"))
                    }
                    Some(same) => Ok(Earlier {
                        whole: Some(read_applied(same)?),
                        ..Earlier::default()
                    }),
                    None => Ok(Earlier::read(&answers)?),
                },
            },
        )
    }

    fn remember(&mut self, request: Option<RequestId>, digest: u64, ordinals: Vec<u32>, applied: &Applied) {
        if let Some(request) = request {
            let applied = Bytes::from(applied.encode_to_vec());
            self.dedup.remember(
                request,
                Answered {
                    digest,
                    ordinals,
                    applied,
                },
            );
        }
    }

    fn write(
        &mut self,
        store: &mut dyn Store,
        request: Option<RequestId>,
        digest: u64,
        batch: WriteBatch,
    ) -> Result<Step, Fault> {
        let ordinals: Vec<u32> = batch.operations.iter().map(|operation| operation.ordinal).collect();
        let earlier = match self.earlier(request, digest, &ordinals)? {
            Ok(Earlier {
                whole: Some(applied), ..
            }) => return Ok(Step { applied, seal: false }),
            Ok(earlier) => earlier,
            Err(refusal) => return Ok(refusal),
        };
        let operations = match check_batch(&self.schema, &self.epoch, batch.operations, batch.only_if) {
            Ok(operations) => operations,
            Err(invalid) => return Ok(self.refuse(Refusal::Invalid, invalid.to_string())),
        };
        let mut applied = Applied {
            changed: batch.prior_changed,
            ..Applied::default()
        };
        for (operation, ordinal) in operations.into_iter().zip(&ordinals) {
            let outcome = match earlier.outcomes.get(ordinal) {
                Some(outcome) => outcome.clone(),
                None => self.operate(store, operation)?,
            };
            // Not a plain sum: what earlier chunks changed is what the proposer says.
            applied.changed = applied
                .changed
                .saturating_add(u64::from(outcome.kind() == outcome::Kind::Taken));
            applied.outcomes.push(outcome);
        }
        applied.sequence = self.sequence;
        self.remember(request, digest, ordinals, &applied);
        Ok(Step { applied, seal: false })
    }

    /// Applies one checked operation.
    fn operate(&mut self, store: &mut dyn Store, checked: Checked) -> Result<Outcome, Fault> {
        let id = checked.change.id();
        if checked.is_conditional() {
            let standing = store.version(id)?;
            if let Some(outcome) = checked.refusal(standing, |filter| store.matches(id, filter))? {
                return Ok(outcome);
            }
        }
        let version = self.sequence + 1;
        match checked.change {
            Change::Put(document) => store.put(Document { version, ..*document })?,
            Change::Delete(id) if !store.delete(&id)? => {
                return Ok(Outcome {
                    kind: outcome::Kind::NotFound.into(),
                    ..Outcome::default()
                });
            }
            Change::Delete(_) => {}
        }
        self.sequence = version;
        Ok(Outcome {
            kind: outcome::Kind::Taken.into(),
            version,
            reason: String::new(),
        })
    }

    fn alter_schema(
        &mut self,
        store: &mut dyn Store,
        request: Option<RequestId>,
        digest: u64,
        message: &v1::Schema,
    ) -> Result<Step, Fault> {
        match self.earlier(request, digest, &[])? {
            Ok(Earlier {
                whole: Some(applied), ..
            }) => return Ok(Step { applied, seal: false }),
            Ok(_) => {}
            Err(refusal) => return Ok(refusal),
        }
        let schema = match convert::schema::read(Some(message)).and_then(|new| check_alteration(&self.schema, new)) {
            Ok(schema) => schema,
            Err(invalid) => return Ok(self.refuse(Refusal::Invalid, invalid.to_string())),
        };
        store.alter(&schema)?;
        self.schema = Arc::new(schema);
        let step = self.done();
        self.remember(request, digest, Vec::new(), &step.applied);
        Ok(step)
    }

    /// Its part of a manifest.
    pub fn write_manifest(&self) -> Manifest {
        Manifest {
            sequence: self.sequence,
            tick_unix_ms: self.tick_unix_ms,
            epoch: self.epoch.epoch,
            range_start: self.epoch.range_start,
            range_end: self.epoch.range_end,
            schema: Some(convert::schema::write(&self.schema)),
            dedup: Some(self.dedup.write()),
            ..Manifest::default()
        }
    }

    /// Reads what [`write_manifest`](Self::write_manifest) wrote; an error says what is wrong with it.
    pub fn read_manifest(manifest: &mut Manifest) -> Result<Core, String> {
        if manifest.sequence == u64::MAX {
            return Err(format!("sequence {}, behind which there is none", manifest.sequence));
        }
        let schema = convert::schema::read(manifest.schema.as_ref()).map_err(|error| format!("schema: {error}"))?;
        Ok(Core {
            sequence: manifest.sequence,
            tick_unix_ms: manifest.tick_unix_ms,
            epoch: Epoch {
                epoch: manifest.epoch,
                range_start: manifest.range_start,
                range_end: manifest.range_end,
                schema: None,
            },
            schema: Arc::new(schema),
            dedup: Dedup::read(manifest.dedup.take().unwrap_or_default())?,
        })
    }
}

/// What earlier commands of the same request did. Empty where there were none.
#[derive(Default)]
struct Earlier {
    /// The answer to the very same operations.
    whole: Option<Applied>,
    /// Outcomes of single operations, by ordinal: a retry may be cut into other commands than the first try was.
    outcomes: HashMap<u32, Outcome>,
}

impl Earlier {
    fn read(answers: &[&Answered]) -> Result<Earlier, Fault> {
        let mut outcomes = HashMap::new();
        for answered in answers {
            let applied = read_applied(answered)?;
            outcomes.extend(answered.ordinals.iter().copied().zip(applied.outcomes));
        }
        Ok(Earlier { whole: None, outcomes })
    }
}

fn read_applied(answered: &Answered) -> Result<Applied, Fault> {
    Applied::decode(&answered.applied[..]).map_err(|error| Fault::new(format!("dedup table: {error}")))
}

#[cfg(test)]
mod tests;
