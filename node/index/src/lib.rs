//! One replica's documents of one shard: kept, found by vector, filtered, sealed into files. Which bytes, which arithmetic?
//!
//! This crate knows no network, no clock, no threads and no log: it reads and writes files below a directory given to it,
//! so that it can be fuzzed alone, embedded alone (see `examples/embed_in_process.rs`) and trusted by the node around it.
//!
//! Reading order:
//! 1. [`document`] and [`query`]: what goes in, what is asked, what comes out.
//! 2. [`index`]: the one type that others hold: insert, delete, freeze, build, publish, merge, view.
//! 3. [`view`], `search` and `facet`: a pinned state, and the recipes of a query and of a count by value over it.
//! 4. `recent` (documents in memory, exact), `segment` (immutable files), `fine` (page-packed vectors on disk), `coarse`
//!    (what names candidates), `filter` (which documents may be hits), `column` (which rows have which values), `simd` (the
//!    arithmetic).
//!
//! Words: a *row* is a document's number within its part; a *part* is `recent`, a sealing `recent` or a segment. Scores are
//! higher-is-better everywhere inside ([`granum_model::Distance::outward`] turns them for people).
#![warn(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("segment files are little-endian and mapped as they are");

mod bytes;
mod coarse;
mod column;
pub mod document;
pub mod error;
mod executor;
mod facet;
mod filter;
mod fine;
pub mod index;
mod metric;
pub mod options;
mod pace;
pub mod query;
mod recent;
mod search;
mod segment;
mod simd;
mod state;
mod top_k;
pub mod view;
pub mod writer;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub use coarse::door;
pub use document::{Document, Place, SegmentId};
pub use error::{BuildError, InsertError, MergeError, OpenError, ReadError, SearchError};
pub use executor::{Executor, Inline};
pub use facet::Facet;
pub use filter::check as check_filter;
pub use index::{Built, Frozen, Index, Merged, Moved, Stats};
pub use metric::score;
pub use options::{Bits, Builder, Options};
pub use query::{Found, Params, Query, RowHit, RowRef, Usage, Verify};
pub use search::check::Checked;
pub use search::filtered::matches;
pub use segment::merge::plan::{Candidate, MergePlan, MergePolicy};
pub use segment::verify::{PROBLEMS_MAX, Verified, verify};
pub use segment::{Census, FileRef, SegmentRef};
pub use view::View;
pub use writer::Writer;
