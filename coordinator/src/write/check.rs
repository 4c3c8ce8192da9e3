//! Is this document one of the collection's? Id, payload, names and shapes of vectors are checked, and vectors made
//! canonical. Texts are set aside for the embedder, which takes many at once.

use granum_model::{ShardId, VectorField};
use granum_proto::limits::{self, Invalid};
use granum_proto::v1::{self, vector::Kind};
use granum_proto::{convert, ids};
use xxhash_rust::xxh3::Xxh3;

use super::payload;
use crate::canonical;
use crate::map::Collection;
use crate::query::ask::unknown_vector;

/// A checked document on its way to its shard.
#[derive(Debug)]
pub(crate) struct Draft {
    pub ordinal: u32,
    pub shard: ShardId,
    /// Of what the client wrote: the same text gives the same digest, whatever the embedder makes of it.
    pub digest: u64,
    /// Vectors are canonical; those that are texts are still missing.
    pub document: v1::Document,
    pub condition: Option<v1::document_write::Condition>,
    /// Name of the vector, text to embed.
    pub texts: Vec<(String, String)>,
}

impl Draft {
    /// Adds the vector of a text.
    pub fn add_embedded(&mut self, field: &VectorField, values: Vec<f32>) -> Result<(), Invalid> {
        let dense = v1::DenseVector {
            f32: values,
            ..v1::DenseVector::default()
        };
        let vector = v1::Vector {
            kind: Some(Kind::Dense(dense)),
        };
        let vector = canonical::stored(vector, field)
            .map_err(|error| error.within(&format!("documents[{}].vectors[{:?}]", self.ordinal, field.name)))?;
        self.document.vectors.push(v1::NamedVector {
            name: field.name.clone(),
            vector: Some(vector),
        });
        Ok(())
    }
}

/// Checks documents; the first mistake refuses all of them, so that nothing is half done.
pub(crate) fn documents(documents: Vec<v1::DocumentWrite>, collection: &Collection) -> Result<Vec<Draft>, Invalid> {
    let mut drafts = Vec::with_capacity(documents.len());
    for (ordinal, write) in documents.into_iter().enumerate() {
        let ordinal = u32::try_from(ordinal).expect("checked against BATCH_DOCUMENTS_MAX");
        let draft = document(ordinal, write, collection);
        drafts.push(draft.map_err(|error| error.within(&format!("documents[{ordinal}]")))?);
    }
    Ok(drafts)
}

fn document(ordinal: u32, write: v1::DocumentWrite, collection: &Collection) -> Result<Draft, Invalid> {
    let document = write.document.ok_or_else(|| Invalid::new("document", "missing"))?;
    let id = convert::id::read(document.id.as_ref())?;
    payload::check(&document.payload_json)?;
    let condition = condition(write.condition)?;
    let encoded = id.encode();
    let mut digest = Digest(Xxh3::new());
    digest.add(&encoded);
    digest.add(&document.payload_json);
    digest.add(format!("{condition:?}").as_bytes());
    let (mut vectors, mut texts) = (Vec::with_capacity(document.vectors.len()), Vec::new());
    for v1::NamedVector { name, vector } in document.vectors {
        let path = || format!("vectors[{name:?}]");
        let field = collection.schema.vector(&name);
        let field = field.ok_or_else(|| unknown_vector("vectors", &name, &collection.schema))?;
        let twice = vectors.iter().any(|vector: &v1::NamedVector| vector.name == name);
        if twice || texts.iter().any(|(text, _)| *text == name) {
            return Err(Invalid::new(path(), "stands twice"));
        }
        digest.add(name.as_bytes());
        match vector.and_then(|vector| vector.kind) {
            Some(Kind::Text(text)) if field.embedder.is_some() => {
                limits::at_most(&path(), text.len(), limits::TEXT_BYTES_MAX, "bytes of text")?;
                digest.add(text.as_bytes());
                texts.push((name, text));
            }
            kind => {
                let vector = canonical::stored(v1::Vector { kind }, field).map_err(|error| error.within(&path()))?;
                digest.add_vector(&vector);
                let vector = Some(vector);
                vectors.push(v1::NamedVector { name, vector });
            }
        }
    }
    Ok(Draft {
        ordinal,
        shard: collection.shard_of(ids::placement_hash(&id)).id,
        digest: digest.0.digest(),
        document: v1::Document {
            id: Some(convert::id::write(&id)),
            payload_json: document.payload_json,
            vectors,
        },
        condition,
        texts,
    })
}

/// A condition that says nothing is none.
fn condition(
    condition: Option<v1::document_write::Condition>,
) -> Result<Option<v1::document_write::Condition>, Invalid> {
    use v1::document_write::condition::Kind;
    match condition.as_ref().and_then(|condition| condition.kind.as_ref()) {
        None | Some(Kind::InsertOnly(false) | Kind::UpdateOnly(false)) => Ok(None),
        Some(Kind::IfVersion(0)) => Err(Invalid::new(
            "condition.if_version",
            "0 is no version; insert_only says that there must be none",
        )),
        Some(_) => Ok(condition),
    }
}

/// Fields in a row, each with its length, so that no two documents read alike.
struct Digest(Xxh3);

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn add_floats(&mut self, values: &[f32]) {
        self.0.update(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.0.update(&value.to_le_bytes()));
    }

    fn add_vector(&mut self, vector: &v1::Vector) {
        match vector.kind.as_ref().expect("canonical vectors are given") {
            Kind::Dense(dense) => {
                self.add(&dense.f16);
                self.add_floats(&dense.f32);
            }
            Kind::Multi(multi) => {
                self.add(&multi.f16);
                self.add_floats(&multi.f32);
            }
            Kind::Sparse(sparse) => {
                sparse
                    .indices
                    .iter()
                    .for_each(|index| self.0.update(&index.to_le_bytes()));
                self.add_floats(&sparse.values);
            }
            Kind::Text(text) => self.add(text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use granum_model::schema::Embedder;
    use granum_model::{Distance, Fine, Schema, VectorKind};

    use super::*;

    fn collection() -> Collection {
        let field = |name: &str, embedder| VectorField {
            name: name.into(),
            kind: VectorKind::Dense { dimension: 2 },
            distance: Distance::Cosine,
            fine: Fine::F16,
            embedder,
        };
        let embedder = Embedder {
            name: "builtin/all-MiniLM-L6-v2".into(),
            version: 1,
        };
        Collection::alone(Schema {
            vectors: vec![field("", None), field("text", Some(embedder))],
            ..Schema::default()
        })
    }

    fn write(payload: &'static str, vectors: &[(&str, Kind)]) -> v1::DocumentWrite {
        let named = |(name, kind): &(&str, Kind)| v1::NamedVector {
            name: name.to_string(),
            vector: Some(v1::Vector {
                kind: Some(kind.clone()),
            }),
        };
        v1::DocumentWrite {
            document: Some(v1::Document {
                id: Some(convert::id::write(&granum_model::DocId::Number(7))),
                payload_json: payload.into(),
                vectors: vectors.iter().map(named).collect(),
            }),
            condition: None,
        }
    }

    fn dense(values: &[f32]) -> Kind {
        Kind::Dense(v1::DenseVector {
            f32: values.to_vec(),
            ..v1::DenseVector::default()
        })
    }

    #[track_caller]
    fn refused(write: v1::DocumentWrite, expected: &str) {
        let fine = self::write("{}", &[("", dense(&[1.0, 0.0]))]);
        let error = documents(vec![fine, write], &collection()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        refused(write("{", &[]), "documents[1].payload: ");
        refused(
            write("{}", &[("x", dense(&[1.0, 0.0]))]),
            "documents[1].vectors: \"x\" is no vector of the collection",
        );
        let wrong = "documents[1].vectors[\"\"]: 3 dimensions, the collection has 2";
        refused(write("{}", &[("", dense(&[1.0, 0.0, 0.0]))]), wrong);
        refused(
            write("{}", &[("", dense(&[1.0, f32::NAN]))]),
            "documents[1].vectors[\"\"][1]: NaN",
        );
        refused(
            write("{}", &[("", Kind::Text("a".into()))]),
            "documents[1].vectors[\"\"]: is text, and the field has no",
        );
        let twice = [("text", Kind::Text("a".into())), ("text", dense(&[1.0, 0.0]))];
        refused(write("{}", &twice), "documents[1].vectors[\"text\"]: stands twice");
        refused(v1::DocumentWrite::default(), "documents[1].document: missing");
    }

    #[test]
    fn texts_are_set_aside_and_the_digest_is_of_what_was_written() {
        let draft = |text: &str| {
            let write = write("{}", &[("", dense(&[3.0, 4.0])), ("text", Kind::Text(text.into()))]);
            documents(vec![write], &collection()).unwrap().remove(0)
        };
        let (one, same, other) = (draft("a"), draft("a"), draft("b"));
        assert_eq!(one.texts, [("text".to_owned(), "a".to_owned())]);
        assert_eq!(one.document.vectors.len(), 1);
        assert!(one.digest == same.digest && one.digest != other.digest);
    }
}
