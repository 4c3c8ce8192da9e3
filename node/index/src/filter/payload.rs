//! The fields of a payload that a filter asks for; the others are passed over without being built.
//!
//! A payload has a title and a text of hundreds of bytes, a filter asks for one or two short fields: building only those
//! costs about a third of building them all.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Names of fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<String>);

impl Fields {
    pub fn add(&mut self, name: &str) {
        if !self.0.iter().any(|own| own == name) {
            self.0.push(name.to_owned());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object that a payload means, with these fields only; no bytes mean an empty object.
    pub fn parse(&self, payload: &[u8]) -> Result<Value, serde_json::Error> {
        if payload.is_empty() {
            return Ok(Value::Object(Map::new()));
        }
        let mut reader = serde_json::Deserializer::from_slice(payload);
        let value = self.deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for &Fields {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Fields {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(wanted) = entries.next_key_seed(Wanted(&self.0))? {
            match wanted {
                Some(name) => {
                    object.insert(name.clone(), entries.next_value()?);
                }
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(object))
    }
}

/// Reads a key: which of the names it is, if any.
struct Wanted<'a>(&'a [String]);

impl<'a, 'de> DeserializeSeed<'de> for Wanted<'a> {
    type Value = Option<&'a String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Wanted<'a> {
    type Value = Option<&'a String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_asked_for_is_built() {
        let mut fields = Fields::default();
        for name in ["b", "d", "b"] {
            fields.add(name);
        }
        let payload = br#"{"a": [1, {"b": 2}], "b": {"c": [null, "x\n"]}, "\u0064": 1.5, "e": "text"}"#;
        assert_eq!(
            fields.parse(payload).unwrap(),
            json!({"b": {"c": [null, "x\n"]}, "d": 1.5})
        );
        assert_eq!(fields.parse(b"").unwrap(), json!({}));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let fields = Fields::default();
        for payload in [&b"[]"[..], b"1", b"{", b"{} x", b"{\"a\": tru}", b"\xff"] {
            assert!(fields.parse(payload).is_err(), "{payload:?}");
        }
    }
}
