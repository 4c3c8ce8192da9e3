//! Which token ids does a text become, and what does a very long text cost?
//!
//! The tokenizer is BERT's (WordPiece, lower case) through the `tokenizers` crate. The model reads 256 tokens, so a
//! long text is read through a window that doubles until its tokens suffice: a megabyte costs what its first few
//! kilobytes cost. A cut can change only the tokens of the word it falls into, and a word has at most 100 (the
//! model's `max_input_chars_per_word`), so a window that holds that many more than needed gives the exact ids.

use tokenizers::Tokenizer;

use super::EmbedError;

/// The model reads this many tokens of a text, the two that mark its ends included.
pub(super) const MAX_TOKENS: usize = 256;

/// What is looked at of a text first, in bytes: twice the usual length of 256 tokens of English.
const FIRST_WINDOW_BYTES: usize = 2 * 1024;

/// What is ever looked at of a text, in bytes: bounds the work on a text that is all blanks or one word.
const MAX_WINDOW_BYTES: usize = 1024 * 1024;

/// A word longer than this many characters is one unknown token, so no word has more tokens.
const MAX_WORD_TOKENS: usize = 100;

/// Turns text into ids.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
}

impl Tokens {
    /// Reads a `tokenizer.json`; the padding and truncation it asks for are left out, since batches are packed.
    pub fn open(json: &[u8]) -> Result<Self, EmbedError> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| EmbedError::Model(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| EmbedError::Model(error.to_string()))?;
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| EmbedError::Model(format!("the tokenizer has no {token}")))
        };
        let (start, end) = (id("[CLS]")?, id("[SEP]")?);
        Ok(Self { tokenizer, start, end })
    }

    /// One more than the largest id.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The ids of `text`, 2..=[`MAX_TOKENS`] of them, its ends marked.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let words = self.words(text)?;
        let kept = words.len().min(MAX_TOKENS - 2);
        let mut ids = Vec::with_capacity(kept + 2);
        ids.push(self.start);
        ids.extend_from_slice(&words[..kept]);
        ids.push(self.end);
        Ok(ids)
    }

    /// At least the first `MAX_TOKENS - 2` ids of `text`, or all.
    fn words(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let mut window_bytes = FIRST_WINDOW_BYTES;
        loop {
            let window = &text[..text.floor_char_boundary(window_bytes)];
            let encoding = self
                .tokenizer
                .encode_fast(window, false)
                .map_err(|error| EmbedError::Failed(error.to_string()))?;
            let enough = encoding.len() >= MAX_TOKENS - 2 + MAX_WORD_TOKENS;
            if enough || window.len() == text.len() || window_bytes >= MAX_WINDOW_BYTES {
                return Ok(encoding.get_ids().to_vec());
            }
            window_bytes *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::builtin::TOKENIZER;

    #[track_caller]
    fn check_window(text: &str) {
        let tokens = Tokens::open(TOKENIZER).unwrap();
        let whole = tokens.tokenizer.encode_fast(text, false).unwrap();
        let expected = &whole.get_ids()[..whole.len().min(MAX_TOKENS - 2)];
        let ids = tokens.ids(text).unwrap();
        assert_eq!(&ids[1..ids.len() - 1], expected);
    }

    #[test]
    fn a_window_gives_the_ids_of_the_whole_text() {
        check_window("");
        check_window("play chess against the computer");
        check_window(&"internationalisation ".repeat(3_000));
        check_window(&"國破山河在".repeat(5_000));
        check_window(&format!("{}the end", " ".repeat(100_000)));
        check_window(&format!("{} end", "x".repeat(100_000)));
        check_window(&"é̄\u{0}🦀 ".repeat(9_000));
    }

    #[test]
    fn a_megabyte_has_no_more_ids_than_the_model_reads() {
        let tokens = Tokens::open(TOKENIZER).unwrap();
        assert_eq!(tokens.ids(&"word ".repeat(200_000)).unwrap().len(), MAX_TOKENS);
        assert_eq!(tokens.ids("").unwrap().len(), 2);
    }
}
