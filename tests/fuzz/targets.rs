//! What may hostile bytes do to a node or a coordinator? Be refused, or mean something; no panic, no endless loop, no
//! memory beyond what their length explains.
//!
//! An entry a reader: [`disk`] is what a node finds on its own disk (log, manifest, register), [`peers`] what other nodes send
//! it, [`requests`] what clients send. Whatever is read is written again and read once more, and must be equal. cargo-fuzz calls
//! these, and so does tests/fuzz.rs, on the committed corpus. The index's files have theirs in node/index/fuzz.

#[path = "disk.rs"]
pub mod disk;
#[path = "peers.rs"]
pub mod peers;
#[path = "requests.rs"]
pub mod requests;
