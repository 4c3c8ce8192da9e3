//! Which values of a field do most documents have, and how many? Counted exactly, over a view.
//!
//! Each part names its values in their order with the number of its rows ([`Counts`]); they are merged value by value, and
//! the best are kept on the way: memory is for those and for the values of parts without a column, whatever else there is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use granum_model::{FacetValue, Filter, PayloadField, PayloadKind, facet::FACET_KINDS};
use roaring::RoaringBitmap;
use serde_json::Value;

use crate::column::counts::{self, Counts, Steps};
use crate::error::{ReadError, SearchError};
use crate::filter::known::Known;
use crate::filter::path::Path;
use crate::filter::{Compiled, Fields};
use crate::query::Usage;
use crate::recent::Recent;
use crate::search::filtered;
use crate::segment::names;
use crate::state::Live;
use crate::view::{Part, View};

/// What reading a payload by itself costs, in steps through a column: about 15 us (a seventh of that in a pass over all: 140 ms for
/// 63,436, docs/benchmarks.md), and a term some tenths of one.
const PAYLOAD_STEPS: u64 = 50;

/// The values that most documents have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facet {
    /// Values and how many documents have each: most documents first, then the smaller value.
    pub counts: Vec<(FacetValue, u64)>,
    /// No value that was left out is of more documents; 0: none was left out.
    pub rest: u64,
}

impl View {
    /// The `limit` values of `field` that most of the documents that pass `filter` have. The values are those that a payload index
    /// of the field's kind, one of [`FACET_KINDS`], holds: texts of up to 1,024 bytes, UUIDs in canonical spelling, whole
    /// numbers of 64 bits with a sign, truths. Where there is no index, payloads are read.
    pub fn facet(
        &self,
        field: &PayloadField,
        filter: &Filter,
        limit: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Facet, SearchError> {
        let compiled = Compiled::new(filter)?;
        let counting = Counting::new(field, stop)?;
        loop {
            let mut parts = Vec::new();
            for (_, part) in self.parts() {
                parts.push(match part {
                    Part::Memory(recent) => counting.memory(recent, &compiled)?,
                    Part::Disk(live) => counting.disk(live, filter, &compiled)?,
                });
            }
            match counting.most_frequent(&mut parts, limit) {
                // Payloads are read in its stead.
                Err(SearchError::Read(_)) if parts.iter().any(Counts::is_damaged) => {}
                found => return found,
            }
        }
    }
}

/// What is counted.
struct Counting<'a> {
    path: Path,
    kind: PayloadKind,
    fields: Fields,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Counting<'a> {
    fn new(field: &PayloadField, stop: &'a dyn Fn() -> bool) -> Result<Counting<'a>, SearchError> {
        let path = Path::parse(&field.key).filter(|_| FACET_KINDS.contains(&field.kind));
        let Some(path) = path else {
            return Err(SearchError::Facet(field.clone()));
        };
        let mut fields = Fields::default();
        fields.add(path.field());
        Ok(Counting {
            path,
            kind: field.kind,
            fields,
            stop,
        })
    }

    fn memory(&self, recent: &Recent, compiled: &Compiled) -> Result<Counts, SearchError> {
        let rows = filtered::memory_rows(recent, compiled, &mut Usage::default(), self.stop)?;
        self.payloads(&rows, |row| {
            let document = recent.document(row);
            let parsed = self.fields.parse(&document.payload);
            parsed.map_err(|error| ReadError::malformed("recent", format!("payload of {:?}: {error}", document.id)))
        })
    }

    fn disk(&self, live: &Live, filter: &Filter, compiled: &Compiled) -> Result<Counts, SearchError> {
        let segment = &live.segment;
        let all = || Known::all(segment.rows).certain;
        let rows = match filter.is_empty() {
            true if live.dead.is_empty() => None,
            true => Some(all() - &*live.dead),
            false => {
                let passing = filtered::disk_rows(segment, filter, compiled, &mut Usage::default(), self.stop)?;
                Some(&*passing - &*live.dead)
            }
        };
        let column = segment.columns.find(&self.path).filter(|column| {
            let rows = rows.as_ref().map_or(u64::MAX, RoaringBitmap::len);
            column.kind() == self.kind && column.steps() <= rows.saturating_mul(PAYLOAD_STEPS)
        });
        match column {
            Some(column) => Ok(Counts::of_column(column, rows)),
            None => {
                let rows: Vec<u32> = rows.unwrap_or_else(all).iter().collect();
                let mut payloads = segment.payloads();
                self.payloads(&rows, |row| {
                    let parsed = self.fields.parse(payloads.read(row)?);
                    parsed.map_err(|error| {
                        ReadError::malformed(&names::payload(segment.id), format!("row {row}: {error}"))
                    })
                })
            }
        }
    }

    fn payloads(
        &self,
        rows: &[u32],
        mut read: impl FnMut(u32) -> Result<Value, ReadError>,
    ) -> Result<Counts, SearchError> {
        let mut steps = Steps::new(self.stop);
        let payloads = rows.iter().map(|row| {
            steps.take()?;
            Ok(read(*row)?)
        });
        Counts::of_payloads(&self.path, self.kind, payloads)
    }

    /// Merges the values of all parts and keeps the `limit` that most rows have.
    fn most_frequent(&self, parts: &mut [Counts], limit: usize) -> Result<Facet, SearchError> {
        let mut steps = Steps::new(self.stop);
        let mut heads = Vec::with_capacity(parts.len());
        for part in &mut *parts {
            heads.push(part.next(&mut steps)?);
        }
        // The one to be left out next is on top: the fewest rows, then the greater value.
        let mut best: BinaryHeap<(Reverse<u64>, Vec<u8>)> = BinaryHeap::new();
        let mut rest = 0;
        while let Some(least) = heads.iter().flatten().map(|(value, _)| value).min().cloned() {
            let mut count = 0;
            for (head, part) in heads.iter_mut().zip(&mut *parts) {
                if let Some((_, rows)) = head.take_if(|(value, _)| *value == least) {
                    count += rows;
                    *head = part.next(&mut steps)?;
                }
            }
            best.push((Reverse(count), least));
            if best.len() > limit
                && let Some((Reverse(count), _)) = best.pop()
            {
                rest = rest.max(count);
            }
        }
        let read = |(Reverse(count), value): (Reverse<u64>, Vec<u8>)| {
            let value = counts::value(self.kind, &value).expect("every part gives values of the kind only");
            (value, count)
        };
        Ok(Facet {
            counts: best.into_sorted_vec().into_iter().map(read).collect(),
            rest,
        })
    }
}
