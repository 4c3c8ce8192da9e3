//! Codes and links in memory, their checksums right: what a search reads.

use super::codes::{Coded, Codes};
use super::estimate::Estimator;
use super::factors::Layout;
use super::graph::Graph;
use super::quantize::Factors;
use super::seek::Rows;
use crate::error::OpenError;
use crate::fine::Resident;
use crate::simd::codes::CodeKernel;
use crate::simd::{self, Beside};

const CODES: usize = 0;
const TERMS: usize = 1;
const BOUNDS: usize = 2;
const LINKS: usize = 3;

/// Invariants: a code, factors and, if there is a graph, `degree` links a place; every link leads to a place or nowhere.
pub(super) struct Loaded {
    memory: Resident,
    kernel: CodeKernel,
    degree: usize,
    layout: Layout,
    places: u32,
    largest: Factors,
}

impl Loaded {
    /// Checks and copies both files.
    pub fn new(codes: &Codes, graph: Option<&Graph>) -> Result<Loaded, OpenError> {
        codes.check()?;
        graph.map_or(Ok(()), Graph::check)?;
        let links = graph.map_or(Ok(&[][..]), Graph::piece)?;
        let (coded, layout) = (codes.coded()?, Layout::of(codes.quantizer()));
        let places = coded.places() as usize;
        let tables = [layout.beside.terms(), layout.bounds()].map(|numbers| places * numbers * size_of::<f32>());
        let lengths = [coded.codes().len(), tables[0], tables[1], links.len()];
        let memory = Resident::zeroed(&lengths).map_err(|source| OpenError::Io {
            file: "codes".into(),
            source,
        })?;
        let mut own = Loaded {
            memory,
            kernel: codes.kernel(),
            degree: graph.map_or(0, Graph::degree),
            layout,
            places: coded.places(),
            largest: Factors::default(),
        };
        own.memory.piece_mut(CODES).copy_from_slice(coded.codes());
        own.memory.piece_mut(LINKS).copy_from_slice(links);
        own.fill_tables(&coded);
        Ok(own)
    }

    /// Brings the factors into the order in which they are read, a block at a time.
    fn fill_tables(&mut self, coded: &Coded<'_>) {
        const BLOCK: usize = 1024;
        let (mut terms, mut bounds) = (Vec::new(), Vec::new());
        for first in (0..self.places).step_by(BLOCK) {
            terms.clear();
            bounds.clear();
            for place in first..self.places.min(first + BLOCK as u32) {
                let factors = coded.factors(place);
                self.layout.push(factors, &mut terms, &mut bounds);
                self.largest.error = self.largest.error.max(factors.error);
                self.largest.norm = self.largest.norm.max(factors.norm);
            }
            let tables = [
                (TERMS, self.layout.beside.terms(), &terms),
                (BOUNDS, self.layout.bounds(), &bounds),
            ];
            for (piece, a_place, numbers) in tables {
                let (start, bytes) = (
                    first as usize * a_place * size_of::<f32>(),
                    simd::bytes_of_floats(numbers),
                );
                self.memory.piece_mut(piece)[start..][..bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// The factors of a place will be read soon.
    pub fn expect_factors(&self, place: u32) {
        let bytes = self.layout.bounds() * size_of::<f32>();
        simd::prefetch_rows(self.memory.piece(BOUNDS), bytes, &[place]);
    }

    /// Where a place leads to, filled with [`NO_LINK`](super::walk::NO_LINK).
    #[inline]
    pub fn links(&self, place: u32) -> &[u32] {
        &simd::words(self.memory.piece(LINKS))[place as usize * self.degree..][..self.degree]
    }

    fn numbers(&self, piece: usize) -> &[f32] {
        simd::numbers(self.memory.piece(piece))
    }
}

impl Rows for Loaded {
    #[inline]
    fn places(&self) -> u32 {
        self.places
    }

    fn largest(&self) -> Factors {
        self.largest
    }

    #[inline]
    fn rank(&self, estimator: &Estimator, places: &[u32], worst: f32, keys: &mut Vec<u64>) {
        const TILE: usize = 64;
        let terms = estimator.terms(self.numbers(TERMS), self.layout.beside);
        let mut sums = [0; TILE];
        for places in places.chunks(TILE) {
            let sums = &mut sums[..places.len()];
            self.kernel
                .gather(&estimator.query, self.memory.piece(CODES), places, sums);
            simd::rank(sums, places, terms, worst, keys);
        }
    }

    fn factors(&self, place: u32) -> Factors {
        let (terms, bounds) = (self.numbers(TERMS), self.numbers(BOUNDS));
        self.layout.read(terms, bounds, place as usize)
    }

    #[inline]
    fn expect(&self, places: &[u32]) {
        simd::prefetch_rows(self.memory.piece(CODES), self.kernel.row_bytes(), places);
        // Scales alone are few enough to be near.
        if self.layout.beside != Beside::Nothing {
            let bytes = self.layout.beside.terms() * size_of::<f32>();
            simd::prefetch_rows(self.memory.piece(TERMS), bytes, places);
        }
    }
}
