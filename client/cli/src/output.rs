//! What is printed, and how: tables for people, JSON for programs. Data goes to stdout, everything else to stderr.
//!
//! Printing can fail (a pipe that nobody reads any more); that is passed on and ends the program quietly, see `main`.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::table::Table;

/// Columns assumed where stdout is no terminal: only very long texts are cut.
const WIDTH_ELSEWHERE: usize = 400;
/// Fewest columns a table is laid out for.
const WIDTH_MIN: usize = 40;

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether programs read it.
    pub json: bool,
    width: usize,
}

impl Output {
    /// For stdout as it is.
    pub fn new(json: bool) -> Self {
        let terminal = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
        let width = terminal.map_or(WIDTH_ELSEWHERE, |(width, _)| usize::from(width.0));
        Output {
            json,
            width: width.max(WIDTH_MIN),
        }
    }

    /// One JSON document, in one line.
    pub fn json(&self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    /// A table, cut to the terminal.
    pub fn table(&self, table: &Table) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(table.render(self.width).as_bytes())?;
        stdout.flush()
    }

    /// One line.
    pub fn line(&self, line: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }
}

/// A remark for people, on stderr; one that can't be written is lost.
pub fn note(text: &str) {
    let _lost = writeln!(io::stderr(), "{text}");
}

/// Asks on the terminal; only `y` and `yes` mean yes. `None` where nobody is there to answer.
pub fn confirm(question: &str) -> io::Result<Option<bool>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(Some(
        answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"),
    ))
}

/// `63436` as `63,436`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes with a unit a person reads: `3.8 MB`.
pub fn sized(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_easily() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(63_436), "63,436");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(sized(999), "999 B");
        assert_eq!(sized(1_000), "1.0 kB");
        assert_eq!(sized(48_718_976), "49 MB");
        assert_eq!(sized(999_600), "1.0 MB");
    }
}
