//! What may a person write as a filter? Any text.
#![no_main]

// Each target calls one entry of them.
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::requests::filter(input));
