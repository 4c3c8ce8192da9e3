//! Wires that are slow, and that double and garble what they carry, one for each node: a program of ours between TAP devices
//! ([wires.py](wires.py) says how), because the kernels that this runs on have no netem. Gone when dropped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

/// In Python, because our crates forbid unsafe code, and TAP devices are made by ioctl.
const PROGRAM: &str = include_str!("wires.py");

/// How a wire carries packets, both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// How late a packet is, in milliseconds.
    pub delay_ms: u32,
    /// By how much more or less, each packet by itself, in milliseconds: packets overtake each other.
    pub jitter_ms: u32,
    /// So many of a hundred arrive twice.
    pub doubled: u32,
    /// So many of a hundred arrive with one bit flipped.
    pub garbled: u32,
}

impl Manner {
    /// At once, and whole.
    pub const NONE: Manner = Manner {
        delay_ms: 0,
        jitter_ms: 0,
        doubled: 0,
        garbled: 0,
    };
}

/// The program, and the two ends of each wire.
pub struct Wires {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Wires {
    /// Makes a wire between each two devices, which are new; an error where this process may not.
    pub fn make(ends: impl Iterator<Item = (String, String)>, seed: u64) -> Result<Wires> {
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM, &seed.to_string()]);
        command.args(ends.flat_map(|(one, other)| [one, other]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("python3")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.context("pipes were asked for")?;
        let mut wires = Wires {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        wires.expect("ready")?;
        Ok(wires)
    }

    /// How a wire carries what enters it from now on.
    pub fn set(&mut self, wire: usize, manner: Manner) -> Result<()> {
        let Manner {
            delay_ms,
            jitter_ms,
            doubled,
            garbled,
        } = manner;
        writeln!(self.stdin, "{wire} {delay_ms} {jitter_ms} {doubled} {garbled}")?;
        self.expect("set")
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.trim() != word {
            bail!("the wires said {line:?} instead of {word:?}");
        }
        Ok(())
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
