//! What is derived from published segments: codes, graphs and columns of the payload, built beside everything else.

use granum_model::Schema;

use super::Index;
use crate::coarse::{Coarse, derive};
use crate::column;
use crate::error::BuildError;
use crate::executor::Executor;
use crate::segment::Segment;

impl Index {
    /// Builds what options and schema ask for and published segments lack, or have damaged; returns how many files. Slow:
    /// for a worker, one at a time. Searches are right without it, and use each file from the moment it is there.
    pub fn derive(&self, executor: &dyn Executor) -> Result<usize, BuildError> {
        let state = self.state().clone();
        let mut built = 0;
        for live in &state.segments {
            built += self.derive_segment(&live.segment, &state.schema, executor)?;
        }
        Ok(built)
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

    pub(super) fn derive_segment(
        &self,
        segment: &Segment,
        schema: &Schema,
        executor: &dyn Executor,
    ) -> Result<usize, BuildError> {
        let mut built = column::derive(&self.directory, segment, &schema.payload)?;
        for vectors in segment.vectors() {
            let missing = derive::missing(vectors, self.options);
            if missing.files() == 0 {
                continue;
            }
            derive::derive(&self.directory, segment.id, vectors, self.options, missing, executor)?;
            let coarse = Coarse::open(&self.directory, segment.id, vectors);
            // Now, on this worker, and not when the first search asks.
            coarse.as_ref().map(Coarse::is_sound);
            vectors.set_coarse(coarse);
            built += missing.files();
        }
        Ok(built)
    }
}
