//! What the oracle knows: documents in plain values, their scores by plain loops, filters by plain conditions.

use std::sync::Arc;

use granum_index::Document;
use granum_model::filter::Bounds;
use granum_model::{Condition, Dense, Distance, DocId, Filter, Fine, Scalar, Schema, Vector, VectorField, VectorKind};
use half::f16;
use proptest::prelude::*;

pub const SECTIONS: [&str; 3] = ["games", "admin", "science"];

pub fn schema() -> Schema {
    Schema {
        vectors: vec![
            VectorField::new("dot", VectorKind::Dense { dimension: 5 }, Distance::Dot, Fine::F16),
            VectorField::new(
                "euclid",
                VectorKind::Dense { dimension: 3 },
                Distance::Euclid,
                Fine::F32,
            ),
            VectorField::new(
                "manhattan",
                VectorKind::Dense { dimension: 3 },
                Distance::Manhattan,
                Fine::F16,
            ),
            VectorField::new("sparse", VectorKind::Sparse, Distance::Dot, Fine::F32),
            VectorField::new("multi", VectorKind::Multi { dimension: 2 }, Distance::Dot, Fine::F16),
            VectorField::new("scaled", VectorKind::Dense { dimension: 4 }, Distance::Euclid, Fine::I8),
            VectorField::new(
                "scaled rows",
                VectorKind::Multi { dimension: 3 },
                Distance::Dot,
                Fine::I8,
            ),
        ],
        ..Schema::default()
    }
}

/// Fields of [`schema`].
pub const FIELDS: usize = 7;
/// The last component of a scaled row: beside it, quarters are whole numbers of the scale.
const LARGEST: f32 = 127.0 / 4.0;

/// A document as the oracle knows it: vectors in f32, each present or not.
#[derive(Clone, Debug)]
pub struct Known {
    pub section: usize,
    pub size: i64,
    pub version: u64,
    pub vectors: [Option<Vec<f32>>; FIELDS],
}

pub fn halves(values: &[f32]) -> Dense {
    Dense::F16(values.iter().map(|value| f16::from_f32(*value).to_bits()).collect())
}

/// The vector that field number `field` makes of plain values; sparse: value at index 3 * i + 1, zeros left out.
pub fn vector(field: usize, values: &[f32]) -> Vector {
    match field {
        0 => Vector::Dense(halves(&values[..5])),
        1 => Vector::Dense(Dense::F32(values[..3].to_vec())),
        2 => Vector::Dense(halves(&values[..3])),
        3 => {
            let pairs = (0u32..).zip(values).filter(|(_, value)| **value != 0.0);
            let (indices, values) = pairs.map(|(at, value)| (at * 3 + 1, *value)).unzip();
            Vector::Sparse { indices, values }
        }
        4 => Vector::Multi {
            dimension: 2,
            rows: halves(values),
        },
        5 => Vector::Dense(Dense::F32([&values[..3], &[LARGEST]].concat())),
        _ => {
            let rows = values.chunks_exact(2).flat_map(|row| [row[0], row[1], LARGEST]);
            Vector::Multi {
                dimension: 3,
                rows: Dense::F32(rows.collect()),
            }
        }
    }
}

pub fn score(field: usize, query: &[f32], row: &[f32]) -> f32 {
    let dot = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(left, right)| left * right).sum::<f32>();
    let differences = || query[..3].iter().zip(&row[..3]).map(|(left, right)| left - right);
    match field {
        0 => dot(&query[..5], &row[..5]),
        1 | 5 => -differences()
            .map(|difference| difference * difference)
            .sum::<f32>()
            .sqrt(),
        2 => -differences().map(f32::abs).sum::<f32>(),
        3 => dot(query, row),
        _ => {
            let beside = if field == 6 { LARGEST * LARGEST } else { 0.0 };
            let product = |own: &[f32], row: &[f32]| dot(own, row) + beside;
            let best = |own: &[f32]| {
                row.chunks_exact(2)
                    .map(|row| product(own, row))
                    .fold(f32::MIN, f32::max)
            };
            query.chunks_exact(2).map(best).sum()
        }
    }
}

impl Known {
    pub fn document(&self, id: &DocId) -> Document {
        let payload = format!(
            r#"{{"section": "{}", "of": {{"size": [{}]}}}}"#,
            SECTIONS[self.section], self.size
        );
        let fields = schema().vectors;
        let vectors = self.vectors.iter().enumerate().filter_map(|(at, values)| {
            values
                .as_ref()
                .map(|values| (fields[at].name.clone(), vector(at, values)))
        });
        Document {
            id: id.clone(),
            version: self.version,
            payload: Arc::from(payload.as_bytes()),
            vectors: vectors.collect(),
        }
    }
}

/// A filter and what it means to the oracle.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    All,
    Section(usize),
    SizeBelow(i64),
    NotBoth(usize, i64),
}

impl Wanted {
    pub fn filter(self) -> Filter {
        let section = |section: usize| Condition::MatchAny {
            key: "section".into(),
            any: vec![Scalar::Text(SECTIONS[section].into())],
        };
        let below = |size: i64| Condition::Range {
            key: "of.size[]".into(),
            bounds: Bounds {
                lt: Some(size as f64),
                ..Bounds::default()
            },
        };
        match self {
            Wanted::All => Filter::default(),
            Wanted::Section(wanted) => Filter {
                must: vec![section(wanted)],
                ..Filter::default()
            },
            Wanted::SizeBelow(size) => Filter {
                should: vec![below(size)],
                ..Filter::default()
            },
            Wanted::NotBoth(wanted, size) => {
                let both = Filter {
                    must: vec![section(wanted), below(size)],
                    ..Filter::default()
                };
                Filter {
                    must_not: vec![Condition::Filter(both)],
                    ..Filter::default()
                }
            }
        }
    }

    pub fn passes(self, known: &Known) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Section(wanted) => known.section == wanted,
            Wanted::SizeBelow(size) => known.size < size,
            Wanted::NotBoth(wanted, size) => known.section != wanted || known.size >= size,
        }
    }
}

pub const IDS: u64 = 24;

pub fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-4i8..5).prop_map(|quarters| f32::from(quarters) / 4.0), 6)
}

pub fn known() -> impl Strategy<Value = Known> {
    let vector = || prop::option::weighted(0.8, values());
    (0..SECTIONS.len(), 0i64..10, std::array::from_fn(|_| vector())).prop_map(|(section, size, vectors)| Known {
        section,
        size,
        version: 0,
        vectors,
    })
}

pub fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        Just(Wanted::All),
        (0..SECTIONS.len()).prop_map(Wanted::Section),
        (0i64..10).prop_map(Wanted::SizeBelow),
        (0..SECTIONS.len(), 0i64..10).prop_map(|(section, size)| Wanted::NotBoth(section, size)),
    ]
}
