//! Runs the system's own tools, and gives back what they said.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program with words as its arguments; its output. What it wrote to stderr is the error.
pub fn run(program: &str, words: &[&str]) -> Result<String> {
    run_with_input(program, words, "")
}

/// The same, with `input` on its stdin.
pub fn run_with_input(program: &str, words: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| program.to_owned())?;
    let mut stdin = child.stdin.take().context("a pipe was asked for")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", words.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
