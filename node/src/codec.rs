//! How does a value look inside sled? The home of bincode.
//!
//! A leading version byte, then bincode's fixed-width little-endian form. sled holds a cache only (see
//! `shard/documents`): a value of another version or with bytes left over reads as damaged, and the cache is rebuilt.
//! Nothing that must outlive an upgrade is written with this; that is prost, in `shard/frame`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

/// Version byte of the values written by this build.
pub const VALUE_VERSION: u8 = 1;

/// Longest value, in bytes, version byte not counted: a length inside hostile bytes can't ask for more memory.
pub const VALUE_BYTES_MAX: usize = 256;

const FORM: Configuration<LittleEndian, Fixint, Limit<VALUE_BYTES_MAX>> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<VALUE_BYTES_MAX>();

/// A value that this build did not write, or that was damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The version byte is another one (`None`: there is no byte at all).
    #[error("value of version {0:?}, this build reads {VALUE_VERSION}")]
    Version(Option<u8>),
    /// The bytes are no such value; holds what bincode said.
    #[error("value is malformed: {0}")]
    Malformed(String),
}

/// Version byte and value. Fails only where the value is longer than [`VALUE_BYTES_MAX`].
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VALUE_VERSION];
    let body = bincode::encode_to_vec(value, FORM).map_err(|error| CodecError::Malformed(error.to_string()))?;
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads what [`encode`] wrote; every byte must belong to the value.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&version, body) = bytes.split_first().ok_or(CodecError::Version(None))?;
    if version != VALUE_VERSION {
        return Err(CodecError::Version(Some(version)));
    }
    let (value, read) =
        bincode::decode_from_slice(body, FORM).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read != body.len() {
        return Err(CodecError::Malformed(format!("{} bytes left over", body.len() - read)));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_version_byte_and_little_endian_fields() {
        let bytes = encode(&(7u64, 2u32)).unwrap();
        assert_eq!(bytes, [1, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(decode::<(u64, u32)>(&bytes), Ok((7, 2)));
    }

    #[test]
    fn damaged_values_are_refused() {
        let bytes = encode(&(7u64, 2u32)).unwrap();
        assert_eq!(decode::<(u64, u32)>(&[]), Err(CodecError::Version(None)));
        assert_eq!(decode::<(u64, u32)>(&[9, 0]), Err(CodecError::Version(Some(9))));
        for length in 1..bytes.len() {
            assert!(
                matches!(decode::<(u64, u32)>(&bytes[..length]), Err(CodecError::Malformed(_))),
                "{length}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(decode::<(u64, u32)>(&longer), Err(CodecError::Malformed(_))));
        let huge_length = [1, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(matches!(decode::<Vec<u8>>(&huge_length), Err(CodecError::Malformed(_))));
    }
}
