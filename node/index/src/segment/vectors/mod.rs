//! One named vector of a segment: its values on disk, which rows have one, and the scores of all of them.
//!
//! Values are numbered by *place*: the place of a row is the number of rows before it that have the vector.
//! Sections: 0 values · 1 bitmap of the rows that have one, empty if all do · 2 ends, u64 a place (not for dense).
//! Values are, for dense: a packed row a place (`fine::rows`); for multi: packed rows, `ends` counts them; for sparse:
//! the indices u32, then the values f32, end to end, `ends` counts bytes.

mod reader;
mod writer;

pub(crate) use reader::VectorFile;
pub(super) use writer::{finish, write};

const VALUES: usize = 0;
const PRESENT: usize = 1;
const ENDS: usize = 2;
