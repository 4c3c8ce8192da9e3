//! What did clients ask, and what were they told? The record that is judged when a simulation is over.

use std::collections::BTreeMap;
use std::time::Duration;

use granum_model::RequestId;
use granum_proto::internal;
use granum_proto::v1::{Outcome, outcome};

/// A moment: its number (all moments are ordered), and the simulation's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Later ones are greater.
    pub number: u64,
    /// Since the simulation began.
    pub at: Duration,
}

/// What a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A document with this unique value.
    Put(u64),
    /// No document.
    Delete,
}

/// What must hold for a write to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// The document has this version.
    IfVersion(u64),
    /// There is no such document.
    InsertOnly,
    /// There is one.
    UpdateOnly,
}

/// What became of a write, as its client knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It was answered.
    Answered(Moment, internal::Applied),
    /// It may have happened.
    Open,
    /// Every try was refused before it became an entry.
    Refused,
}

/// One write with all its retries.
#[derive(Clone, Debug)]
pub struct Write {
    /// Who.
    pub client: u64,
    /// Its request id.
    pub request: RequestId,
    /// Which document.
    pub key: u64,
    /// What.
    pub change: Change,
    /// On which condition.
    pub condition: Condition,
    /// When it was first sent.
    pub invoked: Moment,
    /// How often it was sent.
    pub tries: u64,
    /// What became of it.
    pub fate: Fate,
    /// Whether its answer came only when it was asked for at the end.
    pub settled_late: bool,
}

impl Write {
    /// The one outcome of the answer.
    pub fn outcome(&self) -> Option<(&Outcome, u64)> {
        match &self.fate {
            Fate::Answered(_, applied) => applied.outcomes.first().map(|outcome| (outcome, applied.sequence)),
            _ => None,
        }
    }

    /// The version it wrote.
    pub fn version(&self) -> Option<u64> {
        self.outcome()
            .filter(|(outcome, _)| outcome.kind() == outcome::Kind::Taken)
            .map(|(outcome, _)| outcome.version)
    }

    /// The sequence at which it took place.
    pub fn point(&self) -> Option<u64> {
        self.version().or_else(|| self.outcome().map(|(_, sequence)| sequence))
    }

    /// When it was answered.
    pub fn answered(&self) -> Option<Moment> {
        match &self.fate {
            Fate::Answered(moment, _) => Some(*moment),
            _ => None,
        }
    }
}

/// How fresh a read was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing acknowledged before may be missing.
    Linearizable,
    /// At least this sequence.
    Session(u64),
    /// At most so old, in milliseconds.
    Bounded(u64),
    /// Anything that was once so.
    Any,
}

/// One read that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    /// Who.
    pub client: u64,
    /// On which node.
    pub node: u64,
    /// How fresh.
    pub level: Level,
    /// Which document.
    pub key: u64,
    /// When it was sent.
    pub invoked: Moment,
    /// When it was answered.
    pub answered: Moment,
    /// The sequence of the state it was made on.
    pub sequence: u64,
    /// Version and value found.
    pub found: Option<(u64, u64)>,
}

/// All that clients did.
#[derive(Debug, Default)]
pub struct History {
    /// Writes, in no order.
    pub writes: Vec<Write>,
    /// Reads, in the order of their answers.
    pub reads: Vec<Read>,
}

impl History {
    /// Whether less than `floor` writes were answered in time, or less than an eighth as many linearizable reads.
    pub fn is_below(&self, floor: u64) -> bool {
        let in_time = |write: &&Write| write.answered().is_some() && !write.settled_late;
        let writes = self.writes.iter().filter(in_time).count() as u64;
        let linearizable = |read: &&Read| read.level == Level::Linearizable;
        writes < floor || (self.reads.iter().filter(linearizable).count() as u64) < floor / 8
    }
}

/// What each document was at each sequence, as the writes taken say.
#[derive(Debug, Default)]
pub struct Timeline {
    /// By document: by version, its value; `None`: deleted then.
    documents: BTreeMap<u64, BTreeMap<u64, Option<u64>>>,
}

impl Timeline {
    /// Reads the writes taken.
    pub fn new(history: &History) -> Timeline {
        let mut timeline = Timeline::default();
        for write in &history.writes {
            if let Some(version) = write.version() {
                let value = match write.change {
                    Change::Put(value) => Some(value),
                    Change::Delete => None,
                };
                timeline.documents.entry(write.key).or_default().insert(version, value);
            }
        }
        timeline
    }

    /// Version and value of a document at a sequence.
    pub fn at(&self, key: u64, sequence: u64) -> Option<(u64, u64)> {
        let versions = self.documents.get(&key)?;
        let (version, value) = versions.range(..=sequence).next_back()?;
        value.map(|value| (*version, value))
    }

    /// All documents at the end: version and value, by document.
    pub fn last(&self) -> BTreeMap<u64, (u64, u64)> {
        let last = |key: &u64| self.at(*key, u64::MAX).map(|found| (*key, found));
        self.documents.keys().filter_map(last).collect()
    }
}
