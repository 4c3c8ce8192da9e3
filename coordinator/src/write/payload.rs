//! Is this payload one JSON object, not too large and not too deep? Read once, strictly, and without building anything:
//! what passes here can be read by every replica for ever.

use std::fmt;

use granum_proto::limits::{Invalid, PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX, at_most};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Refuses what is no payload; empty is one.
pub(super) fn check(json: &[u8]) -> Result<(), Invalid> {
    at_most("payload", json.len(), PAYLOAD_BYTES_MAX, "bytes")?;
    if json.is_empty() {
        return Ok(());
    }
    let malformed = |problem: String| Invalid::new("payload", problem);
    let text = std::str::from_utf8(json).map_err(|error| malformed(error.to_string()))?;
    if !text.trim_start().starts_with('{') {
        return Err(malformed("must be a JSON object".into()));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    Depth(1)
        .deserialize(&mut reader)
        .map_err(|error| malformed(error.to_string()))?;
    reader.end().map_err(|error| malformed(error.to_string()))
}

/// Reads one value at this depth (the payload itself is 1) and keeps nothing of it.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn deeper<E: Error>(self) -> Result<Depth, E> {
        if self.0 >= PAYLOAD_DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {PAYLOAD_DEPTH_MAX} levels")));
        }
        Ok(Depth(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while list.next_element_seed(deeper)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while object.next_key_seed(self)?.is_some() {
            object.next_value_seed(deeper)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_pass() {
        for json in [
            "",
            "{}",
            " {\"a\": [1, -2.5e3, null, true, \"x\\u00e9\", {\"b\": {}}]} ",
        ] {
            assert_eq!(check(json.as_bytes()), Ok(()), "{json}");
        }
    }

    #[track_caller]
    fn refused(json: &[u8], expected: &str) {
        let error = check(json).unwrap_err().to_string();
        assert!(error.starts_with("payload: ") && error.contains(expected), "{error}");
    }

    #[test]
    fn everything_else_is_refused_with_its_place() {
        refused(b"[1]", "must be a JSON object");
        refused(b"{\"a\": }", "line 1 column 7");
        refused(b"{} {}", "trailing characters");
        refused(b"{\"a\": \"\\ud800\"}", "line 1");
        refused(b"{\"a\": 1e999}", "out of range");
        refused(b"{\"a\": \"\xff\"}", "utf-8");
        refused(&vec![b' '; PAYLOAD_BYTES_MAX + 1], "1048577 bytes, at most 1048576");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(check(nested(PAYLOAD_DEPTH_MAX - 1).as_bytes()), Ok(()));
        refused(nested(PAYLOAD_DEPTH_MAX + 1).as_bytes(), "nested deeper than 64 levels");
    }
}
