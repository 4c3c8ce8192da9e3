//! May this document be a hit? Filters compiled once a query, evaluated on a document's payload, id and vector names.
//!
//! The meaning is Qdrant's documented one (`granum_model::filter` has it in words): a condition on a list holds when it
//! holds for one of its elements; a missing value satisfies nothing but `is_empty` and the absence that `must_not` asks
//! for; a whole number equals a float of the same value. `ask` finds out what a segment's payload indexes (`column`) know
//! before, `known` is how that combines; every index agrees with the evaluation here, which is its oracle. `bitmap`
//! remembers the rows of a segment that passed, since neither changes.

mod ask;
pub(crate) mod bitmap;
mod condition;
pub(crate) mod geo;
pub(crate) mod known;
pub(crate) mod path;
mod payload;
mod unindexed;
pub(crate) mod value;

use granum_model::{Condition, DocId, Filter};
use serde_json::Value;

use crate::error::{ReadError, SearchError};
use condition::Test;
pub(crate) use payload::Fields;
pub(crate) use unindexed::unindexed;

/// Whether every path of a filter can be read: what a service checks before it accepts one.
pub fn check(filter: &Filter) -> Result<(), SearchError> {
    Compiled::new(filter).map(|_| ())
}

/// What a filter is evaluated on. The payload is read only if a condition needs it.
pub(crate) trait Subject {
    fn id(&mut self) -> Result<DocId, ReadError>;
    fn has_vector(&mut self, name: &str) -> bool;
    /// The payload's fields of those names; others may be left out.
    fn payload(&mut self, fields: &Fields) -> Result<Value, ReadError>;
}

/// A filter with its paths and lists prepared.
#[derive(Debug)]
pub(crate) struct Compiled {
    tests: Group,
    /// Fields of the payload that conditions name.
    fields: Fields,
}

#[derive(Debug)]
struct Group {
    must: Vec<Test>,
    should: Vec<Test>,
    must_not: Vec<Test>,
    min_should: usize,
}

impl Compiled {
    pub fn new(filter: &Filter) -> Result<Compiled, SearchError> {
        let tests = Group::new(filter)?;
        let mut fields = Fields::default();
        tests.collect_fields(&mut fields);
        Ok(Compiled { fields, tests })
    }

    pub fn admits(&self, subject: &mut dyn Subject) -> Result<bool, ReadError> {
        let payload = match self.fields.is_empty() {
            true => Value::Null,
            false => subject.payload(&self.fields)?,
        };
        self.tests.holds(&payload, subject)
    }
}

impl Group {
    fn new(filter: &Filter) -> Result<Group, SearchError> {
        let tests = |conditions: &[Condition]| conditions.iter().map(Test::new).collect::<Result<Vec<_>, _>>();
        Ok(Group {
            must: tests(&filter.must)?,
            should: tests(&filter.should)?,
            must_not: tests(&filter.must_not)?,
            min_should: filter.min_should.max(1) as usize,
        })
    }

    fn collect_fields(&self, fields: &mut Fields) {
        for test in self.must.iter().chain(&self.should).chain(&self.must_not) {
            test.collect_fields(fields);
        }
    }

    fn holds(&self, payload: &Value, subject: &mut dyn Subject) -> Result<bool, ReadError> {
        for test in &self.must {
            if !test.holds(payload, subject)? {
                return Ok(false);
            }
        }
        for test in &self.must_not {
            if test.holds(payload, subject)? {
                return Ok(false);
            }
        }
        let mut held = 0;
        for test in &self.should {
            if held < self.min_should && test.holds(payload, subject)? {
                held += 1;
            }
        }
        Ok(self.should.is_empty() || held >= self.min_should)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use granum_model::Scalar;
    use granum_model::filter::Bounds;
    use serde_json::json;

    struct Fixture;

    impl Subject for Fixture {
        fn id(&mut self) -> Result<DocId, ReadError> {
            Ok(DocId::Number(7))
        }
        fn has_vector(&mut self, name: &str) -> bool {
            name == "title"
        }
        fn payload(&mut self, fields: &Fields) -> Result<Value, ReadError> {
            let payload = json!({
                "section": "games", "tags": ["chess", "board"], "size": 3, "ratio": 2.0, "big": u64::MAX, "ok": true,
                "released": "2023-11-14T22:13:20Z", "text": "Play CHESS, or Schach!", "none": null, "empty": [],
                "some": [1, null], "diet": [{"food": "leaves", "likes": false}, {"food": "meat", "likes": true}],
                "country": {"name": "DE", "cities": [{"population": 9.5}, {"population": 1}]}
            });
            Ok(fields.parse(payload.to_string().as_bytes()).unwrap())
        }
    }

    fn holds(condition: Condition) -> bool {
        let filter = Filter {
            must: vec![condition],
            ..Filter::default()
        };
        Compiled::new(&filter).unwrap().admits(&mut Fixture).unwrap()
    }

    #[track_caller]
    fn check(expected: bool, condition: Condition) {
        assert_eq!(holds(condition.clone()), expected, "{condition:?}");
    }

    fn any(key: &str, scalar: Scalar) -> Condition {
        Condition::MatchAny {
            key: key.into(),
            any: vec![scalar],
        }
    }

    fn except(key: &str, scalar: Scalar) -> Condition {
        Condition::MatchExcept {
            key: key.into(),
            except: vec![scalar],
        }
    }

    fn text(value: &str) -> Scalar {
        Scalar::Text(value.into())
    }

    #[test]
    fn values_match_by_type_and_lists_by_any_element() {
        check(true, any("section", text("games")));
        check(false, any("section", text("Games")));
        check(true, any("tags", text("board")));
        check(true, any("tags[]", text("board")));
        check(true, any("tags[0]", text("chess")));
        check(false, any("tags[0]", text("board")));
        check(true, any("size", Scalar::Integer(3)));
        check(true, any("size", Scalar::Float(3.0)));
        check(true, any("ratio", Scalar::Integer(2)));
        check(false, any("size", text("3")));
        check(false, any("big", Scalar::Integer(-1)));
        check(true, any("ok", Scalar::Boolean(true)));
        check(false, any("absent", Scalar::Boolean(true)));
        check(false, any("none", text("null")));
        check(true, any("country.cities[].population", Scalar::Float(9.5)));
    }

    #[test]
    fn except_wants_another_value_that_is_present() {
        check(true, except("section", text("admin")));
        check(false, except("section", text("games")));
        check(true, except("tags", text("chess")));
        check(false, except("absent", text("chess")));
        check(false, except("none", text("chess")));
        check(true, except("size", text("3")));
    }

    #[test]
    fn text_wants_every_word_in_one_value() {
        let words = |key: &str, text: &str| Condition::MatchText {
            key: key.into(),
            text: text.into(),
        };
        check(true, words("text", "schach chess"));
        check(false, words("text", "sch chess"));
        check(true, words("tags", "Board"));
        check(false, words("tags", "chess board"));
        check(false, words("text", " ,"));
    }

    #[test]
    fn ideographs_and_kana_are_words_of_themselves() {
        let words = |text: &str| super::value::words(text).collect::<Vec<_>>();
        assert_eq!(words("Play CHESS-3, ok"), ["play", "chess", "3", "ok"]);
        assert_eq!(words("搜索engine 検索エ"), ["搜", "索", "engine", "検", "索", "エ"]);
        assert_eq!(words("한국어 검색"), ["한국어", "검색"]);
        assert_eq!(words(" ,"), Vec::<String>::new());
    }

    #[test]
    fn ranges_bound_numbers_and_instants() {
        let range = |key: &str, gt, lte| Condition::Range {
            key: key.into(),
            bounds: Bounds {
                gt,
                lte,
                ..Bounds::default()
            },
        };
        check(true, range("size", Some(2.5), Some(3.0)));
        check(false, range("size", Some(3.0), None));
        check(true, range("country.cities[].population", Some(9.0), None));
        check(false, range("section", None, None));
        let instants = |gte, lt| Condition::DatetimeRange {
            key: "released".into(),
            bounds: Bounds {
                gte,
                lt,
                ..Bounds::default()
            },
        };
        check(true, instants(Some(1_700_000_000_000_000), None));
        check(false, instants(None, Some(1_700_000_000_000_000)));
    }

    #[test]
    fn absence_null_and_counts() {
        for (key, empty, null, count) in [
            ("absent", true, false, 0),
            ("none", true, true, 0),
            ("empty", true, false, 0),
            ("some", false, true, 2),
            ("size", false, false, 1),
            ("tags", false, false, 2),
        ] {
            check(empty, Condition::IsEmpty { key: key.into() });
            check(null, Condition::IsNull { key: key.into() });
            let bounds = Bounds {
                gte: Some(count),
                lte: Some(count),
                ..Bounds::default()
            };
            check(
                true,
                Condition::ValuesCount {
                    key: key.into(),
                    bounds,
                },
            );
        }
    }

    #[test]
    fn nested_conditions_meet_in_one_element() {
        let nested = |food: &str, likes| Condition::Nested {
            key: "diet".into(),
            filter: Filter {
                must: vec![any("food", text(food)), any("likes", Scalar::Boolean(likes))],
                ..Filter::default()
            },
        };
        check(true, nested("meat", true));
        check(false, nested("leaves", true));
    }

    #[test]
    fn groups_combine() {
        let (yes, no) = (any("size", Scalar::Integer(3)), any("size", Scalar::Integer(4)));
        let filter = |must: &[bool], should: &[bool], must_not: &[bool], min_should| {
            let of = |wanted: &[bool]| {
                wanted
                    .iter()
                    .map(|is| if *is { yes.clone() } else { no.clone() })
                    .collect()
            };
            Condition::Filter(Filter {
                must: of(must),
                should: of(should),
                must_not: of(must_not),
                min_should,
            })
        };
        check(true, filter(&[], &[], &[], 0));
        check(true, filter(&[true], &[false, true], &[false], 0));
        check(false, filter(&[true, false], &[], &[], 0));
        check(false, filter(&[], &[false], &[], 0));
        check(false, filter(&[], &[true, false], &[], 2));
        check(true, filter(&[], &[true, false, true], &[], 2));
        check(false, filter(&[], &[], &[true], 0));
        check(
            true,
            Condition::HasId {
                ids: vec![DocId::Number(7)],
            },
        );
        check(
            false,
            Condition::HasId {
                ids: vec![DocId::Text("7".into())],
            },
        );
        check(true, Condition::HasVector { name: "title".into() });
        check(false, Condition::HasVector { name: "body".into() });
    }

    #[test]
    fn a_key_that_is_no_path_is_refused() {
        let filter = Filter {
            must: vec![Condition::IsNull { key: "a..b".into() }],
            ..Filter::default()
        };
        assert_eq!(check_filter_error(&filter), "filter: \"a..b\" is no path of a field");
    }

    fn check_filter_error(filter: &Filter) -> String {
        super::check(filter).unwrap_err().to_string()
    }
}
