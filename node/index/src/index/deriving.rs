//! What is derived from published segments: codes, graphs and columns of the payload, built beside everything else.

use std::cmp::Reverse;
use std::sync::Arc;

use granum_model::Schema;

use super::Index;
use crate::coarse::derive::{self, Present};
use crate::coarse::origin::Origin;
use crate::coarse::{Centroid, Coarse};
use crate::column;
use crate::document::SegmentId;
use crate::error::BuildError;
use crate::executor::Executor;
use crate::segment::merge::Source;
use crate::segment::{Segment, VectorFile};

/// Gives up when a segment has gone, and when the caller says so.
struct WhileThere<'a> {
    index: &'a Index,
    segment: SegmentId,
    executor: &'a dyn Executor,
}

impl Executor for WhileThere<'_> {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.executor.run(tasks, task);
    }

    fn pace(&self, bytes: u64) -> bool {
        self.executor.pace(bytes) || !self.index.has(self.segment)
    }
}

impl Index {
    /// Builds what options and schema ask for and published segments lack, or have damaged; returns how many files. Slow:
    /// for a worker, one at a time. Searches are right without it, and use each file from the moment it is there.
    ///
    /// What is built for a segment that a merge or a seal takes away meanwhile is given up; so is all of it, with
    /// [`BuildError::Stopped`], when `executor` says so. Neither leaves a file behind that is not complete.
    pub fn derive(&self, executor: &dyn Executor) -> Result<usize, BuildError> {
        let state = self.state().clone();
        let mut built = 0;
        for live in &state.segments {
            let segment = &live.segment;
            let watching = WhileThere {
                index: self,
                segment: segment.id,
                executor,
            };
            match self.derive_segment(segment, &state.schema, &[], &watching) {
                Err(BuildError::Stopped) if !self.has(segment.id) => {}
                derived => built += derived?,
            }
        }
        Ok(built)
    }

    /// Whether a segment is published.
    fn has(&self, segment: SegmentId) -> bool {
        self.state().segments.iter().any(|live| live.segment.id == segment)
    }

    /// Whether a published segment lacks what options and schema ask for; costs no more than a look at each.
    pub fn lacks_derived(&self) -> bool {
        let state = self.state().clone();
        let lacks = |segment: &Segment| {
            let mut vectors = segment.vectors().iter();
            vectors.any(|vectors| derive::is_known_to_lack(vectors, self.options))
                || segment.columns.lacks(&state.schema.payload)
        };
        state.segments.iter().any(|live| lacks(&live.segment))
    }

    /// Makes the codes of a segment that was just built, so that it is never searched without: they take a fraction of the time
    /// that a graph does. What fails here is left to [`Index::derive`], which says why.
    pub(super) fn encode_segment(&self, segment: &Segment) {
        for vectors in segment.vectors() {
            let centroids = self.centroids(vectors);
            if derive::encode_only(&self.directory, segment.id, vectors, self.options, centroids).is_ok() {
                let coarse = Coarse::open(&self.directory, segment.id, vectors);
                // Read now, so that no search waits for it.
                vectors.set_coarse(coarse.filter(Coarse::is_sound));
            }
        }
    }

    /// What the codes of such vectors are about in published segments, the largest first.
    fn centroids(&self, vectors: &VectorFile) -> Vec<Centroid> {
        let state = self.state().clone();
        let files = state.segments.iter().flat_map(|live| live.segment.vectors());
        let alike = files.filter(|file| file.is_like(vectors));
        let coded = alike.filter_map(|file| Some((file.places(), file.coarse().clone()?)));
        let mut coded: Vec<(u64, Arc<Coarse>)> = coded.collect();
        coded.sort_by_key(|(places, _)| Reverse(*places));
        coded.iter().map(|(_, coarse)| coarse.centroid().clone()).collect()
    }

    /// The most that the codes and graphs which published segments lack will take on disk, but for the rest of last pages.
    pub fn underived_bytes(&self) -> u64 {
        let state = self.state().clone();
        let vectors = state.segments.iter().flat_map(|live| live.segment.vectors());
        let lacking = vectors.filter(|vectors| derive::is_known_to_lack(vectors, self.options));
        lacking.map(|vectors| derive::bytes(vectors, self.options)).sum()
    }

    pub(super) fn derive_segment(
        &self,
        segment: &Segment,
        schema: &Schema,
        sources: &[Source],
        executor: &dyn Executor,
    ) -> Result<usize, BuildError> {
        let mut built = column::derive(&self.directory, segment, &schema.payload, executor)?;
        for vectors in segment.vectors() {
            let missing = derive::missing(vectors, self.options);
            if missing.files() == 0 {
                continue;
            }
            let present = Present {
                origins: Origin::all(&self.directory, sources, vectors),
                centroids: self.centroids(vectors),
            };
            derive::derive(
                &self.directory,
                segment.id,
                vectors,
                self.options,
                missing,
                &present,
                executor,
            )?;
            let coarse = Coarse::open(&self.directory, segment.id, vectors);
            // Now, on this worker, and not when the first search asks.
            coarse.as_ref().map(Coarse::is_sound);
            vectors.set_coarse(coarse);
            built += missing.files();
        }
        Ok(built)
    }
}
