//! When does a JSON value equal a scalar, contain words, count as empty?

use std::collections::{BTreeSet, HashSet};

use granum_model::Scalar;
use serde_json::Value;

/// Scalars to be met, ready for membership tests: lists have up to 10,000 of them.
#[derive(Debug)]
pub(crate) struct Scalars {
    pub texts: HashSet<String>,
    pub integers: BTreeSet<i64>,
    /// Sorted by `total_cmp`; integers are here too where a float holds them exactly.
    pub floats: Vec<f64>,
    /// False, true.
    pub booleans: [bool; 2],
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
pub(crate) fn exact_float(integer: i64) -> Option<f64> {
    let float = integer as f64;
    (float as i128 == i128::from(integer)).then_some(float)
}

/// Words to be found.
#[derive(Debug)]
pub(crate) struct Words(Vec<String>);

impl Words {
    pub fn new(text: &str) -> Words {
        Words(words(text).collect())
    }

    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Whether `value` is a text with every word; no words occur in nothing.
    pub fn occur_in(&self, value: &Value) -> bool {
        let Value::String(text) = value else {
            return false;
        };
        self.occur_in_text(text)
    }

    /// Whether `text` has every word.
    pub fn occur_in_text(&self, text: &str) -> bool {
        let found: HashSet<String> = words(text).collect();
        !self.0.is_empty() && self.0.iter().all(|word| found.contains(word))
    }
}

/// The words of a text: runs of letters and digits, case folded. Chinese and Japanese put no space between words: each
/// ideograph or kana is a word of itself.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .flat_map(Runs)
        .map(str::to_lowercase)
}

/// Cuts what stands between two spaces at ideographs and kana. Yields no empty text.
struct Runs<'a>(&'a str);

impl<'a> Iterator for Runs<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let first = self.0.chars().next()?;
        let end = match is_word_of_itself(first) {
            true => first.len_utf8(),
            false => self.0.find(is_word_of_itself).unwrap_or(self.0.len()),
        };
        let (run, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(run)
    }
}

/// Ideographs (with their extensions and compatibility forms), kana, and the iteration mark between them.
fn is_word_of_itself(letter: char) -> bool {
    matches!(letter,
        '\u{3005}' | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

/// Null or an empty list.
pub(crate) fn is_empty(value: &Value) -> bool {
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
