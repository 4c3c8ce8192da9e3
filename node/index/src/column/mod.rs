//! An index over one field of the payload of one segment: which rows have which values?
//!
//! A column is derived, as a graph is: it lies in a file of its own that no manifest names, fits exactly one payload file
//! (by fingerprint), and without one, or with a damaged one, rows are evaluated one by one. It changes no answer: what it
//! can't tell for sure (a value of another kind, two values in one row that must meet in one) it leaves to that evaluation,
//! row by row ([`Known`](crate::filter::known::Known)).
//!
//! Reading order: [`gather`] takes a field's values from payloads, [`mod@write`] puts them into a file, [`open`] opens one;
//! [`terms`], [`numbers`] and [`points`] find rows by value, [`answer`] answers conditions, [`counts`] counts rows
//! by value. [`cache`] remembers bitmaps.
//!
//! Every column has eight bitmaps, the *marks*, which say what else a row holds; [`Mark`] lists them.

mod answer;
mod cache;
pub(crate) mod counts;
mod gather;
mod numbers;
pub(crate) mod open;
mod points;
mod terms;
mod write;

use std::path::Path as Directory;
use std::sync::{Arc, PoisonError, RwLock};

use granum_model::schema::PAYLOAD_KEY_BYTES_MAX;
use granum_model::{PayloadField, PayloadKind};
use serde_json::Value;

use crate::error::{BuildError, ReadError};
use crate::executor::Executor;
use crate::filter::Fields;
use crate::filter::path::Path;
use crate::pace::go_on;
use crate::segment::build::failed;
use crate::segment::{Segment, names};
use cache::BitmapCache;
use gather::Gathering;
pub(crate) use open::Column;

/// Longest text or word that is a term, in bytes; rows with a longer one are marked [`Mark::Rest`].
const TERM_BYTES_MAX: usize = 1024;

/// A bitmap that every column has, by its number in the file. "Element": a value at the path or, where that is a list, one
/// of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Rows with a value that is neither null nor an empty list.
    Filled,
    /// Rows with an element that is null.
    Null,
    /// Rows with an element that is true or false.
    Booleans,
    /// Rows with an element that is a number.
    Numbers,
    /// Rows with an element that is a text.
    Texts,
    /// Rows with an element that is an object or a list.
    Structures,
    /// Rows with more than one element of the class that the column's kind belongs to.
    Several,
    /// Rows with an element of that class that is not among the column's values.
    Rest,
}

const MARKS: [Mark; 8] = [
    Mark::Filled,
    Mark::Null,
    Mark::Booleans,
    Mark::Numbers,
    Mark::Texts,
    Mark::Structures,
    Mark::Several,
    Mark::Rest,
];

/// The class of values that a kind of column holds.
fn class(kind: PayloadKind) -> Mark {
    match kind {
        PayloadKind::Keyword | PayloadKind::Uuid | PayloadKind::Datetime | PayloadKind::Text => Mark::Texts,
        PayloadKind::Integer | PayloadKind::Float => Mark::Numbers,
        PayloadKind::Bool => Mark::Booleans,
        PayloadKind::Geo => Mark::Structures,
    }
}

/// The class of a value; null has none.
fn class_of(value: &Value) -> Option<Mark> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some(Mark::Booleans),
        Value::Number(_) => Some(Mark::Numbers),
        Value::String(_) => Some(Mark::Texts),
        Value::Array(_) | Value::Object(_) => Some(Mark::Structures),
    }
}

/// The columns of a segment that are there.
#[derive(Default)]
pub(crate) struct Columns {
    columns: RwLock<Vec<Arc<Column>>>,
    cache: Arc<BitmapCache>,
}

impl Columns {
    /// Opens those of the schema's columns that are there. What can't be opened is missing to [`derive()`].
    pub fn open(&self, directory: &Directory, segment: &Segment, fields: &[PayloadField]) {
        for field in fields {
            if !self.has(field)
                && let Ok(column) = Column::open(directory, segment, field, self.cache.clone())
            {
                self.add(column);
            }
        }
    }

    /// A sound column of the values at `path`.
    pub fn find(&self, path: &Path) -> Option<Arc<Column>> {
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        let mut sound = columns.iter().filter(|column| !column.is_damaged());
        sound.find(|column| column.path() == path).cloned()
    }

    /// Whether one of the schema's columns is missing or known to be damaged.
    pub fn lacks(&self, fields: &[PayloadField]) -> bool {
        fields.iter().any(|field| !self.has(field) && path_of(field).is_some())
    }

    fn has(&self, field: &PayloadField) -> bool {
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        columns.iter().any(|column| column.is_of(field) && !column.is_damaged())
    }

    /// Takes a column into use, in place of a damaged one of its field.
    fn add(&self, column: Column) {
        let mut columns = self.columns.write().unwrap_or_else(PoisonError::into_inner);
        columns.retain(|own| own.path() != column.path());
        self.cache.clear();
        columns.push(Arc::new(column));
    }

    /// Lets go of columns that the schema has no more.
    fn retain(&self, fields: &[PayloadField]) {
        let mut columns = self.columns.write().unwrap_or_else(PoisonError::into_inner);
        columns.retain(|column| fields.iter().any(|field| column.is_of(field)));
    }
}

/// Payloads read between two looks at whether to go on.
const PIECE_ROWS: u32 = 1024;

/// Builds the columns that the schema names and the segment lacks, in one pass over its payloads; returns how many. Memory
/// while it runs: about what the files take.
pub(crate) fn derive(
    directory: &Directory,
    segment: &Segment,
    fields: &[PayloadField],
    executor: &dyn Executor,
) -> Result<usize, BuildError> {
    segment.columns.retain(fields);
    segment.columns.open(directory, segment, fields);
    let mut missing: Vec<(&PayloadField, Gathering)> = Vec::new();
    let mut read = Fields::default();
    for field in fields.iter().filter(|field| !segment.columns.has(field)) {
        if let Some(path) = path_of(field) {
            read.add(path.field());
            missing.push((field, Gathering::new(path, field.kind)));
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let mut payloads = segment.payloads();
    for row in 0..segment.rows {
        if row.is_multiple_of(PIECE_ROWS) {
            go_on(executor)?;
        }
        let payload = read.parse(payloads.read(row)?).map_err(|error| {
            let problem = format!("row {row}: {error}");
            ReadError::malformed(&names::payload(segment.id), problem)
        })?;
        for (_, gathering) in &mut missing {
            gathering.add(row, &payload);
        }
    }
    let built = missing.len();
    for (field, gathering) in missing {
        go_on(executor)?;
        let name = names::column(segment.id, field);
        write::write(directory, segment, field, gathering).map_err(failed(name))?;
        segment
            .columns
            .add(Column::open(directory, segment, field, segment.columns.cache.clone())?);
    }
    Ok(built)
}

/// The path of a field that may have a column. Others were refused on the way in, and are done without here.
fn path_of(field: &PayloadField) -> Option<Path> {
    (field.key.len() <= PAYLOAD_KEY_BYTES_MAX)
        .then(|| Path::parse(&field.key))
        .flatten()
}
