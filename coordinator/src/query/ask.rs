//! A query as it was asked, checked against limits and schema, and the query that shards understand.

use granum_model::{DocId, Schema, VectorField};
use granum_proto::limits::{self, Invalid};
use granum_proto::status::Failure;
use granum_proto::{convert, v1};
use v1::query::Kind;
use v1::vector;

use crate::map::Collection;

/// Hits where a request names no number.
const LIMIT_DEFAULT: u32 = 10;

/// What is looked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A vector, shape not checked yet.
    Vector(v1::Vector),
    /// A text, to be embedded.
    Text(String),
    /// The vector of a stored document.
    Document(DocId),
}

/// A checked query; only its vector is still to be had.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub target: Target,
    pub field: VectorField,
    pub offset: usize,
    pub limit: usize,
    /// Without `nearest`.
    pub query: granum_proto::internal::ShardQuery,
}

impl Ask {
    /// Checks a request; takes what is large out of it.
    pub fn read(request: &mut v1::QueryRequest, collection: &Collection) -> Result<Ask, Failure> {
        let field = field(&collection.schema, &request.using)?.clone();
        let kind = request.query.take().and_then(|query| query.kind);
        let target = match kind.ok_or_else(|| Invalid::new("query", "missing"))? {
            Kind::NearestId(id) => {
                Target::Document(convert::id::read(Some(&id)).map_err(|error| error.within("query"))?)
            }
            Kind::Nearest(nearest) => target(nearest, &field)?,
        };
        let (offset, limit) = (
            request.offset,
            if request.limit == 0 {
                LIMIT_DEFAULT
            } else {
                request.limit
            },
        );
        limits::at_most("limit", limit as usize, limits::LIMIT_MAX as usize, "hits")?;
        let window = offset as usize + limit as usize;
        limits::at_most("offset + limit", window, limits::WINDOW_MAX as usize, "hits")?;
        convert::filter::read(request.filter.as_ref())?;
        check_vectors(request.with_vectors.as_ref(), &collection.schema)?;
        check_params(request.params.as_ref())?;
        if let Some(threshold) = request.score_threshold.filter(|threshold| !threshold.is_finite()) {
            return Err(Invalid::new("score_threshold", format!("{threshold}, must be finite")).into());
        }
        let exclude = match &target {
            Target::Document(id) => Some(convert::id::write(id)),
            _ => None,
        };
        let query = granum_proto::internal::ShardQuery {
            using: field.name.clone(),
            nearest: None,
            filter: request.filter.take(),
            k: u32::try_from(window).expect("checked against WINDOW_MAX"),
            score_threshold: request
                .score_threshold
                .map(|threshold| field.distance.outward(threshold)),
            params: request.params,
            with_payload: request.with_payload.take(),
            with_vectors: request.with_vectors.take(),
            exclude,
        };
        Ok(Ask {
            target,
            field,
            offset: offset as usize,
            limit: limit as usize,
            query,
        })
    }
}

fn target(nearest: v1::Vector, field: &VectorField) -> Result<Target, Invalid> {
    match nearest.kind {
        Some(vector::Kind::Text(text)) => {
            limits::at_most("query.nearest.text", text.len(), limits::TEXT_BYTES_MAX, "bytes")?;
            if field.embedder.is_none() {
                let problem = format!(
                    "is text, and vector {:?} has no embedder: ask with a vector",
                    field.name
                );
                return Err(Invalid::new("query.nearest", problem));
            }
            Ok(Target::Text(text))
        }
        kind => Ok(Target::Vector(v1::Vector { kind })),
    }
}

/// The vector meant by `using`: the one of that name; for "" the unnamed one, or the only one.
pub(crate) fn field<'a>(schema: &'a Schema, using: &str) -> Result<&'a VectorField, Invalid> {
    match (schema.vector(using), using, &schema.vectors[..]) {
        (Some(field), _, _) => Ok(field),
        (None, "", [only]) => Ok(only),
        _ => Err(unknown_vector("using", using, schema)),
    }
}

/// No vector has that name.
pub(crate) fn unknown_vector(path: &str, name: &str, schema: &Schema) -> Invalid {
    let names: Vec<String> = schema.vectors.iter().map(|field| format!("{:?}", field.name)).collect();
    let known = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Invalid::new(
        path,
        format!("{name:?} is no vector of the collection, which has {known}"),
    )
}

/// Checks the names of vectors wanted back.
pub(crate) fn check_vectors(wanted: Option<&v1::VectorSelector>, schema: &Schema) -> Result<(), Invalid> {
    let names = wanted.map(|wanted| &wanted.names[..]).unwrap_or_default();
    match names.iter().find(|name| schema.vector(name).is_none()) {
        None => Ok(()),
        Some(name) => Err(unknown_vector("with_vectors", name, schema)),
    }
}

fn check_params(params: Option<&v1::SearchParams>) -> Result<(), Invalid> {
    let recall = params.map_or(0.0, |params| params.target_recall);
    if recall != 0.0 && !(0.5..=1.0).contains(&recall) {
        return Err(Invalid::new(
            "params.target_recall",
            format!("{recall}, must be 0.5..=1"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use granum_model::{Distance, Fine, VectorKind};

    use super::*;

    fn collection(names: &[&str]) -> Collection {
        let field =
            |name: &&str| VectorField::new(*name, VectorKind::Dense { dimension: 2 }, Distance::Euclid, Fine::F32);
        Collection::alone(Schema {
            vectors: names.iter().map(field).collect(),
            ..Schema::default()
        })
    }

    fn request() -> v1::QueryRequest {
        let nearest = v1::Vector {
            kind: Some(vector::Kind::Dense(v1::DenseVector {
                f32: vec![1.0, 2.0],
                ..v1::DenseVector::default()
            })),
        };
        v1::QueryRequest {
            query: Some(v1::Query {
                kind: Some(Kind::Nearest(nearest)),
            }),
            ..v1::QueryRequest::default()
        }
    }

    #[track_caller]
    fn refused(request: v1::QueryRequest, names: &[&str], expected: &str) {
        let error = Ask::read(&mut { request }, &collection(names)).unwrap_err();
        assert!(
            matches!(error, Failure::Invalid(_)) && error.to_string().starts_with(expected),
            "{error}"
        );
    }

    #[test]
    fn limits_are_refused_by_name_one_past_them() {
        let with = |limit, offset| v1::QueryRequest {
            limit,
            offset,
            ..request()
        };
        assert!(Ask::read(&mut with(10_000, 90_000), &collection(&[""])).is_ok());
        refused(with(10_001, 0), &[""], "limit: 10001 hits, at most 10000");
        refused(
            with(10_000, 90_001),
            &[""],
            "offset + limit: 100001 hits, at most 100000",
        );
        refused(with(u32::MAX, u32::MAX), &[""], "limit: ");
    }

    #[test]
    fn the_vector_meant_is_found_or_named() {
        let using = |using: &str| v1::QueryRequest {
            using: using.into(),
            ..request()
        };
        assert_eq!(
            Ask::read(&mut using(""), &collection(&["only"])).unwrap().field.name,
            "only"
        );
        refused(
            using(""),
            &["a", "b"],
            "using: \"\" is no vector of the collection, which has \"a\", \"b\"",
        );
        refused(using("c"), &["a"], "using: \"c\" is no vector");
        let text = v1::Vector {
            kind: Some(vector::Kind::Text("chess".into())),
        };
        let query = Some(v1::Query {
            kind: Some(Kind::Nearest(text)),
        });
        refused(
            v1::QueryRequest { query, ..request() },
            &["a"],
            "query.nearest: is text, and vector \"a\" has no embedder",
        );
    }

    #[test]
    fn a_threshold_of_distance_becomes_a_score() {
        let asked = Ask::read(
            &mut v1::QueryRequest {
                score_threshold: Some(0.75),
                ..request()
            },
            &collection(&[""]),
        );
        let query = asked.unwrap().query;
        assert_eq!((query.score_threshold, query.k), (Some(-0.75), 10));
        // The shards would refuse it.
        let endless = v1::QueryRequest {
            score_threshold: Some(f32::INFINITY),
            ..request()
        };
        refused(endless, &[""], "score_threshold: inf, must be finite");
    }
}
