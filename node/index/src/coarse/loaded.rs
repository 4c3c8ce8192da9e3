//! Codes and links in memory, their checksums right: what a search reads.

use super::codes::Codes;
use super::estimate::Estimator;
use super::graph::Graph;
use super::quantize::Factors;
use super::seek::Rows;
use crate::error::OpenError;
use crate::fine::Resident;
use crate::simd::codes::CodeKernel;
use crate::simd::{self, Beside};

const CODES: usize = 0;
const SCALES: usize = 1;
const NORMS: usize = 2;
const ERRORS: usize = 3;
const OFFSETS: usize = 4;
const LINKS: usize = 5;

/// Invariants: a code, factors and, if there is a graph, `degree` links a place; every link leads to a place or nowhere.
pub(super) struct Loaded {
    memory: Resident,
    kernel: CodeKernel,
    degree: usize,
    has_lengths: bool,
    places: u32,
    largest: Factors,
}

impl Loaded {
    /// Checks and copies both files.
    pub fn new(codes: &Codes, graph: Option<&Graph>) -> Result<Loaded, OpenError> {
        codes.check()?;
        graph.map_or(Ok(()), Graph::check)?;
        let [rows, scales, norms, errors, offsets] = codes.pieces()?;
        let links = graph.map_or(Ok(&[][..]), Graph::piece)?;
        let memory =
            Resident::copy(&[rows, scales, norms, errors, offsets, links]).map_err(|source| OpenError::Io {
                file: "codes".into(),
                source,
            })?;
        let mut own = Loaded {
            memory,
            kernel: codes.kernel(),
            degree: graph.map_or(0, Graph::degree),
            has_lengths: codes.quantizer().has_lengths(),
            places: (scales.len() / 4) as u32,
            largest: Factors::default(),
        };
        for place in 0..own.places {
            let factors = own.factors(place);
            own.largest.error = own.largest.error.max(factors.error);
            own.largest.norm = own.largest.norm.max(factors.norm);
        }
        Ok(own)
    }

    pub fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// The factors of a place will be read soon.
    pub fn expect_factors(&self, place: u32) {
        for piece in [NORMS, ERRORS] {
            simd::prefetch(&self.memory.piece(piece)[place as usize * 4..][..4]);
        }
    }

    /// Where a place leads to, filled with [`NO_LINK`](super::walk::NO_LINK).
    #[inline]
    pub fn links(&self, place: u32) -> &[u32] {
        &simd::words(self.memory.piece(LINKS))[place as usize * self.degree..][..self.degree]
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
    fn score(&self, estimator: &Estimator, places: &[u32], scores: &mut [f32]) {
        const TILE: usize = 64;
        let scales = simd::numbers(self.memory.piece(SCALES));
        let table = |piece| simd::numbers(self.memory.piece(piece));
        let beside = match table(OFFSETS) {
            _ if self.has_lengths => Beside::Norms(table(NORMS)),
            [] => Beside::Nothing,
            offsets => Beside::Offsets(offsets),
        };
        let mut sums = [0; TILE];
        for (places, scores) in places.chunks(TILE).zip(scores.chunks_mut(TILE)) {
            let sums = &mut sums[..places.len()];
            self.kernel
                .gather(&estimator.query, self.memory.piece(CODES), places, sums);
            simd::finish(sums, places, scales, beside, estimator.line(), scores);
        }
    }

    fn factors(&self, place: u32) -> Factors {
        let table = |piece| simd::numbers(self.memory.piece(piece));
        let factor = |piece| table(piece)[place as usize];
        Factors {
            scale: factor(SCALES),
            norm: factor(NORMS),
            error: factor(ERRORS),
            offset: table(OFFSETS).get(place as usize).copied().unwrap_or_default(),
        }
    }

    #[inline]
    fn expect(&self, place: u32) {
        let width = self.kernel.row_bytes();
        simd::prefetch(&self.memory.piece(CODES)[place as usize * width..][..width]);
    }
}
