//! From a call on a shard to an answer of one of its replicas.
//!
//! `plan` (pure): which replicas, in which order. `call`: sends, repeats what may be repeated, follows hints, keeps the
//! deadline. `repeat`: what its attempts have taught. `rpc`: the calls there are. `health`: which nodes failed lately, and who led. `hedge`: when a second replica
//! is asked because the first is slow. `allowance`: how many extra calls there may be.

mod allowance;
pub(crate) mod call;
pub(crate) mod health;
pub(crate) mod hedge;
pub(crate) mod plan;
mod repeat;
pub(crate) mod rpc;
