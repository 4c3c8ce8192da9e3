//! What do clients do? Each writes and reads, one thing at a time, and asks again when it was told that nobody knows.
//!
//! A retry has the request id of the first try and often goes to another replica. What is still open when the simulation
//! ends is asked for once more after healing, so that at the end the fate of every write is known.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use granum_model::{Dense, DocId, RequestId, Vector};
use granum_node::shard::command;
use granum_proto::convert;
use granum_proto::internal::{Operation, WriteBatch, operation};
use granum_proto::status::Failure;
use granum_proto::v1::{self, document_write, read_level};

use crate::dice::Dice;
use crate::history::{Change, Condition, Fate, Level, Read, Write};
use crate::invariants::equal::value_of;
use crate::ledger::read_reply;
use crate::node::{Running, SHARD};
use crate::world::{EPOCH, World};

/// How long one try may take.
const TRY: Duration = Duration::from_millis(700);
/// Most tries of one write before it is left open, while there are faults.
const TRIES_MAX: u64 = 6;
/// How long one is tried once all has healed. A leader that misses the answers of both followers, which is rare but is no fault, asks
/// them again after five seconds, and refuses writes at once when it has missed them for longer than an election takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// One client.
pub struct Client {
    number: u64,
    world: Arc<World>,
    dice: Dice,
    /// Node that is believed to lead; 0: nobody known.
    leader: u64,
    /// Highest sequence seen.
    token: u64,
    requests: u64,
    /// How long a write is tried, however often.
    patience: Duration,
}

impl Client {
    /// Number `number` of them, from 1 on.
    pub fn new(world: &Arc<World>, number: u64) -> Client {
        Client {
            number,
            patience: Duration::ZERO,
            world: world.clone(),
            dice: Dice::new(world.seed, 0xC11E + number),
            leader: 0,
            token: 0,
            requests: 0,
        }
    }

    /// One that asks a healed cluster, and does not give up soon.
    pub fn after_healing(world: &Arc<World>, number: u64) -> Client {
        Client {
            patience: PATIENCE,
            ..Client::new(world, number)
        }
    }

    /// Writes and reads until the world says that it is enough.
    pub async fn run(mut self) -> Client {
        while !self.world.is_over() {
            let (from, to) = self.world.options.think_ms;
            let think = self.dice.millis(from, to);
            tokio::time::sleep(think).await;
            if self.dice.permille(self.world.options.writes) {
                self.write().await;
            } else {
                self.read().await;
            }
        }
        self
    }

    fn key(&mut self) -> u64 {
        self.dice.between(0, self.world.options.keys)
    }

    /// One write of a random kind.
    pub async fn write(&mut self) {
        let key = self.key();
        let change = match self.dice.permille(200) {
            true => Change::Delete,
            false => Change::Put(self.world.next_value()),
        };
        let condition = match self.dice.between(0, 10) {
            0 => Condition::InsertOnly,
            1 => Condition::UpdateOnly,
            2 | 3 => {
                let near = self.token.saturating_sub(self.dice.between(0, 8));
                let known = self.world.known_version(key);
                Condition::IfVersion(known.unwrap_or(near).max(1))
            }
            _ => Condition::None,
        };
        self.requests += 1;
        let mut request = [0; 16];
        request[..8].copy_from_slice(&self.number.to_be_bytes());
        request[8..].copy_from_slice(&self.requests.to_be_bytes());
        let write = Write {
            client: self.number,
            request: RequestId(request),
            key,
            change,
            condition,
            invoked: self.world.now(),
            tries: 0,
            fate: Fate::Refused,
            settled_late: false,
        };
        let write = self.carry_out(write).await;
        if let (Some(point), false) = (write.point(), write.settled_late) {
            self.token = self.token.max(point);
        }
        self.world.remember_write(write);
    }

    /// Tries a write until it is answered, refused for good, or has been tried as often and as long as this client does.
    pub async fn carry_out(&mut self, mut write: Write) -> Write {
        let (begun, before) = (tokio::time::Instant::now(), write.tries);
        while write.tries - before < TRIES_MAX || begun.elapsed() < self.patience {
            let node = self.target();
            write.tries += 1;
            match self.try_write(&write, node).await {
                Ok(reply) => {
                    self.leader = node;
                    write.fate = Fate::Answered(self.world.now(), reply);
                    return write;
                }
                Err(Failure::NotLeader { leader_node, .. }) => self.leader = leader_node,
                Err(Failure::Busy(_) | Failure::ReadOnly(_) | Failure::Unavailable(_) | Failure::Fault(_)) => {
                    self.leader = 0;
                }
                Err(Failure::Unknown(_)) => {
                    write.fate = Fate::Open;
                    if self.dice.permille(700) {
                        self.leader = 0;
                    }
                }
                Err(other) => {
                    self.world.complain(format!("a write was answered {other:?}"));
                    return write;
                }
            }
            let pause = self.dice.millis(3, 60);
            tokio::time::sleep(pause).await;
        }
        write
    }

    fn target(&mut self) -> u64 {
        match self.leader {
            0 => self.dice.between(1, self.world.options.nodes + 1),
            leader => leader,
        }
    }

    async fn try_write(&mut self, write: &Write, node: u64) -> Result<granum_proto::internal::Applied, Failure> {
        let encoded = command::encode(&command_of(write)).expect("a small command");
        let reply = ask(&self.world, node, move |running, deadline| async move {
            running.group.propose(encoded, deadline).await
        })
        .await?;
        Ok(read_reply(&reply))
    }

    /// One read of a random level.
    async fn read(&mut self) {
        let key = self.key();
        let level = match self.dice.between(0, 10) {
            0..4 => Level::Linearizable,
            4..7 => Level::Session(self.token),
            7..9 => Level::Bounded(self.dice.between(100, 1500)),
            _ => Level::Any,
        };
        let node = match level {
            // Anybody may be asked, and a leader that no longer is one should be.
            Level::Linearizable if self.dice.permille(600) => self.target(),
            _ => self.dice.between(1, self.world.options.nodes + 1),
        };
        let invoked = self.world.now();
        let found = ask(&self.world, node, move |running, deadline| async move {
            look(&running, level, key, deadline).await
        })
        .await;
        match found {
            Ok((sequence, found)) => {
                self.token = self.token.max(sequence);
                self.world.remember_read(Read {
                    client: self.number,
                    node,
                    level,
                    key,
                    invoked,
                    answered: self.world.now(),
                    sequence,
                    found,
                });
            }
            Err(Failure::NotLeader { leader_node, .. }) => self.leader = leader_node,
            Err(Failure::Invalid(why)) => self.world.complain(why),
            Err(_) => {
                self.leader = 0;
                self.world.missed_read();
            }
        }
    }
}

/// Carries a question to a node and its answer back.
async fn ask<T, F>(
    world: &Arc<World>,
    node: u64,
    work: impl FnOnce(Arc<Running>, std::time::Instant) -> F,
) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let deadline = tokio::time::Instant::now() + TRY;
    let unknown = |why: &str| Failure::Unknown(why.to_owned());
    if !world.office.travel(0, node).await {
        tokio::time::sleep_until(deadline).await;
        return Err(unknown("no answer"));
    }
    let Some(running) = world.running(node) else {
        return Err(Failure::Unavailable("nobody is there".into()));
    };
    let dead = running.dead.clone();
    // Goes on where it is even when this client no longer waits.
    let working = tokio::spawn(work(running, deadline.into_std()));
    let answer = tokio::select! {
        biased;
        () = dead.cancelled() => return Err(unknown("the connection broke")),
        answer = working => answer.map_err(|_| unknown("the handler panicked"))?,
    };
    if !world.office.travel(node, 0).await {
        tokio::time::sleep_until(deadline).await;
        return Err(unknown("no answer"));
    }
    answer
}

/// Reads a document as the shard service does: barrier, wait for the session's sequence, pin.
async fn look(
    running: &Running,
    level: Level,
    key: u64,
    deadline: std::time::Instant,
) -> Result<(u64, Option<(u64, u64)>), Failure> {
    let kind = match level {
        Level::Linearizable => read_level::Kind::Linearizable(read_level::Linearizable {}),
        Level::Session(token) => read_level::Kind::Session(v1::SessionToken {
            sequences: [(SHARD.0, token)].into(),
        }),
        Level::Bounded(max_lag_ms) => read_level::Kind::Bounded(read_level::Bounded {
            max_lag_ms,
            max_lag_entries: 0,
        }),
        Level::Any => read_level::Kind::Any(read_level::Any {}),
    };
    let barrier = running
        .group
        .read_barrier(&v1::ReadLevel { kind: Some(kind) }, deadline)
        .await?;
    if let Level::Session(token) = level {
        let mut sequences = running.machine.sequences();
        let reached = tokio::time::timeout_at(deadline.into(), sequences.wait_for(|sequence| *sequence >= token));
        if !matches!(reached.await, Ok(Ok(_))) {
            return Err(Failure::Stale(format!("sequence {token} was not reached")));
        }
    }
    let pinned = running.machine.pin();
    if pinned.applied_index < barrier.applied_index {
        let (at, barrier) = (pinned.applied_index, barrier.applied_index);
        return Err(Failure::Invalid(format!(
            "barrier: the view is at {at}, behind its barrier {barrier}"
        )));
    }
    let document = pinned
        .view
        .get(&DocId::Number(key), None)
        .map_err(|error| Failure::Invalid(format!("contents: a read failed: {error}")))?;
    let found = match document {
        None => None,
        Some(document) => Some((document.version, value_of(&document.payload).map_err(Failure::Invalid)?)),
    };
    Ok((pinned.sequence, found))
}

fn command_of(write: &Write) -> granum_proto::internal::Command {
    let id = convert::id::write(&DocId::Number(write.key));
    let kind = match write.change {
        Change::Delete => operation::Kind::Delete(id),
        Change::Put(value) => {
            let dense = Vector::Dense(Dense::F32(vec![write.key as f32, value as f32]));
            operation::Kind::Put(v1::Document {
                id: Some(id),
                payload_json: format!("{{\"tag\":{value}}}").into(),
                vectors: vec![v1::NamedVector {
                    name: String::new(),
                    vector: Some(convert::vector::write(&dense)),
                }],
            })
        }
    };
    let condition = match write.condition {
        Condition::None => None,
        Condition::IfVersion(version) => Some(document_write::condition::Kind::IfVersion(version)),
        Condition::InsertOnly => Some(document_write::condition::Kind::InsertOnly(true)),
        Condition::UpdateOnly => Some(document_write::condition::Kind::UpdateOnly(true)),
    };
    let operation = Operation {
        kind: Some(kind),
        condition: condition.map(|kind| document_write::Condition { kind: Some(kind) }),
        ..Operation::default()
    };
    let batch = WriteBatch {
        operations: vec![operation],
        ..WriteBatch::default()
    };
    command::write(write.request, EPOCH, 7, batch)
}
