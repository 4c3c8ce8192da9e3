//! Codes are of what is left of a row when a centroid is subtracted. Which one?
//!
//! Embeddings of one model have something in common: the mean has a tenth to a fifth of the rows' squared length where the model
//! is all-MiniLM-L6-v2, far more with others. Estimates err in proportion to the lengths of what was encoded and of what is asked,
//! so the mean is subtracted from both where that is worth it (docs/decisions/0002-coarse-tier.md, 15). Segments share a
//! centroid while their rows stay about it, so that merges copy codes and a query is rotated once for them; a segment whose
//! mean has moved away gets its own. Documents in memory are encoded as they are.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::codes::dense_row;
use super::quantize::Quantizer;
use crate::error::ReadError;
use crate::segment::VectorFile;
use crate::simd;
use crate::simd::codes::Bits;

/// Squared distance of the mean from a centroid, in mean squared lengths of rows, from which on another is worth it. Bounds are
/// about as much narrower.
const WORTH: f64 = 0.05;
/// The same where it costs walks an offset a row that they score, and few rows are read for their bounds (0002, 15).
const WORTH_OFFSETS: f64 = 0.25;
/// Rows that the mean is taken of: their own noise is a thousandth of their squared length.
const SAMPLE_ROWS: u64 = 1024;

/// What is subtracted. Invariant: its length is finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Centroid {
    /// Empty: 0.
    components: Arc<[f32]>,
    length: f32,
    digest: u64,
}

impl Centroid {
    /// `None`: its length is no number.
    pub fn new(components: &[f32]) -> Option<Centroid> {
        if components.is_empty() {
            return Some(Centroid::default());
        }
        let length = simd::dot(components, components).sqrt();
        length.is_finite().then(|| Centroid {
            length,
            digest: xxh3_64(simd::bytes_of_floats(components)),
            components: components.into(),
        })
    }

    /// For rows of `vectors` and codes like those of `plain`: the first of those `present` that the rows are about, or the best.
    pub fn of(vectors: &VectorFile, plain: &Quantizer, present: &[Centroid]) -> Result<Centroid, ReadError> {
        let worth = match plain.bits {
            Bits::Four | Bits::Eight if !plain.has_lengths() => WORTH_OFFSETS,
            _ => WORTH,
        };
        let (mean, mean_square) = mean(vectors)?;
        let squared_distance = |from: &[f32]| -> f64 {
            let from = from.iter().copied().chain(std::iter::repeat(0.0));
            let differences = mean.iter().zip(from).map(|(mean, from)| mean - f64::from(from));
            differences.map(|difference| difference * difference).sum()
        };
        let is_about = |centroid: &Centroid| squared_distance(&centroid.components) <= worth * mean_square;
        let nothing = Centroid::default();
        let standing = present.iter().chain([&nothing]).find(|centroid| is_about(centroid));
        Ok(standing.cloned().unwrap_or_else(|| {
            let mean: Vec<f32> = mean.iter().map(|value| *value as f32).collect();
            Centroid::new(&mean).unwrap_or_default()
        }))
    }

    /// `None`: 0.
    pub fn components(&self) -> Option<&[f32]> {
        (!self.components.is_empty()).then_some(&*self.components)
    }

    /// Its own length.
    pub fn length(&self) -> f32 {
        self.length
    }

    /// Tells it from all others.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// `vector` less it, in `room` where that takes any.
    pub fn residual<'a>(&self, vector: &'a [f32], room: &'a mut Vec<f32>) -> &'a [f32] {
        let Some(centroid) = self.components() else {
            return vector;
        };
        room.clear();
        room.extend(vector.iter().zip(centroid).map(|(value, middle)| value - middle));
        room
    }
}

/// Mean of a sample of rows, spread evenly over the places, and the mean of their squared lengths.
fn mean(vectors: &VectorFile) -> Result<(Vec<f64>, f64), ReadError> {
    let count = vectors.places().min(SAMPLE_ROWS);
    let (mut sums, mut squares) = (Vec::new(), 0.0);
    for at in 0..count {
        let row = dense_row(vectors, at * vectors.places() / count)?;
        sums.resize(row.len(), 0.0);
        for (sum, value) in sums.iter_mut().zip(&row) {
            *sum += f64::from(*value);
            squares += f64::from(*value) * f64::from(*value);
        }
    }
    let count = count.max(1) as f64;
    sums.iter_mut().for_each(|sum| *sum /= count);
    Ok((sums, squares / count))
}

#[cfg(test)]
mod tests {
    use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};

    use super::*;
    use crate::coarse::codes::encode;
    use crate::document::{Document, SegmentId};
    use crate::executor::Inline;
    use crate::index::Index;
    use crate::options::Options;
    use crate::query::{Params, Query};
    use crate::view::Part;

    const DIMENSION: usize = 80;
    /// As many as get codes, and more.
    const ROWS: u64 = 600;

    /// A direction, the same for the same number.
    fn direction(number: u64) -> Vec<f32> {
        let draw = |at: u64| (xxh3_64(&(number * 1000 + at).to_le_bytes()) >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        unit((0..DIMENSION as u64).map(draw).collect())
    }

    fn unit(mut vector: Vec<f32>) -> Vec<f32> {
        let length = simd::dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
        vector
    }

    /// A unit vector, nine tenths of whose squared length are `common`.
    fn beside(common: &[f32], number: u64) -> Vec<f32> {
        let own = direction(1 + number);
        unit(common.iter().zip(own).map(|(common, own)| 3.0 * common + own).collect())
    }

    fn schema(dimension: usize, distance: Distance) -> Schema {
        let dimension = dimension as u32;
        let field = VectorField::new("v", VectorKind::Dense { dimension }, distance, Fine::F32);
        Schema {
            vectors: vec![field],
            ..Schema::default()
        }
    }

    struct Sealed {
        index: Index,
        next: u64,
        _directory: tempfile::TempDir,
    }

    impl Sealed {
        fn new(distance: Distance) -> Sealed {
            let directory = tempfile::tempdir().unwrap();
            let schema = schema(DIMENSION, distance);
            Sealed {
                index: Index::open(directory.path(), schema, Options::default(), &[]).unwrap(),
                next: 0,
                _directory: directory,
            }
        }

        /// Makes a segment of so many rows; returns the centroid of its codes.
        fn seal(&mut self, rows: u64, row: impl Fn(u64) -> Vec<f32>) -> Centroid {
            for number in self.next..self.next + rows {
                let document = Document {
                    id: DocId::Number(number),
                    version: 1,
                    payload: Arc::default(),
                    vectors: vec![("v".into(), Vector::Dense(Dense::F32(row(number))))],
                };
                self.index.insert(document, None).unwrap();
            }
            self.next += rows;
            let built = self.index.build(&self.index.freeze(SegmentId(self.next))).unwrap();
            self.index.publish(built);
            self.vectors(|file| file.coarse().as_ref().expect("it has codes").centroid().clone())
        }

        /// What `take` has of the last segment's vectors.
        fn vectors<T>(&self, take: impl Fn(&VectorFile) -> T) -> T {
            let view = self.index.view();
            let last = view.parts().last().expect("there are parts").1;
            let Part::Disk(live) = last else {
                panic!("nothing was sealed");
            };
            take(live.segment.vector("v").expect("it has vectors"))
        }

        fn find(&self, vector: Vec<f32>, params: Params) -> Vec<(DocId, u32)> {
            let query = Query {
                using: "v".into(),
                vector: Vector::Dense(Dense::F32(vector)),
                filter: Filter::default(),
                k: 10,
                threshold: None,
                exclude: None,
                params,
            };
            let found = self.index.view().search(&[query], &|| false).unwrap().remove(0);
            let told = |hit: crate::query::RowHit| (hit.hit.id, hit.hit.score.to_bits());
            found.hits.into_iter().map(told).collect()
        }
    }

    #[test]
    fn segments_share_a_centroid_while_their_rows_stay_about_it() {
        let mut sealed = Sealed::new(Distance::Cosine);
        let (here, there) = (direction(0), direction(1_000_000));
        let first = sealed.seal(ROWS, |number| beside(&here, number));
        assert!(first.components().is_some());
        assert_eq!(sealed.seal(ROWS / 2, |number| beside(&here, number)), first);
        let moved = sealed.seal(ROWS / 2, |number| beside(&there, number));
        assert!(moved.components().is_some() && moved != first);
        // Not the largest segment's.
        assert_eq!(sealed.seal(ROWS / 2, |number| beside(&there, number)), moved);
        assert_eq!(sealed.seal(ROWS / 2, direction), Centroid::default());
    }

    /// As a model's vectors are when they are cut.
    #[test]
    fn a_field_of_another_dimension_takes_no_centroid_of_the_old_one() {
        let mut sealed = Sealed::new(Distance::Dot);
        let mut common = direction(0);
        common[DIMENSION / 2..].fill(0.0);
        let common = unit(common);
        let first = sealed.seal(ROWS, |number| beside(&common, number));
        sealed.index.alter(schema(DIMENSION / 2, Distance::Dot));
        let cut = |number| beside(&common, number)[..DIMENSION / 2].to_vec();
        let own = sealed.seal(ROWS / 2, cut);
        assert_eq!(own.components().map(<[f32]>::len), Some(DIMENSION / 2));
        assert_eq!(first.components().map(<[f32]>::len), Some(DIMENSION));
    }

    #[test]
    fn errors_shrink_with_what_rows_have_in_common() {
        let mut sealed = Sealed::new(Distance::Dot);
        let common = direction(0);
        let centroid = sealed.seal(ROWS, |number| beside(&common, number));
        let error = |centroid: Centroid| -> f32 {
            let quantizer = Quantizer::new(DIMENSION, Options::default().bits, Distance::Dot, 7).about(centroid);
            let encoded = sealed.vectors(|file| encode(file, &quantizer, &[], &Inline).unwrap());
            encoded.factors.iter().map(|factors| factors.error).sum()
        };
        // A tenth of the squared length is not common; how well the rest is rounded depends on one rotation of one direction.
        let share = error(centroid) / error(Centroid::default());
        assert!((share - 0.1f32.sqrt()).abs() < 0.08, "{share}");
    }

    #[test]
    fn certified_answers_are_exact_about_a_centroid() {
        let certified = Params {
            certified: true,
            ..Params::default()
        };
        let exact = Params {
            exact: true,
            ..Params::default()
        };
        let common = direction(0);
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclid] {
            let mut sealed = Sealed::new(distance);
            sealed.seal(ROWS, |number| beside(&common, number));
            // Rows that are their own mean, but for rounding; the query is one of them once.
            sealed.seal(ROWS / 2, |_| direction(1_000_000));
            for number in 0..50 {
                for query in [beside(&common, 5_000 + number), direction(1_000_000 + number)] {
                    let (certified, exact) = (sealed.find(query.clone(), certified), sealed.find(query, exact));
                    assert_eq!(certified, exact, "{distance:?} {number}");
                }
            }
        }
    }
}
