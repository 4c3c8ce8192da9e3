//! Asks a segment's indexes what they know of a filter, before any row is looked at.
//!
//! Ids and vectors are always known: a segment has a table of ids and a bitmap of each vector's rows. Conditions on the
//! payload are known as far as its columns answer them. A column that turns out damaged is given up, and says nothing.

use roaring::RoaringBitmap;

use super::condition::Test;
use super::known::Known;
use super::path::Path;
use super::{Compiled, Group};
use crate::column::Column;
use crate::error::{ReadError, SearchError};
use crate::segment::Segment;

impl Compiled {
    /// What is known of a segment's rows, dead ones included.
    pub fn known(&self, segment: &Segment, stop: &dyn Fn() -> bool) -> Result<Known, SearchError> {
        Asking { segment, stop }.group(&self.tests)
    }
}

struct Asking<'a> {
    segment: &'a Segment,
    stop: &'a dyn Fn() -> bool,
}

impl Asking<'_> {
    fn group(&self, group: &Group) -> Result<Known, SearchError> {
        let rows = self.segment.rows;
        let mut known = Known::all(rows);
        let mut must: Vec<&Test> = group.must.iter().collect();
        must.sort_by_key(|test| cost(test));
        for test in must {
            known = known.and(&self.test(test)?);
            if known.certain.is_empty() && known.is_exact() {
                return Ok(known);
            }
        }
        for test in &group.must_not {
            known = known.and(&self.test(test)?.not(rows));
        }
        if !group.should.is_empty() {
            let should: Vec<Known> = group
                .should
                .iter()
                .map(|test| self.test(test))
                .collect::<Result<_, _>>()?;
            known = known.and(&Known::at_least(group.min_should, &should, rows));
        }
        Ok(known)
    }

    fn test(&self, test: &Test) -> Result<Known, SearchError> {
        if (self.stop)() {
            return Err(SearchError::Stopped);
        }
        Ok(match test {
            Test::Id(ids) => {
                let mut rows = RoaringBitmap::new();
                for id in ids {
                    rows.extend(self.segment.find(id)?);
                }
                Known::exactly(rows)
            }
            Test::Vector(name) => match self.segment.vector(name) {
                None => Known::default(),
                Some(file) => match file.present() {
                    None => Known::all(self.segment.rows),
                    Some(present) => Known::exactly(present.clone()),
                },
            },
            Test::Group(group) => self.group(group)?,
            Test::Nested(path, group) => self.nested(path, group),
            Test::Any(path, _)
            | Test::Except(path, _)
            | Test::Text(path, _)
            | Test::Range(path, _)
            | Test::Datetime(path, _)
            | Test::Geo(path, _)
            | Test::Empty(path)
            | Test::Null(path)
            | Test::Count(path, _) => self.column(path, test),
        })
    }

    /// What the column of `path`, if there is one, knows of a condition on the payload.
    fn column(&self, path: &Path, test: &Test) -> Known {
        let nothing = || Known::nothing(self.segment.rows);
        let Some(column) = self.segment.columns.find(path) else {
            return nothing();
        };
        ask(&column, test).unwrap_or_else(|_| {
            column.give_up();
            nothing()
        })
    }

    /// A row passes only if, for each condition that some element must meet, it has a value that meets it: which is what
    /// an index over that value of all elements knows. Whether one element meets all of them is left in doubt.
    fn nested(&self, elements: &Path, group: &Group) -> Known {
        let mut possible = Known::all(self.segment.rows).certain;
        for test in &group.must {
            let (Test::Any(path, _)
            | Test::Except(path, _)
            | Test::Text(path, _)
            | Test::Range(path, _)
            | Test::Datetime(path, _)
            | Test::Geo(path, _)
            | Test::Null(path)) = test
            else {
                continue;
            };
            possible &= self.column(&elements.join(path), test).possible();
        }
        Known::at_most(possible)
    }
}

/// What a column knows of a condition on its field. Conditions on other things are not asked of columns.
fn ask(column: &Column, test: &Test) -> Result<Known, ReadError> {
    match test {
        Test::Any(_, scalars) => column.any(scalars),
        Test::Except(_, scalars) => column.except(scalars),
        Test::Text(_, words) => column.text(words),
        Test::Range(_, bounds) => column.range(bounds),
        Test::Datetime(_, bounds) => column.datetime(bounds),
        Test::Geo(_, area) => column.geo(area),
        Test::Empty(_) => column.empty(),
        Test::Null(_) => column.null(),
        Test::Count(_, bounds) => column.count(bounds),
        Test::Id(_) | Test::Vector(_) | Test::Nested(..) | Test::Group(_) => Ok(Known::nothing(column.rows())),
    }
}

/// What an index's answer to a condition costs, roughly: cheap ones first, so that none is asked once nothing is left.
fn cost(test: &Test) -> usize {
    match test {
        Test::Id(ids) => ids.len(),
        Test::Vector(_) | Test::Empty(_) | Test::Null(_) | Test::Count(..) => 1,
        Test::Any(_, scalars) => scalars.texts.len() + scalars.integers.len() + scalars.floats.len(),
        Test::Text(_, words) => words.as_slice().len(),
        Test::Range(..) | Test::Datetime(..) => 100,
        Test::Geo(..) | Test::Except(..) | Test::Nested(..) | Test::Group(_) => 1000,
    }
}
