//! `granum verify`: is every byte of a node's directory as it was written? Offline: the node must not run.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use granum_node::verify::{Report, verify};
use serde_json::{Value, json};

use crate::json::node_id;
use crate::output::{Output, grouped, sized};

/// Check every checksum and invariant of a stopped node's directory
#[derive(Args, Debug)]
pub struct Verify {
    /// Of a node, or of `granum dev`, whose nodes are all checked
    data_dir: PathBuf,
    /// Answer in JSON, for programs
    #[arg(long)]
    json: bool,
}

/// `granum verify`
pub fn run(command: Verify) -> anyhow::Result<()> {
    let output = Output::new(command.json);
    let mut problems_found = 0;
    let mut checked = Vec::new();
    for directory in node_directories(&command.data_dir)? {
        let report = verify(&directory)?;
        problems_found += report.problems_found;
        match command.json {
            true => checked.push(as_json(&directory, &report)),
            false => tell(&output, &directory, &report)?,
        }
    }
    if command.json {
        output.json(&json!({"directories": checked}))?;
    }
    match problems_found {
        0 => Ok(()),
        _ => bail!("damaged: start this node with an empty directory, and its replicas are rebuilt from the others"),
    }
}

fn as_json(directory: &Path, report: &Report) -> Value {
    json!({
        "directory": directory.display().to_string(), "node": node_id(report.node), "cluster": node_id(report.cluster),
        "replicas": report.replicas, "segments": report.segments, "rows": report.rows, "log_groups": report.log_groups,
        "log_entries": report.log_entries, "bytes": report.bytes, "notes": report.notes, "problems": report.problems,
        "problems_found": report.problems_found,
    })
}

fn tell(output: &Output, directory: &Path, report: &Report) -> std::io::Result<()> {
    let verdict = match report.problems_found {
        0 => "sound".to_owned(),
        1 => "1 problem".to_owned(),
        count => format!("{} problems", grouped(count)),
    };
    output.line(&format!(
        "{}: {verdict} ({} replicas, {} segments, {} rows, {} log entries, {} read)",
        directory.display(),
        report.replicas,
        report.segments,
        grouped(report.rows),
        grouped(report.log_entries),
        sized(report.bytes)
    ))?;
    let problems = report.problems.iter().map(|problem| ("problem", problem));
    for (kind, text) in problems.chain(report.notes.iter().map(|remark| ("note", remark))) {
        output.line(&format!("  {kind}: {text}"))?;
    }
    Ok(())
}

/// The directory itself, or those of the nodes of a `granum dev` in it.
fn node_directories(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !directory.join("dev.toml").exists() {
        return Ok(vec![directory.to_owned()]);
    }
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() && name.starts_with("node-") {
            nodes.push(path);
        }
    }
    nodes.sort();
    Ok(nodes)
}
