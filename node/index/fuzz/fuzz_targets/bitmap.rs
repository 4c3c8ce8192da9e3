//! What may stand where a roaring bitmap is expected? Any bytes.
#![no_main]

// Each target calls one entry of them.
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::bitmap(input));
