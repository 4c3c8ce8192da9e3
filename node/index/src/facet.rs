//! Which values of a field do most documents have, and how many? Counted exactly, over a view.
//!
//! Each part names its values in their order with the number of its rows ([`Counts`]); they are merged value by value, and
//! the best are kept on the way: memory is for those and for the values of parts without a column, whatever else there is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use granum_model::{FacetValue, Filter, PayloadField, PayloadKind, facet::FACET_KINDS};
use roaring::RoaringBitmap;
use serde_json::Value;

use crate::column::counts::{self, Count, Counts};
use crate::error::{ReadError, SearchError};
use crate::filter::path::Path;
use crate::filter::{Compiled, Fields};
use crate::query::Usage;
use crate::recent::Recent;
use crate::search::filtered;
use crate::segment::names;
use crate::state::Live;
use crate::view::{Part, View};

/// Payloads or values between two looks at the deadline.
const STOP_STEPS: usize = 4096;
/// What reading a payload costs, in steps through a column.
const PAYLOAD_STEPS: u64 = 50;

/// The values that most documents have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facet {
    /// Values and how many documents have each: most documents first, then the smaller value.
    pub counts: Vec<(FacetValue, u64)>,
    /// No value that was left out is of more documents; 0: none was left out.
    pub rest: u64,
}

impl Facet {
    /// Leaves out the last values beyond so many bytes.
    pub fn cut(&mut self, bytes_max: usize) {
        /// Of a value of any kind, and of its count.
        const HIT_BYTES: usize = 32;
        let mut bytes = 0;
        let fits = self.counts.iter().take_while(|(value, _)| {
            bytes += HIT_BYTES
                + match value {
                    FacetValue::Text(text) => text.len(),
                    FacetValue::Boolean(_) | FacetValue::Integer(_) => 0,
                };
            bytes <= bytes_max
        });
        let fits = fits.count();
        if let Some((_, count)) = self.counts.get(fits) {
            self.rest = *count;
            self.counts.truncate(fits);
        }
    }
}

impl View {
    /// The `limit` values at `key` that most of the documents that pass `filter` have. `key` is the path of a payload index of
    /// the schema, whether it is built or not, and of one of [`FACET_KINDS`]; the values are those that such an index
    /// holds: texts of up to 1,024 bytes, UUIDs in canonical spelling, whole numbers of 64 bits with a sign, truths.
    pub fn facet(
        &self,
        key: &str,
        filter: &Filter,
        limit: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Facet, SearchError> {
        let compiled = Compiled::new(filter)?;
        let counting = Counting::new(self.schema().payload.as_slice(), key, stop)?;
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
    fn new(indexed: &[PayloadField], key: &str, stop: &'a dyn Fn() -> bool) -> Result<Counting<'a>, SearchError> {
        let path = Path::parse(key);
        let field = indexed
            .iter()
            .find(|field| path.is_some() && Path::parse(&field.key) == path);
        match (path, field.map(|field| field.kind)) {
            (Some(path), Some(kind)) if FACET_KINDS.contains(&kind) => {
                let mut fields = Fields::default();
                fields.add(path.field());
                Ok(Counting {
                    path,
                    kind,
                    fields,
                    stop,
                })
            }
            (_, found) => Err(SearchError::Facet {
                key: key.to_owned(),
                found,
            }),
        }
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
        let rows = match filter.is_empty() {
            true if live.dead.is_empty() => None,
            true => Some(all(segment.rows) - &*live.dead),
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
                let rows: Vec<u32> = rows.unwrap_or_else(|| all(segment.rows)).iter().collect();
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
        let payloads = rows.iter().enumerate().map(|(at, row)| {
            if at % STOP_STEPS == 0 && (self.stop)() {
                return Err(SearchError::Stopped);
            }
            Ok(read(*row)?)
        });
        Counts::of_payloads(&self.path, self.kind, payloads)
    }

    /// Merges the values of all parts and keeps the `limit` that most rows have.
    fn most_frequent(&self, parts: &mut [Counts], limit: usize) -> Result<Facet, SearchError> {
        let mut heads: Vec<Option<Count>> = parts.iter_mut().map(Counts::next).collect::<Result<_, _>>()?;
        // The one to be left out next is on top: the fewest rows, then the greater value.
        let mut best: BinaryHeap<(Reverse<u64>, Vec<u8>)> = BinaryHeap::new();
        let (mut rest, mut merged) = (0, 0);
        while let Some(least) = heads.iter().flatten().map(|(value, _)| value).min().cloned() {
            if merged % STOP_STEPS == 0 && (self.stop)() {
                return Err(SearchError::Stopped);
            }
            merged += 1;
            let mut count = 0;
            for (head, part) in heads.iter_mut().zip(&mut *parts) {
                if let Some((_, rows)) = head.take_if(|(value, _)| *value == least) {
                    count += rows;
                    *head = part.next()?;
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
            let value = counts::value(self.kind, &value).ok_or_else(|| {
                ReadError::malformed("column", format!("{value:02x?} is no value of {}", self.kind.name()))
            })?;
            Ok((value, count))
        };
        Ok(Facet {
            counts: best
                .into_sorted_vec()
                .into_iter()
                .map(read)
                .collect::<Result<_, SearchError>>()?,
            rest,
        })
    }
}

fn all(rows: u32) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..rows);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_no_more_frequent_than_the_rest() {
        let text = |text: &str, count| (FacetValue::Text(text.into()), count);
        let whole = Facet {
            counts: vec![text("aaaa", 9), text("bbbb", 5), text("cccc", 2)],
            rest: 1,
        };
        for (bytes, kept, rest) in [(108, 3, 1), (107, 2, 2), (72, 2, 2), (71, 1, 5), (0, 0, 9)] {
            let mut cut = whole.clone();
            cut.cut(bytes);
            assert_eq!((cut.counts.len(), cut.rest), (kept, rest), "{bytes} bytes");
        }
    }
}
