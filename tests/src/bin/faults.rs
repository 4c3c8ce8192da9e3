//! Runs the fault table, or a part of it, and adds what it has shown to a file of results.
//!
//! It can be stopped and started again at any time: each repeat is one line of the file, and a row's lines add up.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use granum_tests::faults::figures::{self, Repeat};
use granum_tests::faults::queries::PACE;
use granum_tests::faults::rows::{ROWS, Row};
use granum_tests::faults::run::{self, Ended};
use granum_tests::faults::table;
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
Runs real processes under faults, and adds what they have shown to a file of results.

  --all          every row
  --smoke        the rows that every change must pass
  --row NAME     this row; may be given several times
  --repeats N    repeats of each row; 1 unless set
  --until N      only rows that have fewer than N repeats in the results so far, until they have N
  --search-ms N  a search each N milliseconds; 35 unless set
  --strict       a repeat that is skipped, or void, is a failure
  --out DIR      folder of results.jsonl; target/faults unless set
  --table        prints the table of all results, as markdown
  --list         prints the rows

The binary under test is `granum` in the folder of this program, or GRANUM_BIN. Rows that need root, nftables, libfaketime, TAP
devices, Python or cgroups of version 1 are skipped where these are missing.";

struct Asked {
    rows: Vec<&'static Row>,
    repeats: usize,
    until: Option<usize>,
    pace: Duration,
    strict: bool,
    out: PathBuf,
    table: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match go().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was clean.
async fn go() -> Result<bool> {
    let Some(asked) = read_arguments()? else {
        return Ok(true);
    };
    let path = asked.out.join("results.jsonl");
    let mut clean = true;
    // All rows once before any a second time: a run that is stopped has seen as many as it could.
    for _ in 0..asked.until.unwrap_or(asked.repeats) {
        for row in &asked.rows {
            let before = figures::read(&path)?;
            let had = before
                .iter()
                .filter(|repeat| repeat.row == row.name && repeat.void.is_none())
                .count();
            if asked.until.is_some_and(|until| had >= until) {
                continue;
            }
            println!("{}: {}", row.name, row.what);
            // Dropped in the middle, a run ends its processes and undoes its mounts and links.
            let ended = tokio::select! {
                ended = run::run(row, row.rounds, rand::random(), asked.pace) => ended,
                stopped = stop() => return stopped,
            };
            match ended {
                Ok(Ended::Skipped(reason)) => {
                    println!("  skipped: {reason}");
                    clean &= !asked.strict;
                }
                Ok(Ended::Done(repeat)) => {
                    tell(&repeat);
                    clean &= repeat.is_clean() && (repeat.void.is_none() || !asked.strict);
                    repeat.append(&path)?;
                }
                Err(error) => {
                    println!("  FAILED: {error:#}");
                    clean = false;
                }
            }
        }
    }
    if asked.table {
        print!("{}", table::markdown(&figures::read(&path)?));
    }
    Ok(clean)
}

/// Returns when this process is told to end.
async fn stop() -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    bail!("stopped; what was done is in the results")
}

fn tell(repeat: &Repeat) {
    let asked = repeat.queries_fault;
    println!(
        "  {} operations, {} lost, {} anomalies; failover {:?} ms; {} of {asked} searches failed in the fault (worst {} ms), {} of {} else; \
         {} writes failed; healed in {:?} ms; wakes {} ms late",
        repeat.operations,
        repeat.lost.len(),
        repeat.anomalies.len(),
        repeat.failover_ms,
        repeat.queries_fault_failed,
        repeat.query_worst_ms,
        repeat.queries_calm_failed,
        repeat.queries_calm,
        repeat.writes_failed,
        repeat.healing_ms,
        repeat.wake_p99_ms,
    );
    let told = [&repeat.anomalies, &repeat.notes, &repeat.errors];
    told.into_iter()
        .flatten()
        .take(15)
        .for_each(|line| println!("  - {line}"));
    if let Some(reason) = &repeat.void {
        println!("  void: {reason}");
    }
}

/// `None`: nothing is left to do.
fn read_arguments() -> Result<Option<Asked>> {
    let mut asked = Asked {
        rows: Vec::new(),
        repeats: 1,
        until: None,
        pace: PACE,
        strict: false,
        out: PathBuf::from("target/faults"),
        table: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--all" => asked.rows.extend(&ROWS),
            "--smoke" => asked.rows.extend(ROWS.iter().filter(|row| row.smoke)),
            "--row" => {
                let name = value()?;
                let row = ROWS.iter().find(|row| row.name == name);
                asked
                    .rows
                    .push(row.with_context(|| format!("no row {name}; --list names them"))?);
            }
            "--repeats" => asked.repeats = value()?.parse()?,
            "--search-ms" => {
                let said = value()?;
                let ms = said.parse().ok().filter(|ms| *ms > 0);
                asked.pace =
                    Duration::from_millis(ms.with_context(|| format!("--search-ms {said}: must be 1 or more"))?);
            }
            "--strict" => asked.strict = true,
            "--until" => asked.until = Some(value()?.parse()?),
            "--out" => asked.out = value()?.into(),
            "--table" => asked.table = true,
            "--list" => {
                for row in &ROWS {
                    println!("{:<30} {}", row.name, row.what);
                }
                return Ok(None);
            }
            "--help" => {
                println!("{HELP}");
                return Ok(None);
            }
            other => bail!("no argument {other}; --help names them"),
        }
    }
    if asked.rows.is_empty() && !asked.table {
        println!("{HELP}");
        return Ok(None);
    }
    Ok(Some(asked))
}
