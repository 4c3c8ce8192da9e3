//! How does a replica come to stand on its disk, and how does it get there from another's? Open, seal, snapshot, install.
//!
//! ```text
//! <shard>/state-0000000000000001/     MANIFEST and the files it names; the highest number stands
//! <shard>/state-0000000000000002.tmp/ a snapshot being moved in; renamed when it is whole
//! <shard>/snapshots/<n>/              hard links to one seal's files, for as long as somebody reads them
//! <shard>/incoming/                   another replica's snapshot, as far as it has come in (`raft/transfer`)
//! ```
//!
//! A seal is durable with the rename of its manifest, an installed snapshot with the rename of its folder. A crash before
//! leaves the old state, a crash after the new one; what neither names is removed at the next start.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use granum_index::{Bits, Builder, Census, Index, SegmentRef};
use granum_proto::internal::{EnsureReplicaRequest, Manifest};

use super::core::Core;
use super::documents::{Documents, Tag};
use super::machine::{Driven, Pending, ShardMachine};
use super::manifest::{self, MANIFEST_FILE};
use super::options::Options;
use super::seal_error::SealError;
use super::{Fault, Sealed, SnapshotFiles, files, point};
use crate::disk::{Disk, DiskError};

const STATE_PREFIX: &str = "state-";
const UNFINISHED_SUFFIX: &str = ".tmp";

/// What stands on disk.
pub(super) struct Place {
    /// Number of the state's folder.
    pub number: u64,
    pub sealed: Sealed,
    pub segments: Vec<SegmentRef>,
    /// What names the standing manifest.
    pub tag: Tag,
}

/// A replica as its folder says.
pub(super) struct OpenedShard {
    pub place: Place,
    pub driven: Driven,
    pub index: Arc<Index>,
    pub documents: Option<Arc<Documents>>,
}

/// Opens the state that stands in `directory`, removing what a crash left over.
pub(super) fn open(options: &Options, birth: &EnsureReplicaRequest, directory: &Path) -> Result<OpenedShard, Fault> {
    let disk = options.disk.as_ref();
    disk.create_dir_all(directory)?;
    disk.remove_dir_all(&directory.join(files::SNAPSHOTS))?;
    let number = standing_number(disk, directory)?;
    let state = state_directory(directory, number);
    let documents = match &options.trees {
        Some(trees) => Some(Arc::new(Documents::new(
            trees.tree(&tree_name(birth.replica)).map_err(Fault::new)?,
        ))),
        None => None,
    };
    let loaded = load(disk, &state, documents.as_deref(), index_options(birth)?)?;
    if loaded.sealed.last.is_none() && number > 1 {
        return Err(Fault::damage(format!(
            "{}: an installed state without its manifest",
            state.display()
        )));
    }
    loaded.index.remove_unreferenced(&loaded.segments).map_err(Fault::new)?;
    for name in disk.list(&state)? {
        if super::frame::is_temporary(&name) {
            disk.remove(&state.join(name))?;
        }
    }
    Ok(OpenedShard {
        place: Place {
            number,
            sealed: loaded.sealed.clone(),
            segments: loaded.segments,
            tag: loaded.tag,
        },
        driven: loaded.driven,
        index: loaded.index,
        documents,
    })
}

/// How the map wants this collection to be indexed.
fn index_options(birth: &EnsureReplicaRequest) -> Result<granum_index::Options, Fault> {
    let settings = birth.index.clone().unwrap_or_default();
    let builder = match &*settings.builder {
        "" => Builder::Granum,
        "hnsw_rs" => Builder::HnswRs,
        "codes" => Builder::Codes,
        "scan" => Builder::Scan,
        other => {
            return Err(Fault::new(format!(
                "index.builder: {other:?}, must be \"\", \"hnsw_rs\", \"codes\" or \"scan\""
            )));
        }
    };
    let bits = match settings.bits {
        0 => Bits::Four,
        bits => {
            Bits::from_count(bits).ok_or_else(|| Fault::new(format!("index.bits: {bits}, must be 1, 2, 4 or 8")))?
        }
    };
    let target_recall = match settings.target_recall {
        0.0 => granum_index::Options::default().target_recall,
        recall if (0.5..=1.0).contains(&recall) => recall,
        other => return Err(Fault::new(format!("index.target_recall: {other}, must be 0.5..=1"))),
    };
    Ok(granum_index::Options {
        builder,
        bits,
        seed: birth.collection,
        target_recall,
    })
}

/// Name of a replica's tree among the node's.
pub fn tree_name(replica: u64) -> String {
    format!("documents-{replica:016x}")
}

struct Loaded {
    sealed: Sealed,
    segments: Vec<SegmentRef>,
    tag: Tag,
    driven: Driven,
    index: Arc<Index>,
}

/// Reads a state's folder.
fn load(
    disk: &dyn Disk,
    state: &Path,
    documents: Option<&Documents>,
    options: granum_index::Options,
) -> Result<Loaded, Fault> {
    let (mut manifest, segments, tag) = match manifest::read(disk, state)? {
        Some(opened) => (opened.manifest, opened.segments, opened.tag),
        None => (
            Manifest {
                next_segment: 1,
                ..Manifest::default()
            },
            Vec::new(),
            Tag {
                sequence: 0,
                manifest: 0,
            },
        ),
    };
    let sealed = point::read(manifest.point.take());
    let core = match sealed.last {
        Some(_) => Core::read_manifest(&mut manifest).map_err(Fault::damage)?,
        None => Core::unborn(),
    };
    let schema = core.schema().as_ref().clone();
    let index = Index::open(state, schema, options, &segments)?;
    if let Some(documents) = documents {
        documents.open(tag, index.view().sealed_ids()).map_err(Fault::new)?;
    }
    let driven = Driven {
        core,
        applied: sealed.clone(),
        next_segment: manifest.next_segment,
        pending: VecDeque::new(),
        missed_seal: false,
        fault: None,
    };
    Ok(Loaded {
        sealed,
        segments,
        tag,
        driven,
        index: Arc::new(index),
    })
}

/// The highest whole state; unfinished and older ones are removed. The first one where there is none.
fn standing_number(disk: &dyn Disk, directory: &Path) -> Result<u64, Fault> {
    let mut standing = None;
    for name in disk.list_dirs(directory)? {
        let Some(number) = name.strip_prefix(STATE_PREFIX) else {
            continue;
        };
        if number.ends_with(UNFINISHED_SUFFIX) {
            disk.remove_dir_all(&directory.join(&name))?;
        } else if let Ok(number) = u64::from_str_radix(number, 16) {
            standing = standing.max(Some(number));
        }
    }
    for name in disk.list_dirs(directory)? {
        let number = name
            .strip_prefix(STATE_PREFIX)
            .and_then(|number| u64::from_str_radix(number, 16).ok());
        if number.is_some() && number < standing {
            disk.remove_dir_all(&directory.join(&name))?;
        }
    }
    let number = standing.unwrap_or(1);
    disk.create_dir_all(&state_directory(directory, number))?;
    disk.sync_dir(directory)?;
    Ok(number)
}

/// The folder of state `number`.
pub(super) fn state_directory(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{STATE_PREFIX}{number:016x}"))
}

/// The folder of the state that stands in a shard's folder; `None`: there is none.
pub fn standing_directory(disk: &dyn Disk, directory: &Path) -> Result<Option<PathBuf>, DiskError> {
    let numbers = disk.list_dirs(directory)?;
    let numbers = numbers
        .iter()
        .filter_map(|name| u64::from_str_radix(name.strip_prefix(STATE_PREFIX)?, 16).ok());
    Ok(numbers.max().map(|number| state_directory(directory, number)))
}

impl ShardMachine {
    pub(super) fn lock_sealing(&self) -> MutexGuard<'_, Place> {
        self.sealing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of the state that stands.
    #[cfg(test)]
    pub(super) fn state_directory(&self) -> PathBuf {
        state_directory(&self.directory, self.lock_sealing().number)
    }

    /// Makes all pending seal points durable, oldest first.
    pub(super) fn seal_pending(&self) -> Result<Sealed, Fault> {
        let mut place = self.lock_sealing();
        while let Some(pending) = self.next_pending() {
            match self.seal_one(&mut place, pending) {
                Ok(()) => {}
                Err(SealError::Full(problem)) => {
                    tracing::warn!(%problem, "not sealed: the disk is full");
                    // Nobody is to wait for memory that a full disk will not free.
                    self.account_flushes(0);
                    break;
                }
                Err(SealError::Fault(fault)) => return Err(fault),
            }
        }
        Ok(place.sealed.clone())
    }

    /// The oldest seal point not yet durable; one that came when too many were pending is made up for here.
    fn next_pending(&self) -> Option<Pending> {
        let mut driven = self.lock_core();
        if driven.pending.is_empty() && driven.missed_seal {
            driven.freeze(&self.index());
            self.account_flushes(driven.pending.len());
        }
        driven.pending.front().cloned()
    }

    fn seal_one(&self, place: &mut Place, pending: Pending) -> Result<(), SealError> {
        let disk = self.options.disk.as_ref();
        let state = state_directory(&self.directory, place.number);
        let index = self.index();
        let built = index.build(&pending.frozen)?;
        let segments = built.segments().to_vec();
        let manifest = Manifest {
            point: Some(point::write(&pending.point)),
            documents: Census::of(&segments).documents,
            segments: manifest::write_segments(&segments),
            // As of now: a merge may have minted one since the seal point, and be named here.
            next_segment: self.lock_core().next_segment,
            ..pending.manifest
        };
        let tag = manifest::write(disk, &state, &manifest)?;
        if let Some(documents) = &self.documents {
            documents.enter(built.ids());
        }
        {
            let mut driven = self.lock_core();
            index.publish(built);
            driven.pending.pop_front();
            // Memory first: who waits for it is not told that nothing will come while it is there.
            self.account(index.stats().recent_bytes);
            self.account_flushes(driven.pending.len());
        }
        if let Some(documents) = &self.documents {
            documents.tag_as(tag);
        }
        self.censuses.push(&pending.point, Census::of(&segments));
        (place.sealed, place.segments, place.tag) = (pending.point, segments, tag);
        index.remove_unreferenced(&place.segments).map_err(Fault::new)?;
        Ok(())
    }

    /// Pins the files of the seal that stands.
    pub(super) fn pin_snapshot(&self) -> Result<Option<SnapshotFiles>, Fault> {
        let place = self.lock_sealing();
        if place.sealed.last.is_none() {
            return Ok(None);
        }
        let disk = &self.options.disk;
        let state = state_directory(&self.directory, place.number);
        let number = self.snapshots.fetch_add(1, Ordering::Relaxed);
        let referenced = place.segments.iter().flat_map(|segment| &segment.files);
        let mut names: Vec<String> = referenced.clone().map(|file| file.name.clone()).collect();
        names.push(MANIFEST_FILE.to_owned());
        let pinned = files::pin(disk, &state, &self.directory, number, &names)?;
        let (bytes, digest) = files::digest(disk.as_ref(), &pinned.path().join(MANIFEST_FILE))?;
        let mut files: Vec<_> = referenced
            .map(|file| (file.name.clone(), file.bytes, file.xxh3))
            .collect();
        files.push((MANIFEST_FILE.to_owned(), bytes, digest));
        Ok(Some(SnapshotFiles {
            sealed: place.sealed.clone(),
            directory: pinned.path().to_owned(),
            files,
            guard: Some(Box::new(pinned)),
        }))
    }

    /// Replaces everything by a snapshot.
    pub(super) fn install_snapshot(&self, received: &Path, announced: Sealed) -> Result<(), Fault> {
        let _merging = self.interrupt_merging();
        let mut place = self.lock_sealing();
        let disk = self.options.disk.as_ref();
        let number = place.number + 1;
        let unfinished = self
            .directory
            .join(format!("{STATE_PREFIX}{number:016x}{UNFINISHED_SUFFIX}"));
        move_in(disk, received, &unfinished, &announced)?;
        if let Some(documents) = &self.documents {
            documents.clear();
        }
        let state = state_directory(&self.directory, number);
        disk.rename(&unfinished, &state)?;
        disk.sync_dir(&self.directory)?;

        let mut driven = self.lock_core();
        let loaded = load(disk, &state, self.documents.as_deref(), self.index().options())?;
        let old = state_directory(&self.directory, place.number);
        *place = Place {
            number,
            sealed: loaded.sealed,
            segments: loaded.segments,
            tag: loaded.tag,
        };
        self.censuses.push(&place.sealed, Census::of(&place.segments));
        *driven = loaded.driven;
        *self.write_standing() = driven.standing(loaded.index);
        let sequence = driven.core.sequence();
        drop(driven);
        self.account(0);
        self.account_flushes(0);
        self.announce(sequence);
        disk.remove_dir_all(&old)?;
        Ok(())
    }
}

/// Links a received snapshot's files into a new folder, durably, after every digest was checked.
fn move_in(disk: &dyn Disk, received: &Path, unfinished: &Path, announced: &Sealed) -> Result<(), Fault> {
    let opened = manifest::read(disk, received)?.ok_or_else(|| Fault::new("snapshot: it lacks its manifest"))?;
    let contained = point::read(opened.manifest.point);
    if contained.last != announced.last {
        let problem = format!(
            "snapshot: it reaches {:?}, announced {:?}",
            contained.last, announced.last
        );
        return Err(Fault::new(problem));
    }
    disk.remove_dir_all(unfinished)?;
    disk.create_dir_all(unfinished)?;
    for file in opened.segments.iter().flat_map(|segment| &segment.files) {
        let (bytes, digest) = files::digest(disk, &received.join(&file.name))?;
        if (bytes, digest) != (file.bytes, file.xxh3) {
            return Err(Fault::new(format!(
                "snapshot: {}: its digest is not the manifest's",
                file.name
            )));
        }
        take_over(disk, received, unfinished, &file.name)?;
    }
    take_over(disk, received, unfinished, MANIFEST_FILE)?;
    disk.sync_dir(unfinished)?;
    Ok(())
}

fn take_over(disk: &dyn Disk, from: &Path, to: &Path, name: &str) -> Result<(), DiskError> {
    disk.open(&from.join(name))?.sync_data()?;
    files::link_or_copy(disk, &from.join(name), &to.join(name))
}
