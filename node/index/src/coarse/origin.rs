//! What of a merged segment's codes and links is there already? Its sources', under other numbers.
//!
//! A merged segment's values are its sources' bytes. So a row's code is what it was, given the same quantizer, and the links
//! among the rows of one source are as good as before. Files of sources are opened anew for this, so that each of their pages is
//! checked once more; what is missing, damaged or made otherwise is done without.

use std::path::Path;

use granum_model::VectorKind;

use super::quantize::{Factors, Quantizer};
use super::{Codes, Graph};
use crate::executor::Executor;
use crate::pace::{Stopped, go_on_at};
use crate::segment::VectorFile;
use crate::segment::merge::Source;

/// No place: the row was left out.
const GONE: u32 = u32::MAX;

/// A source's vectors of the same field: what was derived from them, and where each place went.
pub(crate) struct Origin {
    codes: Option<Codes>,
    graph: Option<Graph>,
    /// The new place of each old one, or [`GONE`]. Invariant: no two old places have the same new one.
    new_places: Vec<u32>,
}

impl Origin {
    /// Those of the dense vectors `merged`, which a merge has made from `sources`.
    pub fn all(directory: &Path, sources: &[Source], merged: &VectorFile) -> Vec<Origin> {
        if !matches!(merged.kind(), VectorKind::Dense { .. }) {
            return Vec::new();
        }
        let mut place_of = vec![GONE; merged.rows() as usize];
        for (place, row) in (0..).zip(merged.present_rows()) {
            place_of[row as usize] = place;
        }
        let origin = |source: &Source| {
            let vectors = source.segment.vectors().iter().find(|own| own.is_like(merged))?;
            let new_place = |row| source.new_rows.new_row(row).map_or(GONE, |new| place_of[new as usize]);
            Some(Origin {
                codes: Codes::open(directory, source.segment.id, vectors).ok(),
                graph: Graph::open(directory, source.segment.id, vectors).ok(),
                new_places: vectors.present_rows().map(new_place).collect(),
            })
        };
        sources.iter().filter_map(origin).collect()
    }

    /// The new place of an old one; `None`: the row was left out.
    #[inline]
    pub fn new_place(&self, old: u32) -> Option<u32> {
        Some(self.new_places[old as usize]).filter(|new| *new != GONE)
    }

    /// Old places that went on, with their new ones.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..)
            .zip(&self.new_places)
            .filter(|(_, new)| **new != GONE)
            .map(|(old, new)| (old, *new))
    }

    /// Its graph, if it is sound. Reads all of it.
    pub fn sound_graph(&self) -> Option<&Graph> {
        self.graph.as_ref().filter(|graph| graph.check().is_ok())
    }

    /// Hands `take` the code and the factors of each row that went on, with its new place: those that `quantizer` would make
    /// anew. Nothing of codes that were made otherwise or are damaged.
    pub fn each_code(
        &self,
        quantizer: &Quantizer,
        executor: &dyn Executor,
        mut take: impl FnMut(u32, &[u8], Factors),
    ) -> Result<(), Stopped> {
        let codes = self.codes.as_ref();
        let sound = codes.filter(|codes| codes.quantizer().is_same(quantizer) && codes.check().is_ok());
        let Some(codes) = sound.and_then(|codes| codes.coded().ok()) else {
            return Ok(());
        };
        for (at, (old, new)) in self.pairs().enumerate() {
            go_on_at(at, executor)?;
            take(new, codes.code(old), codes.factors(old));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
