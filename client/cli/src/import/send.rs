//! Batches under way: a thread reads and cuts them, several are sent at once, and they are done with in their order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use futures::stream::{FuturesUnordered, StreamExt};
use granum_client::{Client, Document, Outcome, RequestId, WriteError};
use tokio::sync::mpsc;

use super::OnError;
use super::progress::Progress;
use super::source::{Line, Source};
use super::state::State;

/// Bytes of a batch, so that it fits one request and one log entry without being split.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// Batches read ahead of those under way.
const READ_AHEAD: usize = 2;
/// Times that a batch with outcomes in doubt is sent again.
const IN_DOUBT_TRIES: u32 = 10;
/// Pause before that.
const IN_DOUBT_PAUSE: Duration = Duration::from_millis(500);

/// How batches are cut and sent.
pub struct Pipeline {
    /// To which cluster.
    pub client: Client,
    /// Where to.
    pub collection: String,
    /// Documents a batch.
    pub batch_documents: usize,
    /// Batches under way at once.
    pub concurrency: usize,
    /// What to do about a line that can't be taken.
    pub on_error: OnError,
}

/// What an import came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Documents written by this run.
    pub documents: u64,
    /// Lines passed over by this run.
    pub skipped: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// Documents a second.
    pub fn rate(&self) -> f64 {
        self.documents as f64 / self.seconds.max(1e-9)
    }
}

/// Documents of consecutive lines.
#[derive(Default)]
struct Batch {
    ordinal: u64,
    first_line: u64,
    last_line: u64,
    /// Rows up to the last line.
    rows: u64,
    bytes: usize,
    file_bytes: u64,
    documents: Vec<(u64, Document)>,
    skipped: Vec<(u64, String)>,
}

/// A batch that is done with.
struct Done {
    batch: Batch,
    written: u64,
}

impl Pipeline {
    /// Sends everything the source has. Whatever ends it, `state` says how far it got.
    pub async fn run(&self, source: Source, state: &mut State, progress: &mut Progress) -> anyhow::Result<Report> {
        let started = Instant::now();
        let import = state.saved().import_number()?;
        let (sender, mut batches) = mpsc::channel(READ_AHEAD);
        let (batch_documents, on_error) = (self.batch_documents, self.on_error);
        let reader = tokio::task::spawn_blocking(move || cut(source, batch_documents, on_error, &sender));
        let mut under_way = FuturesUnordered::new();
        let mut order = Order::default();
        let mut report = Report::default();
        let mut ended = None;
        let mut reading = true;
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        // What is under way at an end is awaited still, so that the state says as much as can be said.
        while reading || !under_way.is_empty() {
            tokio::select! {
                batch = batches.recv(), if reading && under_way.len() < self.concurrency => match batch {
                    Some(batch) => under_way.push(self.send(batch, import)),
                    None => reading = false,
                },
                Some(done) = under_way.next(), if !under_way.is_empty() => match done {
                    Ok(done) => order.take(done, |done| settle(done, state, progress, &mut report)),
                    Err(error) => {
                        ended.get_or_insert(error);
                        reading = false;
                    }
                },
                _ = &mut interrupted, if reading => {
                    ended = Some(anyhow!("stopped"));
                    reading = false;
                }
            }
        }
        drop(batches);
        let read = reader.await.context("the reader broke down")?;
        if let Some(error) = ended.or(read.err()) {
            state.write();
            return Err(error);
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Sends a batch until all of it is taken or passed over.
    async fn send(&self, mut batch: Batch, import: u128) -> anyhow::Result<Done> {
        let mut request_id = request_id(import, batch.first_line, batch.last_line);
        let mut in_doubt = 0;
        while !batch.documents.is_empty() {
            let documents = batch.documents.iter().map(|(_, document)| document.clone()).collect();
            let written = match self.client.upsert_as(&self.collection, documents, request_id).await {
                Ok(written) => written,
                Err(WriteError::Request(failed)) => {
                    let reason = failed.to_string();
                    let Some(at) = named_document(&reason).filter(|&at| at < batch.documents.len()) else {
                        return Err(lines_of(&batch, WriteError::Request(failed)));
                    };
                    // The line is told by its number: its place in the request means nothing to whoever reads it.
                    let reason = reason.replace(&format!("documents[{at}]."), "");
                    self.pass_over(&mut batch, at, reason)?;
                    // Other documents are another request.
                    request_id = RequestId(rand::random());
                    continue;
                }
                Err(error) => return Err(lines_of(&batch, error)),
            };
            if let Some(reason) = written.outcomes.iter().find_map(doubt) {
                in_doubt += 1;
                if in_doubt > IN_DOUBT_TRIES {
                    return Err(lines_of(
                        &batch,
                        anyhow!("not all of them were written, or not surely: {reason}"),
                    ));
                }
                tokio::time::sleep(IN_DOUBT_PAUSE).await;
                continue;
            }
            let refused = |(at, outcome)| match outcome {
                Outcome::Refused { reason, .. } => Some((at, reason)),
                _ => None,
            };
            let refused: Vec<(usize, String)> = written.outcomes.into_iter().enumerate().filter_map(refused).collect();
            for (at, reason) in refused.into_iter().rev() {
                self.pass_over(&mut batch, at, reason)?;
            }
            break;
        }
        let written = batch.documents.len() as u64;
        Ok(Done { batch, written })
    }

    /// A document that the cluster refused: its line is passed over, or ends the import.
    fn pass_over(&self, batch: &mut Batch, at: usize, reason: String) -> anyhow::Result<()> {
        let (line, _) = batch.documents.remove(at);
        match self.on_error {
            OnError::Stop => bail!("line {line}: {reason}"),
            OnError::Skip => batch.skipped.push((line, reason)),
        }
        Ok(())
    }
}

fn settle(done: &Done, state: &mut State, progress: &mut Progress, report: &mut Report) {
    for (line, reason) in &done.batch.skipped {
        progress.skipped(*line, reason);
    }
    let skipped = done.batch.skipped.len() as u64;
    state.advance(done.batch.last_line, done.batch.rows, done.written, skipped);
    progress.advance(done.written, done.batch.file_bytes);
    report.documents += done.written;
    report.skipped += skipped;
}

fn lines_of(batch: &Batch, error: impl Into<anyhow::Error>) -> anyhow::Error {
    error
        .into()
        .context(format!("lines {} to {}", batch.first_line, batch.last_line))
}

fn doubt(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Unknown { reason } => Some(reason.clone()),
        _ => None,
    }
}

/// The same lines of the same import are the same request.
fn request_id(import: u128, first_line: u64, last_line: u64) -> RequestId {
    // The low bits stay free: the client counts there where it splits a request.
    let lines = u128::from(first_line) << 72 ^ u128::from(last_line) << 24;
    RequestId((import ^ lines).to_be_bytes())
}

/// Which document a refusal such as `documents[3].id: ...` names.
fn named_document(reason: &str) -> Option<usize> {
    let (_, after) = reason.split_once("documents[")?;
    after.split_once(']')?.0.parse().ok()
}

/// Reads and cuts until the source, or whoever takes the batches, ends.
fn cut(mut source: Source, documents: usize, on_error: OnError, batches: &mpsc::Sender<Batch>) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    loop {
        let next = match source.next() {
            Ok(Some(Line {
                number,
                document: Err(reason),
                ..
            })) if on_error == OnError::Stop => Err(anyhow!("line {number}: {reason}")),
            next => next,
        };
        // What was read before the end, of whatever kind, is sent before it is told.
        let line_bytes = next.as_ref().ok().and_then(Option::as_ref).map(|line| line.bytes);
        let full =
            batch.documents.len() == documents || line_bytes.is_none_or(|bytes| batch.bytes + bytes > BATCH_BYTES_MAX);
        if full && batch.first_line > 0 {
            let fresh = Batch {
                ordinal: batch.ordinal + 1,
                ..Batch::default()
            };
            if batches.blocking_send(std::mem::replace(&mut batch, fresh)).is_err() {
                return Ok(());
            }
        }
        match next? {
            Some(line) => batch.add(line),
            None => return Ok(()),
        }
    }
}

impl Batch {
    fn add(&mut self, line: Line) {
        if self.first_line == 0 {
            self.first_line = line.number;
        }
        self.last_line = line.number;
        self.rows = line.row + 1;
        self.bytes += line.bytes;
        self.file_bytes = line.file_bytes;
        match line.document {
            Ok(document) => self.documents.push((line.number, document)),
            Err(reason) => self.skipped.push((line.number, reason)),
        }
    }
}

/// Batches end in any order; they are done with in their own.
#[derive(Default)]
struct Order {
    next: u64,
    waiting: BTreeMap<u64, Done>,
}

impl Order {
    fn take(&mut self, done: Done, mut settle: impl FnMut(&Done)) {
        self.waiting.insert(done.batch.ordinal, done);
        while let Some(done) = self.waiting.remove(&self.next) {
            settle(&done);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::import::source::IdFrom;

    fn batches(text: &str, documents: usize, on_error: OnError) -> (Vec<Batch>, anyhow::Result<()>) {
        let source = Source::read(
            Cursor::new(text.to_owned()),
            false,
            IdFrom::Field("id".into()),
            vec![],
            vec![],
        );
        let (sender, mut receiver) = mpsc::channel(1000);
        let ended = cut(source.unwrap(), documents, on_error, &sender);
        drop(sender);
        let mut batches = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            batches.push(batch);
        }
        (batches, ended)
    }

    #[test]
    fn batches_hold_consecutive_lines_and_count_bad_ones() {
        let text = "{\"id\":1}\n{\"id\":2}\nbad\n{\"id\":4}\n";
        let (batches, ended) = batches(text, 2, OnError::Skip);
        ended.unwrap();
        let shape = |batch: &Batch| {
            (
                batch.ordinal,
                batch.first_line,
                batch.last_line,
                batch.documents.len(),
                batch.skipped.len(),
            )
        };
        assert_eq!(
            batches.iter().map(shape).collect::<Vec<_>>(),
            [(0, 1, 2, 2, 0), (1, 3, 4, 1, 1)]
        );
        assert_eq!(batches[1].rows, 4);
    }

    #[test]
    fn what_stands_before_a_bad_line_is_sent_before_it_ends_the_import() {
        let (batches, ended) = batches("{\"id\":1}\nbad\n{\"id\":3}\n", 10, OnError::Stop);
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].last_line, 1);
        assert!(ended.unwrap_err().to_string().starts_with("line 2: not JSON"));
    }

    #[test]
    fn batches_settle_in_order() {
        let done = |ordinal| Done {
            batch: Batch {
                ordinal,
                ..Batch::default()
            },
            written: 0,
        };
        let mut order = Order::default();
        let mut settled = Vec::new();
        for ordinal in [1, 2, 0, 3] {
            order.take(done(ordinal), |done| settled.push(done.batch.ordinal));
        }
        assert_eq!(settled, [0, 1, 2, 3]);
    }

    #[test]
    fn the_document_that_a_refusal_names_is_found() {
        assert_eq!(named_document("documents[3].vectors[\"\"]: 2 components"), Some(3));
        assert_eq!(named_document("collection: missing"), None);
    }

    #[test]
    fn the_same_lines_are_the_same_request() {
        assert_eq!(request_id(7, 1, 5), request_id(7, 1, 5));
        assert_ne!(request_id(7, 1, 5), request_id(7, 1, 6));
        assert_ne!(request_id(7, 1, 5), request_id(7, 2, 5));
        assert_ne!(request_id(7, 1, 5), request_id(8, 1, 5));
    }
}
