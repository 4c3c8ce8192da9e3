//! What is the built-in model, and what does embedding a batch with it do?
//!
//! all-MiniLM-L6-v2 (Apache-2.0; models/minilm-int8/NOTICE), 23 MB, compiled into the binary so that every binary
//! embeds from any directory and no version of the model can be mixed with another's vectors.

use super::EmbedError;
use super::model::Model;
use super::tokens::Tokens;

/// The name that schemas carry.
pub(super) const NAME: &str = "builtin/all-MiniLM-L6-v2";

/// Raised when the same text would get a vector that should not be compared with an older one.
pub(super) const VERSION: u32 = 1;

/// Values of a vector.
pub(super) const DIMENSION: usize = 384;

/// Tokens packed into one pass: enough for the matrix products to reach full speed, few enough that the widest
/// intermediate (tokens x 1536 f32: 3 MB) stays in a core's cache.
const PACK_TOKENS: usize = 512;

pub(super) static TOKENIZER: &[u8] = include_bytes!("../../models/minilm-int8/tokenizer.json");
static CONFIG: &[u8] = include_bytes!("../../models/minilm-int8/config.json");
static WEIGHTS: &[u8] = include_bytes!("../../models/minilm-int8/model.safetensors");

/// The built-in model, ready to run from any thread.
pub(super) struct Builtin {
    tokens: Tokens,
    model: Model,
}

impl Builtin {
    /// Reads the compiled-in files.
    pub fn open() -> Result<Self, EmbedError> {
        let (tokens, model) = (Tokens::open(TOKENIZER)?, Model::open(CONFIG, WEIGHTS)?);
        if model.dimension() != DIMENSION || tokens.vocabulary() > model.vocabulary() {
            return Err(EmbedError::Model("the compiled-in files do not belong together".into()));
        }
        Ok(Self { tokens, model })
    }

    /// A unit vector for each text, in their order.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let ids = texts
            .iter()
            .map(|text| self.tokens.ids(text))
            .collect::<Result<Vec<_>, _>>()?;
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = ids.as_slice();
        while !rest.is_empty() {
            let (pack, behind) = rest.split_at(pack_len(rest));
            vectors.extend(
                self.model
                    .embed(pack)
                    .map_err(|error| EmbedError::Failed(error.to_string()))?,
            );
            rest = behind;
        }
        Ok(vectors)
    }
}

/// How many of `texts` fit into one pass, at least one.
fn pack_len(texts: &[Vec<u32>]) -> usize {
    let mut tokens = 0;
    let fits = |ids: &&Vec<u32>| {
        tokens += ids.len();
        tokens <= PACK_TOKENS
    };
    texts.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    static REFERENCE_TEXTS: &str = include_str!("../../models/minilm-int8/reference.jsonl");
    static REFERENCE_VECTORS: &[u8] = include_bytes!("../../models/minilm-int8/reference.f32.npy");
    static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| Builtin::open().unwrap());

    fn reference() -> (Vec<String>, Vec<Vec<f32>>) {
        let text = |line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["text"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let texts: Vec<String> = REFERENCE_TEXTS.lines().map(text).collect();
        // An .npy of version 1: 10 bytes, then a header of the length that the last two of them say.
        let header_bytes = usize::from(u16::from_le_bytes([REFERENCE_VECTORS[8], REFERENCE_VECTORS[9]]));
        let (floats, rest) = REFERENCE_VECTORS[10 + header_bytes..].as_chunks::<4>();
        assert!(rest.is_empty());
        let floats: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (texts, floats.chunks_exact(DIMENSION).map(<[f32]>::to_vec).collect())
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn embed(texts: &[String]) -> Vec<Vec<f32>> {
        BUILTIN
            .embed(&texts.iter().map(String::as_str).collect::<Vec<_>>())
            .unwrap()
    }

    #[test]
    fn vectors_equal_those_of_the_unrounded_model() {
        let (texts, expected) = reference();
        assert_eq!((texts.len(), expected.len()), (103, 103));
        for ((text, vector), expected) in texts.iter().zip(embed(&texts)).zip(expected) {
            let ordinary = text.is_ascii() && text.split_whitespace().count() >= 3;
            let (bound, cosine) = (if ordinary { 0.999 } else { 0.995 }, cosine(&vector, &expected));
            let start: String = text.chars().take(60).collect();
            assert!(cosine >= bound, "cosine {cosine} < {bound} of {start:?}");
            assert!(
                (cosine_of_self(&vector) - 1.0).abs() < 1e-5,
                "length of the vector of {start:?}"
            );
        }
    }

    fn cosine_of_self(vector: &[f32]) -> f32 {
        cosine(vector, vector)
    }

    #[test]
    fn a_vector_does_not_depend_on_its_company() {
        let (texts, _) = reference();
        for (text, together) in texts.iter().zip(embed(&texts)).step_by(7) {
            let alone = embed(std::slice::from_ref(text));
            assert!(cosine(&alone[0], &together) > 0.999_999);
        }
    }

    #[test]
    fn any_text_has_a_vector() {
        let megabyte = "one word after the other ".repeat(42_000);
        let texts = [
            "",
            "\0",
            "\u{feff}",
            "🦀🏳️‍🌈",
            "國破山河在",
            "مرحبا بالعالم",
            "\u{301}\u{301}",
            "[CLS] [SEP]",
            "[MASK]",
            &megabyte,
        ];
        let vectors = BUILTIN.embed(&texts).unwrap();
        for (text, vector) in texts.iter().zip(&vectors) {
            assert_eq!(vector.len(), DIMENSION);
            assert!(
                (cosine_of_self(vector) - 1.0).abs() < 1e-5,
                "{:?}",
                text.chars().take(20).collect::<String>()
            );
        }
        assert_eq!(vectors[0], vectors[1], "NUL is nothing to read");
        assert!(cosine(&vectors[9], &embed(&["one word after the other ".repeat(60)])[0]) > 0.999_999);
    }
}
