//! Wire forms of questions and answers: queries in, hits and documents out, with as much of payload and vectors as was
//! asked for.

use granum_index::{Document, Params, Query, RowHit, RowRef, Verify, View};
use granum_model::{DocId, Vector};
use granum_proto::convert;
use granum_proto::internal::{ShardHit, ShardQuery};
use granum_proto::limits::{self, Invalid, LIMIT_MAX, MESSAGE_OUT_BYTES_MAX, WINDOW_MAX};
use granum_proto::status::Failure;
use granum_proto::v1::{self, search_params};
use prost::Message;
use serde_json::Value;

use super::search::read_failure;

/// Largest k of one shard's answer: a page at the far end of the window.
const K_MAX: u32 = WINDOW_MAX + LIMIT_MAX;

/// Paths of a payload selector.
const PATHS_MAX: usize = 256;

/// Reads a query; the index checks it against the schema.
pub(super) fn read_query(query: &ShardQuery) -> Result<Query, Invalid> {
    if query.k == 0 || query.k > K_MAX {
        return Err(Invalid::new("k", format!("{}, must be 1..={K_MAX}", query.k)));
    }
    let nearest = query
        .nearest
        .as_ref()
        .ok_or_else(|| Invalid::new("nearest", "missing"))?;
    let vector = convert::vector::read(nearest).map_err(|error| error.within("nearest"))?;
    if query.score_threshold.is_some_and(|threshold| !threshold.is_finite()) {
        return Err(Invalid::new("score_threshold", "must be finite"));
    }
    Ok(Query {
        using: query.using.clone(),
        vector: vector.ok_or_else(|| Invalid::new("nearest", "text, which is to be embedded before"))?,
        filter: convert::filter::read(query.filter.as_ref()).map_err(|error| error.within("filter"))?,
        k: query.k as usize,
        threshold: query.score_threshold,
        exclude: query
            .exclude
            .as_ref()
            .map(|id| convert::id::read(Some(id)))
            .transpose()?,
        params: read_params(query.params.unwrap_or_default())?,
    })
}

fn read_params(params: v1::SearchParams) -> Result<Params, Invalid> {
    let recall = params.target_recall;
    if recall != 0.0 && !(0.5..=1.0).contains(&recall) {
        return Err(Invalid::new(
            "params.target_recall",
            format!("{recall}, must be 0.5..=1"),
        ));
    }
    Ok(Params {
        exact: params.exact,
        ef: (params.ef != 0).then_some(params.ef),
        target_recall: (recall != 0.0).then_some(recall),
        verify: match params.verify() {
            search_params::Verify::Unspecified | search_params::Verify::Bound => Verify::Bound,
            search_params::Verify::All => Verify::All,
            search_params::Verify::None => Verify::None,
        },
    })
}

/// Sums of what queries cost.
pub(super) mod usage {
    use granum_proto::v1;

    /// Adds one query's cost.
    pub fn add(total: &mut v1::Usage, usage: granum_index::Usage) {
        total.rows_scored += usage.rows_scored;
        total.rows_read += usage.rows_read;
        total.bytes_read += usage.bytes_read;
        total.rows_filtered += usage.rows_filtered;
    }
}

/// What of a document is to be answered.
#[derive(Debug)]
pub(super) struct Selected {
    payload: PayloadPart,
    vectors: VectorPart,
}

#[derive(Debug, PartialEq)]
enum PayloadPart {
    None,
    All,
    Include(Vec<Path>),
    Exclude(Vec<Path>),
}

#[derive(Debug)]
enum VectorPart {
    None,
    All,
    Named(Vec<String>),
}

/// A path into a payload: keys, each with whether it descends through a list's elements (`a[].b`).
type Path = Vec<(String, bool)>;

impl Selected {
    /// Reads the selectors; absent ones select nothing.
    pub fn new(
        payload: Option<&v1::PayloadSelector>,
        vectors: Option<&v1::VectorSelector>,
    ) -> Result<Selected, Invalid> {
        let payload = match payload {
            None => PayloadPart::None,
            Some(selector) => read_payload_part(selector)?,
        };
        let vectors = match vectors {
            None => VectorPart::None,
            Some(selector) if selector.all => VectorPart::All,
            Some(selector) if selector.names.is_empty() => VectorPart::None,
            Some(selector) => {
                limits::at_most("with_vectors.names", selector.names.len(), limits::VECTORS_MAX, "names")?;
                VectorPart::Named(selector.names.clone())
            }
        };
        Ok(Selected { payload, vectors })
    }

    fn wants_vector(&self, name: &str) -> bool {
        match &self.vectors {
            VectorPart::None => false,
            VectorPart::All => true,
            VectorPart::Named(names) => names.iter().any(|wanted| wanted == name),
        }
    }

    fn wants_vectors(&self) -> bool {
        !matches!(self.vectors, VectorPart::None)
    }

    /// The part of a stored payload that is wanted.
    fn payload(&self, stored: &[u8]) -> Result<bytes::Bytes, Failure> {
        let parse = || {
            if stored.is_empty() {
                return Ok(Value::Object(serde_json::Map::new()));
            }
            serde_json::from_slice(stored).map_err(|error| Failure::Fault(format!("stored payload: {error}")))
        };
        let part = match &self.payload {
            PayloadPart::None => return Ok(bytes::Bytes::new()),
            PayloadPart::All => return Ok(bytes::Bytes::copy_from_slice(stored)),
            PayloadPart::Include(paths) => {
                let paths: Vec<&[(String, bool)]> = paths.iter().map(Vec::as_slice).collect();
                include(&parse()?, &paths).unwrap_or_else(|| Value::Object(serde_json::Map::new()))
            }
            PayloadPart::Exclude(paths) => {
                let mut payload = parse()?;
                paths.iter().for_each(|path| exclude(&mut payload, path));
                payload
            }
        };
        Ok(part.to_string().into())
    }
}

fn read_payload_part(selector: &v1::PayloadSelector) -> Result<PayloadPart, Invalid> {
    limits::at_most("with_payload.include", selector.include.len(), PATHS_MAX, "paths")?;
    limits::at_most("with_payload.exclude", selector.exclude.len(), PATHS_MAX, "paths")?;
    let paths = |paths: &[String]| paths.iter().map(|path| read_path(path)).collect::<Result<Vec<_>, _>>();
    Ok(
        match (selector.all, selector.include.is_empty(), selector.exclude.is_empty()) {
            (false, false, true) => PayloadPart::Include(paths(&selector.include)?),
            (false, false, false) => return Err(Invalid::new("with_payload", "include and exclude don't go together")),
            (false, true, true) => PayloadPart::None,
            (true, _, true) => PayloadPart::All,
            (_, _, false) => PayloadPart::Exclude(paths(&selector.exclude)?),
        },
    )
}

fn read_path(path: &str) -> Result<Path, Invalid> {
    limits::at_most("with_payload", path.len(), limits::KEY_BYTES_MAX, "bytes")?;
    let step = |key: &str| match key.strip_suffix("[]") {
        Some(key) => (key.to_owned(), true),
        None => (key.to_owned(), false),
    };
    let steps: Path = path.split('.').map(step).collect();
    match steps.iter().any(|(key, _)| key.is_empty()) {
        true => Err(Invalid::new("with_payload", format!("{path:?} is no path of a field"))),
        false => Ok(steps),
    }
}

/// What lies on one of `paths`; `None`: nothing does.
fn include(value: &Value, paths: &[&[(String, bool)]]) -> Option<Value> {
    let object = value.as_object()?;
    let mut kept = serde_json::Map::new();
    for (key, value) in object {
        let mut whole = false;
        let (mut below, mut in_elements) = (Vec::new(), Vec::new());
        for path in paths {
            match path.split_first() {
                Some(((step, _), [])) if step == key => whole = true,
                Some(((step, false), rest)) if step == key => below.push(rest),
                Some(((step, true), rest)) if step == key => in_elements.push(rest),
                _ => {}
            }
        }
        let part = match value {
            value if whole => Some(value.clone()),
            Value::Array(elements) if !in_elements.is_empty() => Some(
                elements
                    .iter()
                    .filter_map(|element| include(element, &in_elements))
                    .collect(),
            ),
            value if !below.is_empty() => include(value, &below),
            _ => None,
        };
        kept.extend(part.map(|part| (key.clone(), part)));
    }
    (!kept.is_empty()).then_some(Value::Object(kept))
}

/// Takes out what lies on `path`.
fn exclude(value: &mut Value, path: &[(String, bool)]) {
    let (Some(object), Some(((key, in_elements), rest))) = (value.as_object_mut(), path.split_first()) else {
        return;
    };
    if rest.is_empty() {
        object.remove(key);
        return;
    }
    match object.get_mut(key) {
        Some(Value::Array(elements)) if *in_elements => elements.iter_mut().for_each(|element| exclude(element, rest)),
        Some(value) if !in_elements => exclude(value, rest),
        _ => {}
    }
}

/// Writes an answer's documents, as many bytes as one message carries.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: usize,
}

impl Outgoing {
    /// A hit with what was selected of its document.
    pub fn hit(&mut self, view: &View, found: &RowHit, selected: &Selected) -> Result<ShardHit, Failure> {
        let mut hit = ShardHit {
            id: Some(convert::id::write(&found.hit.id)),
            score: found.hit.score,
            error: found.interval.error,
            row: found.row.to_u64(),
            version: found.hit.version,
            ..ShardHit::default()
        };
        if selected.wants_vectors() {
            let document = self.document(view.document(found.row).map_err(read_failure)?, selected)?;
            (hit.payload_json, hit.vectors) = (document.payload_json, document.vectors);
        } else if selected.payload != PayloadPart::None {
            hit.payload_json = selected.payload(&view.payload(found.row).map_err(read_failure)?)?;
            self.count(hit.encoded_len())?;
        } else {
            self.count(hit.encoded_len())?;
        }
        Ok(hit)
    }

    /// The document at a row.
    pub fn row(&mut self, view: &View, row: RowRef, selected: &Selected) -> Result<v1::StoredDocument, Failure> {
        if selected.wants_vectors() {
            return self.document(view.document(row).map_err(read_failure)?, selected);
        }
        let (id, version) = view.id(row).map_err(read_failure)?;
        let payload_json = match selected.payload {
            PayloadPart::None => bytes::Bytes::new(),
            _ => selected.payload(&view.payload(row).map_err(read_failure)?)?,
        };
        self.stored(&id, version, payload_json, Vec::new())
    }

    /// A document.
    pub fn document(&mut self, document: Document, selected: &Selected) -> Result<v1::StoredDocument, Failure> {
        let vectors = document.vectors.iter().filter(|(name, _)| selected.wants_vector(name));
        let named = |(name, vector): &(String, Vector)| v1::NamedVector {
            name: name.clone(),
            vector: Some(convert::vector::write(vector)),
        };
        let vectors = vectors.map(named).collect();
        self.stored(
            &document.id,
            document.version,
            selected.payload(&document.payload)?,
            vectors,
        )
    }

    fn stored(
        &mut self,
        id: &DocId,
        version: u64,
        payload_json: bytes::Bytes,
        vectors: Vec<v1::NamedVector>,
    ) -> Result<v1::StoredDocument, Failure> {
        let stored = v1::StoredDocument {
            id: Some(convert::id::write(id)),
            version,
            payload_json,
            vectors,
        };
        self.count(stored.encoded_len())?;
        Ok(stored)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Failure> {
        /// Room for the frame of each document and of the message.
        const FRAME_BYTES: usize = 16;
        self.bytes += bytes + FRAME_BYTES;
        limits::at_most(
            "answer",
            self.bytes,
            MESSAGE_OUT_BYTES_MAX - (1 << 16),
            "bytes: ask for fewer documents",
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = r#"{"a":{"b":1,"c":[2]},"list":[{"x":1,"y":2},{"y":3}],"z":null}"#;

    fn selector(all: bool, include: &[&str], exclude: &[&str]) -> v1::PayloadSelector {
        let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        v1::PayloadSelector {
            all,
            include: paths(include),
            exclude: paths(exclude),
        }
    }

    #[track_caller]
    fn check(selector: v1::PayloadSelector, expected: &str) {
        let selected = Selected::new(Some(&selector), None).unwrap();
        assert_eq!(selected.payload(PAYLOAD.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_payload_is_answered_as_far_as_it_is_asked_for() {
        check(selector(true, &[], &[]), PAYLOAD);
        check(selector(false, &[], &[]), "");
        check(selector(false, &["z", "a.b"], &[]), r#"{"a":{"b":1},"z":null}"#);
        check(selector(false, &["a", "a.b"], &[]), r#"{"a":{"b":1,"c":[2]}}"#);
        check(selector(false, &["list[].x"], &[]), r#"{"list":[{"x":1}]}"#);
        check(selector(false, &["list.x", "nothing", "z.deeper"], &[]), "{}");
        check(selector(true, &[], &["a.c", "list"]), r#"{"a":{"b":1},"z":null}"#);
        check(
            selector(false, &[], &["list[].y", "a", "nothing.at.all"]),
            r#"{"list":[{"x":1},{}],"z":null}"#,
        );
        assert_eq!(Selected::new(None, None).unwrap().payload(b"{}").unwrap(), "");
    }

    #[test]
    fn a_selector_that_makes_no_sense_is_refused() {
        for (selector, said) in [
            (selector(false, &["a"], &["b"]), "include and exclude"),
            (selector(false, &["a..b"], &[]), "no path"),
            (selector(false, &[""], &[]), "no path"),
            (selector(false, &vec!["a"; 257], &[]), "257 paths, at most 256"),
        ] {
            let error = Selected::new(Some(&selector), None).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_query_is_refused_by_field() {
        let dense = v1::DenseVector {
            f32: vec![1.0],
            ..v1::DenseVector::default()
        };
        let vector = v1::Vector {
            kind: Some(v1::vector::Kind::Dense(dense)),
        };
        let good = ShardQuery {
            nearest: Some(vector),
            k: 10,
            ..ShardQuery::default()
        };
        assert!(read_query(&good).is_ok());
        let params = |recall| {
            Some(v1::SearchParams {
                target_recall: recall,
                ..v1::SearchParams::default()
            })
        };
        for (query, field) in [
            (ShardQuery { k: 0, ..good.clone() }, "k: 0"),
            (
                ShardQuery {
                    k: K_MAX + 1,
                    ..good.clone()
                },
                "k: 110001",
            ),
            (
                ShardQuery {
                    nearest: None,
                    ..good.clone()
                },
                "nearest: missing",
            ),
            (
                ShardQuery {
                    score_threshold: Some(f32::NAN),
                    ..good.clone()
                },
                "score_threshold",
            ),
            (
                ShardQuery {
                    params: params(0.2),
                    ..good.clone()
                },
                "params.target_recall: 0.2",
            ),
        ] {
            let error = read_query(&query).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
