//! What can go wrong, by what the caller would do about it.

use std::io;

use granum_model::{PayloadField, VectorKind};

use crate::document::SegmentId;

/// A file's bytes are not what was written: the replica must not answer from it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A page's checksum does not match.
    #[error("{file}: page {page} is damaged: checksum {found:#010x}, expected {expected:#010x}")]
    Page {
        /// Plain name of the file.
        file: String,
        /// Page of 4 KiB, from 0.
        page: u64,
        /// Checksum of the bytes.
        found: u32,
        /// Checksum that was written.
        expected: u32,
    },
    /// Checksums match and the content breaks the format's rules.
    #[error("{file}: {problem}")]
    Malformed {
        /// Plain name of the file.
        file: String,
        /// Which rule.
        problem: String,
    },
}

impl ReadError {
    pub(crate) fn malformed(file: &str, problem: impl Into<String>) -> ReadError {
        ReadError::Malformed {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Why an index can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{file}: {source}")]
    Io {
        /// Name of the file or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is shorter or longer than the manifest says.
    #[error("{file}: {found} bytes, the manifest says {expected}")]
    Length {
        /// Plain name of the file.
        file: String,
        /// Length according to the manifest.
        expected: u64,
        /// Length on disk.
        found: u64,
    },
    /// A file's frame is damaged, or belongs elsewhere.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a segment can't be built. Nothing was changed; the caller may try again.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The system refused: a full disk, most often.
    #[error("{file}: {source}")]
    Io {
        /// Name of the file or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Frozen parts are built in the order of their freezing, each once.
    #[error("segment {asked} can't be built now: {next:?} is next")]
    Order {
        /// What was asked for.
        asked: SegmentId,
        /// What may be built now.
        next: Option<SegmentId>,
    },
    /// What was just written can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is to be derived from is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The caller said stop.
    #[error("stopped by the caller")]
    Stopped,
}

/// Why segments were not merged. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// One merge at a time: another is not yet published or given up.
    #[error("another merge is under way")]
    Busy,
    /// The plan is out of date.
    #[error("segment {segment} is no longer there")]
    Gone {
        /// What was to be merged.
        segment: SegmentId,
    },
    /// A segment has less than 2^32 rows.
    #[error("{rows} rows are too many for a segment")]
    Rows {
        /// Rows to be kept.
        rows: u64,
    },
    /// The caller said stop.
    #[error("stopped by the caller")]
    Stopped,
    /// What was to be merged is damaged or can't be read.
    #[error(transparent)]
    Source(OpenError),
    /// The merged segment can't be written, or can't be opened once it was.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Why a document is refused; it would be by every replica.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InsertError {
    /// The schema has no such vector.
    #[error("vectors[{name:?}]: no such vector in the collection")]
    UnknownVector {
        /// The name.
        name: String,
    },
    /// The vector is not of the schema's kind, dimension or format, or its name occurs twice.
    #[error("vectors[{name:?}]: not a canonical vector of {kind:?}")]
    Shape {
        /// The name.
        name: String,
        /// What the schema wants.
        kind: VectorKind,
    },
    /// The payload is larger than the index takes.
    #[error("payload: {bytes} bytes, at most {limit}")]
    Payload {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The schema has no such vector.
    #[error("using: no vector {name:?} in the collection")]
    UnknownVector {
        /// The name.
        name: String,
    },
    /// The query's vector does not fit the field.
    #[error("vector: does not fit {name:?}, which is {kind:?}")]
    Shape {
        /// The field.
        name: String,
        /// Its kind.
        kind: VectorKind,
    },
    /// A path of the filter can't be read.
    #[error("filter: {key:?} is no path of a field")]
    Key {
        /// The path as written.
        key: String,
    },
    /// Documents can't be counted by the values of this field.
    #[error(
        "field: {:?} of kind {}: documents are counted by fields of kind keyword, uuid, integer or bool",
        .0.key,
        .0.kind.name()
    )]
    Facet(PayloadField),
    /// The caller said stop.
    #[error("stopped: the deadline has passed or the caller is gone")]
    Stopped,
    /// A file is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
}
