//! Values and how many documents have them.

use granum_model::{FacetHit, FacetValue};

use crate::limits::Invalid;
use crate::v1;
use crate::v1::scalar::Kind;

/// Reads a hit.
pub fn read(hit: v1::FacetHit) -> Result<FacetHit, Invalid> {
    let value = match hit.value.and_then(|value| value.kind) {
        Some(Kind::Boolean(boolean)) => FacetValue::Boolean(boolean),
        Some(Kind::Integer(integer)) => FacetValue::Integer(integer),
        Some(Kind::Text(text)) => FacetValue::Text(text),
        Some(Kind::Float(float)) => {
            return Err(Invalid::new("value", format!("{float}: nothing is counted by floats")));
        }
        None => return Err(Invalid::new("value", "is missing")),
    };
    Ok(FacetHit {
        value,
        count: hit.count,
        error: hit.error,
    })
}

/// Writes a hit.
pub fn write(hit: FacetHit) -> v1::FacetHit {
    let kind = match hit.value {
        FacetValue::Boolean(boolean) => Kind::Boolean(boolean),
        FacetValue::Integer(integer) => Kind::Integer(integer),
        FacetValue::Text(text) => Kind::Text(text),
    };
    v1::FacetHit {
        value: Some(v1::Scalar { kind: Some(kind) }),
        count: hit.count,
        error: hit.error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_come_back_and_broken_ones_are_refused() {
        let values = [
            FacetValue::Boolean(true),
            FacetValue::Integer(i64::MIN),
            FacetValue::Text("games".into()),
        ];
        for value in values {
            let hit = FacetHit {
                value,
                count: 7,
                error: 2,
            };
            assert_eq!(read(write(hit.clone())), Ok(hit));
        }
        let refused = |value: Option<Kind>| {
            let value = value.map(|kind| v1::Scalar { kind: Some(kind) });
            let hit = v1::FacetHit {
                value,
                ..Default::default()
            };
            read(hit).unwrap_err().to_string()
        };
        assert_eq!(refused(None), "value: is missing");
        assert_eq!(
            refused(Some(Kind::Float(0.5))),
            "value: 0.5: nothing is counted by floats"
        );
    }
}
