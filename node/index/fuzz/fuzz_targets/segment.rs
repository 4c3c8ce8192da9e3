//! What may a segment hold? Edits of each kind of file, checksums right.
#![no_main]

// Each target calls one entry of them.
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::segment(input));
