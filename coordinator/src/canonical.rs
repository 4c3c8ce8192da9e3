//! What form of a vector is kept and compared? Checked against the schema, of unit length where the distance is cosine,
//! and rounded to the field's fine format exactly once: log, memory, disk and all replicas then hold the same bits, and
//! scores don't change when a segment is sealed.
//!
//! Canonical vectors are fixed points: one that was read back may be written again and stays the same, bit for bit. A
//! vector of zeros has no direction; under cosine it is kept as it is, and is equally near (0) to everything.

use bytes::Bytes;
use granum_model::{Dense, Distance, Fine, Vector, VectorField, VectorKind, scaled};
use granum_proto::convert;
use granum_proto::limits::Invalid;
use granum_proto::v1::{self, vector::Kind};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// How far the squared length of a unit vector may be from 1 after rounding to binary16: each component moves by at most
/// 2^-11 of itself, so the square by a little over 2^-10.
const ROUNDED_HALF: f64 = 0.001;
/// The same for single precision, where scaling and the factor itself each round once.
const ROUNDED_SINGLE: f64 = 4.0 * f32::EPSILON as f64;

/// The vector as it is stored. `Err` names what is wrong; text must have been embedded before.
pub(crate) fn stored(vector: v1::Vector, field: &VectorField) -> Result<v1::Vector, Invalid> {
    canonical(vector, field, Some(field.fine))
}

/// The vector as it is asked for: like a stored one, but not rounded.
pub(crate) fn asked(vector: v1::Vector, field: &VectorField) -> Result<v1::Vector, Invalid> {
    canonical(vector, field, None)
}

/// `round`: the format to round to, if any.
fn canonical(vector: v1::Vector, field: &VectorField, round: Option<Fine>) -> Result<v1::Vector, Invalid> {
    let kind = match (vector.kind, field.kind) {
        (None, _) => return Err(Invalid::new("", "a vector must be given")),
        (Some(Kind::Dense(dense)), VectorKind::Dense { dimension }) => {
            let count = dense.f32.len().max(dense.f16.len() / 2);
            if count != dimension as usize {
                return Err(wrong_dimension(count, dimension));
            }
            let (f32, f16) = rows(dense.f32, dense.f16, dimension, field.distance, round)?;
            Kind::Dense(v1::DenseVector { f32, f16 })
        }
        (Some(Kind::Multi(multi)), VectorKind::Multi { dimension }) => {
            if multi.dimension != dimension {
                return Err(wrong_dimension(multi.dimension as usize, dimension));
            }
            let vector = v1::Vector {
                kind: Some(Kind::Multi(multi)),
            };
            return canonical_multi(&vector, dimension, field.distance, round);
        }
        (Some(sparse @ Kind::Sparse(_)), VectorKind::Sparse) => {
            let read = convert::vector::read(&v1::Vector { kind: Some(sparse) })?;
            return Ok(convert::vector::write(&read.expect("a sparse vector is no text")));
        }
        (Some(kind), wanted) => return Err(wrong_kind(&kind, wanted)),
    };
    Ok(v1::Vector { kind: Some(kind) })
}

fn wrong_dimension(count: usize, dimension: u32) -> Invalid {
    Invalid::new("", format!("{count} dimensions, the collection has {dimension}"))
}

fn wrong_kind(kind: &Kind, wanted: VectorKind) -> Invalid {
    let given = match kind {
        Kind::Dense(_) => "dense",
        Kind::Sparse(_) => "sparse",
        Kind::Multi(_) => "a multi-vector",
        Kind::Text(_) => "text, and the field has no embedder",
    };
    let wanted = match wanted {
        VectorKind::Dense { dimension } => format!("dense of dimension {dimension}"),
        VectorKind::Sparse => "sparse".to_owned(),
        VectorKind::Multi { dimension } => format!("a multi-vector of dimension {dimension}"),
    };
    Invalid::new("", format!("is {given}; it must be {wanted}"))
}

fn canonical_multi(
    vector: &v1::Vector,
    dimension: u32,
    distance: Distance,
    round: Option<Fine>,
) -> Result<v1::Vector, Invalid> {
    let Some(Vector::Multi { rows: given, .. }) = convert::vector::read(vector)? else {
        unreachable!("a multi-vector reads as one");
    };
    let values = match given {
        Dense::F32(values) => values,
        Dense::F16(bits) => bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect(),
    };
    let (f32, f16) = rows(values, Bytes::new(), dimension, distance, round)?;
    let multi = v1::MultiVector { dimension, f32, f16 };
    Ok(v1::Vector {
        kind: Some(Kind::Multi(multi)),
    })
}

/// Rows of `dimension` components in one of two encodings, to the same in the encoding wanted.
fn rows(
    values: Vec<f32>,
    encoded: Bytes,
    dimension: u32,
    distance: Distance,
    round: Option<Fine>,
) -> Result<(Vec<f32>, Bytes), Invalid> {
    let half_given = !encoded.is_empty();
    let mut values = match half_given {
        false => values,
        true if encoded.len().is_multiple_of(2) && values.is_empty() => decode_half(&encoded),
        true => return Err(Invalid::new("", "exactly one of f32 and f16 must hold components")),
    };
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(Invalid::new(
            format!("[{at}]"),
            format!("{}, must be finite", values[at]),
        ));
    }
    let mut changed = false;
    if distance == Distance::Cosine {
        for row in values.chunks_exact_mut(dimension as usize) {
            changed |= normalize(row);
        }
    }
    match round {
        Some(Fine::F16) if half_given && !changed => Ok((Vec::new(), encoded)),
        Some(Fine::F16) => Ok((Vec::new(), encode_half(&values)?)),
        Some(Fine::I8) => {
            let is_unit = distance == Distance::Cosine;
            let rows = values.chunks_exact_mut(dimension as usize);
            rows.for_each(|row| scaled::round(row, is_unit));
            Ok((values, Bytes::new()))
        }
        Some(Fine::F32) | None => Ok((values, Bytes::new())),
    }
}

/// Scales a row to unit length. `false`: it is left as it is, being zero, or a unit vector already as far as its format
/// can tell (which is what makes canonical vectors fixed points).
fn normalize(row: &mut [f32]) -> bool {
    let square: f64 = row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    let off = (square - 1.0).abs();
    if square == 0.0 || off <= ROUNDED_SINGLE || (off <= ROUNDED_HALF && is_half(row)) {
        return false;
    }
    let scale = 1.0 / square.sqrt();
    row.iter_mut()
        .for_each(|value| *value = (f64::from(*value) * scale) as f32);
    true
}

/// Whether every component is a binary16 number already.
fn is_half(row: &[f32]) -> bool {
    row.iter().all(|value| f16::from_f32(*value).to_f32() == *value)
}

fn decode_half(encoded: &[u8]) -> Vec<f32> {
    let halves: Vec<f16> = encoded
        .chunks_exact(2)
        .map(|pair| f16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let mut values = vec![0.0; halves.len()];
    halves.convert_to_f32_slice(&mut values);
    values
}

fn encode_half(values: &[f32]) -> Result<Bytes, Invalid> {
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(values);
    if let Some(at) = halves.iter().position(|half| !half.is_finite()) {
        let problem = format!(
            "{}, the format f16 holds at most 65504 (the field's `fine` may be f32)",
            values[at]
        );
        return Err(Invalid::new(format!("[{at}]"), problem));
    }
    let mut encoded = Vec::with_capacity(values.len() * 2);
    encoded.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    Ok(encoded.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(dimension: usize, distance: Distance, fine: Fine) -> VectorField {
        VectorField::new(
            "",
            VectorKind::Dense {
                dimension: dimension as u32,
            },
            distance,
            fine,
        )
    }

    fn dense(values: &[f32]) -> v1::Vector {
        let f32 = values.to_vec();
        v1::Vector {
            kind: Some(Kind::Dense(v1::DenseVector { f32, f16: Bytes::new() })),
        }
    }

    fn values(vector: &v1::Vector) -> Vec<f32> {
        match convert::vector::read(vector).unwrap().unwrap() {
            Vector::Dense(Dense::F32(values)) => values,
            Vector::Dense(Dense::F16(bits)) => bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect(),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn a_canonical_vector_is_unit_and_a_fixed_point(
            given in proptest::collection::vec(-100f32..100.0, 1..40), scale in 1e-18f32..1e18,
            fine in prop_oneof![Just(Fine::F16), Just(Fine::F32), Just(Fine::I8)],
        ) {
            let given: Vec<f32> = given.iter().map(|value| value * scale).collect();
            prop_assume!(given.iter().any(|value| *value != 0.0));
            let field = field(given.len(), Distance::Cosine, fine);
            let once = stored(dense(&given), &field).unwrap();
            let length: f32 = values(&once).iter().map(|value| value * value).sum();
            prop_assert!((length - 1.0).abs() <= ROUNDED_HALF as f32, "{length}");
            prop_assert_eq!(&stored(once.clone(), &field).unwrap(), &once);
            prop_assert_eq!(&stored(dense(&values(&once)), &field).unwrap(), &once, "read back as f32");
            let asked = values(&asked(dense(&given), &field).unwrap());
            let largest = asked.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let reach = match fine {
                Fine::F16 | Fine::F32 => 1.0 / 2048.0,
                // Half of a step, and what the length lost by rounding gives back.
                Fine::I8 => largest / 127.0 * (0.5 + (given.len() as f32).sqrt() / 2.0),
            };
            for (exact, kept) in asked.iter().zip(values(&once)) {
                prop_assert!((exact - kept).abs() <= reach, "{exact} {kept}");
            }
        }

        #[test]
        fn other_distances_only_round(given in proptest::collection::vec(-1000f32..1000.0, 1..40)) {
            let wide = field(given.len(), Distance::Euclid, Fine::F32);
            prop_assert_eq!(values(&stored(dense(&given), &wide).unwrap()), given.clone());
            let half = field(given.len(), Distance::Dot, Fine::F16);
            let rounded: Vec<f32> = given.iter().map(|value| f16::from_f32(*value).to_f32()).collect();
            prop_assert_eq!(values(&stored(dense(&given), &half).unwrap()), rounded);
        }
    }

    #[track_caller]
    fn refused(vector: v1::Vector, field: &VectorField, expected: &str) {
        let error = stored(vector, field).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_does_not_fit_the_field_is_refused() {
        let cosine = field(3, Distance::Cosine, Fine::F16);
        refused(dense(&[1.0, 2.0]), &cosine, "2 dimensions, the collection has 3");
        refused(dense(&[1.0, f32::NAN, 0.0]), &cosine, "[1]: NaN, must be finite");
        let dot = field(2, Distance::Dot, Fine::F16);
        refused(
            dense(&[0.0, 70_000.0]),
            &dot,
            "[1]: 70000, the format f16 holds at most 65504",
        );
        let text = v1::Vector {
            kind: Some(Kind::Text("chess".into())),
        };
        refused(text, &cosine, "is text, and the field has no embedder");
    }

    #[test]
    fn zeros_stay_zeros_under_cosine() {
        let cosine = field(3, Distance::Cosine, Fine::F16);
        assert_eq!(values(&stored(dense(&[0.0; 3]), &cosine).unwrap()), [0.0; 3]);
    }
}
