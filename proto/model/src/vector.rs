//! A vector's values in canonical form: what the coordinator checked, normalised and rounded, and what log, memory and
//! disk then hold bit for bit.

use crate::Fine;

/// Values of one vector. Canonical: finite, of the schema's dimension, unit length where the distance is cosine.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// One row.
    Dense(Dense),
    /// Strictly increasing `indices`, as many finite `values`.
    Sparse {
        /// Which components are not zero.
        indices: Vec<u32>,
        /// Their values.
        values: Vec<f32>,
    },
    /// `rows` x `dimension` components, row-major, at least one row.
    Multi {
        /// Components a row.
        dimension: u32,
        /// rows x dimension components.
        rows: Dense,
    },
}

/// Components in one of the formats that they have in memory, see [`Fine::in_memory`].
#[derive(Clone, Debug, PartialEq)]
pub enum Dense {
    /// Bits of IEEE 754 binary16.
    F16(Vec<u16>),
    /// Single precision.
    F32(Vec<f32>),
}

impl Dense {
    /// Number of components.
    pub fn len(&self) -> usize {
        match self {
            Dense::F16(bits) => bits.len(),
            Dense::F32(values) => values.len(),
        }
    }

    /// The format.
    pub fn fine(&self) -> Fine {
        match self {
            Dense::F16(_) => Fine::F16,
            Dense::F32(_) => Fine::F32,
        }
    }

    /// Whether there are no components.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
