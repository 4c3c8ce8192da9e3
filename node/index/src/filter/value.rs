//! When does a JSON value equal a scalar, contain words, count as empty?

use std::collections::{BTreeSet, HashSet};

use granum_model::Scalar;
use serde_json::Value;

/// Scalars to be met, ready for membership tests: lists have up to 10,000 of them.
#[derive(Debug)]
pub(super) struct Scalars {
    texts: HashSet<String>,
    integers: BTreeSet<i64>,
    /// Sorted by `total_cmp`; integers are here too where a float holds them exactly.
    floats: Vec<f64>,
    booleans: [bool; 2],
}

impl Scalars {
    pub fn new(scalars: &[Scalar]) -> Scalars {
        let mut own = Scalars {
            texts: HashSet::new(),
            integers: BTreeSet::new(),
            floats: Vec::new(),
            booleans: [false; 2],
        };
        for scalar in scalars {
            match scalar {
                Scalar::Text(text) => {
                    own.texts.insert(text.clone());
                }
                Scalar::Integer(number) => {
                    own.integers.insert(*number);
                    own.floats.extend(exact_float(*number));
                }
                // Adding 0 makes -0 and 0 one number.
                Scalar::Float(number) => own.floats.push(number + 0.0),
                Scalar::Boolean(truth) => own.booleans[usize::from(*truth)] = true,
            }
        }
        own.floats.sort_by(f64::total_cmp);
        own
    }

    /// Whether `value` equals one of them.
    pub fn contain(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.texts.contains(text),
            Value::Bool(truth) => self.booleans[usize::from(*truth)],
            Value::Number(number) => match number.as_i64() {
                Some(integer) => {
                    self.integers.contains(&integer) || exact_float(integer).is_some_and(|float| self.has_float(float))
                }
                None => number.as_f64().is_some_and(|float| self.has_float(float)),
            },
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }

    fn has_float(&self, float: f64) -> bool {
        let float = float + 0.0;
        self.floats.binary_search_by(|own| own.total_cmp(&float)).is_ok()
    }
}

/// The float equal to an integer, if there is one.
fn exact_float(integer: i64) -> Option<f64> {
    let float = integer as f64;
    (float as i128 == i128::from(integer)).then_some(float)
}

/// Words to be found: runs of letters and digits, case folded.
#[derive(Debug)]
pub(super) struct Words(Vec<String>);

impl Words {
    pub fn new(text: &str) -> Words {
        Words(words(text).collect())
    }

    /// Whether `value` is a text with every word; no words occur in nothing.
    pub fn occur_in(&self, value: &Value) -> bool {
        let Value::String(text) = value else {
            return false;
        };
        let found: HashSet<String> = words(text).collect();
        !self.0.is_empty() && self.0.iter().all(|word| found.contains(word))
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Null or an empty list.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

/// Null 0, a list its length, anything else 1.
pub(super) fn count(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Array(elements) => elements.len() as u64,
        _ => 1,
    }
}
