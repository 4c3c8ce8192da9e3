//! The body of `PUT /collections/{name}/index`: a field of the payload and the kind of its index.

use granum_model::PayloadKind;
use granum_proto::limits::Invalid;
use granum_proto::{convert, v1};

use crate::http::json::Node;

/// Parameters that tune another engine's index: taken, and without effect, since an index here changes no answer.
const WITHOUT_EFFECT: [&str; 7] = [
    "is_tenant",
    "is_principal",
    "on_disk",
    "lookup",
    "range",
    "enable_hnsw",
    "memory",
];
/// Parameters that would change which texts match.
const REFUSED: [&str; 8] = [
    "tokenizer",
    "min_token_len",
    "max_token_len",
    "lowercase",
    "stopwords",
    "stemmer",
    "phrase_matching",
    "ascii_folding",
];

/// Reads a change of the schema: this field gets an index.
pub fn create(body: Node<'_>, name: String) -> Result<v1::AlterCollectionRequest, Invalid> {
    let body = body.object(&["field_name", "field_schema", "field_type"])?;
    let key = body.want("field_name")?.text()?.to_owned();
    let schema = match body.get("field_schema").or(body.get("field_type")) {
        Some(schema) => schema,
        None => body.want("field_schema")?,
    };
    let kind = match schema.value.is_object() {
        true => described(&schema)?,
        false => kind(&schema)?,
    };
    let field = convert::schema::write_payload_field(&granum_model::PayloadField { key, kind });
    Ok(v1::AlterCollectionRequest {
        name,
        add_payload: vec![field],
        ..Default::default()
    })
}

/// `{"type": "keyword", ..}`. Words are what `match.text` compares: other ways to cut texts are refused, those that
/// mean the same are taken.
fn described(schema: &Node<'_>) -> Result<PayloadKind, Invalid> {
    let known = [&["type"][..], &WITHOUT_EFFECT, &REFUSED].concat();
    let object = schema.object(&known)?;
    for name in REFUSED {
        if let Some(value) = object.get(name) {
            let is_ours = match name {
                "tokenizer" => matches!(value.value.as_str(), Some("word" | "multilingual")),
                "lowercase" => value.value == true,
                "phrase_matching" | "ascii_folding" => value.value == false,
                _ => false,
            };
            if !is_ours {
                return Err(value.problem("not supported: words are runs of letters and digits, case folded"));
            }
        }
    }
    kind(&object.want("type")?)
}

fn kind(name: &Node<'_>) -> Result<PayloadKind, Invalid> {
    PayloadKind::from_name(name.text()?).ok_or_else(|| {
        let names = PayloadKind::ALL.map(PayloadKind::name).join(", ");
        name.not(&format!("one of {names}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: Value) -> Result<v1::AlterCollectionRequest, Invalid> {
        create(Node::root(&body, ""), "c".into())
    }

    #[test]
    fn a_kind_is_a_name_or_described() {
        for schema in [
            json!("text"),
            json!({"type": "text", "tokenizer": "word", "lowercase": true, "on_disk": true}),
        ] {
            let request = read(json!({"field_name": "a.b", "field_schema": schema})).unwrap();
            let [field] = &request.add_payload[..] else {
                panic!("{request:?}");
            };
            assert_eq!((field.key.as_str(), field.kind()), ("a.b", v1::PayloadKind::Text));
        }
    }

    #[test]
    fn what_would_change_answers_is_refused() {
        let refused = |body: Value, problem: &str| {
            let error = read(body).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        };
        refused(
            json!({"field_name": "a", "field_schema": "map"}),
            "field_schema: \"map\" is not one of keyword, ",
        );
        refused(json!({"field_name": "a"}), "body: field \"field_schema\" is missing");
        refused(
            json!({"field_name": "a", "field_schema": {"type": "text", "tokenizer": "prefix"}}),
            "field_schema.tokenizer: not supported",
        );
    }
}
