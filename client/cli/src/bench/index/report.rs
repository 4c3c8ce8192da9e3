//! What is printed of each setting.

use serde_json::json;

use super::cold::Cold;
use super::measure::Measured;
use super::setting::Setting;
use super::writing::Beside;
use super::{Built, Command};
use crate::output::grouped;
use crate::table::Table;

/// What one setting did.
pub struct Line {
    pub setting: Setting,
    pub measured: Measured,
    pub cold: Option<Cold>,
    pub beside: Option<Beside>,
}

/// A line for programs.
pub fn json(command: &Command, built: &Built, line: &Line) -> serde_json::Value {
    let Line {
        setting,
        measured,
        cold,
        beside,
    } = line;
    json!({
        "rows": built.rows, "dimension": built.dimension, "segments": built.manifest.len(), "metric": format!("{:?}", command.metric).to_lowercase(),
        "bits": command.bits, "builder": format!("{:?}", command.builder).to_lowercase(), "k": command.k, "ef": setting.width(), "target_recall": setting.recall(), "threads": command.threads,
        "fine": format!("{:?}", built.schema.vectors[0].fine).to_lowercase(), "batch": command.batch,
        "selectivity": command.filter_selectivity, "filter_rows": format!("{:?}", command.filter_rows).to_lowercase(), "recall": measured.recall, "candidate_recall": measured.candidate_recall,
        "qps": measured.qps, "p50_us": measured.p50_us, "p99_us": measured.p99_us, "rows_scored": measured.rows_scored,
        "rows_read": measured.rows_read, "pages_read": measured.pages_read, "ram_bytes_row": measured.ram_bytes_row,
        "anonymous_bytes_row": measured.anonymous_bytes_row, "build_seconds": built.seconds,
        "cold_us": cold.map(|cold| cold.query_us), "cold_pages": cold.map(|cold| cold.query_pages),
        "probe_us": cold.map(|cold| cold.probe_us), "probe_pages": cold.map(|cold| cold.probe_pages),
        "writing_p50_us": beside.as_ref().map(|beside| beside.p50_us),
        "writing_p99_us": beside.as_ref().map(|beside| beside.p99_us),
        "writing_rows_per_second": beside.as_ref().map(|beside| beside.rows_per_second),
        "writing_merges": beside.as_ref().map(|beside| beside.merges),
    })
}

/// All lines, for people.
pub fn table(lines: &[Line]) -> Table {
    let is_width = lines.iter().all(|line| line.setting.width().is_some());
    let headings = [
        if is_width { ">ef" } else { ">target" },
        ">recall",
        ">by codes",
        ">queries/s",
        ">p50",
        ">p99",
        ">scored",
        ">read",
        ">pages",
    ];
    let cold = if lines.iter().any(|line| line.cold.is_some()) {
        &[">cold", ">from disk", ">probe", ">from disk"][..]
    } else {
        &[]
    };
    let beside = if lines.iter().any(|line| line.beside.is_some()) {
        &[">p50 writing", ">p99 writing", ">rows/s", ">merges"][..]
    } else {
        &[]
    };
    let mut table = Table::new(headings.iter().chain(cold).chain(beside));
    for Line {
        setting,
        measured,
        cold,
        beside,
    } in lines
    {
        let micros = |micros: f64| format!("{micros:.1} us");
        let mut cells = vec![
            match setting {
                Setting::Width(ef) => ef.to_string(),
                Setting::Recall(target) => target.to_string(),
            },
            format!("{:.4}", measured.recall),
            format!("{:.4}", measured.candidate_recall),
            grouped(measured.qps as u64),
            micros(measured.p50_us),
            micros(measured.p99_us),
            format!("{:.0}", measured.rows_scored),
            format!("{:.1}", measured.rows_read),
            format!("{:.1}", measured.pages_read),
        ];
        if let Some(cold) = cold {
            cells.extend([
                micros(cold.query_us),
                format!("{:.1}", cold.query_pages),
                micros(cold.probe_us),
                format!("{:.1}", cold.probe_pages),
            ]);
        }
        if let Some(beside) = beside {
            cells.extend([beside.p50_us, beside.p99_us].map(micros));
            cells.extend([grouped(beside.rows_per_second as u64), beside.merges.to_string()]);
        }
        table.row(cells);
    }
    table
}
