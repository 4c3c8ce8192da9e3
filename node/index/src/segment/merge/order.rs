//! In which order do the rows of the sources stand in the merged segment, and where did each go?

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::segment::Segment;

/// A row of one of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceRow {
    /// Position among the sources.
    pub source: u32,
    pub row: u32,
}

/// Puts the rows to be kept, which come source by source in the order of their rows, into the order that they shall have.
pub(crate) type RowOrder = fn(&[Source], Vec<SourceRow>) -> Vec<SourceRow>;

/// A segment that becomes part of another.
pub(crate) struct Source {
    /// As pinned, with whatever was derived from it.
    pub segment: Arc<Segment>,
    /// Its rows that were dead at the seal: they are left out.
    pub excluded: Arc<RoaringBitmap>,
    /// Where the others went.
    pub new_rows: Arc<RowMap>,
}

/// Old row -> new row. Invariant: no two rows have the same new row.
#[derive(Debug, Default)]
pub(crate) struct RowMap(Vec<u32>);

/// No row: segments have less than 2^32 of them.
const NONE: u32 = u32::MAX;

impl RowMap {
    /// The new row; `None`: it was left out.
    #[inline]
    pub fn new_row(&self, row: u32) -> Option<u32> {
        self.0.get(row as usize).copied().filter(|new| *new != NONE)
    }

    /// Old rows that went on, with their new ones.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..)
            .zip(&self.0)
            .filter(|(_, new)| **new != NONE)
            .map(|(old, new)| (old, *new))
    }
}

impl Source {
    pub fn new(segment: Arc<Segment>, excluded: Arc<RoaringBitmap>) -> Source {
        Source {
            segment,
            excluded,
            new_rows: Arc::default(),
        }
    }

    pub fn kept_rows(&self) -> u64 {
        u64::from(self.segment.rows) - self.excluded.len()
    }
}

/// The source with the most rows first, in its own order, so that what was derived from it can be extended; then the
/// others', as they come.
pub(crate) fn largest_first(sources: &[Source], mut rows: Vec<SourceRow>) -> Vec<SourceRow> {
    let largest = (0u32..)
        .zip(sources)
        .max_by_key(|(at, source)| (source.kept_rows(), u32::MAX - at));
    let largest = largest.map(|(at, _)| at);
    rows.sort_by_key(|row| Some(row.source) != largest);
    rows
}

/// Orders the rows to be kept, and notes in each source where they went.
pub(crate) fn lay_out(sources: &mut [Source], order: RowOrder) -> Vec<SourceRow> {
    let kept = (0u32..).zip(sources.iter()).flat_map(|(at, source)| {
        let rows = (0..source.segment.rows).filter(|row| !source.excluded.contains(*row));
        rows.map(move |row| SourceRow { source: at, row })
    });
    let kept: Vec<SourceRow> = kept.collect();
    let kept_rows = kept.len();
    let ordered = order(sources, kept);
    assert_eq!(ordered.len(), kept_rows, "an order keeps all rows");
    let mut maps: Vec<Vec<u32>> = sources
        .iter()
        .map(|source| vec![NONE; source.segment.rows as usize])
        .collect();
    for (new, SourceRow { source, row }) in (0u32..).zip(&ordered) {
        let known = &mut maps[*source as usize][*row as usize];
        assert_eq!(*known, NONE, "row {row} of source {source} stands twice");
        *known = new;
    }
    for (source, map) in sources.iter_mut().zip(maps) {
        source.new_rows = Arc::new(RowMap(map));
    }
    ordered
}
