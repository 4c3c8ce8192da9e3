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
//! names a row that is already dead.
//!
//! One writer at a time (an inner lock), any number of readers. Nothing here syncs but `build`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use granum_model::{DocId, Schema};

use crate::coarse::{self, Graph};
use crate::column;
use crate::document::{Document, Place, SegmentId};
use crate::error::{BuildError, InsertError, OpenError};
use crate::fine::writer::sync_directory;
use crate::options::{Builder, Options};
use crate::recent::Recent;
use crate::segment::build::{build, failed};
use crate::segment::{Segment, SegmentRef, VectorFile, deleted, names};
use crate::state::{Live, Saved, Sealing, State};
use crate::view::View;
use crate::writer::Writer;

/// See the module.
pub struct Index {
    directory: PathBuf,
    options: Options,
    state: RwLock<Arc<State>>,
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
    /// Segments.
    pub segments: u64,
    /// Bytes of their files.
    pub disk_bytes: u64,
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
        let state = State {
            schema: Arc::new(schema),
            recent: Recent::new(),
            sealing: Vec::new(),
            segments: live,
        };
        Ok(Index {
            directory: directory.to_owned(),
            options,
            state: RwLock::new(Arc::new(state)),
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
        Writer {
            state: self.state.write().expect(LOCK),
        }
    }

    /// Replaces the schema. Payload indexes that are new are built by the next [`derive`](Self::derive). A field that is gone is searched no more and not written to the next segment; a new one has no
    /// vectors yet. The name of a dropped field must not come back with another meaning while segments still hold it.
    pub fn alter(&self, schema: Schema) {
        Arc::make_mut(&mut self.state.write().expect(LOCK)).schema = Arc::new(schema);
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
        };
        for live in &state.segments {
            self.save_dead(live, &mut built)?;
        }
        if built.documents.is_empty() {
            sync_directory(&self.directory).map_err(failed(self.directory.display().to_string()))?;
        } else {
            let reference = build(&self.directory, built.part.id, &built.part.schema, &built.documents)?;
            built.segment = Some(open_segment(&self.directory, &reference, self.options, &state.schema)?.segment);
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
        Arc::make_mut(&mut state).publish(built.segment, &built.saved, &built.dropped);
    }

    /// Builds what options and schema ask for and published segments lack, or have damaged; returns how many files. Slow: for a
    /// worker, when nothing is being removed. Searches are right without it, and use each file from the moment it is there.
    pub fn derive(&self) -> Result<usize, BuildError> {
        let state = self.state().clone();
        let mut built = 0;
        for segment in state.segments.iter().map(|live| &live.segment) {
            for vectors in derivable(segment, self.options).filter(|vectors| vectors.graph().is_none()) {
                let number = vectors.number();
                coarse::build::build(&self.directory, segment.id, number, vectors)?;
                vectors.set_graph(Graph::open(&self.directory, segment.id, number, vectors)?);
                built += 1;
            }
            built += column::derive(&self.directory, segment, &state.schema.payload)?;
        }
        Ok(built)
    }

    /// Removes files of segments that `keep` does not name, unfinished ones and columns of dropped indexes too; returns how
    /// many bytes. Not while a part
    /// is being built, and only once `keep` is durable. Open views go on reading removed files.
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
            if !kept {
                bytes += entry.metadata()?.len();
                fs::remove_file(entry.path())?;
            }
        }
        sync_directory(&self.directory)?;
        Ok(bytes)
    }

    /// Pins what is there now: later writes, seals and removals don't change it.
    pub fn view(&self) -> View {
        View::new(self.state().clone())
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
            segments: state.segments.len() as u64,
            disk_bytes: state.segments.iter().map(disk).sum(),
        }
    }

    /// How it was opened.
    pub fn options(&self) -> Options {
        self.options
    }

    /// A reference to the segment as of the freeze, with a new file of dead rows if there are new ones.
    fn save_dead(&self, live: &Live, built: &mut Built) -> Result<(), BuildError> {
        let (segment, generation) = (&live.segment, built.part.id.0);
        let captured = built.part.captured.iter().find(|(id, _)| *id == segment.id);
        let dead = &captured
            .expect("a freeze captures all segments, and all before it are published")
            .1;
        if dead.len() == u64::from(segment.rows) {
            built.dropped.push(segment.id);
            return Ok(());
        }
        let mut saved = live.saved.clone();
        if dead.len() != saved.dead_rows {
            let name = names::deleted(segment.id, generation);
            let file =
                deleted::write(&self.directory, segment.id, generation, segment.rows, dead).map_err(failed(name))?;
            saved = Saved {
                dead_rows: dead.len(),
                file: Some((generation, file)),
            };
            built.saved.push((segment.id, saved.clone()));
        }
        let (deleted, file) = saved.file.unzip();
        built.references.push(SegmentRef {
            id: segment.id,
            rows: segment.rows,
            live_rows: segment.rows - saved.dead_rows as u32,
            deleted,
            files: segment.files.iter().cloned().chain(file).collect(),
        });
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
    for vectors in derivable(&segment, options) {
        // What can't be opened is missing to `derive`, which builds it anew.
        if let Ok(graph) = Graph::open(directory, segment.id, vectors.number(), vectors) {
            vectors.set_graph(graph);
        }
    }
    segment.columns.open(directory, &segment, &schema.payload);
    let file = reference.deleted.zip(reference.files.last().cloned());
    let saved = Saved {
        dead_rows: dead.len(),
        file,
    };
    Ok(Live {
        segment: Arc::new(segment),
        dead: Arc::new(dead),
        saved,
    })
}

/// Vectors of a segment over which the options want a graph.
fn derivable(segment: &Segment, options: Options) -> impl Iterator<Item = &VectorFile> {
    let wanted = options.builder == Builder::HnswRs;
    segment
        .vectors()
        .iter()
        .filter(move |vectors| wanted && coarse::build::is_worthwhile(vectors))
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
