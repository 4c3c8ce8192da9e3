//! What Granum's processes say to each other, and the rules that both ends of a call share.
//!
//! [`v1`] is the public API, [`internal`] is spoken between nodes and from coordinator to node; both are generated from
//! `proto/granum/**.proto` by protox and tonic, so no protoc is needed. Around them: [`convert`] (wire forms to and from
//! the words of `granum-model`, everything checked), [`limits`] (the bounds, by name), [`status`] (how a failure
//! travels), [`ids`] (request ids, and the hash that places a document).
#![warn(missing_docs)]

pub mod convert;
pub mod ids;
pub mod limits;
pub mod status;

pub use generated::granum::internal::v1 as internal;
pub use generated::granum::v1;

/// What tonic generates, nested as the packages are, because messages of one package name those of the other.
#[allow(missing_docs, clippy::all)]
mod generated {
    pub mod granum {
        pub mod v1 {
            tonic::include_proto!("granum.v1");
        }
        pub mod internal {
            pub mod v1 {
                tonic::include_proto!("granum.internal.v1");
            }
        }
    }
}

#[cfg(all(feature = "next-version", not(debug_assertions)))]
compile_error!("next-version is for tests of rolling upgrades: it can't be part of a release build");

/// Version of `granum.internal.v1` this build speaks.
pub const PROTOCOL_VERSION: u32 = 1 + VERSIONS_AHEAD;

/// How much later than it is this build says it is: 1 with the feature `next-version`.
pub const VERSIONS_AHEAD: u32 = cfg!(feature = "next-version") as u32;

/// Whether builds of that protocol version and of this one work together: neighbours do, so that a cluster is upgraded one
/// process after the other.
pub const fn works_with(version: u32) -> bool {
    version != 0 && version.abs_diff(PROTOCOL_VERSION) <= 1
}
