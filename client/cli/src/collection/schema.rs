//! What a collection to be is like, as options say it; `granum collection create` and `granum import --create` share them.

use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use granum_client::{Client, CreateCollection, VectorField, v1};
use granum_model::PayloadKind;
use granum_model::filter::is_path;

use crate::failure::Usage;

/// Components of the built-in embedder's vectors.
pub const BUILTIN_DIMENSION: u32 = 384;

/// What a collection to be is like; `granum import --create` takes the same.
#[derive(Args, Clone, Debug, Default)]
pub struct SchemaOptions {
    #[allow(rustdoc::broken_intra_doc_links, reason = "the help shows this text as it stands")]
    /// A vector field: [NAME=]DIMENSION[:cosine|dot|euclid|manhattan][:f16|f32|i8], or [NAME=]sparse; may be repeated
    #[arg(long = "vector", value_name = "FIELD")]
    pub fields: Vec<VectorOption>,
    /// What turns text into a field's vectors: [FIELD=]builtin (all-MiniLM-L6-v2, 384 components)
    #[arg(long = "embedder", value_name = "[FIELD=]NAME")]
    pub embedders: Vec<Named>,
    /// An index over a field of the documents, which makes filters on it fast: PATH=keyword, integer, float, bool, datetime,
    /// uuid, geo or text; may be repeated
    #[arg(long = "index", value_name = "PATH=KIND")]
    pub indexes: Vec<IndexOption>,
    /// Into how many shards it is cut, 1..=256 [default: the cluster's]
    #[arg(long, value_name = "COUNT")]
    pub shards: Option<u32>,
    /// On how many nodes each shard lives, 1..=7 [default: 3, or as many as there are]
    #[arg(long, value_name = "COUNT")]
    pub replication_factor: Option<u32>,
}

/// `NAME=VALUE`, or `VALUE` for the unnamed field.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Of a vector field.
    pub name: String,
    /// What is said about it.
    pub value: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').unwrap_or(("", text));
        match value.is_empty() {
            true => Err("nothing behind the name".into()),
            false => Ok(Named {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
        }
    }
}

/// An index as an option says it.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexOption {
    /// Path of the field.
    pub key: String,
    /// What its values are.
    pub kind: PayloadKind,
}

impl FromStr for IndexOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, kind) = text.rsplit_once('=').ok_or("PATH=KIND, such as section=keyword")?;
        let kind = PayloadKind::from_name(kind).ok_or_else(|| {
            let names = PayloadKind::ALL.map(PayloadKind::name).join(", ");
            format!("{kind:?} is no kind of index; there are {names}")
        })?;
        match is_path(key) {
            true => Ok(IndexOption {
                key: key.to_owned(),
                kind,
            }),
            false => Err(format!("{key:?} is no path of a field")),
        }
    }
}

/// A vector field as an option says it.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorOption {
    /// "" is the unnamed one.
    pub name: String,
    /// `None`: sparse.
    pub dimension: Option<u32>,
    distance: v1::Distance,
    fine: v1::Fine,
}

impl VectorOption {
    /// Dense, compared by cosine.
    pub fn dense(name: &str, dimension: u32) -> Self {
        VectorOption {
            name: name.to_owned(),
            dimension: Some(dimension),
            distance: v1::Distance::Unspecified,
            fine: v1::Fine::Unspecified,
        }
    }
}

impl FromStr for VectorOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Named { name, value } = text.parse()?;
        let mut words = value.split(':');
        let size = words.next().unwrap_or_default();
        let dimension = match size {
            "sparse" => None,
            size => Some(size.parse().map_err(|_| format!("{size:?} is no dimension"))?),
        };
        let mut field = VectorOption {
            dimension,
            ..VectorOption::dense(&name, 0)
        };
        for word in words {
            match word {
                "cosine" => field.distance = v1::Distance::Cosine,
                "dot" => field.distance = v1::Distance::Dot,
                "euclid" => field.distance = v1::Distance::Euclid,
                "manhattan" => field.distance = v1::Distance::Manhattan,
                "f16" => field.fine = v1::Fine::F16,
                "f32" => field.fine = v1::Fine::F32,
                "i8" => field.fine = v1::Fine::I8,
                other => return Err(format!("{other:?} is neither a distance nor f16, f32 or i8")),
            }
        }
        Ok(field)
    }
}

impl SchemaOptions {
    /// The collection to be, with these fields; an embedder's field needs no `--vector`.
    pub fn create(&self, client: &Client, name: &str) -> anyhow::Result<CreateCollection> {
        let mut vectors = self.fields.clone();
        for embedder in &self.embedders {
            if !vectors.iter().any(|field| field.name == embedder.name) {
                vectors.push(VectorOption::dense(&embedder.name, BUILTIN_DIMENSION));
            }
        }
        if vectors.is_empty() {
            bail!(Usage(
                "a collection needs a vector field: --vector 384, or --embedder builtin for texts".into()
            ));
        }
        let mut create = client.create_collection(name);
        for field in &vectors {
            let made = match field.dimension {
                Some(dimension) => VectorField::dense(&field.name, dimension).distance(field.distance),
                None => VectorField::sparse(&field.name),
            };
            let embedder = self.embedders.iter().find(|embedder| embedder.name == field.name);
            let made = made.fine(field.fine);
            create = create.vector(match embedder {
                Some(embedder) => made.embedder(&embedder.value),
                None => made,
            });
        }
        for index in &self.indexes {
            create = create.index(&index.key, index.kind);
        }
        if let Some(shards) = self.shards {
            create = create.shards(shards);
        }
        if let Some(replicas) = self.replication_factor {
            create = create.replication_factor(replicas);
        }
        Ok(create)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_options_say_name_size_distance_and_format() {
        let field: VectorOption = "title=384:dot:f32".parse().unwrap();
        assert_eq!((field.name.as_str(), field.dimension), ("title", Some(384)));
        assert_eq!((field.distance, field.fine), (v1::Distance::Dot, v1::Fine::F32));
        let plain: VectorOption = "384".parse().unwrap();
        assert_eq!(plain, VectorOption::dense("", 384));
        let sparse: VectorOption = "words=sparse".parse().unwrap();
        assert_eq!(sparse.dimension, None);
    }

    #[test]
    fn index_options_say_path_and_kind() {
        let index: IndexOption = "a[].b=integer".parse().unwrap();
        assert_eq!((index.key.as_str(), index.kind), ("a[].b", PayloadKind::Integer));
        for wrong in ["section", "section=", "section=words", "=keyword", "a..b=text"] {
            assert!(wrong.parse::<IndexOption>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn vector_options_that_say_nothing_are_refused() {
        for wrong in ["", "x=", "x=many", "384:cosinus", "-1"] {
            assert!(wrong.parse::<VectorOption>().is_err(), "{wrong}");
        }
    }
}
