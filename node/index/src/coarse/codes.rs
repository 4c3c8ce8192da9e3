//! The codes of a segment's dense vector: a file of their own, copied into memory before a search ([`super::loaded`]).
//!
//! Sections: 0 what made them (bits u32, quantizer version u32, seed u64, in version 1 the centroid) · 1 codes, a row a place ·
//! 2 scales, 3 norms, 4 errors and, of products about a centroid, 5 offsets, an f32 a place each. The footer's fingerprint is the
//! checksum table's digest of the vector file: codes of other values are not used.
//!
//! The same rows and quantizer give the same codes. So those of a merged segment are copied from its sources' where they
//! are there, and only the other rows are encoded.

use std::path::Path;

use granum_model::{Dense, Vector, VectorKind};

use super::centroid::Centroid;
use super::origin::Origin;
use super::quantize::{Factors, Quantizer, Scratch};
use crate::bytes::field;
use crate::document::SegmentId;
use crate::error::{BuildError, OpenError, ReadError};
use crate::executor::{Executor, map};
use crate::fine::{Footer, Kind, PagedFile, PagedWriter};
use crate::pace::{CopyError, Pace, go_on};
use crate::segment::{FileRef, VectorFile, names};
use crate::simd;
use crate::simd::codes::{Bits, CodeKernel};

const MAKER: usize = 0;
const CODES: usize = 1;
const SCALES: usize = 2;
const NORMS: usize = 3;
const ERRORS: usize = 4;
const OFFSETS: usize = 5;
const MAKER_BYTES: u64 = 16;
/// Quantizer versions: without a centroid, and with one.
const PLAIN: u32 = 0;
const ABOUT_CENTROID: u32 = 1;
/// Rows encoded at a time by one piece of work.
const PIECE_ROWS: usize = 1024;
/// Bytes written between two looks at whether to go on.
const WRITE_BYTES: usize = 64 << 10;

/// Codes and factors in memory, in the order of places.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub codes: Vec<u8>,
    pub factors: Vec<Factors>,
}

/// Encodes all places of a file, but for those whose codes `origins` have.
pub(super) fn encode(
    vectors: &VectorFile,
    quantizer: &Quantizer,
    origins: &[Origin],
    executor: &dyn Executor,
) -> Result<Encoded, BuildError> {
    let (places, row_bytes) = (vectors.places() as usize, quantizer.row_bytes());
    let mut all = Encoded {
        codes: vec![0; places * row_bytes],
        factors: vec![Factors::default(); places],
    };
    let mut is_known = vec![false; places];
    for origin in origins {
        origin.each_code(quantizer, executor, |place, code, factors| {
            all.set(place, code, factors);
            is_known[place as usize] = true;
        })?;
    }
    let unknown: Vec<u32> = (0..places as u32).filter(|place| !is_known[*place as usize]).collect();
    let pieces: Vec<&[u32]> = unknown.chunks(PIECE_ROWS).collect();
    let encoded = map(executor, pieces.len(), |piece| {
        let (mut own, mut scratch) = (Encoded::default(), Scratch::default());
        for place in pieces[piece] {
            let row = dense_row(vectors, u64::from(*place))?;
            own.factors.push(quantizer.encode(&row, &mut scratch, &mut own.codes));
        }
        Ok::<_, ReadError>(own)
    });
    for (piece, encoded) in pieces.iter().zip(encoded?) {
        go_on(executor)?;
        let encoded = encoded?;
        let codes = encoded.codes.chunks_exact(row_bytes);
        for ((place, code), factors) in piece.iter().zip(codes).zip(&encoded.factors) {
            all.set(*place, code, *factors);
        }
    }
    Ok(all)
}

impl Encoded {
    fn set(&mut self, place: u32, code: &[u8], factors: Factors) {
        let at = place as usize;
        self.codes[at * code.len()..][..code.len()].copy_from_slice(code);
        self.factors[at] = factors;
    }
}

/// The components of a place of a dense vector.
pub(super) fn dense_row(vectors: &VectorFile, place: u64) -> Result<Vec<f32>, ReadError> {
    match vectors.read_place(place)? {
        Vector::Dense(row) => Ok(simd::widened(&row)),
        Vector::Sparse { .. } | Vector::Multi { .. } => Ok(simd::widened(&Dense::F32(Vec::new()))),
    }
}

/// Writes the codes of `vectors`, which are vector `number` of the segment.
pub(super) fn write(
    directory: &Path,
    segment: SegmentId,
    vectors: &VectorFile,
    quantizer: &Quantizer,
    encoded: &Encoded,
    pace: &mut Pace<'_>,
) -> Result<FileRef, CopyError> {
    let mut writer = PagedWriter::create(directory, &names::codes(segment, vectors.number()))?;
    writer.section()?;
    writer.write(&quantizer.bits.count().to_le_bytes())?;
    let centroid = quantizer.centroid.components();
    let version = if centroid.is_some() { ABOUT_CENTROID } else { PLAIN };
    writer.write(&version.to_le_bytes())?;
    writer.write(&quantizer.seed.to_le_bytes())?;
    writer.write(simd::bytes_of_floats(centroid.unwrap_or_default()))?;
    writer.section()?;
    for codes in encoded.codes.chunks(WRITE_BYTES) {
        writer.write(codes)?;
        pace.step(codes.len())?;
    }
    let factors = [
        |factors: &Factors| factors.scale,
        |factors: &Factors| factors.norm,
        |factors: &Factors| factors.error,
        |factors: &Factors| factors.offset,
    ];
    let kept = factors.len() - usize::from(!quantizer.has_offsets());
    for factor in &factors[..kept] {
        writer.section()?;
        let factors: Vec<f32> = encoded.factors.iter().map(factor).collect();
        for bytes in simd::bytes_of_floats(&factors).chunks(WRITE_BYTES) {
            writer.write(bytes)?;
            pace.step(bytes.len())?;
        }
    }
    pace.ask()?;
    let footer = Footer::new(Kind::Codes, segment.0, vectors.places());
    let finished = writer.finish(Footer {
        dimension: quantizer.rotation.dimension() as u32,
        distance: quantizer.distance,
        fingerprint: vectors.identity(),
        ..footer
    });
    Ok(finished?)
}

/// Codes and factors where they lie in a file.
pub(super) struct Coded<'a> {
    row_bytes: usize,
    codes: &'a [u8],
    /// Scales, norms, errors.
    factors: [&'a [f32]; 3],
    /// Empty where rows have none.
    offsets: &'a [f32],
}

impl<'a> Coded<'a> {
    /// How many places there are.
    pub fn places(&self) -> u32 {
        self.factors[0].len() as u32
    }

    /// All codes, end to end.
    pub fn codes(&self) -> &'a [u8] {
        self.codes
    }

    /// The code of a place.
    pub fn code(&self, place: u32) -> &[u8] {
        &self.codes[place as usize * self.row_bytes..][..self.row_bytes]
    }

    /// What stands beside it.
    pub fn factors(&self, place: u32) -> Factors {
        let [scale, norm, error] = self.factors.map(|factors| factors[place as usize]);
        let offset = self.offsets.get(place as usize).copied().unwrap_or_default();
        Factors {
            scale,
            norm,
            error,
            offset,
        }
    }
}

/// Open codes. Invariant: a code and factors for each place of the vector file they were derived from.
pub(crate) struct Codes {
    file: PagedFile,
    quantizer: Quantizer,
    kernel: CodeKernel,
}

impl Codes {
    /// Opens the codes of `vectors`, if there are some that fit.
    pub fn open(directory: &Path, segment: SegmentId, vectors: &VectorFile) -> Result<Codes, OpenError> {
        let file = PagedFile::open(directory, &names::codes(segment, vectors.number()), None)?;
        let footer = file.footer();
        let dimension = match vectors.kind() {
            VectorKind::Dense { dimension } => dimension,
            VectorKind::Sparse | VectorKind::Multi { .. } => 0,
        };
        let fits = footer.kind == Kind::Codes
            && footer.segment == segment.0
            && footer.rows == vectors.places()
            && footer.fingerprint == vectors.identity()
            && footer.distance == vectors.distance()
            && footer.dimension == dimension
            && dimension > 0
            // Of no rows, any dimension would fit, and a rotation takes memory by the dimension.
            && footer.rows > 0
            && file.section_bytes(MAKER) >= MAKER_BYTES;
        if !fits {
            return Err(file.malformed("not the codes of this segment's vectors").into());
        }
        let maker = file.section(MAKER)?;
        let number = |at| u32::from_le_bytes(field(maker, at));
        let Some(bits) = Bits::from_count(number(0)) else {
            return Err(file.malformed(format!("{} bits, not 1, 2, 4 or 8", number(0))).into());
        };
        let components = match number(4) {
            PLAIN => 0,
            ABOUT_CENTROID => dimension as usize,
            version => {
                let problem = format!("quantizer version {version}, this program knows {PLAIN} and {ABOUT_CENTROID}");
                return Err(file.malformed(problem).into());
            }
        };
        let centroid = &maker[MAKER_BYTES as usize..];
        let centroid = (centroid.len() == components * size_of::<f32>()).then(|| simd::floats(centroid));
        let Some(centroid) = centroid.and_then(|centroid| Centroid::new(&centroid)) else {
            return Err(file
                .malformed(format!("no centroid of {components} finite components"))
                .into());
        };
        let seed = u64::from_le_bytes(field(maker, 8));
        let quantizer = Quantizer::new(dimension as usize, bits, footer.distance, seed).about(centroid);
        let rows = footer.rows;
        let is_whole = file.section_bytes(CODES) == rows * quantizer.row_bytes() as u64
            && [SCALES, NORMS, ERRORS]
                .into_iter()
                .all(|section| file.section_bytes(section) == rows * 4)
            && file.section_bytes(OFFSETS) == rows * 4 * u64::from(quantizer.has_offsets());
        if !is_whole {
            return Err(file.malformed("not a code and factors a place").into());
        }
        Ok(Codes {
            kernel: CodeKernel::new(bits, quantizer.rotation.padded()),
            quantizer,
            file,
        })
    }

    /// How they were made.
    pub fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }

    /// Checks every page, and that factors are numbers.
    pub fn check(&self) -> Result<(), ReadError> {
        self.file.check_all()?;
        for section in [SCALES, NORMS, ERRORS, OFFSETS] {
            let numbers = simd::numbers(self.file.section(section)?);
            if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
                return Err(self.file.malformed(format!("factor {at} is {}", numbers[at])));
            }
        }
        Ok(())
    }

    /// The kernel for these codes.
    pub(super) fn kernel(&self) -> CodeKernel {
        self.kernel
    }

    /// All codes and factors.
    pub(super) fn coded(&self) -> Result<Coded<'_>, ReadError> {
        let numbers = |section| self.file.section(section).map(simd::numbers);
        Ok(Coded {
            row_bytes: self.quantizer.row_bytes(),
            codes: self.file.section(CODES)?,
            factors: [numbers(SCALES)?, numbers(NORMS)?, numbers(ERRORS)?],
            offsets: numbers(OFFSETS)?,
        })
    }
}
