//! How does a stored payload get into an answer? Copied value by value while it is read: keys keep their order, and
//! nothing is built in between.
//!
//! serde_json would pass it on as text behind its feature `raw_value`, which this program must be built without: it gives
//! one key a meaning in all JSON that is read, so that a client could nest texts of JSON without a bound on depth.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

/// JSON that is known to be some.
#[derive(Debug)]
pub struct Payload(Bytes);

impl Payload {
    /// Reads it once: an answer that has begun can't turn into an error.
    pub fn new(json: Bytes) -> Result<Payload, serde_json::Error> {
        serde_json::from_slice::<IgnoredAny>(&json)?;
        Ok(Payload(json))
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reader = serde_json::Deserializer::from_slice(&self.0);
        reader.deserialize_any(Copied(serializer)).map_err(S::Error::custom)
    }
}

/// What is read is written.
struct Copied<S>(S);

/// A value that is still to be read, once.
struct Unread<D>(Cell<Option<D>>);

impl<'de, D: Deserializer<'de>> Serialize for Unread<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reader = self.0.take().expect("a value is written once");
        reader.deserialize_any(Copied(serializer)).map_err(S::Error::custom)
    }
}

/// An element of a list that is being written.
struct Element<'a, L>(&'a mut L);

impl<'de, L: SerializeSeq> DeserializeSeed<'de> for Element<'_, L> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let unread = Unread(Cell::new(Some(reader)));
        self.0.serialize_element(&unread).map_err(D::Error::custom)
    }
}

/// A field's value of an object that is being written.
struct Field<'a, O>(&'a mut O);

impl<'de, O: SerializeMap> DeserializeSeed<'de> for Field<'_, O> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let unread = Unread(Cell::new(Some(reader)));
        self.0.serialize_value(&unread).map_err(D::Error::custom)
    }
}

impl<'de, S: Serializer> Visitor<'de> for Copied<S> {
    type Value = S::Ok;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<S::Ok, E> {
        self.0.serialize_unit().map_err(E::custom)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<S::Ok, E> {
        self.0.serialize_bool(value).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<S::Ok, E> {
        self.0.serialize_i64(value).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<S::Ok, E> {
        self.0.serialize_u64(value).map_err(E::custom)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<S::Ok, E> {
        self.0.serialize_f64(value).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<S::Ok, E> {
        self.0.serialize_str(value).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<S::Ok, A::Error> {
        let mut list = self.0.serialize_seq(None).map_err(A::Error::custom)?;
        while elements.next_element_seed(Element(&mut list))?.is_some() {}
        list.end().map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<S::Ok, A::Error> {
        let mut object = self.0.serialize_map(None).map_err(A::Error::custom)?;
        while let Some(key) = fields.next_key::<String>()? {
            object.serialize_key(&key).map_err(A::Error::custom)?;
            fields.next_value_seed(Field(&mut object))?;
        }
        object.end().map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_copied_with_its_keys_in_their_order() {
        for json in [
            r#"{}"#,
            r#"{"b":[1,-2,0.5,1e+300,18446744073709551615],"a":{"c":[[],{}],"b":null},"t":[true,false]}"#,
            r#"{"text":"\"\\\n é \u0001","é":"","$serde_json::private::RawValue":"{\"a\":1}"}"#,
        ] {
            let payload = Payload::new(json.into()).unwrap();
            assert_eq!(serde_json::to_string(&payload).unwrap(), json);
        }
        assert!(Payload::new(Bytes::from_static(b"{\"a\":}")).is_err());
    }
}
