//! What a column knows of each condition on its field. Each answer is that of evaluating the condition on every row, but
//! for rows left in doubt.
//!
//! Elements of another class than the column's kind are not among its values, but the marks say which rows have some: so
//! the keyword column of a field that holds a number somewhere is exact on texts and leaves that row in doubt when a
//! number is asked for.

use std::ops::Range;

use granum_model::filter::Bounds;
use granum_model::{PayloadKind, datetime};
use roaring::RoaringBitmap;

use super::gather::{float_key, float_of, integer_key, integer_of, uuid};
use super::{Column, Mark, TERM_BYTES_MAX, class};
use crate::error::ReadError;
use crate::filter::geo::Area;
use crate::filter::known::Known;
use crate::filter::value::{Scalars, Words, words};

/// Largest dictionary that is looked at term by term, for a condition that it is not sorted for.
const TERMS_SCANNED_MAX: u64 = 4096;

impl Column {
    /// An element equals one of `scalars`.
    pub(crate) fn any(&self, scalars: &Scalars) -> Result<Known, ReadError> {
        let mut known = self.any_of_own(scalars)?;
        for other in [Mark::Texts, Mark::Numbers, Mark::Booleans] {
            if other != class(self.kind) && asks_for(scalars, other) {
                known = known.or(&Known::at_most(self.mark(other)?.as_ref().clone()));
            }
        }
        Ok(known)
    }

    /// An element is not null and equals none of `scalars`.
    pub(crate) fn except(&self, scalars: &Scalars) -> Result<Known, ReadError> {
        let mut known = Known::default();
        for mark in [Mark::Texts, Mark::Numbers, Mark::Booleans, Mark::Structures] {
            let rows = self.mark(mark)?;
            known = match (asks_for(scalars, mark), mark == class(self.kind)) {
                _ if rows.is_empty() => known,
                (false, _) => known.or(&Known::exactly(rows.as_ref().clone())),
                (true, false) => known.or(&Known::at_most(rows.as_ref().clone())),
                (true, true) => known.or(&self.except_of_own(scalars, &rows)?),
            };
        }
        Ok(known)
    }

    /// Every word occurs in one text.
    pub(crate) fn text(&self, words: &Words) -> Result<Known, ReadError> {
        if words.as_slice().is_empty() {
            return Ok(Known::default());
        }
        match self.kind {
            PayloadKind::Text => self.words(words.as_slice()),
            PayloadKind::Keyword => self.keywords_where(|text| words.occur_in_text(text)),
            _ => self.in_doubt(Mark::Texts),
        }
    }

    /// A number is within bounds.
    pub(crate) fn range(&self, bounds: &Bounds<f64>) -> Result<Known, ReadError> {
        let entries = match self.kind {
            PayloadKind::Integer => self.within(bounds, |key| integer_of(key) as f64)?,
            PayloadKind::Float => self.within(bounds, float_of)?,
            _ => return self.in_doubt(Mark::Numbers),
        };
        Ok(Known::exactly(self.rows_of(&[entries])?).or(&self.in_doubt(Mark::Rest)?))
    }

    /// A date-time is within bounds.
    pub(crate) fn datetime(&self, bounds: &Bounds<i64>) -> Result<Known, ReadError> {
        match self.kind {
            // A text that is not among the values is no date-time.
            PayloadKind::Datetime => {
                let entries = self.within(bounds, integer_of)?;
                Ok(Known::exactly(self.rows_of(&[entries])?))
            }
            PayloadKind::Keyword => {
                self.keywords_where(|text| datetime::parse_micros(text).is_some_and(|micros| bounds.contains(micros)))
            }
            _ => self.in_doubt(Mark::Texts),
        }
    }

    /// A point is inside.
    pub(crate) fn geo(&self, area: &Area) -> Result<Known, ReadError> {
        match self.kind {
            // An object that is not among the values is no point.
            PayloadKind::Geo => Ok(Known::exactly(self.rows_inside(area)?)),
            _ => self.in_doubt(Mark::Structures),
        }
    }

    /// There is no value but nulls and empty lists.
    pub(crate) fn empty(&self) -> Result<Known, ReadError> {
        Ok(self.exactly(Mark::Filled)?.not(self.rows()))
    }

    /// There is a null.
    pub(crate) fn null(&self) -> Result<Known, ReadError> {
        self.exactly(Mark::Null)
    }

    /// The number of values is within bounds: known only where there are none.
    pub(crate) fn count(&self, bounds: &Bounds<u64>) -> Result<Known, ReadError> {
        let filled = self.in_doubt(Mark::Filled)?;
        match bounds.contains(0) {
            true => Ok(self.empty()?.or(&filled)),
            false => Ok(filled),
        }
    }

    /// [`any`](Self::any) on elements of the column's class.
    fn any_of_own(&self, scalars: &Scalars) -> Result<Known, ReadError> {
        let mut known = Known::default();
        match self.kind {
            PayloadKind::Keyword => {
                for text in &scalars.texts {
                    known = known.or(&self.term_or_rest(Some(text.as_bytes()))?);
                }
            }
            PayloadKind::Uuid => {
                for text in &scalars.texts {
                    known = known.or(&self.term_or_rest(uuid(text).as_ref().map(|bytes| &bytes[..]))?);
                }
            }
            PayloadKind::Bool => {
                for (truth, _) in (0u8..).zip(&scalars.booleans).filter(|(_, asked)| **asked) {
                    known = known.or(&self.term_or_rest(Some(&[truth]))?);
                }
            }
            PayloadKind::Integer | PayloadKind::Float if asks_for(scalars, Mark::Numbers) => {
                let rows = self.rows_of(&self.entries_of(scalars)?)?;
                known = Known::exactly(rows).or(&self.in_doubt(Mark::Rest)?);
            }
            // Texts that mean the same instant may differ.
            PayloadKind::Datetime => {
                for text in &scalars.texts {
                    known = known.or(&match datetime::parse_micros(text) {
                        Some(micros) => Known::at_most(self.rows_of(&[self.equal(integer_key(micros))?])?),
                        None => self.in_doubt(Mark::Rest)?,
                    });
                }
            }
            // A text has at least its own words.
            PayloadKind::Text => {
                for text in &scalars.texts {
                    let own: Vec<String> = words(text).collect();
                    known = known.or(&match own.is_empty() {
                        true => self.in_doubt(Mark::Texts)?,
                        false => Known::at_most(self.words(&own)?.possible()),
                    });
                }
            }
            PayloadKind::Integer | PayloadKind::Float | PayloadKind::Geo => {}
        }
        Ok(known)
    }

    /// [`except`](Self::except) on elements of the column's class, which `rows` have.
    fn except_of_own(&self, scalars: &Scalars, rows: &RoaringBitmap) -> Result<Known, ReadError> {
        let any = self.any_of_own(scalars)?;
        let certain = rows - any.possible();
        // A row's only element that certainly is one of the scalars is no other value.
        let excluded = any.certain - self.mark(Mark::Several)?.as_ref();
        let doubtful = rows - &certain - excluded;
        let known = Known { certain, doubtful };
        if known.is_exact() {
            return Ok(known);
        }
        let Some(others) = self.other_values(scalars)? else {
            return Ok(known);
        };
        let in_doubt = known.doubtful & self.mark(Mark::Rest)?.as_ref();
        Ok(Known::exactly(known.certain | others).or(&Known::at_most(in_doubt)))
    }

    /// Rows with a value of the column that is none of `scalars`; `None`: the column can't tell, or it would take long.
    fn other_values(&self, scalars: &Scalars) -> Result<Option<RoaringBitmap>, ReadError> {
        let is_small = self.kind_has_terms() && self.terms() <= TERMS_SCANNED_MAX;
        let rows = match self.kind {
            PayloadKind::Keyword if is_small => {
                self.postings_where(|term| std::str::from_utf8(term).is_ok_and(|text| !scalars.texts.contains(text)))?
            }
            PayloadKind::Uuid if is_small => {
                let asked: Vec<[u8; 16]> = scalars.texts.iter().filter_map(|text| uuid(text)).collect();
                self.postings_where(|term| !asked.iter().any(|bytes| bytes == term))?
            }
            PayloadKind::Bool => self.postings_where(|term| match term {
                [truth @ (0 | 1)] => !scalars.booleans[usize::from(*truth)],
                _ => false,
            })?,
            PayloadKind::Integer | PayloadKind::Float => {
                let mut gaps = Vec::new();
                let mut free = 0;
                for entries in self.entries_of(scalars)? {
                    gaps.push(free..entries.start.max(free));
                    free = free.max(entries.end);
                }
                gaps.push(free..self.entries().max(free));
                self.rows_of(&gaps)?
            }
            _ => return Ok(None),
        };
        Ok(Some(rows))
    }

    /// Entries of numbers equal to one of `scalars`, in order.
    fn entries_of(&self, scalars: &Scalars) -> Result<Vec<Range<u64>>, ReadError> {
        let floats = scalars.floats.iter().copied();
        let mut keys: Vec<u64> = match self.kind {
            PayloadKind::Float => floats.map(float_key).collect(),
            _ => {
                let whole = floats.filter_map(exact_integer).chain(scalars.integers.iter().copied());
                whole.map(integer_key).collect()
            }
        };
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().map(|key| self.equal(key)).collect()
    }

    /// Rows that have a term; what can't be a term is among the rest.
    fn term_or_rest(&self, term: Option<&[u8]>) -> Result<Known, ReadError> {
        match term.filter(|term| term.len() <= TERM_BYTES_MAX) {
            None => self.in_doubt(Mark::Rest),
            Some(term) => Ok(self
                .posting(term)?
                .map_or(Known::default(), |rows| Known::exactly(rows.as_ref().clone()))),
        }
    }

    /// Rows with a text of all these words, of which there are some.
    fn words(&self, words: &[String]) -> Result<Known, ReadError> {
        let (terms, long): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| word.len() <= TERM_BYTES_MAX);
        let mut possible = match long.is_empty() {
            true => None,
            // Only rows marked so have words too long for a term.
            false => Some(self.mark(Mark::Rest)?.as_ref().clone()),
        };
        for term in terms {
            let Some(rows) = self.posting(term.as_bytes())? else {
                return Ok(Known::default());
            };
            possible = Some(match possible {
                None => rows.as_ref().clone(),
                Some(possible) => possible & &*rows,
            });
        }
        let possible = possible.unwrap_or_default();
        match (long.is_empty(), words.len()) {
            (false, _) => Ok(Known::at_most(possible)),
            (true, 1) => Ok(Known::exactly(possible)),
            // Words of several texts of one row may not meet in one of them.
            (true, _) => {
                let doubtful = &possible & self.mark(Mark::Several)?.as_ref();
                let certain = possible - &doubtful;
                Ok(Known { certain, doubtful })
            }
        }
    }

    /// Rows with a keyword of which `wanted` is true.
    fn keywords_where(&self, wanted: impl Fn(&str) -> bool) -> Result<Known, ReadError> {
        if self.terms() > TERMS_SCANNED_MAX {
            return self.in_doubt(Mark::Texts);
        }
        let rows = self.postings_where(|term| std::str::from_utf8(term).is_ok_and(&wanted))?;
        Ok(Known::exactly(rows).or(&self.in_doubt(Mark::Rest)?))
    }

    fn in_doubt(&self, mark: Mark) -> Result<Known, ReadError> {
        Ok(Known::at_most(self.mark(mark)?.as_ref().clone()))
    }

    fn exactly(&self, mark: Mark) -> Result<Known, ReadError> {
        Ok(Known::exactly(self.mark(mark)?.as_ref().clone()))
    }

    fn kind_has_terms(&self) -> bool {
        matches!(self.kind, PayloadKind::Keyword | PayloadKind::Uuid | PayloadKind::Bool)
    }
}

/// Whether a value of that class may equal one of them.
fn asks_for(scalars: &Scalars, class: Mark) -> bool {
    match class {
        Mark::Texts => !scalars.texts.is_empty(),
        Mark::Numbers => !scalars.integers.is_empty() || !scalars.floats.is_empty(),
        Mark::Booleans => scalars.booleans != [false; 2],
        _ => false,
    }
}

/// The integer equal to a float, if there is one.
fn exact_integer(float: f64) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    (float.fract() == 0.0 && (-END..END).contains(&float)).then_some(float as i64)
}
