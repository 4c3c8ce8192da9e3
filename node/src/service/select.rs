//! How much of a document was asked for? Payload by paths, in or out; vectors by name.

use granum_proto::limits::{self, Invalid};
use granum_proto::status::Failure;
use granum_proto::v1;
use serde_json::Value;

/// Paths of a payload selector.
const PATHS_MAX: usize = 256;

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

    /// Whether the vector of that name is wanted.
    pub fn wants_vector(&self, name: &str) -> bool {
        match &self.vectors {
            VectorPart::None => false,
            VectorPart::All => true,
            VectorPart::Named(names) => names.iter().any(|wanted| wanted == name),
        }
    }

    /// Whether any part of a payload is wanted.
    pub fn wants_payload(&self) -> bool {
        self.payload != PayloadPart::None
    }

    /// Whether any vector is wanted.
    pub fn wants_vectors(&self) -> bool {
        !matches!(self.vectors, VectorPart::None)
    }

    /// The part of a stored payload that is wanted.
    pub fn payload(&self, stored: &[u8]) -> Result<bytes::Bytes, Failure> {
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
}
