//! Reads one named vector of a segment: values by row or by place, and the scores of all of them.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use granum_model::{Distance, Fine, Vector, VectorField, VectorKind};
use roaring::RoaringBitmap;

use super::{ENDS, PRESENT, VALUES};
use crate::bytes::{field, u32_at};
use crate::coarse::Coarse;
use crate::error::ReadError;
use crate::fine::rows::Packing;
use crate::fine::{Kind, PagedFile};
use crate::metric::{Probe, sparse_dot, total};
use crate::segment::{deleted, names};
use crate::simd;

/// Invariants: `places` is the number of rows in `present`; sections have the lengths that places ask for.
pub(crate) struct VectorFile {
    file: PagedFile,
    kind: VectorKind,
    packing: Packing,
    /// `None`: all rows.
    present: Option<RoaringBitmap>,
    places: u64,
    coarse: ArcSwapOption<Coarse>,
}

impl VectorFile {
    pub fn open(file: PagedFile) -> Result<VectorFile, ReadError> {
        let footer = file.footer();
        let kind = match footer.kind {
            Kind::Dense => VectorKind::Dense {
                dimension: footer.dimension,
            },
            Kind::Sparse => VectorKind::Sparse,
            _ => VectorKind::Multi {
                dimension: footer.dimension,
            },
        };
        let present = match file.section_bytes(PRESENT) {
            0 => None,
            _ => Some(deleted::decode(&file, PRESENT)?),
        };
        let places = present.as_ref().map_or(footer.rows, RoaringBitmap::len);
        let packing = Packing {
            row_bytes: simd::row_bytes(footer.fine, footer.dimension as usize),
        };
        let own = VectorFile {
            kind,
            packing,
            present,
            places,
            file,
            coarse: ArcSwapOption::empty(),
        };
        own.check_lengths()?;
        Ok(own)
    }

    fn check_lengths(&self) -> Result<(), ReadError> {
        let last = |own: &Self| own.places.checked_sub(1).map_or(Ok(0), |last| own.end(last));
        let ends_bytes = if matches!(self.kind, VectorKind::Dense { .. }) {
            0
        } else {
            self.places * 8
        };
        if self.file.section_bytes(ENDS) != ends_bytes {
            return Err(self
                .file
                .malformed(format!("section {ENDS} does not have 8 bytes a place")));
        }
        let values_bytes = match self.kind {
            VectorKind::Sparse => last(self)?,
            _ if self.packing.row_bytes == 0 => return Err(self.file.malformed("dimension 0")),
            VectorKind::Dense { .. } => self.packing.section_bytes(self.places),
            VectorKind::Multi { .. } => self.packing.section_bytes(last(self)?),
        };
        if self.file.section_bytes(VALUES) != values_bytes {
            let found = self.file.section_bytes(VALUES);
            return Err(self
                .file
                .malformed(format!("{found} bytes of values, expected {values_bytes}")));
        }
        Ok(())
    }

    pub fn file(&self) -> &PagedFile {
        &self.file
    }

    pub fn name(&self) -> &str {
        &self.file.footer().name
    }

    pub fn kind(&self) -> VectorKind {
        self.kind
    }

    /// Which of its segment's vectors it is.
    pub fn number(&self) -> usize {
        names::vector_number(self.file.name()).expect("a segment opens files by names of ours only")
    }

    /// Tells these values from all others: what a derived file was derived from.
    pub fn identity(&self) -> u64 {
        self.file.footer().table_digest
    }

    /// What names candidates among these vectors, if there is something.
    pub fn coarse(&self) -> arc_swap::Guard<Option<Arc<Coarse>>> {
        self.coarse.load()
    }

    /// Takes codes and graph of these vectors into use.
    pub fn set_coarse(&self, coarse: Option<Coarse>) {
        self.coarse.store(coarse.map(Arc::new));
    }

    /// A dense place will perhaps be read soon: the processor is asked for it, where it is in memory.
    pub fn expect(&self, place: u64) {
        let start = self.packing.offset(place);
        self.file.prefetch(VALUES, start..start + self.packing.row_bytes as u64);
    }

    /// Whether the page of a dense place was read before.
    pub fn was_read(&self, place: u64) -> bool {
        self.file.was_read(VALUES, self.packing.offset(place))
    }

    /// A dense place will be read: its pages are asked for, where they are not in memory.
    pub fn ask(&self, place: u64) {
        let start = self.packing.offset(place);
        self.file.ask(VALUES, start..start + self.packing.row_bytes as u64);
    }

    pub fn fine(&self) -> Fine {
        self.file.footer().fine
    }

    pub fn distance(&self) -> Distance {
        self.file.footer().distance
    }

    /// Whether these are vectors of that field, comparable with a probe made for it.
    pub fn is_of(&self, field: &VectorField) -> bool {
        let footer = self.file.footer();
        self.name() == field.name
            && self.kind == field.kind
            && footer.distance == field.distance
            && footer.fine == field.fine
    }

    /// Whether vectors of `other` mean the same as these, so that their bytes may stand among them.
    pub fn is_like(&self, other: &VectorFile) -> bool {
        let meaning = |own: &VectorFile| (own.kind, own.distance(), own.fine());
        self.name() == other.name() && meaning(self) == meaning(other)
    }

    /// Rows of the segment.
    pub fn rows(&self) -> u64 {
        self.file.footer().rows
    }

    /// Rows that have a vector, in the order of their places.
    pub fn present_rows(&self) -> impl Iterator<Item = u32> {
        let (some, all) = match &self.present {
            Some(present) => (Some(present.iter()), None),
            None => (None, Some(0..self.rows() as u32)),
        };
        some.into_iter().flatten().chain(all.into_iter().flatten())
    }

    /// Rows that have a vector; `None`: all.
    pub fn present(&self) -> Option<&RoaringBitmap> {
        self.present.as_ref()
    }

    pub fn places(&self) -> u64 {
        self.places
    }

    /// The row of a place.
    pub fn row(&self, place: u64) -> u32 {
        match &self.present {
            None => place as u32,
            Some(present) => present.select(place as u32).expect("there are as many rows as places"),
        }
    }

    /// Bytes of all values.
    pub fn values_bytes(&self) -> u64 {
        self.file.section_bytes(VALUES)
    }

    /// The place of a row; `None`: it has no such vector.
    pub fn place(&self, row: u32) -> Option<u64> {
        match &self.present {
            None => Some(u64::from(row)),
            Some(present) if present.contains(row) => Some(present.rank(row) - 1),
            Some(_) => None,
        }
    }

    /// The vector of a row.
    pub fn read(&self, row: u32) -> Result<Option<Vector>, ReadError> {
        self.place(row).map(|place| self.read_place(place)).transpose()
    }

    /// The vector of a place.
    pub fn read_place(&self, place: u64) -> Result<Vector, ReadError> {
        let fine = self.file.footer().fine;
        Ok(match self.kind {
            VectorKind::Dense { dimension } => {
                Vector::Dense(simd::loaded(self.dense(place)?, fine, dimension as usize))
            }
            VectorKind::Sparse => {
                let bytes = self.sparse(place)?;
                let (indices, values) = bytes.split_at(bytes.len() / 2);
                let indices = (0..indices.len() / 4).filter_map(|at| u32_at(indices, at)).collect();
                let values = simd::floats(values);
                Vector::Sparse { indices, values }
            }
            VectorKind::Multi { dimension } => {
                let mut bytes = Vec::new();
                self.each_run(place, |rows| bytes.extend_from_slice(rows))?;
                Vector::Multi {
                    dimension,
                    rows: simd::loaded(&bytes, fine, dimension as usize),
                }
            }
        })
    }

    /// Bytes that a row of this place takes.
    pub fn place_bytes(&self, place: u64) -> Result<u64, ReadError> {
        Ok(match self.kind {
            VectorKind::Dense { .. } => self.packing.row_bytes as u64,
            VectorKind::Sparse => self.end(place)?.saturating_sub(self.start(place)?),
            VectorKind::Multi { .. } => self
                .end(place)?
                .saturating_sub(self.start(place)?)
                .saturating_mul(self.packing.row_bytes as u64),
        })
    }

    /// Pages of the file that a place lies in.
    pub fn place_pages(&self, place: u64) -> Result<Range<u64>, ReadError> {
        let bytes = match self.kind {
            VectorKind::Dense { .. } => {
                let start = self.packing.offset(place);
                start..start + self.packing.row_bytes as u64
            }
            VectorKind::Sparse => self.start(place)?..self.end(place)?,
            VectorKind::Multi { .. } => {
                self.packing.offset(self.start(place)?)..self.packing.section_bytes(self.end(place)?)
            }
        };
        Ok(self.file.pages(VALUES, bytes))
    }

    /// Pages of all values.
    pub fn values_pages(&self) -> u64 {
        let pages = self.file.pages(VALUES, 0..self.values_bytes());
        pages.end - pages.start
    }

    /// Score of one place.
    #[inline]
    pub fn score(&self, probe: &Probe, place: u64) -> Result<f32, ReadError> {
        match probe {
            Probe::Dense { scorer, query } => Ok(scorer.score(query, self.dense(place)?)),
            Probe::Sparse { indices, values } => {
                let bytes = self.sparse(place)?;
                let (own, own_values) = bytes.split_at(bytes.len() / 2);
                let pairs = own.chunks_exact(4).zip(own_values.chunks_exact(4));
                let pairs = pairs
                    .map(|(index, value)| (u32::from_le_bytes(field(index, 0)), f32::from_le_bytes(field(value, 0))));
                Ok(sparse_dot((indices, values), pairs))
            }
            Probe::Multi {
                scorer,
                query,
                dimension,
            } => {
                let mut best = vec![f32::MIN; query.len() / dimension];
                self.each_run(place, |rows| scorer.best_matches(query, rows, &mut best))?;
                Ok(total(&best))
            }
        }
    }

    /// Scores all places in order, for each of `probes`: `each(probe's number, place, score)`. Dense rows are scored where
    /// they lie, a page at a time, so that all probes find a page in the nearest cache.
    pub fn scores(
        &self,
        probes: &[Probe],
        stop: &dyn Fn() -> bool,
        mut each: impl FnMut(usize, u64, f32) -> Result<(), ReadError>,
    ) -> Result<bool, ReadError> {
        /// Places between two looks at the deadline.
        const STOP_PLACES: u64 = 4096;
        let mut scores = vec![0.0; self.packing_rows()];
        let (mut place, mut next_stop) = (0, 0);
        while place < self.places {
            if place >= next_stop {
                if stop() {
                    return Ok(false);
                }
                next_stop = place + STOP_PLACES;
            }
            let mut next = place + 1;
            for (number, probe) in probes.iter().enumerate() {
                if let Probe::Dense { scorer, query } = probe {
                    let (rows, count) = self.packing.run(&self.file, VALUES, place, self.places)?;
                    scorer.scores(query, rows, &mut scores[..count]);
                    next = place + count as u64;
                    for (place, score) in (place..).zip(&scores[..count]) {
                        each(number, place, *score)?;
                    }
                } else {
                    each(number, place, self.score(probe, place)?)?;
                }
            }
            place = next;
        }
        Ok(true)
    }

    /// The component bytes of a dense place.
    #[inline]
    pub fn dense(&self, place: u64) -> Result<&[u8], ReadError> {
        self.packing.row(&self.file, VALUES, place)
    }

    /// Indices and values of a sparse place: two halves of equal length.
    pub fn sparse(&self, place: u64) -> Result<&[u8], ReadError> {
        let range = self.start(place)?..self.end(place)?;
        if range.end < range.start || (range.end - range.start) % 8 != 0 {
            return Err(self.file.malformed(format!("place {place} at {range:?}")));
        }
        self.file.bytes(VALUES, range)
    }

    /// Calls `each` with the rows of a multi place, as many at a time as lie end to end.
    fn each_run(&self, place: u64, mut each: impl FnMut(&[u8])) -> Result<(), ReadError> {
        self.try_each_run(place, |rows| {
            each(rows);
            Ok(())
        })
    }

    /// As `each_run`, until `each` fails.
    pub fn try_each_run<E: From<ReadError>>(
        &self,
        place: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (start, end) = (self.start(place)?, self.end(place)?);
        // Ends in the middle of the table are believed no more than the last one, which was compared when the file was opened.
        if start >= end || self.packing.section_bytes(end) > self.file.section_bytes(VALUES) {
            let problem = format!("place {place} at rows {start}..{end}");
            return Err(self.file.malformed(problem).into());
        }
        let mut from = start;
        while from < end {
            let (rows, count) = self.packing.run(&self.file, VALUES, from, end)?;
            each(rows)?;
            from += count as u64;
        }
        Ok(())
    }

    fn packing_rows(&self) -> usize {
        self.packing.group().0
    }

    fn start(&self, place: u64) -> Result<u64, ReadError> {
        if place == 0 { Ok(0) } else { self.end(place - 1) }
    }

    fn end(&self, place: u64) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(field(
            self.file.bytes(ENDS, place * 8..place * 8 + 8)?,
            0,
        )))
    }
}
