//! The load under which faults happen, and what is written down of it. Three streams, each with call and return times: `hot`,
//! clients that write, read, delete and compare-and-set a few documents, and one that only reads them, for the checker of
//! histories; `probes`, new documents written and deleted at a steady pace whatever the answers, for failover times and for
//! what is lost; `queries`, exact searches at a steady pace, for success and for what must and must not be found.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use granum_client::{Client, Document};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::history::{Record, Value};

/// The collection under load.
pub const COLLECTION: &str = "faults";
/// Components of a vector.
pub const DIMENSION: usize = 16;
/// Ids of documents that histories are kept of: 1..=HOT.
pub const HOT: u64 = 24;
/// Ids of documents that stand from the beginning to the end.
pub const STATIC: std::ops::Range<u64> = 1_000..1_200;
/// First id of documents that are written once.
pub const PROBES_FROM: u64 = 1_000_000;

/// A write of a document that is written once.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Which document.
    pub id: u64,
    /// Microseconds since the run began.
    pub call_us: i64,
    /// When it was acknowledged; `None`: it was not.
    pub return_us: Option<i64>,
    /// Which shard took it, as the answer's token said; 0: unknown.
    pub shard: u64,
    /// What stood in the way.
    pub error: Option<String>,
}

/// A search.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Microseconds since the run began.
    pub call_us: i64,
    /// When it was answered, or failed.
    pub return_us: i64,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// All that was seen. Shared by the streams.
pub struct Seen {
    began: Instant,
    stop: AtomicBool,
    value: AtomicU64,
    seed: u64,
    /// Operations on hot documents.
    pub hot: Mutex<Vec<Record>>,
    /// Writes of probes that have ended.
    pub probes: Mutex<Vec<Probe>>,
    /// Probes acknowledged that nobody has begun to delete.
    pub live: Mutex<Vec<u64>>,
    /// Probes whose deletion was acknowledged.
    pub deleted: Mutex<Vec<u64>>,
    /// Searches that have ended.
    pub asked: Mutex<Vec<Asked>>,
    /// Answers that must not be, a sentence each.
    pub anomalies: Mutex<Vec<String>>,
    /// How late a task woke up that wanted to sleep 10 ms, in microseconds: how busy the machine is.
    pub wakes_us: Mutex<Vec<u64>>,
}

/// The streams, running.
pub struct Load {
    /// What they see.
    pub seen: Arc<Seen>,
    streams: JoinSet<()>,
}

impl Load {
    /// Begins; `seed` decides what each client does, `pace` is the time between two searches. `observer` asks a coordinator that
    /// nobody writes through.
    pub fn start(client: &Client, observer: Client, seed: u64, pace: Duration) -> Load {
        let seen = Arc::new(Seen {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            value: AtomicU64::new(0),
            seed,
            hot: Mutex::default(),
            probes: Mutex::default(),
            live: Mutex::default(),
            deleted: Mutex::default(),
            asked: Mutex::default(),
            anomalies: Mutex::default(),
            wakes_us: Mutex::default(),
        });
        let mut streams = JoinSet::new();
        for number in 0..super::hot::CLIENTS {
            streams.spawn(super::hot::run(client.clone(), seen.clone(), number));
        }
        streams.spawn(super::hot::observe(observer, seen.clone()));
        streams.spawn(super::probes::run(client.clone(), seen.clone()));
        streams.spawn(super::queries::run(client.clone(), seen.clone(), pace));
        streams.spawn(watch_machine(seen.clone()));
        Load { seen, streams }
    }

    /// No new operations; returns when all have ended.
    pub async fn stop(mut self) -> Arc<Seen> {
        self.seen.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.streams.join_next().await {
            ended.expect("a stream of the load panicked");
        }
        self.seen
    }
}

impl Seen {
    /// Microseconds since the run began.
    pub fn now_us(&self) -> i64 {
        self.began.elapsed().as_micros() as i64
    }

    /// Whether the streams shall end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A value that was never written before.
    pub fn new_value(&self) -> Value {
        self.value.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Random numbers of one stream.
    pub fn random(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000).wrapping_add(stream))
    }

    /// Notes an answer that must not be.
    pub fn anomaly(&self, text: String) {
        let text = format!("{:.3} s: {text}", self.now_us() as f64 / 1e6);
        held(&self.anomalies).push(text);
    }

    /// Which shard each acknowledged probe went to.
    pub fn acknowledged(&self) -> BTreeMap<u64, Probe> {
        let probes = held(&self.probes);
        let taken = probes.iter().filter(|probe| probe.return_us.is_some());
        taken.map(|probe| (probe.id, probe.clone())).collect()
    }
}

/// What a lock guards.
pub fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().expect("no holder of this lock panics")
}

async fn watch_machine(seen: Arc<Seen>) {
    const NAP: Duration = Duration::from_millis(10);
    while !seen.stopped() {
        let slept = Instant::now();
        tokio::time::sleep(NAP).await;
        let late = slept.elapsed().saturating_sub(NAP);
        held(&seen.wakes_us).push(late.as_micros() as u64);
    }
}

/// A unit vector that no other document has.
pub fn vector(id: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(id);
    let components: Vec<f32> = (0..DIMENSION).map(|_| random.random_range(-1.0..1.0)).collect();
    let length = components.iter().map(|at| at * at).sum::<f32>().sqrt();
    components.iter().map(|at| at / length).collect()
}

/// A document whose payload tells `value`.
pub fn document(id: u64, value: Value) -> Document {
    let payload = format!("{{\"value\":{value},\"text\":\"{}\"}}", "x".repeat(200));
    Document::new(id).payload_json(payload).vector("", vector(id))
}

/// The value that a payload tells.
pub fn value_of(payload: &[u8]) -> Option<Value> {
    let payload: serde_json::Value = serde_json::from_slice(payload).ok()?;
    payload["value"].as_u64()
}
