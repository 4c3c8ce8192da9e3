//! What a collection's documents look like: its named vectors and how each is compared, and which fields of the payload
//! have an index.

/// Most payload indexes of a collection.
pub const PAYLOAD_INDEXES_MAX: usize = 64;
/// Longest path of a field that has an index, in bytes.
pub const PAYLOAD_KEY_BYTES_MAX: usize = 128;

/// Named vectors of a collection, names unique. Payload has no schema: any JSON may be written, indexed or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// In the order of creation; a field's position in this list is not stored anywhere, its name is.
    pub vectors: Vec<VectorField>,
    /// Fields of the payload that have an index, keys unique. An index makes filters fast and changes no answer.
    pub payload: Vec<PayloadField>,
}

impl Schema {
    /// The field of that name.
    pub fn vector(&self, name: &str) -> Option<&VectorField> {
        self.vectors.iter().find(|field| field.name == name)
    }
}

/// A field of the payload that has an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadField {
    /// Path of the field, as conditions write it; at most [`PAYLOAD_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// What its values are. Values of other kinds may stand there too: conditions on those are evaluated row by row.
    pub kind: PayloadKind,
}

/// What an index takes a field's values for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadKind {
    /// Texts, compared as a whole.
    Keyword,
    /// Whole numbers that fit 64 bits.
    Integer,
    /// Numbers.
    Float,
    /// True and false.
    Bool,
    /// Texts that are RFC 3339 date-times.
    Datetime,
    /// Texts that are UUIDs.
    Uuid,
    /// Objects of `lat` and `lon`, degrees.
    Geo,
    /// Texts, found by their words.
    Text,
}

impl PayloadKind {
    /// All of them.
    pub const ALL: [PayloadKind; 8] = [
        PayloadKind::Keyword,
        PayloadKind::Integer,
        PayloadKind::Float,
        PayloadKind::Bool,
        PayloadKind::Datetime,
        PayloadKind::Uuid,
        PayloadKind::Geo,
        PayloadKind::Text,
    ];

    /// Its name, Qdrant's too.
    pub fn name(self) -> &'static str {
        match self {
            PayloadKind::Keyword => "keyword",
            PayloadKind::Integer => "integer",
            PayloadKind::Float => "float",
            PayloadKind::Bool => "bool",
            PayloadKind::Datetime => "datetime",
            PayloadKind::Uuid => "uuid",
            PayloadKind::Geo => "geo",
            PayloadKind::Text => "text",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<PayloadKind> {
        PayloadKind::ALL.into_iter().find(|kind| kind.name() == name)
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

impl VectorField {
    /// A vector that clients send; nothing turns text into it.
    pub fn new(name: impl Into<String>, kind: VectorKind, distance: Distance, fine: Fine) -> VectorField {
        VectorField {
            name: name.into(),
            kind,
            distance,
            fine,
            embedder: None,
        }
    }
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
    /// A signed byte a component and a scale (f32) a row, see [`scaled`](crate::scaled). Everywhere but on disk such rows are
    /// [`F32`](Fine::F32), rounded.
    I8,
}

impl Fine {
    /// How components are kept in messages, log and memory.
    pub fn in_memory(self) -> Fine {
        match self {
            Fine::F16 => Fine::F16,
            Fine::F32 | Fine::I8 => Fine::F32,
        }
    }
}
