//! What is in a collection: search, get, count, facet, scroll; and delete, which asks the same way. Here is what they share:
//! how ids and filters are read, and which fields of a document are shown.

mod delete;
mod list;
mod search;

use anyhow::bail;
use granum_client::{DocId, Filter, filter};
use serde_json::Value;

use crate::failure::Usage;
use crate::output::confirm;

pub use delete::{Delete, delete};
pub use list::{Count, Facet, Get, Scroll, count, facet, get, scroll};
pub use search::{Search, search};

/// Fields shown where none are named: the first four of these that there are, or else [`SHOWN_TEXT`].
const SHOWN_FIRST: [&str; 11] = [
    "title", "name", "author", "section", "category", "kind", "type", "language", "year", "date", "url",
];
/// A document's text, where it has nothing shorter to show.
const SHOWN_TEXT: [&str; 3] = ["text", "content", "body"];
/// How many of them.
const SHOWN_FIELDS: usize = 4;

/// Asks before something that can't be undone; where nobody can answer, `--yes` is needed.
pub fn sure(question: &str) -> anyhow::Result<bool> {
    match confirm(question)? {
        Some(answer) => Ok(answer),
        None => bail!(Usage(format!("{question} Nobody is there to answer: say --yes"))),
    }
}

fn read_filter(text: Option<&str>) -> anyhow::Result<Filter> {
    Ok(filter::parse(text.unwrap_or_default())?)
}

/// Digits are a number, a text in quotes is that text, everything else is itself.
fn read_id(text: &str) -> anyhow::Result<DocId> {
    if let Ok(number) = text.parse() {
        return Ok(DocId::Number(number));
    }
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    DocId::from_text(quoted.unwrap_or(text)).map_err(|error| Usage(error.to_string()).into())
}

/// The fields asked for, or the usual ones that there are, or whatever comes first.
fn shown(asked: &[String], payloads: &[Value]) -> Vec<String> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let has = |field: &&str| payloads.iter().any(|payload| payload.get(field).is_some());
    for usual in [&SHOWN_FIRST[..], &SHOWN_TEXT[..]] {
        let there = usual.iter().copied().filter(has).take(SHOWN_FIELDS);
        let there: Vec<String> = there.map(str::to_owned).collect();
        if !there.is_empty() {
            return there;
        }
    }
    let first = payloads.iter().find_map(Value::as_object);
    first
        .into_iter()
        .flat_map(|fields| fields.keys().take(SHOWN_FIELDS).cloned())
        .collect()
}

/// A field's value as a cell: `a.b` descends.
fn cell(payload: &Value, field: &str) -> String {
    let direct = payload.get(field);
    let value = direct.or_else(|| field.split('.').try_fold(payload, |value, part| value.get(part)));
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        assert_eq!(read_id("42").unwrap(), DocId::Number(42));
        assert_eq!(read_id("\"42\"").unwrap(), DocId::Text("42".into()));
        assert_eq!(read_id("0ad").unwrap(), DocId::Text("0ad".into()));
        assert!(matches!(
            read_id("00000000-0000-0000-0000-000000000001").unwrap(),
            DocId::Uuid(_)
        ));
        assert!(read_id("").is_err());
    }

    #[test]
    fn usual_fields_are_shown_where_none_are_named() {
        let payloads = [json!({"size": 1, "title": "a", "section": "b", "text": "c"})];
        assert_eq!(shown(&[], &payloads), ["title", "section"]);
        assert_eq!(shown(&["size".into()], &payloads), ["size"]);
        assert_eq!(shown(&[], &[json!({"size": 1, "text": "c"})]), ["text"]);
        assert_eq!(shown(&[], &[json!({"a": 1})]), ["a"]);
        assert!(shown(&[], &[Value::Null]).is_empty());
    }

    #[test]
    fn cells_hold_lists_and_nested_values() {
        let payload = json!({"tags": ["x", "y"], "a": {"b": 7}, "n": null});
        assert_eq!(cell(&payload, "tags"), "x, y");
        assert_eq!(cell(&payload, "a.b"), "7");
        assert_eq!(cell(&payload, "n"), "");
        assert_eq!(cell(&payload, "missing"), "");
    }
}
