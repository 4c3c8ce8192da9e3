//! The recipe of a query: one probe, every part in turn, the k best of all of them, proved.
//!
//! Documents in memory are scored at once ([`memory`]). A segment names candidates by codes ([`named`]), each with the interval that its
//! score lies in, or, where it has no codes or the query asks for `exact`, scores all its rows. When all parts have spoken,
//! the rows that the query wants proved are read, across segments, so that what one part has found spares another its
//! reads, and codes name nothing that certainly scores less than k others. Dead rows fall out before their ids are read. A
//! filter first becomes the set of rows that pass; where that set is not known and dear to find, rows are scored first and
//! the filter is evaluated best-first ([`filtered`]).

mod certificate;
pub(crate) mod check;
pub(crate) mod filtered;
mod memory;
mod named;
mod reads;
mod together;

use granum_model::{DocId, Hit, VectorField};

use self::certificate::Certificate;
use crate::coarse::Widening;
use crate::error::{ReadError, SearchError};
use crate::filter::Compiled;
use crate::fine::verify::Claim;
use crate::metric::Probe;
use crate::query::{Found, Query, RowHit, RowRef, Usage};
use crate::segment::VectorFile;
use crate::state::Live;
use crate::top_k::{Candidate, KthBest, TopK};
use crate::view::{Part, View};
use named::Passing;
use together::Left;

/// Queries that go through the parts together: what one of them was told to expect is still near when it is proved.
const TOGETHER: usize = 16;
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
    /// Lower ends of their intervals.
    lower: KthBest,
    /// Live documents of all parts.
    documents: u64,
    target_recall: f32,
    widening: Widening,
    certificate: Certificate,
    usage: Usage,
}

/// Answers queries, one [`Found`] each, in their order. Neighbours that ask the same vector go through the parts together.
pub(crate) fn search(view: &View, queries: &[Query], stop: &dyn Fn() -> bool) -> Result<Vec<Found>, SearchError> {
    // What one part has spares those after it: documents in memory first, whose scores are known at once, then the largest segment.
    let mut parts: Vec<(u32, Part<'_>)> = view.parts().collect();
    parts.sort_by_key(|(_, part)| match part {
        Part::Memory(_) => 0,
        Part::Disk(live) => u32::MAX - live.segment.rows,
    });
    let mut found = Vec::with_capacity(queries.len());
    let alike = queries.chunk_by(|left, right| left.using == right.using);
    for together in alike.flat_map(|alike| alike.chunks(TOGETHER)) {
        let searches = together.iter().map(|query| Search::new(view, query, stop));
        let mut searches = searches.collect::<Result<Vec<_>, _>>()?;
        for (number, part) in &parts {
            match *part {
                Part::Memory(recent) => memory::search(&mut searches, *number, recent)?,
                Part::Disk(live) => disk(&mut searches, *number, live)?,
            }
        }
        for search in searches {
            found.push(search.finish(view)?);
        }
    }
    Ok(found)
}

/// Asks a segment. Queries that need the scores of all its rows share one pass over them, and so do those that need the same
/// codes: a row comes from memory once, and is scored for each.
fn disk(searches: &mut [Search<'_>], part: u32, live: &Live) -> Result<(), SearchError> {
    let Some(first) = searches.first() else {
        return Ok(());
    };
    let (field, stop) = (first.field, first.stop);
    let Some(file) = live.segment.vector(&field.name).filter(|file| file.is_of(field)) else {
        return Ok(());
    };
    let (mut exhaustive, mut coded) = (Vec::new(), Vec::new());
    for search in searches {
        match search.disk(part, live, file)? {
            Left::Nothing => {}
            Left::Codes(codes) => coded.push((search, codes)),
            Left::Rows => exhaustive.push(search),
        }
    }
    together::scan_codes(part, coded)?;
    if exhaustive.is_empty() {
        return Ok(());
    }
    let probes: Vec<Probe> = exhaustive.iter().map(|search| search.probe.clone()).collect();
    let done = file.scores(&probes, stop, |number, place, score| {
        let search = &mut exhaustive[number];
        if search.best.admits(score) {
            let row = file.row(place);
            if !live.dead.contains(row) {
                let id = live.segment.id(row)?;
                search.offer(score, id, RowRef { part, row });
            }
        }
        Ok(())
    })?;
    for search in exhaustive {
        search.count_all(file);
    }
    if done { Ok(()) } else { Err(SearchError::Stopped) }
}

impl<'a> Search<'a> {
    fn new(view: &'a View, query: &'a Query, stop: &'a dyn Fn() -> bool) -> Result<Search<'a>, SearchError> {
        let unknown = || SearchError::UnknownVector {
            name: query.using.clone(),
        };
        let field = view.schema().vector(&query.using).ok_or_else(unknown)?;
        let filter = Compiled::new(&query.filter)?;
        let target_recall = query.params.target_recall.unwrap_or(view.target_recall);
        Ok(Search {
            query,
            field,
            probe: Probe::new(field, &query.vector)?,
            filter: (!query.filter.is_empty()).then_some(filter),
            stop,
            best: TopK::new(query.k, query.threshold),
            named: Vec::new(),
            lower: KthBest::new(query.k + usize::from(query.exclude.is_some())),
            documents: view.documents(),
            target_recall,
            widening: view.widening(&query.using, target_recall),
            certificate: Certificate::new(view, query, field),
            usage: Usage::default(),
        })
    }
}

impl Search<'_> {
    /// Names or scores what a segment has for this query, but for what is better done for many at once.
    fn disk(&mut self, part: u32, live: &Live, file: &VectorFile) -> Result<Left, SearchError> {
        if let Some(coarse) = self.coarse(file) {
            let passing = match self.passing(live, file)? {
                Passing::All => None,
                Passing::Places(places) => Some(places),
                Passing::Doubtful(known) => {
                    self.filter_disk(part, live, file, known)?;
                    return Ok(Left::Nothing);
                }
            };
            return Ok(self.name(part, coarse, live, file, passing));
        }
        let Some(filter) = &self.filter else {
            return Ok(Left::Rows);
        };
        if let Some(rows) = live.segment.filters.get(&self.query.filter) {
            self.score_rows(part, live, file, &rows)?;
        } else {
            let known = filter.known(&live.segment, self.stop)?;
            self.filter_disk(part, live, file, known)?;
        }
        Ok(Left::Nothing)
    }

    /// Scores all rows of a segment; `admitted` gets the live ones that may enter the k best.
    fn scan(
        &mut self,
        live: &Live,
        file: &VectorFile,
        mut admitted: impl FnMut(&mut Self, f32, u32) -> Result<(), ReadError>,
    ) -> Result<(), SearchError> {
        let (probe, stop) = (self.probe.clone(), self.stop);
        let done = file.scores(&[probe], stop, |_, place, score| {
            if self.best.admits(score) {
                let row = file.row(place);
                if !live.dead.contains(row) {
                    return admitted(self, score, row);
                }
            }
            Ok(())
        })?;
        self.count_all(file);
        if done { Ok(()) } else { Err(SearchError::Stopped) }
    }

    /// All rows of a segment were read and scored.
    fn count_all(&mut self, file: &VectorFile) {
        self.usage.rows_scored += file.places();
        self.usage.rows_read += file.places();
        self.usage.bytes_read += file.values_bytes();
        self.usage.pages_read += file.values_pages();
    }

    /// How many must be found for as many as the query asks for to be left.
    fn wanted(&self) -> usize {
        self.query.k + usize::from(self.query.exclude.is_some())
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
            delta: self.certificate.delta(),
            walked: self.certificate.has_walked(),
        })
    }
}
