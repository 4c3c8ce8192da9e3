//! The Rust SDK of Granum: ask a cluster, change what it holds, look after it.
//!
//! A [`Client`] knows one or several coordinators, all equals. It takes turns between them, moves on where one does not
//! answer, and repeats what may be repeated, with the same request id, until the deadline: a write that was sent twice
//! is applied once. What may have happened is said to be unknown, never to have failed.
//!
//! Reading order: [`Client`] and [`ClientBuilder`], then the three groups of calls, each with its error:
//! [`search`] ([`SearchError`]), [`write`](mod@write) ([`WriteError`]), [`admin`] ([`AdminError`]). [`filter`] reads and
//! prints the language of filters, [`document`] holds what goes in and what comes back, `call` the one loop that
//! sends, waits and repeats.
//!
//! ```no_run
//! use granum_client::{Client, Document, VectorField};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().url("http://10.0.0.1:6334").url("http://10.0.0.2:6334").build()?;
//! client
//!     .create_collection("books")
//!     .vector(VectorField::dense("", 384).embedder("builtin"))
//!     .shards(2)
//!     .send()
//!     .await?;
//!
//! let book = Document::new("moby-dick").payload(&serde_json::json!({"title": "Moby-Dick", "year": 1851}))?;
//! client.upsert("books", vec![book.text("", "A captain hunts a white whale.")]).await?;
//!
//! let answer = client.query("books").text("obsession at sea").filter("year < 1900")?.limit(3).with_payload().send().await?;
//! for hit in &answer.hits {
//!     println!("{} {:.3}", hit.id, hit.score);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Left out: TLS and credentials (they come with the servers'), and blocking calls (the crate speaks tokio).
#![warn(missing_docs)]

pub mod admin;
mod builder;
mod call;
mod client;
pub mod document;
pub mod error;
mod facet;
pub mod filter;
mod read_level;
pub mod scroll;
pub mod search;
mod session;
pub mod write;

pub use admin::{CreateCollection, VectorField};
pub use builder::{BuildError, ClientBuilder};
pub use client::Client;
pub use document::{Document, Hit, StoredDocument};
pub use error::{AdminError, SearchError, WriteError};
pub use facet::Facet;
pub use filter::FilterError;
pub use granum_model::{DocId, FacetHit, FacetValue, Filter, PayloadKind, RequestId};
pub use granum_proto::limits;
pub use granum_proto::status::Failure;
/// The messages of the public API, where a reply is handed on as it came: [`v1::ReplyInfo`], [`v1::CollectionInfo`].
pub use granum_proto::v1;
pub use read_level::ReadLevel;
pub use scroll::Scroll;
pub use search::{Answer, Query};
pub use write::{Outcome, Written};
