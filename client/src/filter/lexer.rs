//! Words, quoted texts and signs of a filter, each with the byte where it begins.

use std::iter::Peekable;
use std::str::CharIndices;

use super::Mistake;

/// Most tokens of one filter: lists are the long ones, and they are bounded at 10,000 values.
const TOKENS_MAX: usize = 50_000;

/// Signs, longest first where one begins another.
const SIGNS: [&str; 12] = ["!=", "<=", ">=", "=", "~", "<", ">", "(", ")", "{", "}", ","];

/// Characters of a bare word, beside letters and digits of any script.
const WORD_SIGNS: &str = "_.-:/@+#$%*[]";

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    /// Byte at which it begins.
    pub at: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A bare word: a path, a keyword, a number or a text, by its place.
    Word(String),
    /// A text in quotes, unescaped.
    Quoted(String),
    /// One of the signs.
    Sign(&'static str),
    /// After the last one.
    End,
}

/// Whether `text` may stand bare, as a word.
pub(super) fn is_bare(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || WORD_SIGNS.contains(c)
}

/// All tokens of `text`, ending with [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Mistake> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some(&(at, c)) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        if tokens.len() == TOKENS_MAX {
            return Err(Mistake::new(at, format!("more than {TOKENS_MAX} words and signs")));
        }
        let kind = if c == '"' || c == '\'' {
            quoted(&mut chars)?
        } else if is_word(c) {
            word(&mut chars)
        } else {
            sign(text, &mut chars, at, c)?
        };
        tokens.push(Token { at, kind });
    }
    tokens.push(Token {
        at: text.len(),
        kind: Kind::End,
    });
    Ok(tokens)
}

fn word(chars: &mut Peekable<CharIndices>) -> Kind {
    let mut word = String::new();
    while let Some((_, c)) = chars.next_if(|(_, c)| is_word(*c)) {
        word.push(c);
    }
    Kind::Word(word)
}

fn sign(text: &str, chars: &mut Peekable<CharIndices>, at: usize, c: char) -> Result<Kind, Mistake> {
    let sign = SIGNS.into_iter().find(|sign| text[at..].starts_with(sign));
    let sign = sign.ok_or_else(|| Mistake::new(at, format!("{c:?} means nothing here; texts go in quotes")))?;
    for _ in sign.chars() {
        chars.next();
    }
    Ok(Kind::Sign(sign))
}

/// Reads a quoted text; a backslash escapes as in JSON, and both kinds of quote.
fn quoted(chars: &mut Peekable<CharIndices>) -> Result<Kind, Mistake> {
    let (start, quote) = chars.next().expect("called at a quote");
    let mut text = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => text.push(escaped(chars, at)?),
            c if c == quote => return Ok(Kind::Quoted(text)),
            c => text.push(c),
        }
    }
    Err(Mistake::new(start, "this quote is never closed"))
}

fn escaped(chars: &mut Peekable<CharIndices>, at: usize) -> Result<char, Mistake> {
    let unknown = || Mistake::new(at, r#"unknown escape; there are \" \' \\ \/ \n \r \t and \uXXXX"#);
    match chars.next().ok_or_else(unknown)?.1 {
        c @ ('"' | '\'' | '\\' | '/') => Ok(c),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'u' => {
            let digits: Option<u32> = (0..4).try_fold(0, |sum, _| Some(sum * 16 + chars.next()?.1.to_digit(16)?));
            digits.and_then(char::from_u32).ok_or_else(unknown)
        }
        _ => Err(unknown()),
    }
}
