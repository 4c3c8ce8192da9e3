//! What may a node send as a snapshot? Any chunks.
#![no_main]

// Each target calls one entry of them.
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::peers::snapshot(input));
