//! Clients that write, read, delete and compare-and-set a few documents, for the checker of histories. Each is a session: a
//! read at its level that goes back behind what the session has seen is an anomaly at once, and so is a bounded read that is
//! older than it may be, and a repeated request that has another outcome than the first time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use granum_client::{Client, DocId, Outcome, ReadLevel, RequestId, StoredDocument, WriteError, Written};
use rand::Rng;
use rand::rngs::StdRng;

use super::history::{Act, Condition, Record, Value};
use super::load::{COLLECTION, HOT, Seen, document, held, value_of};

/// Clients that write at once: porcupine finishes on histories of these and one that reads.
pub const CLIENTS: u32 = 4;
/// Number of the client that only reads.
pub const OBSERVER: u32 = CLIENTS;
/// Number of who reads everything in the end.
pub const VERDICT: u32 = CLIENTS + 1;
/// Longest pause between two operations of a client.
const PAUSE_MAX: Duration = Duration::from_millis(120);
/// Time that an operation has before its outcome is unknown.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Acknowledged writes that a client may repeat: those of about half a minute, so that seals and restarts lie between.
const REPEATABLE: usize = 100;
/// How old a bounded read may be.
const LAG_MAX: Duration = Duration::from_secs(5);

/// One client: its session and what it knows.
struct Hot {
    /// Reads at the level `linearizable`, by asking for no level.
    plain: Client,
    session: Client,
    seen: Arc<Seen>,
    number: u32,
    random: StdRng,
    /// What it last saw of each document, for conditions.
    known: HashMap<u64, (Value, u64)>,
    /// Highest version of each document that the session has seen, by writing or reading.
    floor: HashMap<u64, u64>,
    /// The latest writes that were acknowledged, to be repeated: document, value, request id, version.
    acknowledged: VecDeque<(u64, Value, RequestId, u64)>,
}

/// Runs one client until it is told to stop.
pub async fn run(client: Client, seen: Arc<Seen>, number: u32) {
    let mut hot = Hot::new(&client, seen, number);
    while !hot.seen.stopped() {
        let key = hot.random.random_range(1..=HOT);
        match hot.random.random_range(0..100) {
            0..30 => hot.put(key).await,
            30..40 => hot.put_if(key).await,
            40..45 => hot.delete(key).await,
            45..50 => hot.repeat().await,
            50..80 => hot.read(key).await,
            80..92 => hot.read_in_session(key).await,
            _ => hot.read_bounded(key).await,
        }
        hot.pause().await;
    }
}

/// Runs a client that only reads, through a coordinator that nobody writes through, until it is told to stop. Writes that find their
/// leader silent soon teach a coordinator that another one leads; a leader that wrongly goes on answering reads teaches it nothing.
pub async fn observe(client: Client, seen: Arc<Seen>) {
    let mut hot = Hot::new(&client, seen, OBSERVER);
    while !hot.seen.stopped() {
        let key = hot.random.random_range(1..=HOT);
        hot.read(key).await;
        hot.pause().await;
    }
}

impl Hot {
    fn new(client: &Client, seen: Arc<Seen>, number: u32) -> Hot {
        let plain = client.with_timeout(TIMEOUT);
        Hot {
            session: plain.session(),
            plain,
            random: seen.random(u64::from(number)),
            seen,
            number,
            known: HashMap::new(),
            floor: HashMap::new(),
            acknowledged: VecDeque::new(),
        }
    }

    async fn pause(&mut self) {
        let pause = self.random.random_range(Duration::ZERO..PAUSE_MAX);
        tokio::time::sleep(pause).await;
    }

    async fn put(&mut self, key: u64) {
        let (value, id) = (self.seen.new_value(), self.request_id());
        let call_us = self.seen.now_us();
        let written = self.write(key, value, id, None).await;
        let taken = match written {
            Ok(Outcome::Taken { version }) => Some(version),
            Ok(Outcome::Unknown { .. }) | Err(WriteError::Unknown(_)) => None,
            // It has not happened.
            Err(WriteError::Unavailable(_) | WriteError::Refused(_)) => return,
            other => {
                return self
                    .seen
                    .anomaly(format!("document {key}: a write was answered {other:?}"));
            }
        };
        if let Some(version) = taken {
            self.acknowledged.push_back((key, value, id, version));
            if self.acknowledged.len() > REPEATABLE {
                self.acknowledged.pop_front();
            }
        }
        self.note(key, call_us, Act::Put(value), taken);
    }

    async fn put_if(&mut self, key: u64) {
        let (value, id) = (self.seen.new_value(), self.request_id());
        let (condition, version) = match (self.random.random_range(0..4), self.known.get(&key)) {
            (0, _) => (Condition::Absent, 0),
            (1, _) => (Condition::Present, 0),
            (_, Some((value, version))) => (Condition::Is(*value), *version),
            (_, None) => (Condition::Absent, 0),
        };
        let call_us = self.seen.now_us();
        let written = self.write(key, value, id, Some((condition, version))).await;
        let act = |taken| Act::PutIf {
            condition,
            value,
            taken,
        };
        match written {
            Ok(Outcome::Taken { version }) => self.note(key, call_us, act(Some(true)), Some(version)),
            Ok(Outcome::Refused { version, .. }) => self.record(key, call_us, act(Some(false)), Some(version)),
            Ok(Outcome::Unknown { .. }) | Err(WriteError::Unknown(_)) => self.note(key, call_us, act(None), None),
            Err(WriteError::Unavailable(_) | WriteError::Refused(_)) => {}
            other => self
                .seen
                .anomaly(format!("document {key}: a conditional write was answered {other:?}")),
        }
    }

    async fn delete(&mut self, key: u64) {
        let call_us = self.seen.now_us();
        let act = |existed| Act::Delete { existed };
        match self.session.delete(COLLECTION, [key]).await.map(only) {
            Ok(Outcome::Taken { version }) => {
                self.known.remove(&key);
                self.note(key, call_us, act(Some(true)), Some(version));
            }
            Ok(Outcome::NotFound) => self.record(key, call_us, act(Some(false)), Some(0)),
            Ok(Outcome::Unknown { .. }) | Err(WriteError::Unknown(_)) => self.note(key, call_us, act(None), None),
            Err(WriteError::Unavailable(_) | WriteError::Refused(_)) => {}
            other => self
                .seen
                .anomaly(format!("document {key}: a deletion was answered {other:?}")),
        }
    }

    /// A write of long ago or of just now once more under its request id: it has had its effect, and is told so.
    async fn repeat(&mut self) {
        if self.acknowledged.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.acknowledged.len());
        let (key, value, id, version) = self.acknowledged[at];
        let sent = self.session.upsert_as(COLLECTION, vec![document(key, value)], id);
        match sent.await.map(only) {
            Ok(Outcome::Taken { version: again }) if again != version => {
                let text = format!("document {key}: request repeated, version {version} the first time, then {again}");
                self.seen.anomaly(text);
            }
            Ok(Outcome::Taken { .. } | Outcome::Unknown { .. }) => {}
            Err(WriteError::Unknown(_) | WriteError::Unavailable(_) | WriteError::Refused(_)) => {}
            other => self
                .seen
                .anomaly(format!("document {key}: a repeated write was answered {other:?}")),
        }
    }

    async fn read(&mut self, key: u64) {
        let call_us = self.seen.now_us();
        let Some(found) = self.get(&self.plain.clone(), key).await else {
            return;
        };
        let value = found.as_ref().and_then(|found| value_of(&found.payload_json));
        let version = found.as_ref().map_or(0, |found| found.version);
        if found.is_some() && value.is_none() {
            return self
                .seen
                .anomaly(format!("document {key}: its payload is not what was written"));
        }
        if let Some(value) = value {
            self.known.insert(key, (value, version));
        }
        self.record(key, call_us, Act::Read(value), Some(version));
    }

    async fn read_in_session(&mut self, key: u64) {
        let floor = self.floor.get(&key).copied().unwrap_or(0);
        let Some(Some(found)) = self.get(&self.session.clone(), key).await else {
            return;
        };
        if found.version < floor {
            let version = found.version;
            self.seen.anomaly(format!(
                "document {key}: version {floor} was seen in this session, then {version}"
            ));
        }
        self.floor.insert(key, floor.max(found.version));
    }

    async fn read_bounded(&mut self, key: u64) {
        let call_us = self.seen.now_us();
        let level = ReadLevel::Bounded {
            max_lag: LAG_MAX,
            max_lag_entries: 0,
        };
        let mut scroll = self.plain.scroll(COLLECTION).from(key).page_documents(1).read(level);
        let Ok(Some(page)) = scroll.next_page().await else {
            return;
        };
        let Some(found) = page.into_iter().find(|found| found.id == DocId::Number(key)) else {
            return;
        };
        let due_us = call_us - LAG_MAX.as_micros() as i64;
        let newer = held(&self.seen.hot).iter().any(|record| {
            let write = !matches!(record.act, Act::Read(_) | Act::PutIf { taken: Some(false), .. });
            record.key == key
                && write
                && record.version > found.version
                && record.return_us.is_some_and(|at| at < due_us)
        });
        if newer {
            let version = found.version;
            self.seen.anomaly(format!(
                "document {key}: version {version} was replaced more than {LAG_MAX:?} before a bounded read"
            ));
        }
    }

    /// Sends a write; where its outcome is unknown, once more under the same request id.
    async fn write(
        &mut self,
        key: u64,
        value: Value,
        id: RequestId,
        condition: Option<(Condition, u64)>,
    ) -> Result<Outcome, WriteError> {
        let document = match condition {
            None => document(key, value),
            Some((Condition::Absent, _)) => document(key, value).insert_only(),
            Some((Condition::Present, _)) => document(key, value).update_only(),
            Some((Condition::Is(_), version)) => document(key, value).if_version(version),
        };
        let send = async || {
            self.session
                .upsert_as(COLLECTION, vec![document.clone()], id)
                .await
                .map(only)
        };
        match send().await {
            // A refusal of the repetition says nothing of the first try.
            Ok(Outcome::Unknown { .. }) | Err(WriteError::Unknown(_)) => match send().await {
                Err(WriteError::Unavailable(failed) | WriteError::Refused(failed)) => Err(WriteError::Unknown(failed)),
                settled => settled,
            },
            settled => settled,
        }
    }

    /// `None`: no answer, which is for the queries to count.
    async fn get(&self, client: &Client, key: u64) -> Option<Option<StoredDocument>> {
        let found = client.get(COLLECTION, [key], false).await.ok()?;
        Some(found.into_iter().next())
    }

    fn request_id(&mut self) -> RequestId {
        RequestId(self.random.random())
    }

    /// Writes down what the session did; `version`: `None` where the outcome is unknown.
    fn note(&mut self, key: u64, call_us: i64, act: Act, version: Option<u64>) {
        if let Some(version) = version {
            let floor = self.floor.entry(key).or_default();
            *floor = version.max(*floor);
            if let Act::Put(value) | Act::PutIf { value, .. } = act {
                self.known.insert(key, (value, version));
            }
        }
        self.record(key, call_us, act, version);
    }

    fn record(&self, key: u64, call_us: i64, act: Act, version: Option<u64>) {
        let record = Record {
            key,
            client: self.number,
            call_us,
            return_us: version.map(|_| self.seen.now_us()),
            act,
            version: version.unwrap_or(0),
        };
        held(&self.seen.hot).push(record);
    }
}

/// What became of the one document of a write.
fn only(written: Written) -> Outcome {
    let mut outcomes = written.outcomes.into_iter();
    outcomes
        .next()
        .expect("the client checks that there are as many outcomes as documents")
}
