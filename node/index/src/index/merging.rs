//! Segments become fewer: a merge reads pinned segments on a worker and writes one, while others write, seal and search.
//!
//! [`merge`](Index::merge) writes it, [`derive_merged`](Index::derive_merged) builds what is derived from it,
//! [`settle`](Index::settle) brings it up to the seal that stands and says what the manifest is to name; once that is
//! durable, [`publish_merged`](Index::publish_merged) swaps it in; then the caller's table id -> [`Place`] is brought up
//! to date, and [`forget_moved`](Index::forget_moved) says so. A merge that is dropped on the way has changed nothing.
//!
//! *Which rows are left out.* Those that were dead at the newest published seal, not those that died since: a manifest
//! with the merged segment stands for a seal point, and the log behind that point is replayed onto it; a row that lived
//! at the point is still asked for its version. For the same reason it is that seal's schema that says which vectors are
//! carried over. So a merge changes nothing that a replay could see, and needs no entry in the log.
//!
//! *Which deaths follow.* All that came since, in three times: up to the seal that stands when the merge settles (a file
//! of dead rows), up to the freeze of each part that is sealing (it writes files of dead rows as of then), and up to now.
//!
//! *Places.* Rows of the sources are followed to where they went until the caller's table names no such row any more.
//!
//! One merge at a time. Between `settle` and `publish_merged` no part may be published, and no merge between `build` and
//! `publish`: both write a manifest, so the caller has a lock around it anyway.

mod reservation;

use std::path::Path;
use std::sync::Arc;

use granum_model::DocId;

use super::{Index, LOCK, open_segment};
use crate::document::{Place, SegmentId};
use crate::error::{BuildError, MergeError, ReadError};
use crate::executor::Executor;
use crate::fine::writer::sync_directory;
use crate::pace::Pace;
use crate::segment::build::failed;
use crate::segment::merge::order::lay_out;
use crate::segment::merge::plan::{Candidate, MergePlan, MergePolicy};
use crate::segment::merge::write::Copying;
use crate::segment::merge::{RowOrder, Source, largest_first};
use crate::segment::{Segment, SegmentRef, deleted, names};
use crate::state::carry::Carried;
use crate::state::merged::Incoming;
use crate::state::{Live, Saved, State};
use reservation::Reservation;

/// In which order merged rows stand.
const ROW_ORDER: RowOrder = largest_first;

/// Several segments as one, on disk and not yet published.
pub struct Merged {
    sources: Vec<Source>,
    /// `None`: no row was alive.
    segment: Option<Arc<Segment>>,
    settled: Option<Settled>,
    reservation: Reservation,
}

/// How a merged segment stands to the newest seal.
struct Settled {
    /// [`State::seals`] then.
    seals: u64,
    /// `None`: all its rows were dead at the seal.
    saved: Option<Saved>,
    now: Carried,
    frozen: Vec<(SegmentId, Carried)>,
}

/// Rows that a published merge has moved.
pub struct Moved {
    merged: SegmentId,
    sources: Vec<Source>,
    segment: Option<Arc<Segment>>,
}

impl Index {
    /// The merge that is due; `None`: none is.
    pub fn plan_merge(&self, policy: &MergePolicy) -> Option<MergePlan> {
        let candidate = |live: &Live| Candidate {
            segment: live.segment.id,
            rows: live.segment.rows,
            dead_rows: live.saved.dead.len() as u32,
            bytes: live.segment.files.iter().map(|file| file.bytes).sum(),
        };
        let candidates: Vec<Candidate> = self.state().segments.iter().map(candidate).collect();
        policy.plan(&candidates)
    }

    /// Writes the segments of `plan` as segment `next`, an id that no segment has or had; syncs it. Slow: for a worker.
    /// Changes nothing that readers or writers see. `pace` is told now and then how many bytes were written since, may take
    /// its time, and says whether to give up.
    pub fn merge(&self, plan: &MergePlan, next: SegmentId, pace: &dyn Fn(u64) -> bool) -> Result<Merged, MergeError> {
        let reservation = Reservation::take(&self.directory, &self.merging, next)?;
        let state = self.state().clone();
        let mut sources = pin(&state, plan)?;
        let rows = sources.iter().map(Source::kept_rows).sum::<u64>();
        if rows >= u64::from(u32::MAX) {
            return Err(MergeError::Rows { rows });
        }
        let mut merged = Merged {
            sources: Vec::new(),
            segment: None,
            settled: None,
            reservation,
        };
        let rows = lay_out(&mut sources, ROW_ORDER);
        if !rows.is_empty() {
            let copying = Copying {
                directory: &self.directory,
                id: next,
                sources: open_anew(&self.directory, &sources)?,
                new_rows: sources.iter().map(|source| source.new_rows.clone()).collect(),
                rows: &rows,
            };
            let reference = copying.write(&state.sealed_schema, &mut Pace::new(pace))?;
            let opened =
                open_segment(&self.directory, &reference, self.options, &state.schema).map_err(BuildError::Open)?;
            merged.segment = Some(opened.segment);
        }
        merged.sources = sources;
        Ok(merged)
    }

    /// As [`derive`](Index::derive), for a merged segment that is not published yet: codes of its rows are copied from its
    /// sources, and the graph of the largest is extended. Slow: for a worker.
    pub fn derive_merged(&self, merged: &Merged, executor: &dyn Executor) -> Result<usize, BuildError> {
        let schema = self.state().schema.clone();
        merged.segment.as_ref().map_or(Ok(0), |segment| {
            self.derive_segment(segment, &schema, &merged.sources, executor)
        })
    }

    /// All segments as of the newest published seal, the merged one in the place of its sources: what the manifest of that
    /// seal is to name. Syncs a file of the rows that have died in between, if there are any.
    pub fn settle(&self, merged: &mut Merged) -> Result<Vec<SegmentRef>, MergeError> {
        let state = self.state().clone();
        let (sources, id) = (merged.sources(), merged.segment());
        let at_seal = Carried::none(sources).and(sources, |source| state.dead_at_seal(source));
        let now = at_seal.and(sources, |source| state.dead_now(source));
        let frozen = state.sealing.iter().map(|part| {
            let captured = |source: &Source| part.captured_of(source.segment.id).cloned();
            (part.id, at_seal.and(sources, captured))
        });
        let frozen = frozen.collect();
        let living = merged
            .segment
            .as_ref()
            .filter(|own| at_seal.dead.len() < u64::from(own.rows));
        let saved = match living {
            Some(segment) if !at_seal.dead.is_empty() => {
                let (rows, name) = (segment.rows, names::deleted(id, id.0));
                // Its own id is a generation that no part will have.
                let file = deleted::write(&self.directory, id, id.0, rows, &at_seal.dead).map_err(failed(name))?;
                sync_directory(&self.directory).map_err(failed(self.directory.display().to_string()))?;
                Some(Saved {
                    dead_digest: segment.digest_of(&at_seal.dead).map_err(BuildError::Read)?,
                    dead: Arc::new(at_seal.dead),
                    file: Some((id.0, file)),
                })
            }
            living => living.map(|_| Saved::default()),
        };
        let reference = living
            .zip(saved.as_ref())
            .map(|(segment, saved)| saved.reference(segment));
        let references = state.replaced(sources, reference, |live| live.saved.reference(&live.segment));
        merged.settled = Some(Settled {
            seals: state.seals,
            saved,
            now,
            frozen,
        });
        merged.reservation.is_named = true;
        Ok(references)
    }

    /// Swaps the sources for the merged segment, which [`settle`](Index::settle) has brought up to date and a manifest
    /// names. Deaths since are carried over.
    pub fn publish_merged(&self, merged: Merged) -> Moved {
        let settled = merged.settled.expect("a merge is settled before it is published");
        let id = merged.reservation.id;
        let segment = merged.segment.filter(|_| settled.saved.is_some());
        let mut state = self.state.write().expect(LOCK);
        assert_eq!(
            state.seals, settled.seals,
            "no part is published between settling and this"
        );
        Arc::make_mut(&mut state).publish_merged(Incoming {
            id,
            sources: &merged.sources,
            segment: segment.clone(),
            saved: settled.saved.unwrap_or_default(),
            now: settled.now,
            frozen: settled.frozen,
        });
        Moved {
            merged: id,
            sources: merged.sources,
            segment,
        }
    }

    /// The caller's table names no row any more that this merge has moved, and no write is under way that looked one up
    /// before.
    pub fn forget_moved(&self, moved: Moved) {
        Arc::make_mut(&mut self.state.write().expect(LOCK)).forget_moved(moved.merged);
    }
}

impl Merged {
    /// The segment that it becomes.
    pub fn segment(&self) -> SegmentId {
        self.reservation.id
    }

    /// The segment, open; `None`: no row was alive.
    #[cfg(test)]
    pub(crate) fn opened(&self) -> Option<&Segment> {
        self.segment.as_deref()
    }

    /// What it was made of, and where each row went.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        let files = self.segment.iter().flat_map(|segment| &segment.files);
        files.map(|file| file.bytes).sum()
    }
}

impl Moved {
    /// Documents of the merged segment with the places that they had and have.
    pub fn places(&self) -> impl Iterator<Item = Result<(DocId, Place, Place), ReadError>> + '_ {
        self.segment.iter().flat_map(move |segment| {
            let rows = self.sources.iter().flat_map(|source| {
                let from = source.segment.id;
                source.new_rows.pairs().map(move |(old, new)| {
                    (
                        Place {
                            segment: from,
                            row: old,
                        },
                        new,
                    )
                })
            });
            rows.map(|(old, row)| {
                let segment_id = segment.id;
                Ok((
                    segment.id(row)?,
                    old,
                    Place {
                        segment: segment_id,
                        row,
                    },
                ))
            })
        })
    }
}

/// The segments of a plan with what was dead at the seal.
fn pin(state: &State, plan: &MergePlan) -> Result<Vec<Source>, MergeError> {
    let source = |id: &SegmentId| {
        let live = state.segments.iter().find(|live| live.segment.id == *id);
        let live = live.ok_or(MergeError::Gone { segment: *id })?;
        Ok(Source::new(live.segment.clone(), live.saved.dead.clone()))
    };
    plan.segments.iter().map(source).collect()
}

/// Opens sources once more, so that every page is checked when it is copied, however often it was read before.
fn open_anew(directory: &Path, sources: &[Source]) -> Result<Vec<Segment>, MergeError> {
    let open = |source: &Source| {
        let reference = Saved::default().reference(&source.segment);
        let (segment, _) = Segment::open(directory, &reference).map_err(MergeError::Source)?;
        Ok(segment)
    };
    sources.iter().map(open).collect()
}
