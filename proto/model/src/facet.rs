//! How many documents have each value of a field? What is counted, and in which order it is told.

use std::cmp::Ordering;
use std::fmt;

use crate::schema::PayloadKind;

/// Kinds of payload index whose values can be counted.
pub const FACET_KINDS: [PayloadKind; 4] = [
    PayloadKind::Keyword,
    PayloadKind::Uuid,
    PayloadKind::Integer,
    PayloadKind::Bool,
];

/// A value that documents are counted by. Values of one field are of one kind, and in the order of their payload index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FacetValue {
    /// False before true.
    Boolean(bool),
    /// By size.
    Integer(i64),
    /// By bytes. A UUID in its canonical spelling, too.
    Text(String),
}

impl fmt::Display for FacetValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FacetValue::Boolean(boolean) => boolean.fmt(formatter),
            FacetValue::Integer(integer) => integer.fmt(formatter),
            FacetValue::Text(text) => text.fmt(formatter),
        }
    }
}

/// A value, and how many documents have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FacetHit {
    /// The value.
    pub value: FacetValue,
    /// Documents known to have it. One that has it twice counts once.
    pub count: u64,
    /// How many more may have it.
    pub error: u64,
}

impl FacetHit {
    /// Orders hits as they are told: most documents first, then the smaller value.
    pub fn rank(&self, other: &FacetHit) -> Ordering {
        other.count.cmp(&self.count).then_with(|| self.value.cmp(&other.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_documents_come_first_and_then_the_smaller_value() {
        let hit = |value: i64, count| FacetHit {
            value: FacetValue::Integer(value),
            count,
            error: 0,
        };
        let mut hits = [hit(3, 1), hit(-2, 1), hit(9, 7), hit(1, 2)];
        hits.sort_by(FacetHit::rank);
        assert_eq!(hits, [hit(9, 7), hit(1, 2), hit(-2, 1), hit(3, 1)]);
    }
}
