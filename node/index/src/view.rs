//! A pinned state: what a reader sees, unchanged by whatever is written, sealed or removed meanwhile.

use std::collections::BinaryHeap;
use std::sync::Arc;

use granum_model::{DocId, Filter, PayloadField, Vector};

use crate::coarse::{Widening, permille};
use crate::document::{Document, Place};
use crate::error::{ReadError, SearchError};
use crate::filter::{Compiled, unindexed};
use crate::query::{Found, Query, RowHit, RowRef, Usage};
use crate::recent::Recent;
use crate::search::check::{self, Checked};
use crate::search::{self, filtered};
use crate::state::{Live, State};

/// Cheap to make and to clone. Keeps files open and memory alive while it lives.
#[derive(Clone)]
pub struct View {
    state: Arc<State>,
    /// Of queries that don't say.
    pub(crate) target_recall: f32,
}

/// One of a view's parts.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    Memory(&'a Recent),
    Disk(&'a Live),
}

impl View {
    pub(crate) fn new(state: Arc<State>, target_recall: f32) -> View {
        View { state, target_recall }
    }

    /// The live document of that id, if it is not yet sealed.
    pub fn recent(&self, id: &DocId) -> Option<Arc<Document>> {
        let mut memory = self.memory();
        memory.find_map(|recent| recent.get(id)).cloned()
    }

    /// The document at a sealed place; `None` if it is dead or the view has no such segment.
    pub fn sealed(&self, place: Place) -> Result<Option<Document>, ReadError> {
        let place = self.state.follow(place);
        let live = self.state.segments.iter().find(|live| live.segment.id == place.segment);
        match live {
            Some(live) if place.row < live.segment.rows && !live.dead.contains(place.row) => {
                live.segment.document(place.row).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Id and version at a sealed place; `None` if it is dead or the view has no such segment.
    pub fn sealed_id(&self, place: Place) -> Result<Option<(DocId, u64)>, ReadError> {
        let place = self.state.follow(place);
        let live = self.state.segments.iter().find(|live| live.segment.id == place.segment);
        match live {
            Some(live) if place.row < live.segment.rows && !live.dead.contains(place.row) => {
                Ok(Some((live.segment.id(place.row)?, live.segment.version(place.row)?)))
            }
            _ => Ok(None),
        }
    }

    /// The live document of that id, wherever it is. `hint` saves looking for it in the segments; a wrong one only costs
    /// time, so a table id -> place that runs ahead of or behind this view is fine.
    pub fn get(&self, id: &DocId, hint: Option<Place>) -> Result<Option<Document>, ReadError> {
        if let Some(document) = self.recent(id) {
            return Ok(Some(Document::clone(&document)));
        }
        if let Some(document) = hint.map_or(Ok(None), |place| self.sealed(place))?
            && document.id == *id
        {
            return Ok(Some(document));
        }
        match self.find(id)? {
            Some(place) => self.sealed(place),
            None => Ok(None),
        }
    }

    /// The live sealed row of that id, looked for in the segments' tables of ids.
    pub fn find(&self, id: &DocId) -> Result<Option<Place>, ReadError> {
        for live in self.state.segments.iter().rev() {
            match live.segment.find(id)? {
                Some(row) if !live.dead.contains(row) => {
                    return Ok(Some(Place {
                        segment: live.segment.id,
                        row,
                    }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Answers queries, one [`Found`] each, in their order. `stop` is asked now and then whether to give up; equal filters
    /// are evaluated once a segment, and queries that need every row's score share the loads of rows.
    pub fn search(&self, queries: &[Query], stop: &dyn Fn() -> bool) -> Result<Vec<Found>, SearchError> {
        search::search(self, queries, stop)
    }

    /// How many of the best the hits are that this view gave for `query`. Scores all rows; `stop` as above.
    pub fn check(&self, query: &Query, hits: &[RowHit], stop: &dyn Fn() -> bool) -> Result<Checked, SearchError> {
        check::check(self, query, hits, stop)
    }

    /// The document of a hit.
    pub fn document(&self, row: RowRef) -> Result<Document, ReadError> {
        match self.part(row)? {
            Part::Memory(recent) => Ok(Document::clone(recent.document(row.row))),
            Part::Disk(live) => live.segment.document(row.row),
        }
    }

    /// The payload of a hit: JSON of an object, or nothing.
    pub fn payload(&self, row: RowRef) -> Result<Arc<[u8]>, ReadError> {
        match self.part(row)? {
            Part::Memory(recent) => Ok(recent.document(row.row).payload.clone()),
            Part::Disk(live) => Ok(Arc::from(live.segment.payloads().read(row.row)?)),
        }
    }

    /// One vector of a hit.
    pub fn vector(&self, row: RowRef, name: &str) -> Result<Option<Vector>, ReadError> {
        match self.part(row)? {
            Part::Memory(recent) => Ok(recent.document(row.row).vector(name).cloned()),
            Part::Disk(live) => live.segment.vector(name).map_or(Ok(None), |file| file.read(row.row)),
        }
    }

    /// Id and version of a row.
    pub fn id(&self, row: RowRef) -> Result<(DocId, u64), ReadError> {
        match self.part(row)? {
            Part::Memory(recent) => {
                let document = recent.document(row.row);
                Ok((document.id.clone(), document.version))
            }
            Part::Disk(live) => Ok((live.segment.id(row.row)?, live.segment.version(row.row)?)),
        }
    }

    /// Version of a row.
    pub(crate) fn version(&self, row: RowRef) -> Result<u64, ReadError> {
        match self.part(row)? {
            Part::Memory(recent) => Ok(recent.document(row.row).version),
            Part::Disk(live) => live.segment.version(row.row),
        }
    }

    /// Fields that the filter names without an index over them, if sealed documents must be read because of it: neither do
    /// the filter's other conditions tell which pass, nor is it remembered. To be asked before the filter is evaluated.
    pub fn unindexed(&self, filter: &Filter, stop: &dyn Fn() -> bool) -> Result<Vec<PayloadField>, SearchError> {
        let missing = unindexed(filter, &self.schema().payload);
        if missing.is_empty() {
            return Ok(missing);
        }
        let compiled = Compiled::new(filter)?;
        for live in &self.state.segments {
            if live.segment.filters.get(filter).is_none() && !compiled.known(&live.segment, stop)?.is_exact() {
                return Ok(missing);
            }
        }
        Ok(Vec::new())
    }

    /// Rows of segments, dead ones included.
    pub fn sealed_rows(&self) -> u64 {
        self.state
            .segments
            .iter()
            .map(|live| u64::from(live.segment.rows))
            .sum()
    }

    /// Live documents.
    pub(crate) fn documents(&self) -> u64 {
        self.parts().map(|(_, part)| part.live_rows()).sum()
    }

    /// How many live documents pass the filter.
    pub fn count(&self, filter: &Filter, stop: &dyn Fn() -> bool) -> Result<u64, SearchError> {
        if filter.is_empty() {
            return Ok(self.documents());
        }
        let compiled = Compiled::new(filter)?;
        let mut count = 0;
        for (_, part) in self.parts() {
            count += match part {
                Part::Memory(recent) => {
                    filtered::memory_rows(recent, &compiled, &mut Usage::default(), stop)?.len() as u64
                }
                Part::Disk(live) => {
                    let rows = filtered::disk_rows(&live.segment, filter, &compiled, &mut Usage::default(), stop)?;
                    rows.len() - rows.intersection_len(&live.dead)
                }
            };
        }
        Ok(count)
    }

    /// Up to `limit` live rows that pass the filter, ids not below `from`, in the order of ids: a page of a scroll.
    pub fn scan(
        &self,
        filter: &Filter,
        from: Option<&DocId>,
        limit: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<(DocId, RowRef)>, SearchError> {
        let compiled = Compiled::new(filter)?;
        // The greatest of the smallest `limit` ids is on top.
        let mut page: BinaryHeap<(DocId, RowRef)> = BinaryHeap::new();
        for (number, part) in self.parts() {
            let of = |row| RowRef { part: number, row };
            match part {
                Part::Memory(recent) => {
                    for row in filtered::memory_rows(recent, &compiled, &mut Usage::default(), stop)? {
                        let id = &recent.document(row).id;
                        if from.is_none_or(|from| id >= from) {
                            keep_smallest(&mut page, limit, id.clone(), of(row));
                        }
                    }
                }
                Part::Disk(live) => {
                    let passing = match filter.is_empty() {
                        true => None,
                        false => {
                            let usage = &mut Usage::default();
                            Some(filtered::disk_rows(&live.segment, filter, &compiled, usage, stop)?)
                        }
                    };
                    for row in live.segment.rows_from(from)? {
                        let row = row?;
                        if live.dead.contains(row) || passing.as_ref().is_some_and(|rows| !rows.contains(row)) {
                            continue;
                        }
                        if !keep_smallest(&mut page, limit, live.segment.id(row)?, of(row)) {
                            break;
                        }
                    }
                }
            }
        }
        Ok(page.into_sorted_vec())
    }

    /// Ids and rows of all live sealed documents, segment by segment: what a table id -> place is rebuilt from.
    pub fn sealed_ids(&self) -> impl Iterator<Item = Result<(DocId, Place), ReadError>> + '_ {
        self.state.segments.iter().flat_map(|live| {
            let rows = (0..live.segment.rows).filter(|row| !live.dead.contains(*row));
            rows.map(|row| {
                Ok((
                    live.segment.id(row)?,
                    Place {
                        segment: live.segment.id,
                        row,
                    },
                ))
            })
        })
    }

    /// What was learned of walks for this vector and recall.
    pub(crate) fn widening(&self, vector: &str, recall: f32) -> Widening {
        let learned = self.state.widenings.get(vector);
        learned
            .and_then(|of| of.get(&permille(recall)).copied())
            .unwrap_or_default()
    }

    pub(crate) fn schema(&self) -> &granum_model::Schema {
        &self.state.schema
    }

    /// Parts with their numbers.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u32, Part<'_>)> {
        let disk = self.state.segments.iter().map(Part::Disk);
        (0..).zip(self.memory().map(Part::Memory).chain(disk))
    }

    fn memory(&self) -> impl Iterator<Item = &Recent> {
        [&self.state.recent]
            .into_iter()
            .chain(self.state.sealing.iter().map(|part| &part.recent))
    }

    /// The part of a row, which must be one of this view's.
    fn part(&self, row: RowRef) -> Result<Part<'_>, ReadError> {
        let part = self.parts().nth(row.part as usize).map(|(_, part)| part);
        let rows = part.map_or(0, |part| part.rows());
        part.filter(|_| row.row < rows)
            .ok_or_else(|| ReadError::malformed("view", format!("{row:?} is no row of it")))
    }
}

impl<'a> Part<'a> {
    /// Rows, dead ones included.
    pub fn rows(&self) -> u32 {
        match self {
            Part::Memory(recent) => recent.rows(),
            Part::Disk(live) => live.segment.rows,
        }
    }

    fn live_rows(&self) -> u64 {
        match self {
            Part::Memory(recent) => recent.live_rows(),
            Part::Disk(live) => live.live_rows(),
        }
    }
}

/// Whether the entry was among the `limit` smallest so far.
fn keep_smallest(page: &mut BinaryHeap<(DocId, RowRef)>, limit: usize, id: DocId, row: RowRef) -> bool {
    if page.len() < limit {
        page.push((id, row));
        return true;
    }
    match page.peek_mut() {
        Some(mut greatest) if (&id, row) < (&greatest.0, greatest.1) => {
            *greatest = (id, row);
            true
        }
        _ => false,
    }
}
