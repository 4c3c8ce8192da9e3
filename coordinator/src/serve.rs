//! How a coordinator starts, serves on its three ports, and stops without breaking a request off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use granum_proto::limits;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::{Config, Coordinator, service};

/// Bytes that one gRPC stream, and all streams of a connection, may have under way: large batches need no pauses.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is out of bounds.
    #[error("{0}")]
    Setting(#[from] limits::Invalid),
    /// An address that other machines can reach, without `insecure`.
    #[error(
        "{setting} = {address} can be reached from other machines, and there is no authentication yet: set insecure (--insecure) to allow it"
    )]
    Insecure {
        /// The setting's name.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// An address can't be listened on.
    #[error("{address}: {error}; another address is set with --{flag}")]
    Listen {
        /// The flag that changes it, without dashes.
        flag: String,
        /// The address as set.
        address: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The embedding model can't be used.
    #[error("{0}")]
    Embedder(String),
}

/// A coordinator that serves.
pub struct Running {
    coordinator: Coordinator,
    http: SocketAddr,
    grpc: SocketAddr,
    metrics: SocketAddr,
    stop: CancellationToken,
    stop_watching: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    watching: Vec<JoinHandle<()>>,
    drain: Duration,
}

impl Running {
    /// The object behind both ports.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where gRPC is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Where metrics and health are served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// Stops: says "not ready", takes no new connections, gives requests `drain_timeout_ms` to finish, and returns when
    /// everything that ran has ended.
    pub async fn stop(self) {
        self.coordinator.drain();
        self.stop.cancel();
        let deadline = tokio::time::Instant::now() + self.drain;
        for mut server in self.servers {
            if tokio::time::timeout_at(deadline, &mut server).await.is_err() {
                tracing::warn!("requests were broken off: they took longer than drain_timeout_ms");
                server.abort();
                let _ended = server.await;
            }
        }
        self.stop_watching.cancel();
        for task in self.watching {
            let _ended = task.await;
        }
    }
}

/// Binds the three ports, then begins to follow the cluster's map. Returns as soon as the ports answer; whether the
/// cluster does is what `/readyz` says.
pub async fn start(config: Config) -> Result<Running, StartError> {
    config.check()?;
    let http = bind("listen_http", &config.listen_http, config.insecure).await?;
    let grpc = bind("listen_grpc", &config.listen_grpc, config.insecure).await?;
    let metrics = bind("listen_metrics", &config.listen_metrics, config.insecure).await?;
    let (stop, stop_watching) = (CancellationToken::new(), CancellationToken::new());
    let (coordinator, watching) = Coordinator::open(&config, stop_watching.clone())?;
    let addresses = (local(&http), local(&grpc), local(&metrics));
    tracing::info!(http = %addresses.0, grpc = %addresses.1, metrics = %addresses.2, "coordinator serves");
    let servers = vec![
        tokio::spawn(serve_http(http, crate::http::router(coordinator.clone()), stop.clone())),
        tokio::spawn(serve_grpc(grpc, coordinator.clone(), stop.clone())),
        tokio::spawn(serve_http(metrics, health_router(coordinator.clone()), stop.clone())),
    ];
    Ok(Running {
        coordinator,
        http: addresses.0,
        grpc: addresses.1,
        metrics: addresses.2,
        stop,
        stop_watching,
        servers,
        watching,
        drain: Duration::from_millis(config.drain_timeout_ms),
    })
}

fn local(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound socket has an address")
}

async fn bind(setting: &'static str, address: &str, insecure: bool) -> Result<TcpListener, StartError> {
    let failed = |error| StartError::Listen {
        flag: setting.replace('_', "-"),
        address: address.to_owned(),
        error,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    if !bound.ip().is_loopback() && !insecure {
        return Err(StartError::Insecure {
            setting,
            address: bound,
        });
    }
    Ok(listener)
}

async fn serve_http(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "an HTTP port is no longer served");
    }
}

async fn serve_grpc(listener: TcpListener, coordinator: Coordinator, stop: CancellationToken) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = tonic::transport::Server::builder()
        .max_concurrent_streams(limits::STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_routes(service::routes(coordinator))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the gRPC port is no longer served");
    }
}

/// `/metrics`, `/livez`, `/readyz`, and nothing else.
fn health_router(coordinator: Coordinator) -> Router {
    let coordinator = Arc::new(coordinator);
    let metrics = {
        let coordinator = coordinator.clone();
        move || async move {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, coordinator.metrics_text())
        }
    };
    let ready = move || async move {
        match coordinator.ready() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()).into_response(),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> Config {
        Config {
            listen_http: "127.0.0.1:0".into(),
            listen_grpc: "127.0.0.1:0".into(),
            listen_metrics: "127.0.0.1:0".into(),
            ..Config::default()
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_flag_that_changes_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            listen_grpc: taken.local_addr().unwrap().to_string(),
            ..any_port()
        };
        let error = start(config).await.err().unwrap().to_string();
        assert!(error.contains("--listen-grpc"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_others_reach_needs_insecure() {
        let config = Config {
            listen_http: "0.0.0.0:0".into(),
            ..any_port()
        };
        let error = start(config.clone()).await.err().unwrap();
        assert!(
            matches!(
                error,
                StartError::Insecure {
                    setting: "listen_http",
                    ..
                }
            ),
            "{error}"
        );
        let running = start(Config {
            insecure: true,
            ..config
        })
        .await
        .unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn without_a_cluster_it_serves_and_says_that_it_is_not_ready() {
        let running = start(any_port()).await.unwrap();
        assert!(running.coordinator().ready().is_err());
        let asked = running.coordinator().count(Default::default()).await;
        assert!(
            matches!(asked, Err(granum_proto::status::Failure::Unavailable(_))),
            "{asked:?}"
        );
        running.stop().await;
    }
}
