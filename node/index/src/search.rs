//! The recipe of a query: one probe, every part in turn, the k best of all of them, proved.
//!
//! Documents in memory are scored exactly. A segment names candidates by codes ([`named`]), each with the interval that its
//! score lies in, or, where it has no codes or the query asks for `exact`, scores all its rows. When all parts have spoken,
//! the rows that the query wants proved are read, across segments, so that what one part has found spares another its
//! reads. Dead rows fall out before their ids are read. A filter first becomes the set of rows that pass; where that set is
//! not known and dear to find, rows are scored first and the filter is evaluated best-first ([`filtered`]).

pub(crate) mod filtered;
mod named;
mod reads;

use granum_model::{DocId, Hit, VectorField};

use crate::error::{ReadError, SearchError};
use crate::filter::Compiled;
use crate::fine::verify::Claim;
use crate::metric::Probe;
use crate::query::{Found, Query, RowHit, RowRef, Usage};
use crate::recent::Recent;
use crate::segment::VectorFile;
use crate::state::Live;
use crate::top_k::{Candidate, TopK};
use crate::view::{Part, View};

/// Rows of memory between two looks at the deadline.
const STOP_ROWS: u32 = 1024;

/// One query under way.
pub(crate) struct Search<'a> {
    query: &'a Query,
    field: &'a VectorField,
    probe: Probe,
    /// `None`: everything passes.
    filter: Option<Compiled>,
    stop: &'a dyn Fn() -> bool,
    /// Scores that are known.
    best: TopK,
    /// Rows of segments whose scores are estimates: places of the vector searched.
    named: Vec<Claim<RowRef>>,
    target_recall: f32,
    usage: Usage,
}

pub(crate) fn search(view: &View, query: &Query, stop: &dyn Fn() -> bool) -> Result<Found, SearchError> {
    let unknown = || SearchError::UnknownVector {
        name: query.using.clone(),
    };
    let field = view.schema().vector(&query.using).ok_or_else(unknown)?;
    let filter = Compiled::new(&query.filter)?;
    let mut search = Search {
        query,
        field,
        probe: Probe::new(field, &query.vector)?,
        filter: (!query.filter.is_empty()).then_some(filter),
        stop,
        best: TopK::new(query.k, query.threshold),
        named: Vec::new(),
        target_recall: query.params.target_recall.unwrap_or(view.target_recall),
        usage: Usage::default(),
    };
    for (number, part) in view.parts() {
        match part {
            Part::Memory(recent) => search.memory(number, recent)?,
            Part::Disk(live) => search.disk(number, live)?,
        }
    }
    search.finish(view)
}

impl Search<'_> {
    fn memory(&mut self, part: u32, recent: &Recent) -> Result<(), SearchError> {
        let mut candidates = Vec::new();
        for (row, document) in recent.live() {
            if row % STOP_ROWS == 0 && (self.stop)() {
                return Err(SearchError::Stopped);
            }
            let vector = document.vector(&self.field.name);
            let Some(score) = vector.and_then(|vector| self.probe.score(vector)) else {
                continue;
            };
            self.usage.rows_scored += 1;
            if !self.best.admits(score) {
                continue;
            }
            match self.filter {
                None => self.offer(score, document.id.clone(), RowRef { part, row }),
                Some(_) => candidates.push((score, row)),
            }
        }
        self.filter_memory(part, recent, candidates)
    }

    fn disk(&mut self, part: u32, live: &Live) -> Result<(), SearchError> {
        let Some(file) = live
            .segment
            .vector(&self.field.name)
            .filter(|file| file.is_of(self.field))
        else {
            return Ok(());
        };
        if self.name(part, live, file)? {
            return Ok(());
        }
        if self.filter.is_some() {
            return self.filter_disk(part, live, file);
        }
        self.scan(live, file, |search, score, row| {
            let id = live.segment.id(row)?;
            search.offer(score, id, RowRef { part, row });
            Ok(())
        })
    }

    /// Scores all rows of a segment; `admitted` gets the live ones that may enter the k best.
    fn scan(
        &mut self,
        live: &Live,
        file: &VectorFile,
        mut admitted: impl FnMut(&mut Self, f32, u32) -> Result<(), ReadError>,
    ) -> Result<(), SearchError> {
        let (probe, stop) = (self.probe.clone(), self.stop);
        let done = file.scores(&probe, stop, |place, score| {
            if self.best.admits(score) {
                let row = file.row(place);
                if !live.dead.contains(row) {
                    return admitted(self, score, row);
                }
            }
            Ok(())
        })?;
        self.usage.rows_scored += file.places();
        self.usage.rows_read += file.places();
        self.usage.bytes_read += file.values_bytes();
        self.usage.pages_read += file.values_pages();
        if done { Ok(()) } else { Err(SearchError::Stopped) }
    }

    fn offer(&mut self, score: f32, id: DocId, row: RowRef) {
        if self.query.exclude.as_ref() != Some(&id) {
            self.best.push(Candidate { score, id, row });
        }
    }

    fn finish(mut self, view: &View) -> Result<Found, SearchError> {
        let mut hits = Vec::with_capacity(self.query.k.min(self.named.len() + 1));
        for (candidate, interval) in self.proved(view)? {
            let Candidate { score, id, row } = candidate;
            let version = view.version(row)?;
            hits.push(RowHit {
                hit: Hit { id, score, version },
                interval,
                row,
            });
        }
        for pair in hits.windows(2) {
            assert!(pair[0].hit.rank(&pair[1].hit).is_le(), "hits out of order: {pair:?}");
        }
        Ok(Found {
            hits,
            usage: self.usage,
        })
    }
}
