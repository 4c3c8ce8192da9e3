//! Who embeds, on which threads, and what happens when there is too much?
//!
//! Each worker is a rayon pool of one thread, so the products that candle hands to "the current pool" stay on it:
//! they never spread over rayon's global pool, which others use, and a busy embedder leaves the rest of the machine
//! alone. Workers take single texts from one bounded queue and pack texts of different calls together: reading the
//! weights costs the same for one short query as for ten. Calls of a few texts are questions that somebody waits
//! for; they overtake the bulk of an import, though never for good.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;

use super::EmbedError;

/// Texts that one call may bring.
pub const MAX_TEXTS_PER_CALL: usize = 4_096;

/// Texts that may wait, of all calls together.
pub const MAX_WAITING_TEXTS: usize = 16_384;

/// Bytes of text that may wait, of all calls together. A single text may be larger when nothing else waits.
pub const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// A call of at most this many texts overtakes larger ones.
const QUICK_TEXTS: usize = 4;

/// Batches of quick texts that a batch of the bulk may be overtaken by.
const MAX_OVERTAKEN: usize = 8;

/// Texts that a worker takes at once: a question waits for at most that many texts of an import.
const BATCH_TEXTS: usize = 8;

const _: () = assert!(MAX_TEXTS_PER_CALL <= MAX_WAITING_TEXTS && BATCH_TEXTS >= QUICK_TEXTS);

type Answer = Result<Vec<Vec<f32>>, EmbedError>;

/// The threads and their queue. Dropped, it lets them finish their batch and end.
pub(super) struct Workers {
    queue: Arc<Queue>,
    _threads: Vec<ThreadPool>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    quick: VecDeque<Text>,
    bulk: VecDeque<Text>,
    bytes: usize,
    /// Batches that have overtaken the head of `bulk`.
    overtaken: usize,
    closed: bool,
}

/// One text of a call.
struct Text {
    text: String,
    place: usize,
    call: Arc<Mutex<Call>>,
}

/// What a call has got so far.
struct Call {
    vectors: Vec<Vec<f32>>,
    missing: usize,
    /// Taken by the answer.
    reply: Option<oneshot::Sender<Answer>>,
}

impl Workers {
    /// Starts `threads` workers (at least one), each of which embeds batches of at most `BATCH_TEXTS` with `embed`.
    pub fn start(
        threads: usize,
        embed: impl Fn(&[&str]) -> Answer + Send + Sync + 'static,
    ) -> Result<Self, EmbedError> {
        let (queue, embed) = (Arc::new(Queue::default()), Arc::new(embed));
        let start = |worker: usize| {
            let builder = ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(move |_| format!("embed-{worker}"));
            let thread = builder.build().map_err(|error| EmbedError::Failed(error.to_string()))?;
            let (queue, embed) = (queue.clone(), embed.clone());
            thread.spawn(move || queue.work(&*embed));
            Ok(thread)
        };
        let threads = (0..threads.max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            queue,
            _threads: threads,
        })
    }

    /// Queues `texts` and waits for their vectors.
    pub async fn embed(&self, texts: Vec<String>) -> Answer {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.queue.push(texts)?;
        answer
            .await
            .unwrap_or_else(|_| Err(EmbedError::Failed("a worker gave up; the log says why".into())))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a call whole or refuses it whole.
    fn push(&self, texts: Vec<String>) -> Result<oneshot::Receiver<Answer>, EmbedError> {
        if texts.len() > MAX_TEXTS_PER_CALL {
            return Err(EmbedError::TooManyTexts { texts: texts.len() });
        }
        let mut waiting = self.lock();
        waiting.admit(&texts)?;
        let (reply, answer) = oneshot::channel();
        let call = Call {
            vectors: vec![Vec::new(); texts.len()],
            missing: texts.len(),
            reply: Some(reply),
        };
        let (call, quick) = (Arc::new(Mutex::new(call)), texts.len() <= QUICK_TEXTS);
        let lane = if quick { &mut waiting.quick } else { &mut waiting.bulk };
        lane.extend(texts.into_iter().enumerate().map(|(place, text)| Text {
            text,
            place,
            call: call.clone(),
        }));
        drop(waiting);
        self.changed.notify_all();
        Ok(answer)
    }

    /// A worker's life: batch after batch until the queue is closed.
    fn work(&self, embed: &dyn Fn(&[&str]) -> Answer) {
        while let Some(batch) = self.next_batch() {
            if batch.is_empty() {
                continue;
            }
            let texts: Vec<&str> = batch.iter().map(|text| text.text.as_str()).collect();
            let answer = catch_unwind(AssertUnwindSafe(|| embed(&texts)))
                .unwrap_or_else(|_| Err(EmbedError::Failed("the model panicked".into())));
            debug_assert!(
                answer.as_ref().map_or(true, |vectors| vectors.len() == texts.len()),
                "a vector for each text"
            );
            deliver(&batch, answer);
        }
    }

    /// Waits for texts; none of a call that nobody waits for any more. `None` when the queue is closed.
    fn next_batch(&self) -> Option<Vec<Text>> {
        let mut waiting = self.lock();
        while !waiting.closed && waiting.texts() == 0 {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.closed {
            return None;
        }
        let mut batch = waiting.take_batch();
        drop(waiting);
        batch.retain(|text| text.call().reply.as_ref().is_some_and(|reply| !reply.is_closed()));
        Some(batch)
    }
}

impl Waiting {
    fn texts(&self) -> usize {
        self.quick.len() + self.bulk.len()
    }

    fn admit(&mut self, texts: &[String]) -> Result<(), EmbedError> {
        let bytes = texts.iter().map(String::len).sum::<usize>();
        let (waiting, over) = (self.texts(), self.bytes + bytes > MAX_WAITING_BYTES);
        if waiting + texts.len() > MAX_WAITING_TEXTS || (over && waiting > 0) {
            return Err(EmbedError::Busy { waiting });
        }
        self.bytes += bytes;
        Ok(())
    }

    fn take_batch(&mut self) -> Vec<Text> {
        let bulk_turn = self.quick.is_empty() || (self.overtaken >= MAX_OVERTAKEN && !self.bulk.is_empty());
        self.overtaken = if bulk_turn { 0 } else { self.overtaken + 1 };
        let lane = if bulk_turn { &mut self.bulk } else { &mut self.quick };
        let batch: Vec<Text> = lane.drain(..lane.len().min(BATCH_TEXTS)).collect();
        self.bytes -= batch.iter().map(|text| text.text.len()).sum::<usize>();
        batch
    }
}

impl Text {
    fn call(&self) -> MutexGuard<'_, Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each text of a batch its vector, or its call the error; the last text answers its call.
fn deliver(batch: &[Text], answer: Answer) {
    match answer {
        Ok(vectors) => {
            batch
                .iter()
                .zip(vectors)
                .for_each(|(text, vector)| text.call().give(text.place, vector));
        }
        Err(error) => batch.iter().for_each(|text| text.call().fail(error.clone())),
    }
}

impl Call {
    fn give(&mut self, place: usize, vector: Vec<f32>) {
        self.vectors[place] = vector;
        self.missing -= 1;
        if self.missing == 0 {
            let vectors = std::mem::take(&mut self.vectors);
            self.answer(Ok(vectors));
        }
    }

    fn fail(&mut self, error: EmbedError) {
        self.answer(Err(error));
    }

    /// Answers once; a caller who has gone is no error.
    fn answer(&mut self, answer: Answer) {
        if let Some(reply) = self.reply.take() {
            let _gone = reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Workers that put a text's length into its vector, after `gate` has let the batch through.
    fn gated() -> (Arc<Workers>, mpsc::Sender<()>, mpsc::Receiver<Vec<String>>) {
        let (open, gate) = mpsc::channel();
        let (begun, batches) = mpsc::channel();
        let gate = Mutex::new((gate, begun));
        let workers = Workers::start(1, move |texts: &[&str]| {
            let (gate, begun) = &*gate.lock().unwrap();
            let _gone = begun.send(texts.iter().map(|text| text.to_string()).collect());
            let _gone = gate.recv();
            Ok(texts.iter().map(|text| vec![text.len() as f32]).collect())
        });
        (Arc::new(workers.unwrap()), open, batches)
    }

    fn call(workers: &Arc<Workers>, texts: Vec<String>) -> tokio::task::JoinHandle<Answer> {
        let answer = workers.queue.push(texts);
        tokio::spawn(async move { answer?.await.unwrap() })
    }

    fn texts(count: usize, text: &str) -> Vec<String> {
        vec![text.to_owned(); count]
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn vectors_come_back_in_the_order_of_the_texts() {
        let workers = Workers::start(3, |texts: &[&str]| {
            Ok(texts.iter().map(|text| vec![text.len() as f32]).collect())
        })
        .unwrap();
        let texts: Vec<String> = (0..500).map(|length| "x".repeat(length)).collect();
        let vectors = workers.embed(texts).await.unwrap();
        assert!(
            vectors
                .iter()
                .enumerate()
                .all(|(length, vector)| vector == &[length as f32])
        );
        assert!(workers.embed(Vec::new()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_question_overtakes_an_import_but_not_for_good() {
        let (workers, open, batches) = gated();
        let import = call(&workers, texts(BATCH_TEXTS * 2, "import"));
        assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), texts(BATCH_TEXTS, "import"));
        let questions: Vec<_> = (0..100).map(|_| call(&workers, texts(1, "question"))).collect();
        for _ in 0..MAX_OVERTAKEN {
            open.send(()).unwrap();
            assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), texts(BATCH_TEXTS, "question"));
        }
        open.send(()).unwrap();
        assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), texts(BATCH_TEXTS, "import"));
        drop(open);
        assert_eq!(import.await.unwrap().unwrap().len(), BATCH_TEXTS * 2);
        for question in questions {
            assert_eq!(question.await.unwrap().unwrap(), [[8.0]]);
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_a_call_whole_and_takes_it_later() {
        let (workers, open, batches) = gated();
        let first = call(&workers, texts(1, "first"));
        batches.recv_timeout(PATIENCE).unwrap();
        let full: Vec<_> = (0..4)
            .map(|_| call(&workers, texts(MAX_TEXTS_PER_CALL, "bulk")))
            .collect();
        let refused = workers.embed(texts(1, "one more")).await;
        assert!(
            matches!(
                refused,
                Err(EmbedError::Busy {
                    waiting: MAX_WAITING_TEXTS
                })
            ),
            "{refused:?}"
        );
        drop(open);
        first.await.unwrap().unwrap();
        for bulk in full {
            assert_eq!(bulk.await.unwrap().unwrap().len(), MAX_TEXTS_PER_CALL);
        }
        assert_eq!(workers.embed(texts(1, "one more")).await.unwrap(), [[8.0]]);
        assert_eq!(workers.queue.lock().bytes, 0);
    }

    #[tokio::test]
    async fn texts_are_bounded_in_bytes_and_number() {
        let (workers, open, batches) = gated();
        let huge = call(&workers, texts(1, &"x".repeat(MAX_WAITING_BYTES + 1)));
        batches.recv_timeout(PATIENCE).unwrap();
        let half = "x".repeat(MAX_WAITING_BYTES / 2);
        let halves = [call(&workers, texts(1, &half)), call(&workers, texts(1, &half))];
        let refused = workers.embed(texts(1, "x")).await;
        assert!(matches!(refused, Err(EmbedError::Busy { waiting: 2 })), "{refused:?}");
        let refused = workers.embed(texts(MAX_TEXTS_PER_CALL + 1, "")).await;
        assert!(matches!(refused, Err(EmbedError::TooManyTexts { .. })), "{refused:?}");
        drop(open);
        huge.await.unwrap().unwrap();
        for half in halves {
            half.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_embedded() {
        let (workers, open, batches) = gated();
        let first = call(&workers, texts(1, "first"));
        batches.recv_timeout(PATIENCE).unwrap();
        drop(workers.queue.push(texts(100, "withdrawn")));
        let last = call(&workers, texts(BATCH_TEXTS, "last"));
        drop(open);
        first.await.unwrap().unwrap();
        last.await.unwrap().unwrap();
        assert!(batches.try_iter().flatten().all(|text| text == "last"));
    }

    #[tokio::test]
    async fn a_panic_fails_its_batch_and_nothing_else() {
        let workers = Workers::start(1, |texts: &[&str]| {
            assert!(!texts.contains(&"poison"), "as the test asks");
            Ok(vec![vec![1.0]; texts.len()])
        });
        let workers = workers.unwrap();
        let poisoned = workers.embed(texts(1, "poison")).await;
        assert!(matches!(poisoned, Err(EmbedError::Failed(_))), "{poisoned:?}");
        assert_eq!(workers.embed(texts(1, "fine")).await.unwrap(), [[1.0]]);
    }
}
