//! What holds the whole together? The tests beside this library do, each a binary of its own; here is what they share.
//!
//! `tidy` reads the tree as text and holds it to the house rules; `cluster` starts real processes of the binary `granum`
//! ([`processes`]) and kills them; `faults` does so under load, checks the history and counts ([`faults`], also the program
//! of that name); `python/` is run by pytest against the same binary; `acceptance/` is run by hand on real data.
#![warn(missing_docs)]

pub mod faults;
mod ports;
pub mod processes;
