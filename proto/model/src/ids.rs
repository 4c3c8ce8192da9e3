//! Who is meant: documents, shards, nodes, requests. Why newtypes: a shard handed where a node is wanted must not compile.
//!
//! A [`DocId`] has one encoding (tag byte and bytes) that serves as key on disk, as input of the shard hash and as
//! tie-breaker in the order of hits, so its byte order is the order of `scroll`: numbers, then UUIDs, then texts.

use std::fmt;

/// Longest text id, in bytes of UTF-8.
pub const TEXT_ID_BYTES_MAX: usize = 256;

/// Id of a document inside a collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DocId {
    /// An unsigned number.
    Number(u64),
    /// A UUID, 16 bytes in network order.
    Uuid([u8; 16]),
    /// Any other text, 1..=[`TEXT_ID_BYTES_MAX`] bytes.
    Text(String),
}

/// Why bytes or text are no document id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocIdError {
    /// Empty text.
    Empty,
    /// Text longer than [`TEXT_ID_BYTES_MAX`]; holds its length in bytes.
    TooLong(usize),
    /// Bytes that no id encodes to.
    Malformed,
}

impl fmt::Display for DocIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "id: must not be empty"),
            Self::TooLong(bytes) => write!(f, "id: {bytes} bytes, at most {TEXT_ID_BYTES_MAX}"),
            Self::Malformed => write!(f, "id: malformed encoding"),
        }
    }
}

impl std::error::Error for DocIdError {}

const TAG_NUMBER: u8 = 1;
const TAG_UUID: u8 = 2;
const TAG_TEXT: u8 = 3;

impl DocId {
    /// The id that a text means: a spelling of a UUID is that UUID, everything else is itself.
    pub fn from_text(text: &str) -> Result<DocId, DocIdError> {
        if let Some(uuid) = parse_uuid(text) {
            return Ok(DocId::Uuid(uuid));
        }
        match text.len() {
            0 => Err(DocIdError::Empty),
            bytes if bytes > TEXT_ID_BYTES_MAX => Err(DocIdError::TooLong(bytes)),
            _ => Ok(DocId::Text(text.to_owned())),
        }
    }

    /// Tag byte and big-endian number, 16 UUID bytes, or UTF-8. Ids are equal exactly if their encodings are.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17);
        match self {
            DocId::Number(number) => {
                bytes.push(TAG_NUMBER);
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            DocId::Uuid(uuid) => {
                bytes.push(TAG_UUID);
                bytes.extend_from_slice(uuid);
            }
            DocId::Text(text) => {
                bytes.push(TAG_TEXT);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; checks everything.
    pub fn decode(bytes: &[u8]) -> Result<DocId, DocIdError> {
        let (&tag, rest) = bytes.split_first().ok_or(DocIdError::Malformed)?;
        match tag {
            TAG_NUMBER => Ok(DocId::Number(u64::from_be_bytes(
                rest.try_into().map_err(|_| DocIdError::Malformed)?,
            ))),
            TAG_UUID => Ok(DocId::Uuid(rest.try_into().map_err(|_| DocIdError::Malformed)?)),
            TAG_TEXT if rest.is_empty() => Err(DocIdError::Empty),
            TAG_TEXT if rest.len() > TEXT_ID_BYTES_MAX => Err(DocIdError::TooLong(rest.len())),
            TAG_TEXT => {
                let text = std::str::from_utf8(rest).map_err(|_| DocIdError::Malformed)?;
                Ok(DocId::Text(text.to_owned()))
            }
            _ => Err(DocIdError::Malformed),
        }
    }

    fn order_key(&self) -> (u8, u64, &[u8]) {
        match self {
            DocId::Number(number) => (TAG_NUMBER, *number, &[]),
            DocId::Uuid(uuid) => (TAG_UUID, 0, uuid),
            DocId::Text(text) => (TAG_TEXT, 0, text.as_bytes()),
        }
    }
}

/// The order of the encodings, without encoding.
impl Ord for DocId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order_key().cmp(&other.order_key())
    }
}

impl PartialOrd for DocId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocId::Number(number) => write!(f, "{number}"),
            DocId::Uuid(uuid) => {
                for (at, byte) in uuid.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
            DocId::Text(text) => f.write_str(text),
        }
    }
}

/// Reads the spellings of a UUID: hyphenated, simple (32 hex digits), braced, `urn:uuid:`; any letter case.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let text = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(text);
    let bytes = text.as_bytes();
    let hyphens = match bytes.len() {
        36 => true,
        32 => false,
        _ => return None,
    };
    let mut uuid = [0u8; 16];
    let mut digits = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if hyphens && matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = (byte as char).to_digit(16)? as u8;
        uuid[digits / 2] = uuid[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(uuid)
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id!(
    /// A node: random, born with its data directory. A lost disk is a new node.
    NodeId
);
number_id!(
    /// A shard, which is a Raft group. 0 is the register. Never reused.
    ShardId
);
number_id!(
    /// One replica of one shard, the id Raft knows. Minted by the map, never reused: a rebuilt replica gets a new one.
    ReplicaId
);
number_id!(
    /// A collection. Never reused, whatever its name.
    CollectionId
);

/// The shard (Raft group) that holds the cluster's register.
pub const REGISTER: ShardId = ShardId(0);

/// How many replicas of the register a cluster of so many nodes has: as many as bear the loss of none, one or two.
pub const fn register_voters(nodes: usize) -> usize {
    match nodes {
        0 => 0,
        1 | 2 => 1,
        3..=6 => 3,
        _ => 5,
    }
}

/// Names one request, so that repeating it has its effect once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_has_an_odd_number_of_voters() {
        let voters: Vec<usize> = (0..=8).map(register_voters).collect();
        assert_eq!(voters, [0, 1, 1, 3, 3, 3, 3, 5, 5]);
    }

    #[test]
    fn spellings_of_a_uuid_are_one_id_in_lower_case() {
        let spellings = [
            "550E8400-E29B-41D4-A716-446655440000",
            "550e8400e29b41d4a716446655440000",
            "{550e8400-e29b-41d4-a716-446655440000}",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
        ];
        for spelling in spellings {
            let id = DocId::from_text(spelling).unwrap();
            assert_eq!(id.to_string(), "550e8400-e29b-41d4-a716-446655440000", "{spelling}");
        }
        assert_eq!(
            DocId::from_text("550e8400-e29b-41d4-a716-44665544000")
                .unwrap()
                .encode()[0],
            TAG_TEXT
        );
    }

    #[test]
    fn encodings_read_back_and_keep_the_order() {
        let ids = [
            DocId::Number(0),
            DocId::Number(255),
            DocId::Number(256),
            DocId::Number(u64::MAX),
            DocId::Uuid([0; 16]),
            DocId::Uuid([255; 16]),
            DocId::Text("0".into()),
            DocId::Text("zebra".into()),
            DocId::Text("é".into()),
        ];
        for pair in ids.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].encode() < pair[1].encode(), "{pair:?}");
        }
        for id in ids {
            assert_eq!(DocId::decode(&id.encode()), Ok(id));
        }
    }

    #[test]
    fn hostile_encodings_are_refused() {
        for bytes in [&[][..], &[0], &[1, 2], &[2; 16], &[3], &[3, 0xff], &[9, 1]] {
            assert!(DocId::decode(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(DocId::from_text(&"x".repeat(257)), Err(DocIdError::TooLong(257)));
        assert_eq!(DocId::from_text(""), Err(DocIdError::Empty));
    }
}
