//! JSON values that know where they stand, so that every mistake is named by its path: `points[3].vector.title[7]`.
//!
//! A [`Node`] borrows its value and its parent: a path costs nothing until there is something to complain about.

use granum_proto::limits::Invalid;
use serde_json::{Map, Value};

/// A value and the way to it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// The value.
    pub value: &'a Value,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    At(usize),
}

/// Reads a body.
pub fn parse(body: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(body).map_err(|error| Invalid::new("body", format!("malformed JSON: {error}")))
}

impl<'a> Node<'a> {
    /// A value without a parent; `name` begins the path ("" for a body).
    pub fn root(value: &'a Value, name: &'a str) -> Node<'a> {
        Node {
            value,
            parent: None,
            step: Step::Key(name),
        }
    }

    /// What is wrong with this value.
    pub fn problem(&self, problem: impl Into<String>) -> Invalid {
        let path = self.path();
        Invalid::new(if path.is_empty() { "body".to_owned() } else { path }, problem)
    }

    /// This is not a `wanted`.
    pub fn not(&self, wanted: &str) -> Invalid {
        let mut shown = self.value.to_string();
        if shown.len() > 60 {
            shown.truncate((0..=60).rev().find(|&at| shown.is_char_boundary(at)).unwrap_or(0));
            shown.push_str("...");
        }
        self.problem(format!("{shown} is not {wanted}"))
    }

    fn path(&self) -> String {
        let outer = self.parent.map(|parent| parent.path()).unwrap_or_default();
        match self.step {
            Step::Key(key) if outer.is_empty() => key.to_owned(),
            Step::Key(key) => format!("{outer}.{key}"),
            Step::At(at) => format!("{outer}[{at}]"),
        }
    }

    /// The value as an object in which no other than the `known` keys stand.
    pub fn object(&'a self, known: &[&str]) -> Result<Object<'a>, Invalid> {
        let object = self.any_object()?;
        if let Some(key) = object.map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(self.problem(format!("unknown field {key:?}, known are {}", known.join(", "))));
        }
        Ok(object)
    }

    /// The value as an object with whatever keys.
    pub fn any_object(&'a self) -> Result<Object<'a>, Invalid> {
        let map = self.value.as_object().ok_or_else(|| self.not("an object"))?;
        Ok(Object { node: self, map })
    }

    /// The elements of a list.
    pub fn list(&'a self) -> Result<impl Iterator<Item = Node<'a>>, Invalid> {
        let values = self.value.as_array().ok_or_else(|| self.not("a list"))?;
        Ok(values.iter().enumerate().map(|(at, value)| Node {
            value,
            parent: Some(self),
            step: Step::At(at),
        }))
    }

    /// A text.
    pub fn text(&self) -> Result<&'a str, Invalid> {
        self.value.as_str().ok_or_else(|| self.not("a text"))
    }

    /// true or false.
    pub fn boolean(&self) -> Result<bool, Invalid> {
        self.value.as_bool().ok_or_else(|| self.not("true or false"))
    }

    /// A whole number, 0..=u64::MAX.
    pub fn whole(&self) -> Result<u64, Invalid> {
        self.value.as_u64().ok_or_else(|| self.not("a whole number >= 0"))
    }

    /// A whole number, 0..=u32::MAX.
    pub fn whole_u32(&self) -> Result<u32, Invalid> {
        u32::try_from(self.whole()?).map_err(|_| self.not("a whole number below 2^32"))
    }

    /// Any number.
    pub fn number(&self) -> Result<f64, Invalid> {
        self.value.as_f64().ok_or_else(|| self.not("a number"))
    }

    /// A number that single precision holds.
    pub fn single(&self) -> Result<f32, Invalid> {
        let number = self.number()? as f32;
        if number.is_finite() {
            Ok(number)
        } else {
            Err(self.not("a finite number"))
        }
    }

    /// A list of numbers that single precision holds.
    pub fn singles(&'a self) -> Result<Vec<f32>, Invalid> {
        self.list()?.map(|number| number.single()).collect()
    }

    /// A list of texts.
    pub fn texts(&'a self) -> Result<Vec<String>, Invalid> {
        self.list()?.map(|text| text.text().map(str::to_owned)).collect()
    }
}

/// An object's fields. A field that is null counts as absent.
pub struct Object<'a> {
    node: &'a Node<'a>,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The field, if it is there.
    pub fn get(&self, key: &'a str) -> Option<Node<'a>> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        Some(Node {
            value,
            parent: Some(self.node),
            step: Step::Key(key),
        })
    }

    /// The field, which must be there.
    pub fn want(&self, key: &'a str) -> Result<Node<'a>, Invalid> {
        self.get(key)
            .ok_or_else(|| self.node.problem(format!("field {key:?} is missing")))
    }

    /// Refuses a field that would change what is asked and that Granum can't honour.
    pub fn refuse(&self, keys: &[&'a str], why: &str) -> Result<(), Invalid> {
        match keys.iter().find_map(|key| self.get(key)) {
            Some(field) => Err(field.problem(why)),
            None => Ok(()),
        }
    }

    /// All fields that are not null.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> + use<'a> {
        let node = self.node;
        let fields = self.map.iter().filter(|(_, value)| !value.is_null());
        fields.map(move |(key, value)| {
            (
                key.as_str(),
                Node {
                    value,
                    parent: Some(node),
                    step: Step::Key(key),
                },
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What serde_json's feature `raw_value` would make of this key is JSON inside a text, each text read anew, without a
    /// bound on depth: 10 MB of it overflowed the stack of a worker and ended the process.
    #[test]
    fn no_key_means_more_than_a_key() {
        let body = br#"{"$serde_json::private::RawValue": "[1]"}"#;
        let value = parse(body).unwrap();
        assert_eq!(value["$serde_json::private::RawValue"], "[1]");
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        assert!(
            parse(deep.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("recursion limit")
        );
    }
}
