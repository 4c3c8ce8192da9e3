//! One simulation: nodes, clients and faults on one thread, under a clock that moves when everybody waits.
//!
//! Start, traffic under faults, faults off, healing, the open writes settled, and the verdict. All chance comes from the
//! seed; what the seed does not decide is said in docs/operating/simulation.md.
//!
//! Over 400 lines because a simulation's life, from the first start to the verdict, is told in one place.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use granum_node::disk::Survival;
use granum_node::raft::runtime::seed_chance;
use granum_node::shard::command;
use granum_proto::internal::{Epoch, Member};
use granum_proto::v1;
use tokio::task::JoinSet;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use crate::client::Client;
use crate::dice::{seed_disks, slow_disks};
use crate::faults::{self, Tally};
use crate::history::{Fate, History, Moment, Read, Timeline, Write};
use crate::invariants::{bounds, conditions, contents, equal, healing, order, refusals, sessions};
use crate::ledger::{Ledger, Written};
use crate::node::{Birth, Running};
use crate::options::Options;
use crate::post::{Carried, Office, Weather};

/// The epoch of the one shard.
pub const EPOCH: u64 = 1;
/// Longest time that a message may be under way: delays, and a node that is held.
const TRAVEL_MAX: Duration = Duration::from_millis(2500);
/// How often the doctor looks after replicas that stopped.
const ROUND: Duration = Duration::from_millis(250);

/// Everything that actors share.
pub struct World {
    /// Decides everything.
    pub seed: u64,
    /// Sizes and rates.
    pub options: Options,
    /// Carries messages.
    pub office: Arc<Office>,
    /// Where the nodes' folders are.
    pub folder: PathBuf,
    ledger: Arc<Ledger>,
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: BTreeMap<u64, Arc<Running>>,
    births: BTreeMap<u64, Birth>,
    claimed: BTreeSet<u64>,
    over: bool,
    moments: u64,
    values: u64,
    versions: BTreeMap<u64, u64>,
    history: History,
    missed_reads: u64,
    cuts: u64,
    restarts: u64,
    faulted: u64,
    complaints: Vec<String>,
    trace: Xxh3,
}

/// What a simulation came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What broke a rule; empty: nothing.
    pub complaints: Vec<String>,
    /// Digest of everything that happened, with its time.
    pub trace: u64,
    /// Writes, answered ones, and of these such as were answered only at the end.
    pub writes: (u64, u64, u64),
    /// Reads answered, linearizable ones among them, and reads that were not answered.
    pub reads: (u64, u64, u64),
    /// Faults by kind.
    pub faults: Tally,
    /// Power cuts in the middle of a seal or an install.
    pub cuts: u64,
    /// Lives of nodes after their first, and of these such as followed on a replica's fault.
    pub restarts: (u64, u64),
    /// What was applied.
    pub written: Written,
    /// What was carried.
    pub carried: Carried,
    /// Terms that had a leader.
    pub terms: u64,
    /// Time until healed.
    pub healed_in: Duration,
}

/// A node that one fault has to itself.
pub struct Claim {
    world: Arc<World>,
    node: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.world.inner.lock().unwrap().claimed.remove(&self.node);
    }
}

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Panics of simulated tasks are remembered instead of printed.
fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let kept = PANICS.with_borrow_mut(|panics| match panics {
                Some(panics) => {
                    panics.push(panic.to_string().replace('\n', " "));
                    true
                }
                None => false,
            });
            if !kept {
                usual(panic);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

/// Runs the simulation of `seed`.
pub fn simulate(seed: u64, options: Options) -> Report {
    in_world(seed, options, World::run)
}

/// Does something in the world of `seed`, where no node runs yet.
pub fn in_world<T, F: Future<Output = T>>(seed: u64, options: Options, work: impl FnOnce(Arc<World>) -> F) -> T {
    watch_panics();
    seed_chance(Some(seed << 20));
    seed_disks(seed);
    let shared_memory = std::path::Path::new("/dev/shm");
    let folder = match shared_memory.is_dir() {
        true => tempfile::tempdir_in(shared_memory),
        false => tempfile::tempdir(),
    };
    let folder = folder.expect("a temporary folder");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    let path = folder.path().to_owned();
    let outcome = runtime.block_on(async move { work(Arc::new(World::new(seed, options, path))).await });
    drop(runtime);
    seed_chance(None);
    PANICS.set(None);
    outcome
}

impl World {
    fn new(seed: u64, options: Options, folder: PathBuf) -> World {
        World {
            seed,
            options,
            office: Office::new(seed),
            folder,
            ledger: Arc::default(),
            begun: Instant::now(),
            inner: Mutex::default(),
        }
    }

    /// Starts all nodes and founds the shard on them.
    pub async fn begin(&self) {
        for number in self.numbers() {
            let running = Birth::first(number, &self.folder)
                .start(&self.office, &self.ledger)
                .await;
            let running = running.expect("a first start fails only where the harness is wrong");
            self.inner.lock().unwrap().running.insert(number, running);
        }
        self.found().await;
    }

    async fn run(self: Arc<World>) -> Report {
        self.begin().await;
        let mut clients = JoinSet::new();
        for number in 1..=self.options.clients {
            clients.spawn(Client::new(&self, number).run());
        }
        let doctor = tokio::spawn(look_after(self.clone()));
        let faults = tokio::spawn(faults::run(self.clone()));
        tokio::time::sleep(self.options.length).await;
        // Where faults left too little traffic to say anything it goes on, for so long at most again twice.
        while self.is_quiet() && self.begun.elapsed() < self.options.length * 3 {
            tokio::time::sleep(ROUND).await;
        }
        self.inner.lock().unwrap().over = true;
        let tally = faults.await.unwrap_or_default();
        while clients.join_next().await.is_some() {}
        self.office.change(|weather| *weather = Weather::default());
        slow_disks(1);

        let healed_in = self.heal().await;
        self.settle().await;
        if self.is_well() {
            self.heal().await;
        }
        doctor.abort();
        self.judge();
        self.report(tally, healed_in).await
    }

    /// First members, and the fence that brings the schema.
    async fn found(&self) {
        let members: Vec<Member> = self
            .numbers()
            .map(|number| Member {
                replica: number,
                node: number,
            })
            .collect();
        let first = self.running(1).expect("it was just started");
        first.group.initialize(&members).await.expect("it has no members yet");
        let field = v1::VectorField {
            dimension: 2,
            distance: v1::Distance::Dot.into(),
            fine: v1::Fine::F32.into(),
            ..v1::VectorField::default()
        };
        let fence = command::fence(Epoch {
            epoch: EPOCH,
            range_start: 0,
            range_end: u64::MAX,
            schema: Some(v1::Schema {
                vectors: vec![field],
                ..v1::Schema::default()
            }),
        });
        let fence = command::encode(&fence).expect("a small command");
        loop {
            if let Some(leader) = self.leader().and_then(|leader| self.running(leader)) {
                let deadline = Instant::now() + Duration::from_secs(5);
                if leader.group.propose(fence.clone(), deadline.into_std()).await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(
                self.begun.elapsed() < Duration::from_secs(60),
                "no leader in an untroubled cluster"
            );
        }
    }

    /// Waits until the cluster is whole; how long that took.
    async fn heal(&self) -> Duration {
        let begun = Instant::now();
        loop {
            let verdict = {
                let inner = self.inner.lock().unwrap();
                let statuses: Vec<_> = inner
                    .running
                    .iter()
                    .map(|(number, running)| (*number, running.group.status()))
                    .collect();
                healing::check(self.options.nodes as usize, &statuses)
            };
            match verdict {
                Ok(()) => return begun.elapsed(),
                Err(why) if begun.elapsed() > healing::HEALING_MAX => {
                    self.complain(format!("{why} after {:?}", begun.elapsed()));
                    return begun.elapsed();
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Asks again for what is open, and for a few fresh writes.
    async fn settle(self: &Arc<World>) {
        if !self.is_well() {
            return;
        }
        let mut client = Client::after_healing(self, 1000);
        let open: Vec<Write> = {
            let mut inner = self.inner.lock().unwrap();
            let (open, known) = std::mem::take(&mut inner.history.writes)
                .into_iter()
                .partition(|write| write.fate == Fate::Open);
            inner.history.writes = known;
            open
        };
        for mut write in open {
            write.settled_late = true;
            let write = client.carry_out(write).await;
            if write.answered().is_none() {
                self.complain(format!(
                    "healing: the open request {:02x?} gets no answer",
                    &write.request.0[..]
                ));
            }
            self.remember_write(write);
        }
        let before = self.inner.lock().unwrap().history.writes.len();
        for _ in 0..3 {
            client.write().await;
        }
        let inner = self.inner.lock().unwrap();
        let fresh = &inner.history.writes[before..];
        let missing = fresh.iter().filter(|write| write.answered().is_none()).count();
        drop(inner);
        if missing > 0 {
            self.complain(format!("healing: {missing} of 3 fresh writes get no answer"));
        }
    }

    fn judge(&self) {
        let mut complaints = self.ledger.violations();
        complaints.extend(self.office.leaders.found().1);
        complaints.extend(PANICS.with_borrow_mut(|panics| {
            let panics = panics.as_mut().map(std::mem::take).unwrap_or_default();
            panics.into_iter().map(|panic| format!("panic: {panic}"))
        }));
        let well = self.is_well();
        let mut inner = self.inner.lock().unwrap();
        let history = std::mem::take(&mut inner.history);
        let timeline = Timeline::new(&history);
        complaints.extend(order::check(&history));
        complaints.extend(contents::check(&history, &timeline));
        complaints.extend(conditions::check(&history, &timeline));
        complaints.extend(sessions::check(&history));
        complaints.extend(bounds::check(&history, TRAVEL_MAX));
        complaints.extend(refusals::check(&history, &self.ledger));
        if well {
            let mut states = Vec::new();
            for (number, running) in &inner.running {
                match equal::state(&running.machine) {
                    Ok(state) => states.push((*number, state)),
                    Err(complaint) => complaints.push(format!("node {number}: {complaint}")),
                }
            }
            complaints.extend(equal::check(&states, &timeline.last()));
        }
        inner.history = history;
        inner.complaints.extend(complaints);
    }

    async fn report(&self, faults: Tally, healed_in: Duration) -> Report {
        let running: Vec<Arc<Running>> = {
            let mut inner = self.inner.lock().unwrap();
            std::mem::take(&mut inner.running).into_values().collect()
        };
        for node in running {
            node.dead.cancel();
            node.groups.shutdown(Instant::now().into_std()).await;
        }
        let mut inner = self.inner.lock().unwrap();
        let (writes, reads) = (&inner.history.writes, &inner.history.reads);
        let answered = writes.iter().filter(|write| write.answered().is_some()).count() as u64;
        let late = writes.iter().filter(|write| write.settled_late).count() as u64;
        let linearizable = reads
            .iter()
            .filter(|read| read.level == crate::history::Level::Linearizable)
            .count() as u64;
        let counts = (
            (writes.len() as u64, answered, late),
            (reads.len() as u64, linearizable),
        );
        let floor = self.options.floor;
        if inner.complaints.is_empty() && inner.history.is_below(floor) {
            let complaint = format!("void: {answered} writes and {linearizable} linearizable reads, floor {floor}");
            inner.complaints.push(complaint);
        }
        Report {
            seed: self.seed,
            complaints: std::mem::take(&mut inner.complaints),
            trace: inner.trace.digest(),
            writes: counts.0,
            reads: (counts.1.0, counts.1.1, inner.missed_reads),
            faults,
            cuts: inner.cuts,
            restarts: (inner.restarts, inner.faulted),
            written: self.ledger.written(),
            carried: self.office.carried(),
            terms: self.office.leaders.found().0,
            healed_in,
        }
    }

    /// Numbers of all nodes.
    pub fn numbers(&self) -> std::ops::RangeInclusive<u64> {
        1..=self.options.nodes
    }

    /// Whether traffic and new faults are to end.
    pub fn is_over(&self) -> bool {
        self.inner.lock().unwrap().over
    }

    fn is_quiet(&self) -> bool {
        let floor = self.options.floor;
        self.inner.lock().unwrap().history.is_below(floor)
    }

    fn is_well(&self) -> bool {
        self.inner.lock().unwrap().complaints.is_empty()
    }

    /// This moment, later than every one before.
    pub fn now(&self) -> Moment {
        let mut inner = self.inner.lock().unwrap();
        inner.moments += 1;
        Moment {
            number: inner.moments,
            at: self.begun.elapsed(),
        }
    }

    /// A value that no document had.
    pub fn next_value(&self) -> u64 {
        let mut inner = self.inner.lock().unwrap();
        inner.values += 1;
        inner.values
    }

    /// The last version of a document that any client was told.
    pub fn known_version(&self, key: u64) -> Option<u64> {
        self.inner.lock().unwrap().versions.get(&key).copied()
    }

    /// The life of a node that runs now.
    pub fn running(&self, node: u64) -> Option<Arc<Running>> {
        self.inner.lock().unwrap().running.get(&node).cloned()
    }

    /// The node that leads, as it thinks; of several that of the highest term.
    pub fn leader(&self) -> Option<u64> {
        let inner = self.inner.lock().unwrap();
        let statuses = inner
            .running
            .iter()
            .map(|(number, running)| (running.group.status(), *number));
        let leaders = statuses.filter(|(status, _)| status.leader);
        leaders.max_by_key(|(status, _)| status.term).map(|(_, number)| number)
    }

    /// Takes a node for one fault; `None`: another has it.
    pub fn claim(self: &Arc<World>, node: u64) -> Option<Claim> {
        let free = self.inner.lock().unwrap().claimed.insert(node);
        free.then(|| Claim {
            world: self.clone(),
            node,
        })
    }

    /// A node dies.
    pub fn crash(&self, node: u64, survival: Survival) {
        let running = self.inner.lock().unwrap().running.remove(&node);
        if let Some(running) = running {
            self.trace(&format!("crash {node} {survival:?}"));
            let birth = running.crash(&self.office, survival, &self.folder);
            self.inner.lock().unwrap().births.insert(node, birth);
        }
    }

    /// The claimed node begins its next life, if it has died.
    pub async fn start(self: &Arc<World>, claim: Claim) {
        let birth = self.inner.lock().unwrap().births.remove(&claim.node);
        let Some(birth) = birth else { return };
        self.trace(&format!("start {}", claim.node));
        match birth.start(&self.office, &self.ledger).await {
            Ok(running) => {
                let mut inner = self.inner.lock().unwrap();
                inner.restarts += 1;
                inner.running.insert(claim.node, running);
            }
            Err(why) => self.complain(format!("start: {why}")),
        }
    }

    /// The power was cut in the middle of something.
    pub fn count_cut(&self) {
        self.inner.lock().unwrap().cuts += 1;
    }

    /// A read got no answer.
    pub fn missed_read(&self) {
        self.inner.lock().unwrap().missed_reads += 1;
    }

    /// A rule was broken.
    pub fn complain(&self, complaint: String) {
        self.inner.lock().unwrap().complaints.push(complaint);
    }

    /// What a write came to.
    pub fn remember_write(&self, write: Write) {
        self.trace(&format!("{write:?}"));
        let mut inner = self.inner.lock().unwrap();
        if let Some(version) = write.version() {
            inner.versions.insert(write.key, version);
        }
        inner.history.writes.push(write);
    }

    /// What a read found.
    pub fn remember_read(&self, read: Read) {
        self.trace(&format!("{read:?}"));
        let mut inner = self.inner.lock().unwrap();
        if let Some((version, _)) = read.found {
            inner.versions.insert(read.key, version);
        }
        inner.history.reads.push(read);
    }

    /// Something happened, now.
    pub fn trace(&self, what: &str) {
        let at = self.begun.elapsed().as_micros() as u64;
        let mut inner = self.inner.lock().unwrap();
        inner.trace.update(&at.to_le_bytes());
        inner.trace.update(what.as_bytes());
        if self.options.verbose {
            eprintln!("{:>9.3} ms  {what}", at as f64 / 1000.0);
        }
    }
}

/// Restarts replicas that stopped by a fault of their disk, as a node does.
async fn look_after(world: Arc<World>) {
    loop {
        tokio::time::sleep(ROUND).await;
        for node in world.numbers() {
            let faulted = world
                .running(node)
                .map(|running| running.group.status().fault)
                .filter(|fault| !fault.is_empty());
            let Some(fault) = faulted else { continue };
            let Some(claim) = world.claim(node) else { continue };
            world.trace(&format!("fault of {node}: {fault}"));
            world.inner.lock().unwrap().faulted += 1;
            world.crash(node, Survival::Everything);
            world.start(claim).await;
        }
    }
}
