//! What must hold, whatever goes wrong? One promise a file.
//!
//! While a simulation runs: [`leaders`], [`entries`], [`once`]. When it is over, from the history of its clients:
//! [`order`], [`contents`], [`conditions`], [`sessions`], [`bounds`], [`refusals`]; and from its replicas: [`equal`],
//! [`healing`].
//!
//! The history is judged by the shard's sequence: every write taken has one of its own, every read says at which it was
//! made. So the order that a linearizable history must have is given, and need only be checked: it must agree with what
//! came before what ([`order`]), and every answer must be what that order leads to ([`contents`], [`conditions`]).

pub mod bounds;
pub mod conditions;
pub mod contents;
pub mod entries;
pub mod equal;
pub mod healing;
pub mod leaders;
pub mod once;
pub mod order;
pub mod refusals;
pub mod sessions;
