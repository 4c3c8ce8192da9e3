//! Vectors on the wire: shape and finiteness are checked here; dimension, norm and rounding belong to the coordinator,
//! which knows the schema.

use granum_model::{Dense, Vector};

use crate::limits::{self, Invalid};
use crate::v1;

/// Reads a vector. `None` where it is text, still to be embedded.
pub fn read(vector: &v1::Vector) -> Result<Option<Vector>, Invalid> {
    match vector.kind.as_ref().ok_or_else(|| Invalid::new("vector", "missing"))? {
        v1::vector::Kind::Text(text) => {
            limits::at_most("text", text.len(), limits::TEXT_BYTES_MAX, "bytes")?;
            Ok(None)
        }
        v1::vector::Kind::Dense(dense) => Ok(Some(Vector::Dense(read_dense("dense", &dense.f32, &dense.f16)?))),
        v1::vector::Kind::Sparse(sparse) => read_sparse(sparse).map(Some),
        v1::vector::Kind::Multi(multi) => read_multi(multi).map(Some),
    }
}

fn read_dense(field: &str, f32: &[f32], f16: &[u8]) -> Result<Dense, Invalid> {
    if f32.is_empty() == f16.is_empty() {
        return Err(Invalid::new(field, "exactly one of f32 and f16 must hold components"));
    }
    if f16.is_empty() {
        return match f32.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(Invalid::new(
                format!("{field}[{at}]"),
                format!("{}, must be finite", f32[at]),
            )),
            None => Ok(Dense::F32(f32.to_vec())),
        };
    }
    if !f16.len().is_multiple_of(2) {
        return Err(Invalid::new(
            format!("{field}.f16"),
            format!("{} bytes, must be even", f16.len()),
        ));
    }
    let bits: Vec<u16> = f16
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    match bits.iter().position(|bits| bits & F16_EXPONENT == F16_EXPONENT) {
        Some(at) => Err(Invalid::new(format!("{field}[{at}]"), "not a finite number")),
        None => Ok(Dense::F16(bits)),
    }
}

/// All exponent bits set: infinity or NaN.
const F16_EXPONENT: u16 = 0x7c00;

fn read_sparse(sparse: &v1::SparseVector) -> Result<Vector, Invalid> {
    let (indices, values) = (&sparse.indices, &sparse.values);
    limits::at_most("sparse.indices", indices.len(), limits::SPARSE_VALUES_MAX, "indices")?;
    if indices.len() != values.len() {
        let problem = format!("{} values for {} indices", values.len(), indices.len());
        return Err(Invalid::new("sparse.values", problem));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(Invalid::new(
            format!("sparse.values[{at}]"),
            format!("{}, must be finite", values[at]),
        ));
    }
    let mut pairs: Vec<(u32, f32)> = indices.iter().copied().zip(values.iter().copied()).collect();
    pairs.sort_by_key(|pair| pair.0);
    if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Invalid::new("sparse.indices", format!("{} stands twice", pair[0].0)));
    }
    let (indices, values) = pairs.into_iter().unzip();
    Ok(Vector::Sparse { indices, values })
}

fn read_multi(multi: &v1::MultiVector) -> Result<Vector, Invalid> {
    let rows = read_dense("multi", &multi.f32, &multi.f16)?;
    let dimension = multi.dimension as usize;
    if dimension == 0 || !rows.len().is_multiple_of(dimension) {
        let problem = format!("{} components don't make rows of {dimension}", rows.len());
        return Err(Invalid::new("multi.dimension", problem));
    }
    limits::at_most("multi", rows.len() / dimension, limits::MULTI_ROWS_MAX, "rows")?;
    Ok(Vector::Multi {
        dimension: multi.dimension,
        rows,
    })
}

/// The vector on the wire, in the encoding it has.
pub fn write(vector: &Vector) -> v1::Vector {
    let kind = match vector {
        Vector::Dense(dense) => {
            let (f32, f16) = write_dense(dense);
            v1::vector::Kind::Dense(v1::DenseVector { f32, f16 })
        }
        Vector::Sparse { indices, values } => v1::vector::Kind::Sparse(v1::SparseVector {
            indices: indices.clone(),
            values: values.clone(),
        }),
        Vector::Multi { dimension, rows } => {
            let (f32, f16) = write_dense(rows);
            v1::vector::Kind::Multi(v1::MultiVector {
                dimension: *dimension,
                f32,
                f16,
            })
        }
    };
    v1::Vector { kind: Some(kind) }
}

fn write_dense(dense: &Dense) -> (Vec<f32>, bytes::Bytes) {
    match dense {
        Dense::F32(values) => (values.clone(), bytes::Bytes::new()),
        Dense::F16(bits) => (Vec::new(), bits.iter().flat_map(|bits| bits.to_le_bytes()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(kind: v1::vector::Kind, field: &str) {
        let error = read(&v1::Vector { kind: Some(kind) }).unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }

    #[test]
    fn what_is_not_a_vector_is_refused_by_field() {
        let dense =
            |f32: Vec<f32>, f16: &'static [u8]| v1::vector::Kind::Dense(v1::DenseVector { f32, f16: f16.into() });
        refused(dense(vec![], &[]), "dense: ");
        refused(dense(vec![1.0], &[0, 0]), "dense: ");
        refused(dense(vec![0.0, f32::NAN], &[]), "dense[1]: NaN");
        refused(dense(vec![], &[0, 0, 0]), "dense.f16: 3 bytes");
        refused(dense(vec![], &[0, 0, 0, 0x7c]), "dense[1]: ");
        let sparse = |indices: &[u32], values: &[f32]| {
            v1::vector::Kind::Sparse(v1::SparseVector {
                indices: indices.to_vec(),
                values: values.to_vec(),
            })
        };
        refused(sparse(&[1, 2], &[1.0]), "sparse.values: 1 values");
        refused(sparse(&[7, 7], &[1.0, 2.0]), "sparse.indices: 7 stands twice");
    }

    #[test]
    fn sparse_indices_come_sorted_and_all_kinds_read_back() {
        let sparse = v1::SparseVector {
            indices: vec![9, 3],
            values: vec![0.5, 0.25],
        };
        let read_once = read(&v1::Vector {
            kind: Some(v1::vector::Kind::Sparse(sparse)),
        })
        .unwrap()
        .unwrap();
        assert_eq!(
            read_once,
            Vector::Sparse {
                indices: vec![3, 9],
                values: vec![0.25, 0.5]
            }
        );
        let vectors = [
            read_once,
            Vector::Dense(Dense::F16(vec![0x3c00, 0x8000])),
            Vector::Dense(Dense::F32(vec![0.1, -2.0])),
            Vector::Multi {
                dimension: 2,
                rows: Dense::F16(vec![0, 1, 2, 3]),
            },
        ];
        for vector in vectors {
            assert_eq!(read(&write(&vector)).unwrap(), Some(vector));
        }
    }
}
