//! How a question becomes calls to shards, and their answers one answer.
//!
//! `ask`: a request of `granum.v1`, checked against limits and schema, as the query that shards understand. `fan_out`:
//! one call a shard, and what the reply says about itself (coverage, token, reports). `search`: the k best, one query or
//! many. `read`: by id, in order, how many. `facet`: how many of each value. Levels of freshness: `level`.

pub(crate) mod ask;
pub(crate) mod facet;
pub(crate) mod fan_out;
pub(crate) mod level;
pub(crate) mod read;
pub(crate) mod search;
