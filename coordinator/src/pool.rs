//! One connection to each node, opened when first used and again whenever it broke, and what its failures mean.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use granum_proto::status::{Failure, failure};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Most connections kept; beyond that all are forgotten, and those in use are opened again.
const CONNECTIONS_MAX: usize = 1_024;
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that has not answered a ping for `PING_TIMEOUT` is broken; pings are sent every `PING_INTERVAL`.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes under way on a stream, and on all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Connections by address.
#[derive(Default)]
pub(crate) struct Pool {
    channels: Mutex<HashMap<String, Channel>>,
}

impl Pool {
    /// A connection to `address` (`host:port`); it opens when it is used.
    pub fn channel(&self, address: &str) -> Result<Channel, Failure> {
        let mut channels = self.channels.lock().expect("nothing panics while holding it");
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Failure::Unavailable(format!("{address:?} is no address: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if channels.len() >= CONNECTIONS_MAX {
            channels.clear();
        }
        let channel = endpoint.connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// Why a call failed. What no Granum process said (it would have left details) and only a connection can have caused is
/// [`Failure::Unknown`] where the call may have been sent, and `Unavailable` where the connection never stood.
pub(crate) fn failure_of(status: &Status) -> Failure {
    let broken = [
        Code::Unknown,
        Code::Internal,
        Code::Unavailable,
        Code::Cancelled,
        Code::Aborted,
    ];
    if !status.details().is_empty() || !broken.contains(&status.code()) {
        return failure(status);
    }
    let message = format!("the connection broke: {}", status.message());
    if never_connected(status) {
        return Failure::Unavailable(message);
    }
    Failure::Unknown(message)
}

fn never_connected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind;
            return matches!(
                io.kind(),
                ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use granum_proto::internal::shard_client::ShardClient;

    use super::*;

    #[tokio::test]
    async fn a_node_that_is_not_there_has_done_nothing() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let channel = Pool::default().channel(&free.to_string()).unwrap();
        let status = ShardClient::new(channel)
            .report(granum_proto::internal::ReportRequest {})
            .await
            .unwrap_err();
        assert!(matches!(failure_of(&status), Failure::Unavailable(_)), "{status:?}");
    }

    #[test]
    fn a_connection_that_broke_may_have_carried_the_call() {
        let status = Status::internal("h2 protocol error: broken pipe");
        assert!(matches!(failure_of(&status), Failure::Unknown(_)));
        let said = Status::from(Failure::Fault("row 7 is damaged".into()));
        assert!(matches!(failure_of(&said), Failure::Fault(_)));
    }
}
