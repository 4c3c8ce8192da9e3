//! Wire forms to the words of `granum-model` and back, everything checked on the way in.
//!
//! [`id`], [`vector`], [`filter`], [`facet`], [`schema`]: one file per word. Reading is fallible and names
//! the field; writing can't fail.

pub mod facet;
pub mod filter;
mod geo;
pub mod id;
pub mod schema;
pub mod vector;
