//! How fast is the built-in embedder? `cargo bench -p granum-coordinator --bench embed [-- TEXTS.jsonl]`
//!
//! Prints the time to load it, the time of one short question on an idle embedder and behind an import, and texts a
//! second in bulk at one and at all threads. The texts are the model's reference texts over and over, or the field
//! `text` of a JSONL file.

use std::time::Instant;

use granum_coordinator::embed::{Embedder, MAX_TEXTS_PER_CALL};

const REFERENCE: &str = include_str!("../models/minilm-int8/reference.jsonl");
const QUESTION: &str = "play chess against the computer";
const TEXTS: usize = 400;

#[tokio::main]
async fn main() {
    let texts = texts();
    let words = texts.iter().map(|text| text.split_whitespace().count()).sum::<usize>() / texts.len();
    let all = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    for threads in [1, all] {
        let start = Instant::now();
        let embedder = Embedder::builtin(threads).expect("the built-in model loads");
        println!(
            "{threads} threads: loaded in {:.0} ms",
            start.elapsed().as_secs_f64() * 1e3
        );
        println!("  one question, idle: {:.2} ms", question_ms(&embedder).await);
        let start = Instant::now();
        let import = tokio::spawn({
            let (embedder, texts) = (embedder.clone(), texts.clone());
            async move { embedder.embed(texts).await }
        });
        tokio::task::yield_now().await;
        println!(
            "  one question, behind an import: {:.2} ms",
            question_ms(&embedder).await
        );
        import
            .await
            .expect("the import does not panic")
            .expect("the import embeds");
        let rate = texts.len() as f64 / start.elapsed().as_secs_f64();
        println!("  bulk: {rate:.0} texts/s (mean {words} words)");
    }
}

/// The median of nine.
async fn question_ms(embedder: &Embedder) -> f64 {
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        embedder.embed(vec![QUESTION.into()]).await.expect("a question embeds");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn texts() -> Vec<String> {
    let file = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let lines = file.map(|path| std::fs::read_to_string(path).expect("the file of texts can be read"));
    let text = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        value["text"].as_str().expect("a line has a text").to_owned()
    };
    let lines = lines.as_deref().unwrap_or(REFERENCE);
    lines
        .lines()
        .cycle()
        .take(TEXTS.min(MAX_TEXTS_PER_CALL))
        .map(text)
        .collect()
}
