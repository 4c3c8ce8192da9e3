//! The words that every part of Granum shares: what is a document's id, a vector, a filter, a hit, and which hit is better?
//!
//! Reading order: [`ids`] (who), [`vector`], [`scaled`] and [`schema`] (what), [`filter`] (which), [`hit`] (how good, and in which
//! order), [`facet`] (how many). The crate depends on nothing and does no input or output, so that the index, the node, the
//! coordinator and the client can all speak it without knowing each other. Wire forms live in `granum-proto`.
#![warn(missing_docs)]

pub mod datetime;
pub mod facet;
pub mod filter;
pub mod hit;
pub mod ids;
pub mod scaled;
pub mod schema;
pub mod setting;
pub mod vector;

pub use facet::{FacetHit, FacetValue};
pub use filter::{Condition, Filter, Scalar};
pub use hit::{Hit, ScoreInterval};
pub use ids::{CollectionId, DocId, NodeId, ReplicaId, RequestId, ShardId};
pub use schema::{Distance, Fine, PayloadField, PayloadKind, Schema, VectorField, VectorKind};
pub use setting::Setting;
pub use vector::{Dense, Vector};
