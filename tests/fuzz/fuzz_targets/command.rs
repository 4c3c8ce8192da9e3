//! What may a log entry ask of a shard? Any bytes.
#![no_main]

// Each target calls one entry of them.
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::disk::command(input));
