//! The one type that others hold: documents of one shard's replica, in memory and in files below one directory.
//!
//! The life of a document: [`insert`](Index::insert) puts it into `recent`, where the next view finds it. At a seal point
//! [`freeze`](Index::freeze) turns `recent` into a sealing part, at once; [`build`](Index::build), on a worker of the
//! caller's, writes it as a segment; the caller makes the returned [`SegmentRef`]s durable (its manifest) and its table
//! id -> [`Place`] current, then calls [`publish`](Index::publish), which swaps the part for the segment. Readers hold a
//! [`View`] and see none of this happen.
//!
//! Who kills the older version: `insert` and `delete` find it by id in `recent` and sealing parts, and by the caller's
//! place in segments. A place in a segment that is not yet published is harmless (the sealing part is found by id), so the
//! caller's table may be brought up to date before `publish` and without stopping writes; a place that is out of date
//! names a row that is already dead, or one that a merge has moved and that is followed (`merging`).
//!
//! One writer at a time (an inner lock), any number of readers. Nothing here syncs but `build` and merges.

mod deriving;
mod learning;
mod merging;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use granum_model::{DocId, Schema};

use crate::coarse::{Coarse, derive};
use crate::document::{Document, Place, SegmentId};
use crate::error::{BuildError, InsertError, OpenError};
use crate::fine::writer::{UNFINISHED, sync_directory};
use crate::options::Options;
use crate::recent::Recent;
use crate::segment::build::{build, failed};
use crate::segment::{Segment, SegmentRef, deleted, names};
use crate::state::{Live, Saved, Sealing, State};
use crate::view::View;
use crate::writer::Writer;
pub use merging::{Merged, Moved};

/// See the module.
pub struct Index {
    directory: PathBuf,
    options: Options,
    state: RwLock<Arc<State>>,
    /// The segment that a merge is writing: its files are named by nobody yet.
    merging: Arc<Mutex<Option<SegmentId>>>,
}

/// Names a part that was frozen. Parts are built in the order of their freezing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The segment that it becomes.
    pub segment: SegmentId,
}

/// A part on disk, not yet published.
pub struct Built {
    part: Sealing,
    documents: Vec<Arc<Document>>,
    segment: Option<Arc<Segment>>,
    references: Vec<SegmentRef>,
    saved: Vec<(SegmentId, Saved)>,
    dropped: Vec<SegmentId>,
    /// [`State::merges`] when it was built.
    merges: u64,
}

/// Sizes, for metrics and for deciding when to seal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live documents.
    pub documents: u64,
    /// Documents in memory, dead ones included: recent and sealing.
    pub recent_documents: u64,
    /// Their bytes, about.
    pub recent_bytes: u64,
    /// Bytes of `recent` alone, about: what a freeze would start to free.
    pub unfrozen_bytes: u64,
    /// Rows of segments, dead ones included.
    pub segment_rows: u64,
    /// Of them, rows that are dead.
    pub dead_rows: u64,
    /// Of those, rows that were alive at the newest seal.
    pub unsealed_dead_rows: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of their files that a manifest names.
    pub disk_bytes: u64,
    /// Bytes that searches of segments keep in memory: codes and links.
    pub resident_bytes: u64,
}

impl Index {
    /// Opens what a manifest names. Frames and lengths of all files are checked now (milliseconds); content pages when
    /// they are first read, or by [`verify`](crate::verify()). The directory is created if it is missing.
    pub fn open(
        directory: &Path,
        schema: Schema,
        options: Options,
        segments: &[SegmentRef],
    ) -> Result<Index, OpenError> {
        let failed = |source| OpenError::Io {
            file: directory.display().to_string(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut live = Vec::with_capacity(segments.len());
        for reference in segments {
            live.push(open_segment(directory, reference, options, &schema)?);
        }
        let schema = Arc::new(schema);
        let state = State {
            schema: schema.clone(),
            recent: Recent::new(),
            sealing: Vec::new(),
            segments: live,
            sealed_schema: schema,
            forwards: Vec::new(),
            widenings: Arc::default(),
            seals: 0,
            merges: 0,
        };
        Ok(Index {
            directory: directory.to_owned(),
            options,
            state: RwLock::new(Arc::new(state)),
            merging: Arc::default(),
        })
    }

    /// Adds a document; the older version of it, in memory or at `sealed`, dies. Returns whether there was one.
    pub fn insert(&self, document: Document, sealed: Option<Place>) -> Result<bool, InsertError> {
        self.write().insert(document, sealed)
    }

    /// Removes a document from memory or from `sealed`. Returns whether there was one.
    pub fn delete(&self, id: &DocId, sealed: Option<Place>) -> bool {
        self.write().delete(id, sealed)
    }

    /// Begins a batch: readers see all of it or nothing. They wait until the writer is dropped.
    pub fn write(&self) -> Writer<'_> {
        Writer::new(self.state.write().expect(LOCK), self.options)
    }

    /// Replaces the schema. Payload indexes that are new are built by the next [`derive`](Self::derive). A field that is
    /// gone is searched no more and not written to the next segment; a new one has no vectors yet. Segments keep what they
    /// hold of a dropped field until they are merged: should it come back with the same meaning, so do the vectors that are
    /// still there; with another meaning, they are neither searched nor carried over.
    pub fn alter(&self, schema: Schema) {
        let mut state = self.state.write().expect(LOCK);
        let state = Arc::make_mut(&mut state);
        let is_kept = |name: &str| state.schema.vector(name) == schema.vector(name);
        Arc::make_mut(&mut state.widenings).retain(|name, _| is_kept(name));
        state.schema = Arc::new(schema);
    }

    /// Turns `recent` into a sealing part that will be segment `next`, newer than all others; takes no time to speak of.
    /// Deaths up to now are remembered as of now. Empty parts are fine: they build to no segment.
    pub fn freeze(&self, next: SegmentId) -> Frozen {
        Arc::make_mut(&mut self.state.write().expect(LOCK)).freeze(next);
        Frozen { segment: next }
    }

    /// Writes a frozen part and, where rows have died, new files of dead rows; syncs all of it. Slow: for a worker.
    /// Changes nothing that readers or writers see. May be repeated after an error.
    pub fn build(&self, frozen: &Frozen) -> Result<Built, BuildError> {
        let state = self.state().clone();
        let part = match state.sealing.first() {
            Some(part) if part.id == frozen.segment => part.clone(),
            first => {
                return Err(BuildError::Order {
                    asked: frozen.segment,
                    next: first.map(|part| part.id),
                });
            }
        };
        let mut built = Built {
            documents: part.documents(),
            part,
            segment: None,
            references: Vec::new(),
            saved: Vec::new(),
            dropped: Vec::new(),
            merges: state.merges,
        };
        for live in &state.segments {
            self.save_dead(live, &mut built)?;
        }
        if built.documents.is_empty() {
            sync_directory(&self.directory).map_err(failed(self.directory.display().to_string()))?;
        } else {
            let reference = build(&self.directory, built.part.id, &built.part.schema, &built.documents)?;
            let segment = open_segment(&self.directory, &reference, self.options, &state.schema)?.segment;
            self.encode_segment(&segment);
            built.segment = Some(segment);
            built.references.push(reference);
        }
        Ok(built)
    }

    /// Swaps the part for its segment. Deaths since the freeze are carried over.
    pub fn publish(&self, built: Built) {
        let mut state = self.state.write().expect(LOCK);
        let first = state.sealing.first().map(|part| part.id);
        assert_eq!(
            first,
            Some(built.part.id),
            "parts are published in the order of their freezing, once"
        );
        assert_eq!(
            state.merges, built.merges,
            "no merge is published between a build and its publish"
        );
        Arc::make_mut(&mut state).publish(built.segment, &built.saved, &built.dropped);
    }

    /// Removes files of segments that `keep` does not name, unfinished ones and columns of dropped indexes too, but not
    /// those that a merge is writing; returns how many bytes. Not while a part is being built, and only once `keep` is
    /// durable. Open views go on reading removed files.
    pub fn remove_unreferenced(&self, keep: &[SegmentRef]) -> io::Result<u64> {
        let segments: HashSet<SegmentId> = keep.iter().map(|segment| segment.id).collect();
        let files: HashSet<&str> = keep
            .iter()
            .flat_map(|segment| &segment.files)
            .map(|file| &*file.name)
            .collect();
        let schema = self.state().schema.clone();
        let is_wanted = |name: &str, id| {
            let mut fields = schema.payload.iter();
            let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
            !names::is_column(name) || fields.any(|field| names::column(id, field) == name)
        };
        let mut bytes = 0;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((name, id)) = name.to_str().and_then(|name| Some((name, names::segment_of(name)?))) else {
                continue;
            };
            let kept =
                files.contains(name) || (names::is_derived(name) && segments.contains(&id) && is_wanted(name, id));
            // Asked after the name was seen: a merge says which files are its own before it makes the first.
            let is_merging = || *self.merging.lock().unwrap_or_else(PoisonError::into_inner) == Some(id);
            if !kept && !is_merging() {
                let removed = entry
                    .metadata()
                    .and_then(|metadata| fs::remove_file(entry.path()).map(|()| metadata.len()));
                match removed {
                    Ok(removed) => bytes += removed,
                    // A merge that was given up has removed its own.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        sync_directory(&self.directory)?;
        Ok(bytes)
    }

    /// Pins what is there now: later writes, seals and removals don't change it.
    pub fn view(&self) -> View {
        View::new(self.state().clone(), self.options.target_recall)
    }

    /// Sizes now.
    pub fn stats(&self) -> Stats {
        let state = self.state().clone();
        let memory = || state.sealing.iter().map(|part| &part.recent).chain([&state.recent]);
        let disk = |live: &Live| {
            let dead = live.saved.file.iter().map(|(_, file)| file.bytes);
            live.segment
                .files
                .iter()
                .map(|file| file.bytes)
                .chain(dead)
                .sum::<u64>()
        };
        Stats {
            documents: memory()
                .map(Recent::live_rows)
                .chain(state.segments.iter().map(Live::live_rows))
                .sum(),
            recent_documents: memory().map(|recent| u64::from(recent.rows())).sum(),
            recent_bytes: memory().map(Recent::bytes).sum(),
            unfrozen_bytes: state.recent.bytes(),
            segment_rows: state.segments.iter().map(|live| u64::from(live.segment.rows)).sum(),
            dead_rows: state.segments.iter().map(|live| live.dead.len()).sum(),
            unsealed_dead_rows: (state
                .segments
                .iter()
                .map(|live| live.dead.len() - live.saved.dead.len()))
            .sum(),
            segments: state.segments.len() as u64,
            disk_bytes: state.segments.iter().map(disk).sum(),
            resident_bytes: state.segments.iter().map(|live| live.segment.resident_bytes()).sum(),
        }
    }

    /// How it was opened.
    pub fn options(&self) -> Options {
        self.options
    }

    /// A reference to the segment as of the freeze, with a new file of dead rows if there are new ones.
    fn save_dead(&self, live: &Live, built: &mut Built) -> Result<(), BuildError> {
        let (segment, generation) = (&live.segment, built.part.id.0);
        let dead = built.part.captured_of(segment.id);
        let dead = dead.expect("a freeze captures all segments, and all before it are published");
        if dead.len() == u64::from(segment.rows) {
            built.dropped.push(segment.id);
            return Ok(());
        }
        let mut saved = live.saved.clone();
        if dead.len() != saved.dead.len() {
            let name = names::deleted(segment.id, generation);
            let file =
                deleted::write(&self.directory, segment.id, generation, segment.rows, dead).map_err(failed(name))?;
            let died = segment.digest_of(&(&**dead - &*saved.dead))?;
            saved = Saved {
                dead: dead.clone(),
                dead_digest: saved.dead_digest.wrapping_add(died),
                file: Some((generation, file)),
            };
            built.saved.push((segment.id, saved.clone()));
        }
        built.references.push(saved.reference(segment));
        Ok(())
    }

    fn state(&self) -> RwLockReadGuard<'_, Arc<State>> {
        self.state.read().expect(LOCK)
    }
}

/// A panic inside a write may leave half a change; answering from it would be worse than stopping.
const LOCK: &str = "no write panicked";

fn open_segment(
    directory: &Path,
    reference: &SegmentRef,
    options: Options,
    schema: &Schema,
) -> Result<Live, OpenError> {
    let (segment, dead) = Segment::open(directory, reference)?;
    for vectors in segment
        .vectors()
        .iter()
        .filter(|vectors| derive::wants_codes(vectors, options))
    {
        vectors.set_coarse(Coarse::open(directory, segment.id, vectors));
    }
    segment.columns.open(directory, &segment, &schema.payload);
    let (dead, file) = (Arc::new(dead), reference.deleted.zip(reference.files.last().cloned()));
    let saved = Saved {
        dead: dead.clone(),
        dead_digest: reference.dead_digest,
        file,
    };
    Ok(Live {
        segment: Arc::new(segment),
        dead,
        saved,
    })
}

impl Built {
    /// All segments as of the freeze, for the manifest.
    pub fn segments(&self) -> &[SegmentRef] {
        &self.references
    }

    /// Ids of the new segment's documents with their rows, for the table id -> place.
    pub fn ids(&self) -> impl Iterator<Item = (&DocId, Place)> {
        let segment = self.part.id;
        (0u32..)
            .zip(&self.documents)
            .map(move |(row, document)| (&document.id, Place { segment, row }))
    }
}
