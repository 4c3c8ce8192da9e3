//! The recipe of a query: one probe, every part in turn, the k best of all of them.
//!
//! Each part scores its rows and offers those that may enter the k best; dead rows fall out before their ids are read.
//! With a filter, rows are scored first and the filter is evaluated best-first until k have passed ([`filtered`]), unless
//! the segment already knows which rows pass. All rows are scored, exactly, unless the segment has a graph, the query does
//! not ask for `exact` and there is no filter: then the graph is walked.

pub(crate) mod filtered;

use granum_model::{DocId, Hit, ScoreInterval, VectorField};

use crate::coarse::walk::walk;
use crate::error::{ReadError, SearchError};
use crate::filter::Compiled;
use crate::metric::Probe;
use crate::query::{Found, Params, Query, RowHit, RowRef, Usage};
use crate::recent::Recent;
use crate::segment::VectorFile;
use crate::state::Live;
use crate::top_k::{Candidate, TopK};
use crate::view::{Part, View};

/// Candidates that a walk keeps where the query does not say.
const EF_DEFAULT: usize = 64;
/// A walk that keeps one of so many rows would score most of them: scan.
const SCAN_SHARE: u64 = 8;
/// More recall than this is not left to a walk whose recall was not measured.
const WALK_RECALL_MAX: f32 = 0.95;
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
    best: TopK,
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
        if self.filter.is_some() {
            return self.filter_disk(part, live, file);
        }
        if self.walk(part, live, file)? {
            return Ok(());
        }
        self.scan(live, file, |search, score, row| {
            let id = live.segment.id(row)?;
            search.offer(score, id, RowRef { part, row });
            Ok(())
        })
    }

    /// Looks for hits along the segment's graph. False: nothing was offered and the rows are to be scanned, because there
    /// is no sound graph, the scan is as cheap, or the walk found less than there is.
    fn walk(&mut self, part: u32, live: &Live, file: &VectorFile) -> Result<bool, SearchError> {
        let Params {
            exact,
            ef,
            target_recall,
            ..
        } = self.query.params;
        let wanted = self.query.k + usize::from(self.query.exclude.is_some());
        let ef = ef.map_or(EF_DEFAULT, |ef| ef as usize).max(wanted);
        let is_scan = exact
            || target_recall.is_some_and(|recall| recall > WALK_RECALL_MAX)
            || ef as u64 * SCAN_SHARE > file.places();
        let Some(graph) = file.graph().filter(|_| !is_scan) else {
            return Ok(false);
        };
        let admits = |place| !live.dead.contains(file.row(u64::from(place)));
        let Some(walked) = walk(&graph, file, &self.probe, ef, admits)? else {
            return Ok(false);
        };
        self.usage.rows_scored += walked.scored;
        self.usage.rows_read += walked.scored;
        self.usage.bytes_read += walked.scored * file.place_bytes(0)?;
        let live_places = file.places().saturating_sub(live.dead.len());
        if (walked.found.len() as u64) < live_places.min(wanted as u64) {
            return Ok(false);
        }
        for (score, place) in walked.found {
            if self.best.admits(score) {
                let row = file.row(u64::from(place));
                self.offer(score, live.segment.id(row)?, RowRef { part, row });
            }
        }
        Ok(true)
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
        if done { Ok(()) } else { Err(SearchError::Stopped) }
    }

    fn offer(&mut self, score: f32, id: DocId, row: RowRef) {
        if self.query.exclude.as_ref() != Some(&id) {
            self.best.push(Candidate { score, id, row });
        }
    }

    fn finish(self, view: &View) -> Result<Found, SearchError> {
        let mut hits: Vec<RowHit> = Vec::new();
        for Candidate { score, id, row } in self.best.into_ranked() {
            let (_, version) = view.id(row)?;
            hits.push(RowHit {
                hit: Hit { id, score, version },
                interval: ScoreInterval::exact(score),
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
