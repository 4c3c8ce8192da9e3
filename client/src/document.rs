//! What goes in and what comes back: documents to write, documents found.

use bytes::Bytes;
use granum_model::{DocId, Vector};
use granum_proto::convert;
use granum_proto::limits::{self, Invalid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::v1;

/// A document to be written. Writing it again under the same id replaces it whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    id: v1::DocId,
    payload_json: Bytes,
    vectors: Vec<v1::NamedVector>,
    condition: Option<v1::document_write::Condition>,
}

impl Document {
    /// A document with neither payload nor vectors. A text that spells a UUID is that UUID.
    pub fn new(id: impl Into<Id>) -> Self {
        Document {
            id: id.into().0,
            payload_json: Bytes::new(),
            vectors: Vec::new(),
            condition: None,
        }
    }

    /// Attributes, anything that serialises to a JSON object; at most 1 MiB of JSON.
    pub fn payload(self, payload: &impl Serialize) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_vec(payload)?;
        Ok(self.payload_json(json))
    }

    /// Attributes as the bytes of a JSON object, which the cluster checks.
    pub fn payload_json(mut self, json: impl Into<Bytes>) -> Self {
        self.payload_json = json.into();
        self
    }

    /// A dense vector under a name; "" is the collection's unnamed one. As many finite components as its field has.
    pub fn vector(self, name: impl Into<String>, components: impl Into<Vec<f32>>) -> Self {
        let dense = v1::DenseVector {
            f32: components.into(),
            f16: Bytes::new(),
        };
        self.named(name, v1::vector::Kind::Dense(dense))
    }

    /// A dense vector as IEEE 754 binary16, little-endian, 2 bytes a component: half the bytes to send.
    pub fn vector_f16(self, name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let dense = v1::DenseVector {
            f32: Vec::new(),
            f16: bytes.into(),
        };
        self.named(name, v1::vector::Kind::Dense(dense))
    }

    /// A sparse vector: distinct indices and as many values.
    pub fn sparse(self, name: impl Into<String>, indices: impl Into<Vec<u32>>, values: impl Into<Vec<f32>>) -> Self {
        let sparse = v1::SparseVector {
            indices: indices.into(),
            values: values.into(),
        };
        self.named(name, v1::vector::Kind::Sparse(sparse))
    }

    /// A text that the field's embedder turns into the vector; the text itself is not kept.
    pub fn text(self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.named(name, v1::vector::Kind::Text(text.into()))
    }

    /// Take it only where no document has this id.
    pub fn insert_only(self) -> Self {
        self.on(v1::document_write::condition::Kind::InsertOnly(true))
    }

    /// Take it only where a document has this id.
    pub fn update_only(self) -> Self {
        self.on(v1::document_write::condition::Kind::UpdateOnly(true))
    }

    /// Take it only where the stored document has this version.
    pub fn if_version(self, version: u64) -> Self {
        self.on(v1::document_write::condition::Kind::IfVersion(version))
    }

    fn named(mut self, name: impl Into<String>, kind: v1::vector::Kind) -> Self {
        self.vectors.push(v1::NamedVector {
            name: name.into(),
            vector: Some(v1::Vector { kind: Some(kind) }),
        });
        self
    }

    fn on(mut self, kind: v1::document_write::condition::Kind) -> Self {
        self.condition = Some(v1::document_write::Condition { kind: Some(kind) });
        self
    }

    pub(crate) fn into_wire(self) -> v1::DocumentWrite {
        let document = v1::Document {
            id: Some(self.id),
            payload_json: self.payload_json,
            vectors: self.vectors,
        };
        v1::DocumentWrite {
            document: Some(document),
            condition: self.condition,
        }
    }
}

/// Whatever names a document: a number, a text, a [`DocId`].
#[derive(Clone, Debug, PartialEq)]
pub struct Id(pub(crate) v1::DocId);

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        Id(convert::id::write(&DocId::Number(number)))
    }
}

impl From<&DocId> for Id {
    fn from(id: &DocId) -> Self {
        Id(convert::id::write(id))
    }
}

impl From<DocId> for Id {
    fn from(id: DocId) -> Self {
        Id::from(&id)
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Id::from(text.to_owned())
    }
}

/// Checked by the cluster: what is too long is refused there by name.
impl From<String> for Id {
    fn from(text: String) -> Self {
        let kind = v1::doc_id::Kind::Text(text);
        Id(v1::DocId { kind: Some(kind) })
    }
}

/// A document found by a question, with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Which document.
    pub id: DocId,
    /// In the distance's own terms: cosine and dot, higher is better; euclid and manhattan, lower.
    pub score: f32,
    /// Grows with each write of the document; see [`Document::if_version`].
    pub version: u64,
    /// A JSON object; empty unless asked for.
    pub payload_json: Bytes,
    /// By name, as stored (normalised where cosine, rounded); none unless asked for.
    pub vectors: Vec<(String, Vector)>,
}

/// A document as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    /// Which document.
    pub id: DocId,
    /// Grows with each write of the document; see [`Document::if_version`].
    pub version: u64,
    /// A JSON object; empty unless asked for.
    pub payload_json: Bytes,
    /// By name, as stored (normalised where cosine, rounded); none unless asked for.
    pub vectors: Vec<(String, Vector)>,
}

impl Hit {
    /// The payload as `T`; an error where it was not asked for.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.payload_json)
    }

    pub(crate) fn read(hit: v1::Hit) -> Result<Self, Invalid> {
        if !hit.score.is_finite() {
            return Err(Invalid::new("score", format!("{}, must be finite", hit.score)));
        }
        Ok(Hit {
            id: convert::id::read(hit.id.as_ref())?,
            score: hit.score,
            version: hit.version,
            payload_json: hit.payload_json,
            vectors: read_vectors(&hit.vectors)?,
        })
    }
}

impl StoredDocument {
    /// The payload as `T`; an error where it was not asked for.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.payload_json)
    }

    pub(crate) fn read(document: v1::StoredDocument) -> Result<Self, Invalid> {
        Ok(StoredDocument {
            id: convert::id::read(document.id.as_ref())?,
            version: document.version,
            payload_json: document.payload_json,
            vectors: read_vectors(&document.vectors)?,
        })
    }
}

fn read_vectors(vectors: &[v1::NamedVector]) -> Result<Vec<(String, Vector)>, Invalid> {
    limits::at_most("vectors", vectors.len(), limits::VECTORS_MAX, "vectors")?;
    let missing = || Invalid::new("vector", "missing");
    let read = |named: &v1::NamedVector| {
        let vector = convert::vector::read(named.vector.as_ref().ok_or_else(missing)?)?;
        Ok((named.name.clone(), vector.ok_or_else(missing)?))
    };
    vectors.iter().map(read).collect()
}
