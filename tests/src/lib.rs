//! What holds the whole together? Nothing lives in this library: the tests beside it do, each a binary of its own.
//!
//! `tidy` reads the tree as text and holds it to the house rules; `cluster` starts real processes of the binary `granum`
//! and kills them; `python/` is run by pytest against the same binary; `acceptance/` is run by hand on real data.
#![warn(missing_docs)]
