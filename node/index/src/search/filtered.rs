//! A filter meets a part: from payload indexes where they tell, else best-first where few evaluations will do, over all rows
//! once where they won't.
//!
//! What indexes know of a filter ([`Known`]) costs no evaluation; rows that they leave in doubt are evaluated one by one. To
//! evaluate a filter on one row of a segment means to unpack the block of its payload, about seven times the cost of a row
//! in a pass over all of them. So candidates are evaluated best-first while that is the cheaper bet; when it was not
//! (a rare filter), all rows in doubt are evaluated once and the segment remembers which passed. All ways give equal hits.

use std::collections::BinaryHeap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use granum_model::{DocId, Filter};
use roaring::RoaringBitmap;
use serde_json::Value;

use super::{STOP_ROWS, Search};
use crate::document::Document;
use crate::error::{ReadError, SearchError};
use crate::filter::known::Known;
use crate::filter::{Compiled, Fields, Subject};
use crate::query::{RowRef, Usage};
use crate::recent::Recent;
use crate::segment::{RowSubject, Segment, VectorFile};
use crate::state::Live;

/// Evaluations best-first before a segment's rows are all evaluated: at least so many...
const PROBES_MIN: u64 = 256;
/// ... and one of so many rows, which costs about half of what the pass over all rows costs.
const PROBES_SHARE: u64 = 16;

/// Whether a filter wants a document.
pub fn matches(document: &Document, filter: &Filter) -> Result<bool, SearchError> {
    Ok(Compiled::new(filter)?.admits(&mut MemorySubject(document))?)
}

/// A score and a row, ordered by score.
struct Scored(f32, u32);

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scored {}

impl Search<'_> {
    /// Evaluates candidates best-first, all if need be: parsing a payload in memory is cheap.
    pub(super) fn filter_memory(
        &mut self,
        part: u32,
        recent: &Recent,
        candidates: Vec<(f32, u32)>,
    ) -> Result<(), SearchError> {
        let mut queue: BinaryHeap<Scored> = candidates.into_iter().map(|(score, row)| Scored(score, row)).collect();
        while let Some(Scored(score, row)) = queue.pop().filter(|next| self.best.admits(next.0)) {
            let document = recent.document(row);
            if self.passes(&mut MemorySubject(document))? {
                self.offer(score, document.id.clone(), RowRef { part, row });
            }
        }
        Ok(())
    }

    /// Finds hits among rows that may pass, without codes: all `known` rows are scored, doubtful ones evaluated best-first.
    pub(super) fn filter_disk(
        &mut self,
        part: u32,
        live: &Live,
        file: &VectorFile,
        known: Known,
    ) -> Result<(), SearchError> {
        if known.is_exact() {
            let rows = Arc::new(known.certain);
            live.segment.filters.put(&self.query.filter, rows.clone());
            return self.score_rows(part, live, file, &rows);
        }
        let mut candidates = Vec::new();
        self.scan(live, file, |_, score, row| {
            if known.certain.contains(row) || known.doubtful.contains(row) {
                candidates.push(Scored(score, row));
            }
            Ok(())
        })?;
        let mut queue = BinaryHeap::from(candidates);
        let mut payloads = live.segment.payloads();
        let mut probes = PROBES_MIN.max(u64::from(live.segment.rows) / PROBES_SHARE);
        while let Some(Scored(score, row)) = queue.pop().filter(|next| self.best.admits(next.0)) {
            if known.certain.contains(row) {
                self.offer(score, live.segment.id(row)?, RowRef { part, row });
                continue;
            }
            if probes == 0 {
                queue.push(Scored(score, row));
                return self.offer_passing(part, live, known, queue);
            }
            probes -= 1;
            if self.passes(&mut RowSubject {
                segment: &live.segment,
                payloads: &mut payloads,
                row,
            })? {
                self.offer(score, live.segment.id(row)?, RowRef { part, row });
            }
        }
        Ok(())
    }

    /// Offers what passes of candidates already scored.
    fn offer_passing(
        &mut self,
        part: u32,
        live: &Live,
        known: Known,
        candidates: BinaryHeap<Scored>,
    ) -> Result<(), SearchError> {
        let passing = self.evaluate(live, known)?;
        for Scored(score, row) in candidates {
            if self.best.admits(score) && passing.contains(row) {
                self.offer(score, live.segment.id(row)?, RowRef { part, row });
            }
        }
        Ok(())
    }

    /// Rows of a segment that pass, dead ones included, now remembered: those in doubt are evaluated.
    pub(super) fn evaluate(&mut self, live: &Live, known: Known) -> Result<Arc<RoaringBitmap>, SearchError> {
        let compiled = self.filter.as_ref().expect("only called where there is a filter");
        let usage = &mut self.usage;
        evaluate(&live.segment, &self.query.filter, compiled, known, usage, self.stop)
    }

    /// Scores the live ones of `rows` and no others.
    pub(super) fn score_rows(
        &mut self,
        part: u32,
        live: &Live,
        file: &VectorFile,
        rows: &RoaringBitmap,
    ) -> Result<(), SearchError> {
        let mut wanted = rows - &*live.dead;
        if let Some(present) = file.present() {
            wanted &= present;
        }
        let mut next_page = 0;
        for (at, row) in (0u32..).zip(&wanted) {
            if at % STOP_ROWS == 0 && (self.stop)() {
                return Err(SearchError::Stopped);
            }
            let Some(place) = file.place(row) else {
                continue;
            };
            let score = file.score(&self.probe, place)?;
            self.usage.bytes_read += file.place_bytes(place)?;
            let pages = file.place_pages(place)?;
            self.usage.pages_read += pages.end.saturating_sub(pages.start.max(next_page));
            next_page = next_page.max(pages.end);
            if self.best.admits(score) {
                self.offer(score, live.segment.id(row)?, RowRef { part, row });
            }
        }
        self.usage.rows_scored += wanted.len();
        self.usage.rows_read += wanted.len();
        Ok(())
    }

    fn passes(&mut self, subject: &mut dyn Subject) -> Result<bool, ReadError> {
        self.usage.rows_filtered += 1;
        self.filter.as_ref().map_or(Ok(true), |filter| filter.admits(subject))
    }
}

/// The least and the greatest number of a segment's rows that pass, dead ones included, as far as remembered rows and
/// indexes tell: no row is evaluated. Equal where [`disk_rows`] would evaluate none.
#[allow(dead_code, reason = "for the planner of searches")]
pub(crate) fn cardinality(
    segment: &Segment,
    filter: &Filter,
    compiled: &Compiled,
    stop: &dyn Fn() -> bool,
) -> Result<RangeInclusive<u64>, SearchError> {
    match segment.filters.get(filter) {
        Some(rows) => Ok(rows.len()..=rows.len()),
        None => Ok(compiled.known(segment, stop)?.cardinality()),
    }
}

/// Rows of a segment that pass, dead ones included: remembered, or found now and remembered. Indexes are asked first; only
/// rows that they leave in doubt are evaluated, and counted in `usage`.
pub(crate) fn disk_rows(
    segment: &Segment,
    filter: &Filter,
    compiled: &Compiled,
    usage: &mut Usage,
    stop: &dyn Fn() -> bool,
) -> Result<Arc<RoaringBitmap>, SearchError> {
    if let Some(rows) = segment.filters.get(filter) {
        return Ok(rows);
    }
    let known = compiled.known(segment, stop)?;
    evaluate(segment, filter, compiled, known, usage, stop)
}

/// Evaluates the rows in doubt; remembers all that pass.
fn evaluate(
    segment: &Segment,
    filter: &Filter,
    compiled: &Compiled,
    known: Known,
    usage: &mut Usage,
    stop: &dyn Fn() -> bool,
) -> Result<Arc<RoaringBitmap>, SearchError> {
    let mut payloads = segment.payloads();
    let mut rows = known.certain;
    for (at, row) in (0u32..).zip(&known.doubtful) {
        if at % STOP_ROWS == 0 && stop() {
            return Err(SearchError::Stopped);
        }
        if compiled.admits(&mut RowSubject {
            segment,
            payloads: &mut payloads,
            row,
        })? {
            rows.insert(row);
        }
    }
    usage.rows_filtered += known.doubtful.len();
    let rows = Arc::new(rows);
    segment.filters.put(filter, rows.clone());
    Ok(rows)
}

/// Live rows in memory that pass, in order.
pub(crate) fn memory_rows(
    recent: &Recent,
    compiled: &Compiled,
    usage: &mut Usage,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<u32>, SearchError> {
    let mut rows = Vec::new();
    for (row, document) in recent.live() {
        if row % STOP_ROWS == 0 && stop() {
            return Err(SearchError::Stopped);
        }
        if compiled.admits(&mut MemorySubject(document))? {
            rows.push(row);
        }
    }
    usage.rows_filtered += recent.live_rows();
    Ok(rows)
}

/// A document in memory, for a filter.
struct MemorySubject<'a>(&'a Document);

impl Subject for MemorySubject<'_> {
    fn id(&mut self) -> Result<DocId, ReadError> {
        Ok(self.0.id.clone())
    }

    fn has_vector(&mut self, name: &str) -> bool {
        self.0.vector(name).is_some()
    }

    fn payload(&mut self, fields: &Fields) -> Result<Value, ReadError> {
        fields
            .parse(&self.0.payload)
            .map_err(|error| ReadError::malformed("recent", format!("payload of {:?}: {error}", self.0.id)))
    }
}
