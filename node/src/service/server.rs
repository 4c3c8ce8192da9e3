//! How are the two gRPC ports served? Limits, keepalive and message sizes, and what is done above them: refuse at once.

use std::time::Duration;

use granum_proto::internal::raft_server::RaftServer;
use granum_proto::internal::register_server::RegisterServer;
use granum_proto::internal::shard_server::ShardServer;
use granum_proto::limits::{MESSAGE_IN_BYTES_MAX, MESSAGE_OUT_BYTES_MAX, STREAMS_MAX};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use super::raft::RaftService;
use super::register::RegisterService;
use super::shard::ShardService;
use crate::raft::network::MESSAGE_BYTES_MAX;

/// After this much silence a connection is asked whether it lives, and given as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Serves the Raft port until its runtime ends.
pub async fn serve_raft(listener: TcpListener, service: RaftService) {
    let service = RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(MESSAGE_BYTES_MAX as u32)
        .initial_connection_window_size(MESSAGE_BYTES_MAX as u32)
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the Raft port is no longer served");
    }
}

/// What coordinators and tools call.
pub struct DataPort {
    /// Everything about shards.
    pub shards: ShardService,
    /// The register.
    pub register: RegisterService,
    /// Requests served at once.
    pub requests_max: usize,
}

impl DataPort {
    /// Serves until `stop`, then lets requests finish.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let shards = ShardServer::new(self.shards)
            .max_decoding_message_size(MESSAGE_IN_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_OUT_BYTES_MAX);
        let register = RegisterServer::new(self.register)
            .max_decoding_message_size(MESSAGE_IN_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_OUT_BYTES_MAX);
        // Shedding outside the limit: what is over it is refused at once instead of waiting unseen.
        let bounded = ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(self.requests_max));
        let served = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS_MAX)
            .layer(bounded)
            .add_service(shards)
            .add_service(register)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                stop.cancelled_owned(),
            )
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the data port is no longer served");
        }
    }
}
