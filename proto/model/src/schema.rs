//! What a collection's documents look like: its named vectors and how each is compared.

/// Named vectors of a collection, names unique. Payload has no schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// In the order of creation; a field's position in this list is not stored anywhere, its name is.
    pub vectors: Vec<VectorField>,
}

impl Schema {
    /// The field of that name.
    pub fn vector(&self, name: &str) -> Option<&VectorField> {
        self.vectors.iter().find(|field| field.name == name)
    }
}

/// One named vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorField {
    /// "" is the unnamed default; at most 128 bytes.
    pub name: String,
    /// Its shape.
    pub kind: VectorKind,
    /// How two of them are compared.
    pub distance: Distance,
    /// How components are kept, in the log, in memory and on disk alike.
    pub fine: Fine,
    /// Turns text into this vector, if there is one.
    pub embedder: Option<Embedder>,
}

/// Name and version of an embedder: vectors of another version are not comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedder {
    /// Such as `builtin/all-MiniLM-L6-v2`.
    pub name: String,
    /// Grows when the same text would give another vector.
    pub version: u32,
}

/// Shape of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorKind {
    /// `dimension` components, 1..=8192.
    Dense {
        /// Components.
        dimension: u32,
    },
    /// Indices with values; compared by dot product.
    Sparse,
    /// Rows of `dimension` components each; compared by MaxSim (ColBERT): for each query row its best match, summed.
    Multi {
        /// Components a row.
        dimension: u32,
    },
}

/// How two vectors are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Dot product of vectors that the coordinator normalised to unit length.
    Cosine,
    /// Dot product as given.
    Dot,
    /// Square root of the sum of squared differences.
    Euclid,
    /// Sum of absolute differences.
    Manhattan,
}

impl Distance {
    /// Internal scores are "higher is better" for all distances: euclid and manhattan are negated inside. This turns an
    /// internal score into the one a client sees, and back (it is its own inverse).
    pub fn outward(self, score: f32) -> f32 {
        match self {
            Distance::Cosine | Distance::Dot => score,
            Distance::Euclid | Distance::Manhattan => -score,
        }
    }
}

/// How components are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fine {
    /// IEEE 754 binary16: 2 bytes a component.
    F16,
    /// IEEE 754 binary32: 4 bytes a component.
    F32,
}
