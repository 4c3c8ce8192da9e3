//! How far, how fast, how long still: a bar on a terminal, a line every few seconds elsewhere. All on stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{grouped, note};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Bad lines that are told one by one.
const TOLD_MAX: u64 = 20;

/// Shows progress.
pub struct Progress {
    bar: Option<ProgressBar>,
    bytes: u64,
    started: Instant,
    line_told: Instant,
    documents: u64,
    bad_lines: u64,
}

impl Progress {
    /// Of a file so long.
    pub fn new(bytes: u64) -> Self {
        let template = "{bar:30} {percent:>3} %  {msg}  ETA {eta}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
            bar.with_style(style.progress_chars("█▌ "))
        });
        let now = Instant::now();
        Progress {
            bar,
            bytes,
            started: now,
            line_told: now,
            documents: 0,
            bad_lines: 0,
        }
    }

    /// So many more documents are in, read from so much of the file.
    pub fn advance(&mut self, documents: u64, file_bytes: u64) {
        self.documents += documents;
        let rate = self.documents as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        let message = format!("{} documents, {}/s", grouped(self.documents), grouped(rate as u64));
        if let Some(bar) = &self.bar {
            bar.set_position(file_bytes);
            bar.set_message(message);
        } else if self.line_told.elapsed() >= LINE_INTERVAL {
            self.line_told = Instant::now();
            note(&format!("{:>3} %  {message}", file_bytes * 100 / self.bytes.max(1)));
        }
    }

    /// A line that was passed over. The first ones are told, all are counted at the end.
    pub fn skipped(&mut self, line: u64, reason: &str) {
        self.bad_lines += 1;
        let text = match self.bad_lines {
            ..=TOLD_MAX => format!("line {line} skipped: {reason}"),
            count if count == TOLD_MAX + 1 => "more lines are skipped without being told".to_owned(),
            _ => return,
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| note(&text)),
            None => note(&text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
