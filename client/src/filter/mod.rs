//! Which documents, as a person writes it: `section = games and size < 5e6`. [`parse`] reads the small language of
//! docs/reference/filter.md into a [`Filter`], [`print`](print()) writes any filter in it.
//!
//! One language for the command line and for programs, so that what was tried in a shell can be pasted into code.
//! Reading order: [`lexer`] (words and signs, each with its column), [`parser`] (recursive descent), [`tree`] (what was
//! said, folded into must, should and must_not), [`print`](mod@print). A mistake is reported with its column.

mod lexer;
mod parser;
mod print;
mod tree;

use granum_model::Filter;

pub use print::print;

/// Reads a filter; blank text is the filter that lets everything through.
///
/// ```
/// let filter = granum_client::filter::parse("section = games and 1000 < size <= 5e6").unwrap();
/// assert_eq!(granum_client::filter::print(&filter), "section = games and 1000 < size <= 5000000");
/// ```
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    let at = |mistake: Mistake| FilterError {
        problem: mistake.problem,
        column: text[..mistake.at.min(text.len())].chars().count() + 1,
        text: text.to_owned(),
    };
    let tokens = lexer::tokens(text).map_err(at)?;
    let tree = parser::parse(&tokens).map_err(at)?;
    tree::fold(tree).map_err(at)
}

/// Text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, column {column}: {problem}")]
pub struct FilterError {
    /// What is wrong, and what would be right.
    pub problem: String,
    /// Where, in characters from 1.
    pub column: usize,
    /// The text as given.
    pub text: String,
}

impl FilterError {
    /// The text and, below it, a caret under the mistake.
    pub fn caret(&self) -> String {
        let line: String = self
            .text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        format!("{line}\n{}^", " ".repeat(self.column - 1))
    }
}

/// A mistake at a byte of the text.
#[derive(Debug)]
struct Mistake {
    at: usize,
    problem: String,
}

impl Mistake {
    fn new(at: usize, problem: impl Into<String>) -> Self {
        Mistake {
            at,
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
mod tests;
