//! The values of a field in one part, in order, and how many rows have each: from the column where there is one, else from
//! payloads. The values are those that a column holds, either way.
//!
//! A value stands as bytes that order as values do: a term as it is, a number's sort key with its highest byte first.

use std::sync::Arc;

use granum_model::{FacetValue, PayloadKind};
use roaring::RoaringBitmap;
use serde_json::Value;

use super::Column;
use super::gather::{Gathering, integer_of};
use super::open::{Layout, layout};
use crate::bytes::field;
use crate::error::SearchError;
use crate::filter::path::Path;

/// A value and how many rows have it, which are some.
pub(crate) type Count = (Vec<u8>, u64);

/// Looks at the deadline now and then.
pub(crate) struct Steps<'a> {
    stop: &'a dyn Fn() -> bool,
    taken: u64,
}

impl<'a> Steps<'a> {
    /// Asks `stop` whether to give up.
    pub fn new(stop: &'a dyn Fn() -> bool) -> Steps<'a> {
        Steps { stop, taken: 0 }
    }

    /// One more payload, term or entry is looked at.
    #[inline]
    pub fn take(&mut self) -> Result<(), SearchError> {
        /// Between two looks.
        const STEPS: u64 = 1024;
        self.taken += 1;
        match self.taken % STEPS == 1 && (self.stop)() {
            true => Err(SearchError::Stopped),
            false => Ok(()),
        }
    }
}

/// See the file.
pub(crate) enum Counts {
    /// Of those `rows`, or of all; on from the term or entry `next`.
    Column {
        column: Arc<Column>,
        rows: Option<RoaringBitmap>,
        next: u64,
    },
    /// Read out of payloads.
    Gathered(std::vec::IntoIter<Count>),
}

impl Counts {
    /// Of `rows` of a column's segment; `None`: of all.
    pub fn of_column(column: Arc<Column>, rows: Option<RoaringBitmap>) -> Counts {
        Counts::Column { column, rows, next: 0 }
    }

    /// Of rows by their payloads, which hold the field at `path` at least.
    pub fn of_payloads(
        path: &Path,
        kind: PayloadKind,
        payloads: impl Iterator<Item = Result<Value, SearchError>>,
    ) -> Result<Counts, SearchError> {
        let mut gathering = Gathering::new(path.clone(), kind);
        for (row, payload) in (0..).zip(payloads) {
            gathering.add(row, &payload?);
        }
        let mut values = gathering.values();
        let mut counts: Vec<Count> = match layout(kind) {
            Layout::Terms => values.terms.drain().map(|(term, rows)| (term, rows.len())).collect(),
            Layout::Numbers | Layout::Points => {
                values.numbers.sort_unstable();
                values.numbers.dedup();
                let equal = values.numbers.chunk_by(|left, right| left.0 == right.0);
                equal
                    .map(|entries| (entries[0].0.to_be_bytes().to_vec(), entries.len() as u64))
                    .collect()
            }
        };
        counts.sort_unstable();
        Ok(Counts::Gathered(counts.into_iter()))
    }

    /// The next value. A column that is found damaged is [given up](Column::give_up).
    pub fn next(&mut self, steps: &mut Steps<'_>) -> Result<Option<Count>, SearchError> {
        match self {
            Counts::Gathered(counts) => {
                steps.take()?;
                Ok(counts.next())
            }
            Counts::Column { column, rows, next } => {
                let found = match layout(column.kind) {
                    Layout::Terms => column.next_term(next, rows.as_ref(), steps),
                    Layout::Numbers | Layout::Points => column.next_number(next, rows.as_ref(), steps),
                };
                if matches!(found, Err(SearchError::Read(_))) {
                    column.give_up();
                }
                found
            }
        }
    }

    /// Whether it is of a column that was given up.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Counts::Column { column, .. } if column.is_damaged())
    }
}

impl Column {
    /// Terms or entries: what counting goes through.
    pub fn steps(&self) -> u64 {
        match layout(self.kind) {
            Layout::Terms => self.terms(),
            Layout::Numbers | Layout::Points => self.entries(),
        }
    }

    /// The first term from `next` on that some of `rows` have; `next` moves behind it.
    fn next_term(
        &self,
        next: &mut u64,
        rows: Option<&RoaringBitmap>,
        steps: &mut Steps<'_>,
    ) -> Result<Option<Count>, SearchError> {
        while *next < self.terms() {
            steps.take()?;
            let at = *next;
            *next += 1;
            let term = self.term(at)?;
            let is_sorted = at == 0 || self.term(at - 1)? < term;
            if !is_sorted || value(self.kind, term).is_none() {
                return Err(self.file.malformed(format!("term {at} is out of place")).into());
            }
            let posting = self.posting_once(at)?;
            let count = rows.map_or(posting.len(), |rows| posting.intersection_len(rows));
            if count > 0 {
                return Ok(Some((term.to_vec(), count)));
            }
        }
        Ok(None)
    }

    /// The first number from entry `next` on that some of `rows` have; `next` moves behind its entries.
    fn next_number(
        &self,
        next: &mut u64,
        rows: Option<&RoaringBitmap>,
        steps: &mut Steps<'_>,
    ) -> Result<Option<Count>, SearchError> {
        while *next < self.entries() {
            let key = self.key(*next)?;
            if *next > 0 && self.key(*next - 1)? >= key {
                return Err(self.file.malformed(format!("entry {next} is out of place")).into());
            }
            let mut count = 0;
            while *next < self.entries() && self.key(*next)? == key {
                steps.take()?;
                let row = self.row(*next)?;
                count += u64::from(rows.is_none_or(|rows| rows.contains(row)));
                *next += 1;
            }
            if count > 0 {
                return Ok(Some((key.to_be_bytes().to_vec(), count)));
            }
        }
        Ok(None)
    }
}

/// The value that stands as `bytes` in a column of that kind; `None`: no such value does.
pub(crate) fn value(kind: PayloadKind, bytes: &[u8]) -> Option<FacetValue> {
    match kind {
        PayloadKind::Keyword => String::from_utf8(bytes.to_vec()).ok().map(FacetValue::Text),
        PayloadKind::Uuid if bytes.len() == 16 => {
            let uuid = granum_model::DocId::Uuid(field(bytes, 0));
            Some(FacetValue::Text(uuid.to_string()))
        }
        PayloadKind::Bool => match bytes {
            [0] => Some(FacetValue::Boolean(false)),
            [1] => Some(FacetValue::Boolean(true)),
            _ => None,
        },
        PayloadKind::Integer if bytes.len() == 8 => {
            Some(FacetValue::Integer(integer_of(u64::from_be_bytes(field(bytes, 0)))))
        }
        _ => None,
    }
}
