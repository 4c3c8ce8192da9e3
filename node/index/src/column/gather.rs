//! Takes the values of one field from a segment's payloads, row by row: what a column is written from.

use std::collections::HashMap;

use granum_model::{PayloadKind, datetime};
use roaring::RoaringBitmap;
use serde_json::{Number, Value};

use super::{MARKS, Mark, TERM_BYTES_MAX, class, class_of};
use crate::filter::geo;
use crate::filter::path::Path;
use crate::filter::value::{exact_float, is_empty, words};

/// Values of a field with the rows that have them.
#[derive(Default)]
pub(super) struct Values {
    /// Bitmaps in the order of [`MARKS`].
    pub marks: [RoaringBitmap; MARKS.len()],
    /// keyword, bool, uuid, text.
    pub terms: HashMap<Vec<u8>, RoaringBitmap>,
    /// integer, float, datetime: sort key and row.
    pub numbers: Vec<(u64, u32)>,
    /// geo: latitude, longitude and row.
    pub points: Vec<(f64, f64, u32)>,
}

/// See the file. Rows come in order.
pub(super) struct Gathering {
    path: Path,
    kind: PayloadKind,
    values: Values,
}

impl Gathering {
    pub fn new(path: Path, kind: PayloadKind) -> Gathering {
        let values = Values::default();
        Gathering { path, kind, values }
    }

    pub fn add(&mut self, row: u32, payload: &Value) {
        let Gathering { path, kind, values } = self;
        let mut own_elements = 0;
        path.any(payload, &mut |value| {
            if !is_empty(value) {
                values.mark(Mark::Filled, row);
            }
            match value {
                Value::Array(elements) => {
                    for element in elements {
                        own_elements += values.element(*kind, row, element);
                    }
                }
                value => own_elements += values.element(*kind, row, value),
            }
            false
        });
        if own_elements > 1 {
            values.mark(Mark::Several, row);
        }
    }

    pub fn values(self) -> Values {
        self.values
    }
}

impl Values {
    fn mark(&mut self, mark: Mark, row: u32) {
        self.marks[mark as usize].insert(row);
    }

    /// Takes one element; returns 1 if it is of the kind's class.
    fn element(&mut self, kind: PayloadKind, row: u32, element: &Value) -> usize {
        let Some(own) = class_of(element) else {
            self.mark(Mark::Null, row);
            return 0;
        };
        self.mark(own, row);
        if own != class(kind) {
            return 0;
        }
        if !self.enter(kind, row, element) {
            self.mark(Mark::Rest, row);
        }
        1
    }

    /// Enters a value; false: it is none that this kind of column holds, or not wholly.
    fn enter(&mut self, kind: PayloadKind, row: u32, element: &Value) -> bool {
        match (kind, element) {
            (PayloadKind::Keyword, Value::String(text)) => self.term(text.as_bytes(), row),
            (PayloadKind::Uuid, Value::String(text)) => match uuid(text) {
                Some(bytes) => self.term(&bytes, row),
                None => false,
            },
            (PayloadKind::Text, Value::String(text)) => {
                let mut is_whole = true;
                for word in words(text) {
                    is_whole &= self.term(word.as_bytes(), row);
                }
                is_whole
            }
            (PayloadKind::Bool, Value::Bool(truth)) => self.term(&[u8::from(*truth)], row),
            (PayloadKind::Integer | PayloadKind::Float, Value::Number(number)) => {
                self.number(number_key(kind, number), row)
            }
            (PayloadKind::Datetime, Value::String(text)) => {
                self.number(datetime::parse_micros(text).map(integer_key), row)
            }
            (PayloadKind::Geo, value) => match geo::point(value) {
                Some(point) => {
                    self.points.push((point.lat, point.lon, row));
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    fn term(&mut self, term: &[u8], row: u32) -> bool {
        if term.len() > TERM_BYTES_MAX {
            return false;
        }
        match self.terms.get_mut(term) {
            Some(rows) => {
                rows.insert(row);
            }
            None => {
                self.terms.insert(term.to_vec(), RoaringBitmap::from_iter([row]));
            }
        }
        true
    }

    fn number(&mut self, key: Option<u64>, row: u32) -> bool {
        self.numbers.extend(key.map(|key| (key, row)));
        key.is_some()
    }
}

/// The bytes of a UUID in its canonical spelling, so that equal bytes are equal texts.
pub(super) fn uuid(text: &str) -> Option<[u8; 16]> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let spelled = text.as_bytes();
    if spelled.len() != 36 {
        return None;
    }
    let (mut bytes, mut digits) = ([0u8; 16], 0);
    for (at, letter) in spelled.iter().enumerate() {
        let digit = match letter {
            b'-' if HYPHENS.contains(&at) => continue,
            b'0'..=b'9' if !HYPHENS.contains(&at) => letter - b'0',
            b'a'..=b'f' if !HYPHENS.contains(&at) => letter - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

/// The sort key of a number in a column of whole numbers or of floats; `None` where it is not one exactly.
fn number_key(kind: PayloadKind, number: &Number) -> Option<u64> {
    match (kind, number.as_i64()) {
        (PayloadKind::Integer, integer) => integer.map(integer_key),
        (_, Some(integer)) => exact_float(integer).map(float_key),
        (_, None) => number.as_f64().map(float_key),
    }
}

const SIGN: u64 = 1 << 63;

/// Orders as the integers do.
pub(super) fn integer_key(integer: i64) -> u64 {
    integer as u64 ^ SIGN
}

/// The inverse of [`integer_key`].
pub(super) fn integer_of(key: u64) -> i64 {
    (key ^ SIGN) as i64
}

/// Orders as the floats do; -0 is 0.
pub(super) fn float_key(float: f64) -> u64 {
    let bits = (float + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The inverse of [`float_key`].
pub(super) fn float_of(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key ^ SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_spellings_are_uuids() {
        let canonical = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(uuid(canonical).unwrap()[15], 0xff);
        for text in [
            "",
            "00112233-4455-6677-8899-AABBCCDDEEFF",
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "001122334455-6677-8899-aabbccddeeff-",
            "00112233-4455-6677-8899--abbccddeeff",
        ] {
            assert_eq!(uuid(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_order_as_numbers_do(left in any::<i64>(), right in any::<i64>()) {
            prop_assert_eq!(integer_of(integer_key(left)), left);
            prop_assert_eq!(integer_key(left).cmp(&integer_key(right)), left.cmp(&right));
            let (left, right) = (left as f64 / 1e3, f64::from_bits(right as u64));
            prop_assert_eq!(float_of(float_key(left)), left);
            if !right.is_nan() {
                prop_assert_eq!(Some(float_key(left).cmp(&float_key(right))), left.partial_cmp(&right));
            }
        }
    }
}
