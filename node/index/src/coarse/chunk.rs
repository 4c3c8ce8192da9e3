//! Codes of documents in memory: made a chunk of rows at a time, and scanned like those of a segment.
//!
//! A row in memory is dear to score: it lies behind three pointers. Its code lies beside its neighbours' and takes a tenth
//! of the time or less. Chunks that are still filling have none, nor have fields that not all rows of a chunk have.

use std::sync::Arc;

use granum_model::{Dense, Distance, VectorField, VectorKind};

use super::estimate::Estimator;
use super::factors::Layout;
use super::places::Places;
use super::quantize::{Factors, Quantizer, Scratch};
use super::seek::{self, Rows, Scan};
use crate::options::{Builder, Options};
use crate::simd::codes::CodeKernel;
use crate::simd::{self, key, of_key};

/// Vectors of fewer dimensions get no codes: the rows themselves are scored as fast.
const DIMENSION_MIN: u32 = 64;

/// What codes are made with, and scored.
pub(crate) struct Coder {
    quantizer: Quantizer,
    kernel: CodeKernel,
}

impl Coder {
    /// Of a field; `None`: its rows are not worth codes, or the options ask for none.
    pub fn new(field: &VectorField, options: Options) -> Option<Coder> {
        let VectorKind::Dense { dimension } = field.kind else {
            return None;
        };
        // Manhattan is not bounded by its codes: they rule nothing out.
        let has_bounds = field.distance != Distance::Manhattan;
        if dimension < DIMENSION_MIN || options.builder == Builder::Scan || !has_bounds {
            return None;
        }
        let seed = super::derive::seed(&field.name, options);
        let quantizer = Quantizer::new(dimension as usize, options.bits, field.distance, seed);
        Some(Coder {
            kernel: CodeKernel::new(options.bits, quantizer.rotation.padded()),
            quantizer,
        })
    }

    fn layout(&self) -> Layout {
        Layout::of(&self.quantizer)
    }

    /// Whether `other` makes and scores the same codes.
    pub fn is_same(&self, other: &Coder) -> bool {
        self.quantizer.is_same(&other.quantizer)
    }
}

/// Codes of the rows of one chunk. Invariant: a code and factors a row.
pub(crate) struct ChunkCodes {
    coder: Arc<Coder>,
    codes: Vec<u8>,
    terms: Vec<f32>,
    bounds: Vec<f32>,
    rows: usize,
    largest: Factors,
}

impl ChunkCodes {
    /// Encodes `rows`, each of the coder's dimension.
    pub fn encode<'a>(coder: Arc<Coder>, rows: impl ExactSizeIterator<Item = &'a Dense>) -> ChunkCodes {
        let (count, layout) = (rows.len(), coder.layout());
        let mut own = ChunkCodes {
            codes: Vec::with_capacity(count * coder.quantizer.row_bytes()),
            terms: Vec::with_capacity(count * layout.beside.terms()),
            bounds: Vec::with_capacity(count * layout.bounds()),
            rows: count,
            largest: Factors::default(),
            coder,
        };
        let mut scratch = Scratch::default();
        for row in rows {
            let quantizer = &own.coder.quantizer;
            let factors = quantizer.encode(&simd::widened(row), &mut scratch, &mut own.codes);
            layout.push(factors, &mut own.terms, &mut own.bounds);
            own.largest.error = own.largest.error.max(factors.error);
            own.largest.norm = own.largest.norm.max(factors.norm);
        }
        own
    }

    pub fn coder(&self) -> &Arc<Coder> {
        &self.coder
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> u64 {
        (self.codes.len() + size_of::<f32>() * (self.terms.len() + self.bounds.len())) as u64
    }
}

/// Chunks of equally many rows, one after the other, all of one coder: place = chunk x rows + row.
pub(crate) struct Chunks<'a> {
    chunks: Vec<&'a ChunkCodes>,
    rows: u32,
}

impl<'a> Chunks<'a> {
    /// Those chunks, of `rows` rows each.
    pub fn new(chunks: Vec<&'a ChunkCodes>, rows: usize) -> Chunks<'a> {
        for chunk in &chunks {
            assert_eq!(chunk.rows, rows, "a chunk of another size");
            assert!(chunk.coder.is_same(&chunks[0].coder), "codes of another coder");
        }
        Chunks {
            chunks,
            rows: rows as u32,
        }
    }

    fn at(&self, place: u32) -> (&ChunkCodes, usize) {
        let (chunk, row) = (place / self.rows, place % self.rows);
        (self.chunks[chunk as usize], row as usize)
    }

    /// As [`Coarse::scan`](super::Coarse::scan).
    pub fn scan(&self, among: Option<&Places>, scans: &mut [Scan<'_>], stop: &dyn Fn() -> bool) -> Option<u64> {
        let Some(first) = self.chunks.first() else {
            return Some(0);
        };
        seek::scan(self, &first.coder.quantizer, among, scans, stop)
    }
}

impl Rows for Chunks<'_> {
    fn places(&self) -> u32 {
        self.chunks.len() as u32 * self.rows
    }

    fn largest(&self) -> Factors {
        let most = |factor: fn(&Factors) -> f32| {
            let factors = self.chunks.iter().map(|chunk| factor(&chunk.largest));
            factors.fold(0.0, f32::max)
        };
        Factors {
            error: most(|largest| largest.error),
            norm: most(|largest| largest.norm),
            ..Factors::default()
        }
    }

    fn rank(&self, estimator: &Estimator, places: &[u32], worst: f32, keys: &mut Vec<u64>) {
        let (mut rows, mut sums) = (Vec::with_capacity(places.len()), Vec::with_capacity(places.len()));
        for places in places.chunk_by(|left, right| left / self.rows == right / self.rows) {
            let (chunk, row) = self.at(places[0]);
            let (first, before) = (places[0] - row as u32, keys.len());
            rows.clear();
            rows.extend(places.iter().map(|place| place % self.rows));
            sums.resize(rows.len(), 0);
            chunk
                .coder
                .kernel
                .gather(&estimator.query, &chunk.codes, &rows, &mut sums);
            let terms = estimator.terms(&chunk.terms, chunk.coder.layout().beside);
            simd::rank(&sums, &rows, terms, worst, keys);
            for ranked in &mut keys[before..] {
                let (score, row) = of_key(*ranked);
                *ranked = key(score, first + row);
            }
        }
    }

    fn factors(&self, place: u32) -> Factors {
        let (chunk, row) = self.at(place);
        chunk.coder.layout().read(&chunk.terms, &chunk.bounds, row)
    }

    fn expect(&self, places: &[u32]) {
        for place in places {
            let (chunk, row) = self.at(*place);
            let width = chunk.coder.quantizer.row_bytes();
            simd::prefetch(&chunk.codes[row * width..][..width]);
        }
    }
}
