//! Which indexes does a filter miss? Fields that it names and that no index of the schema is over, each with the kind of
//! index that its condition speaks for.

use granum_model::schema::PAYLOAD_KEY_BYTES_MAX;
use granum_model::{Condition, Filter, PayloadField, PayloadKind, Scalar};

use super::path::Path;

/// Each field once, in the order of the filter. An index of another kind than the condition asks for counts as one.
pub(crate) fn unindexed(filter: &Filter, indexed: &[PayloadField]) -> Vec<PayloadField> {
    let mut missing = Missing {
        indexed: indexed.iter().filter_map(|field| Path::parse(&field.key)).collect(),
        found: Vec::new(),
    };
    missing.filter(filter, "");
    missing.found
}

struct Missing {
    indexed: Vec<Path>,
    found: Vec<PayloadField>,
}

impl Missing {
    /// `within`: what paths are relative to, "" or ending in a dot.
    fn filter(&mut self, filter: &Filter, within: &str) {
        for condition in filter.must.iter().chain(&filter.should).chain(&filter.must_not) {
            self.condition(condition, within);
        }
    }

    fn condition(&mut self, condition: &Condition, within: &str) {
        use PayloadKind::{Datetime, Float, Geo, Keyword, Text};
        match condition {
            Condition::MatchAny { key, any: values } | Condition::MatchExcept { key, except: values } => {
                self.field(within, key, values.first().map_or(Keyword, kind_of));
            }
            Condition::MatchText { key, .. } => self.field(within, key, Text),
            Condition::Range { key, .. } => self.field(within, key, Float),
            Condition::DatetimeRange { key, .. } => self.field(within, key, Datetime),
            Condition::GeoRadius { key, .. }
            | Condition::GeoBoundingBox { key, .. }
            | Condition::GeoPolygon { key, .. } => self.field(within, key, Geo),
            Condition::IsEmpty { key } | Condition::IsNull { key } | Condition::ValuesCount { key, .. } => {
                self.field(within, key, Keyword);
            }
            Condition::Filter(filter) => self.filter(filter, within),
            Condition::Nested { key, filter } => {
                let each = if key.ends_with("[]") { "." } else { "[]." };
                self.filter(filter, &format!("{within}{key}{each}"));
            }
            Condition::HasId { .. } | Condition::HasVector { .. } => {}
        }
    }

    fn field(&mut self, within: &str, key: &str, kind: PayloadKind) {
        let key = format!("{within}{key}");
        let can_be_indexed = key.len() <= PAYLOAD_KEY_BYTES_MAX;
        if let Some(path) = Path::parse(&key).filter(|_| can_be_indexed)
            && !self.indexed.contains(&path)
        {
            self.indexed.push(path);
            self.found.push(PayloadField { key, kind });
        }
    }
}

fn kind_of(value: &Scalar) -> PayloadKind {
    match value {
        Scalar::Text(_) => PayloadKind::Keyword,
        Scalar::Integer(_) => PayloadKind::Integer,
        Scalar::Boolean(_) => PayloadKind::Bool,
        Scalar::Float(_) => PayloadKind::Float,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_without_an_index_is_named_once_with_its_kind() {
        let any = |key: &str, value: Scalar| Condition::MatchAny {
            key: key.into(),
            any: vec![value],
        };
        let filter = Filter {
            must: vec![
                any("section", Scalar::Text("games".into())),
                any("year", Scalar::Integer(1999)),
                Condition::HasVector { name: "title".into() },
            ],
            must_not: vec![Condition::Nested {
                key: "diet".into(),
                filter: Filter {
                    should: vec![
                        any("likes", Scalar::Boolean(true)),
                        any("likes", Scalar::Boolean(false)),
                    ],
                    ..Filter::default()
                },
            }],
            ..Filter::default()
        };
        let field = |key: &str, kind| PayloadField { key: key.into(), kind };
        let indexed = [field("\"year\"", PayloadKind::Integer)];
        let expected = [
            field("section", PayloadKind::Keyword),
            field("diet[].likes", PayloadKind::Bool),
        ];
        assert_eq!(unindexed(&filter, &indexed), expected);
        assert_eq!(unindexed(&filter, &expected), [field("year", PayloadKind::Integer)]);
    }
}
