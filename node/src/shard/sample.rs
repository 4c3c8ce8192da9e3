//! The small documents and commands that the shard's tests are made of.

use granum_model::{DocId, RequestId, Vector};
use granum_proto::convert;
use granum_proto::internal::{Command, Epoch, Operation, WriteBatch, operation};
use granum_proto::v1::document_write::{Condition, condition};
use granum_proto::v1::{self, scalar};

use super::command;

/// One unnamed vector of two components.
pub(crate) fn schema() -> v1::Schema {
    let field = v1::VectorField {
        dimension: 2,
        distance: v1::Distance::Dot.into(),
        fine: v1::Fine::F16.into(),
        ..v1::VectorField::default()
    };
    v1::Schema {
        vectors: vec![field],
        ..Default::default()
    }
}

/// The whole range, and [`schema`].
pub(crate) fn fence(epoch: u64) -> Command {
    command::fence(Epoch {
        epoch,
        range_start: 0,
        range_end: u64::MAX,
        schema: Some(schema()),
    })
}

fn id(number: u64) -> v1::DocId {
    convert::id::write(&DocId::Number(number))
}

/// A document whose payload is `{"tag": tag}`.
pub(crate) fn put(number: u64, tag: u64) -> operation::Kind {
    let component = half::f16::from_f32(number as f32 + tag as f32 / 16.0).to_bits();
    let vector = convert::vector::write(&Vector::Dense(granum_model::Dense::F16(vec![component, 0])));
    operation::Kind::Put(v1::Document {
        id: Some(id(number)),
        payload_json: format!("{{\"tag\":{tag}}}").into(),
        vectors: vec![v1::NamedVector {
            name: String::new(),
            vector: Some(vector),
        }],
    })
}

pub(crate) fn delete(number: u64) -> operation::Kind {
    operation::Kind::Delete(id(number))
}

/// An operation without condition.
pub(crate) fn unversioned(ordinal: u32, kind: operation::Kind) -> Operation {
    Operation {
        kind: Some(kind),
        ordinal,
        ..Operation::default()
    }
}

pub(crate) fn with_condition(operation: Operation, kind: condition::Kind) -> Operation {
    Operation {
        condition: Some(Condition { kind: Some(kind) }),
        ..operation
    }
}

/// The filter `tag = tag`.
pub(crate) fn tagged(tag: u64) -> v1::Filter {
    let any = vec![v1::Scalar {
        kind: Some(scalar::Kind::Integer(tag as i64)),
    }];
    let tagged = v1::Match {
        key: "tag".into(),
        any,
        ..v1::Match::default()
    };
    v1::Filter {
        must: vec![v1::Condition {
            kind: Some(v1::condition::Kind::Match(tagged)),
        }],
        ..v1::Filter::default()
    }
}

pub(crate) fn with_only_if(operation: Operation, tag: u64) -> Operation {
    Operation {
        only_if: Some(tagged(tag)),
        ..operation
    }
}

/// A batch of operations without conditions, proposed under `epoch`.
pub(crate) fn write(request: u8, epoch: u64, operations: Vec<operation::Kind>) -> Command {
    let operations = (0..)
        .zip(operations)
        .map(|(ordinal, kind)| unversioned(ordinal, kind))
        .collect();
    let batch = WriteBatch {
        operations,
        ..WriteBatch::default()
    };
    command::write(RequestId([request; 16]), epoch, 0, batch)
}
