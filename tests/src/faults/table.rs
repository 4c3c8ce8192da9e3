//! The fault table as markdown, of all repeats that a file of results holds.

use super::figures::{Repeat, quantile};
use super::rows::{ROWS, Row};

/// The election timeout that failovers are told in: the node's default.
pub const ELECTION_TIMEOUT_MS: f64 = 1_000.0;

/// One line a row that has a result.
pub fn markdown(repeats: &[Repeat]) -> String {
    let mut table = String::from(
        "| Row | What is done | Repeats (faults) | Operations | Lost | Anomalies | Failover p50 / p99 | Searches answered in the fault | Write p99, fault / before |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in &ROWS {
        let of_row: Vec<&Repeat> = repeats
            .iter()
            .filter(|repeat| repeat.row == row.name && repeat.void.is_none())
            .collect();
        if !of_row.is_empty() {
            table.push_str(&line(row, &of_row));
        }
    }
    table
}

fn line(row: &Row, repeats: &[&Repeat]) -> String {
    let sum = |figure: fn(&Repeat) -> u64| repeats.iter().map(|repeat| figure(repeat)).sum::<u64>();
    let (asked, failed) = (
        sum(|repeat| repeat.queries_fault),
        sum(|repeat| repeat.queries_fault_failed),
    );
    let success = match asked {
        0 => "–".to_owned(),
        asked => format!("{:.3} % of {asked}", 100.0 * (asked - failed) as f64 / asked as f64),
    };
    let mut failovers = all(repeats, |repeat| &repeat.failover_ms);
    let failover = match (take(&mut failovers, 0.5), take(&mut failovers, 0.99)) {
        (Some(half), Some(most)) => format!("{:.2} / {:.2}", half / ELECTION_TIMEOUT_MS, most / ELECTION_TIMEOUT_MS),
        _ => "–".to_owned(),
    };
    let (mut fault, mut calm) = (
        all(repeats, |repeat| &repeat.write_fault_ms),
        all(repeats, |repeat| &repeat.write_calm_ms),
    );
    let writes = match (take(&mut fault, 0.99), take(&mut calm, 0.99)) {
        (Some(fault), Some(calm)) => format!("{fault:.0} / {calm:.0} ms = {:.1}", fault / calm),
        _ => "–".to_owned(),
    };
    format!(
        "| `{}` | {} | {} ({}) | {} | {} | {} | {failover} | {success} | {writes} |\n",
        row.name,
        row.what,
        repeats.len(),
        sum(|repeat| u64::from(repeat.faults)),
        sum(|repeat| repeat.operations),
        sum(|repeat| repeat.lost.len() as u64),
        sum(|repeat| repeat.anomalies.len() as u64),
    )
}

fn all(repeats: &[&Repeat], figure: fn(&Repeat) -> &Vec<f64>) -> Vec<f64> {
    repeats.iter().flat_map(|repeat| figure(repeat)).copied().collect()
}

fn take(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    quantile(values, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_a_row_are_one_line_and_void_ones_none() {
        let repeat = |failover_ms: f64, void: Option<&str>| Repeat {
            row: "kill-leader".to_owned(),
            faults: 1,
            operations: 10,
            failover_ms: vec![failover_ms],
            queries_fault: 1000,
            queries_fault_failed: 1,
            void: void.map(String::from),
            ..Repeat::default()
        };
        let table = markdown(&[
            repeat(1_500.0, None),
            repeat(2_500.0, None),
            repeat(9_000.0, Some("quiet")),
        ]);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(
            table.contains("| 2 (2) | 20 | 0 | 0 | 1.50 / 2.50 | 99.900 % of 2000 |"),
            "{table}"
        );
    }
}
