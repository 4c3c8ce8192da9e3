//! What may a client send? Filters as text, bodies of JSON, messages over gRPC.
//!
//! What the coordinator lets through, the node must take: a request that is refused only by the replica was promised
//! too much.

use granum_client::filter;
use granum_coordinator::door::{self, Request};
use granum_model::{Distance, Fine, PayloadField, PayloadKind, RequestId, Schema, VectorField, VectorKind};
use granum_proto::internal::{Operation, WriteBatch, operation};
use granum_proto::{convert, v1};
use prost::Message;

use super::disk;

/// A vector of each kind and a payload index.
pub fn schema() -> Schema {
    Schema {
        vectors: vec![
            VectorField::new("", VectorKind::Dense { dimension: 3 }, Distance::Cosine, Fine::F16),
            VectorField::new("e", VectorKind::Dense { dimension: 2 }, Distance::Euclid, Fine::F32),
            VectorField::new("m", VectorKind::Multi { dimension: 2 }, Distance::Cosine, Fine::F32),
            VectorField::new("s", VectorKind::Sparse, Distance::Dot, Fine::F32),
        ],
        payload: vec![PayloadField {
            key: "a.b".to_owned(),
            kind: PayloadKind::Integer,
        }],
    }
}

/// Any text as a filter. What is read is printed, and reads the same; and it travels.
pub fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let read = match filter::parse(text) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.column <= text.chars().count() + 1, "column {}", error.column);
            return drop(error.caret());
        }
    };
    let printed = filter::print(&read);
    match filter::parse(&printed) {
        Ok(again) => assert_eq!(again, read, "{printed}"),
        Err(error) => panic!("{error}: {printed}"),
    }
    // The wire has bounds that the language has not, such as that of a key's length.
    if let Ok(again) = convert::filter::read(Some(&convert::filter::write(&read))) {
        assert_eq!(again, read, "{printed}");
    }
}

/// Any body: byte 0 says which.
pub fn json(input: &[u8]) {
    let Some((which, body)) = input.split_first() else {
        return;
    };
    let Ok(request) = door::request(*which, body) else {
        return;
    };
    match request {
        Request::Upsert(request) => {
            reads_back(&request);
            written(request.documents);
        }
        Request::Delete(request) => filtered(&request, request.filter.as_ref()),
        Request::Get(request) => reads_back(&request),
        Request::Scroll(request) => filtered(&request, request.filter.as_ref()),
        Request::Count(request) => filtered(&request, request.filter.as_ref()),
        Request::Facet(request) => filtered(&request, request.filter.as_ref()),
        Request::Query(request) => asked(request),
        Request::QueryBatch(request) => request.queries.into_iter().for_each(asked),
        Request::Create(request) => described(&request, request.schema.as_ref()),
        Request::Alter(request) => reads_back(&request),
    }
}

/// Any message: byte 0 says of which kind.
pub fn request(input: &[u8]) {
    let Some((which, message)) = input.split_first() else {
        return;
    };
    match which % 6 {
        0 => read(message, |request: v1::UpsertRequest| written(request.documents)),
        1 => read(message, |request: v1::DeleteRequest| {
            filtered(&request, request.filter.as_ref())
        }),
        2 => read(message, |request: v1::ScrollRequest| {
            filtered(&request, request.filter.as_ref())
        }),
        3 => read(message, asked),
        4 => read(message, |request: v1::CreateCollectionRequest| {
            described(&request, request.schema.as_ref())
        }),
        _ => read(message, |request: v1::FacetRequest| {
            filtered(&request, request.filter.as_ref())
        }),
    }
}

fn read<M: Message + Default>(message: &[u8], then: impl FnOnce(M)) {
    if let Ok(message) = M::decode(message) {
        reads_back(&message);
        then(message);
    }
}

/// Lengths, for messages may hold what equals nothing (NaN) and tables in any order.
fn reads_back<M: Message + Default>(message: &M) {
    let bytes = message.encode_to_vec();
    let again = M::decode(&bytes[..]).expect("a message that was written reads back");
    assert_eq!(again.encoded_len(), bytes.len());
}

fn filtered<M: Message + Default>(request: &M, filter: Option<&v1::Filter>) {
    reads_back(request);
    if let Ok(read) = convert::filter::read(filter) {
        let again = convert::filter::read(Some(&convert::filter::write(&read)));
        assert_eq!(again.as_ref(), Ok(&read), "a filter that was written reads back");
        // A path that is none is refused where it is used.
        let _ = granum_index::check_filter(&read);
    }
}

fn described<M: Message + Default>(request: &M, schema: Option<&v1::Schema>) {
    reads_back(request);
    if let Ok(read) = convert::schema::read(schema) {
        let again = convert::schema::read(Some(&convert::schema::write(&read)));
        assert_eq!(again, Ok(read), "a schema that was written reads back");
    }
}

/// Documents that pass are stored by a replica, and pass again as they are stored.
fn written(documents: Vec<v1::DocumentWrite>) {
    let Ok(operations) = door::operations(documents, &schema()) else {
        return;
    };
    let stored: Vec<v1::Document> = operations.iter().filter_map(document).cloned().collect();
    for document in &stored {
        let payload = &document.payload_json;
        let is_object = serde_json::from_slice(payload).is_ok_and(|value: serde_json::Value| value.is_object());
        assert!(
            payload.is_empty() || is_object,
            "{:?}",
            String::from_utf8_lossy(payload)
        );
    }
    let again = stored.iter().map(|document| v1::DocumentWrite {
        document: Some(document.clone()),
        condition: None,
    });
    let again = door::operations(again.collect(), &schema()).expect("what is stored may be written again");
    assert_eq!(again.iter().filter_map(document).cloned().collect::<Vec<_>>(), stored);
    // Alone: operations of a batch may be too many for an entry.
    for operation in operations {
        let batch = WriteBatch {
            operations: vec![operation],
            ..WriteBatch::default()
        };
        let command = granum_node::shard::command::write(RequestId([7; 16]), 1, 0, batch);
        let (mut core, mut documents) = disk::replica();
        let step = core.apply(&mut documents, command).expect("memory does not fail");
        assert_eq!(
            step.applied.refused, "",
            "what the coordinator lets through, a replica takes"
        );
    }
}

fn document(operation: &Operation) -> Option<&v1::Document> {
    match operation.kind.as_ref()? {
        operation::Kind::Put(document) => Some(document),
        operation::Kind::Delete(_) => None,
    }
}

/// A query that passes is one that shards understand.
fn asked(request: v1::QueryRequest) {
    reads_back(&request);
    if let Ok(query) = door::question(request, &schema())
        && query.nearest.is_some()
    {
        let understood = granum_node::door::query(&query);
        assert!(understood.is_ok(), "{understood:?}: {query:?}");
    }
}
