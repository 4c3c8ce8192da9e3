//! Document ids on the wire.

use granum_model::DocId;

use crate::limits::Invalid;
use crate::v1;

/// Reads an id; a text that spells a UUID becomes that UUID.
pub fn read(id: Option<&v1::DocId>) -> Result<DocId, Invalid> {
    match id.and_then(|id| id.kind.as_ref()) {
        None => Err(Invalid::new("id", "missing")),
        Some(v1::doc_id::Kind::Number(number)) => Ok(DocId::Number(*number)),
        Some(v1::doc_id::Kind::Uuid(bytes)) => {
            let uuid = bytes[..].try_into();
            Ok(DocId::Uuid(uuid.map_err(|_| {
                Invalid::new("id.uuid", format!("{} bytes, must be 16", bytes.len()))
            })?))
        }
        Some(v1::doc_id::Kind::Text(text)) => {
            DocId::from_text(text).map_err(|error| Invalid::new("id.text", error.to_string()))
        }
    }
}

/// The id on the wire.
pub fn write(id: &DocId) -> v1::DocId {
    let kind = match id {
        DocId::Number(number) => v1::doc_id::Kind::Number(*number),
        DocId::Uuid(uuid) => v1::doc_id::Kind::Uuid(uuid.to_vec().into()),
        DocId::Text(text) => v1::doc_id::Kind::Text(text.clone()),
    };
    v1::DocId { kind: Some(kind) }
}
