//! Several segments become one: so that a query meets few segments, and dead rows do not pile up.
//!
//! ```text
//! sources, pinned          rows alive at the seal that stands          merged segment
//! A: 0 1 . 3 4     ─┐
//! B: 0 . 2         ─┼─▶  order: the largest source first   ─▶   A0 A1 A3 A4 C0 C2 B0 B2
//! C: 0 . 2         ─┘
//! ```
//! [`mod@plan`] says which, [`order`] in which order their rows stand and where each went, [`mod@write`] copies them. What is
//! copied is copied byte for byte: ids, versions, vectors, and whole blocks of payload without unpacking them. Sources are
//! opened anew for that, so that each of their pages is checked again: damage ends a merge, it is never given a new
//! checksum. Which rows are left out and how later deaths follow is told in `index::merging`.

pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod write;

pub(crate) use order::{RowMap, RowOrder, Source, largest_first};
