//! Which coordinators, how long to wait, and what is kept between calls.

use std::time::Duration;

use granum_proto::limits;
use tonic::transport::Endpoint;

use crate::client::{Client, Coordinator};

/// Time to connect before the next coordinator is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence on a connection after which it is probed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long nobody may be reachable before a call fails, where the caller names nothing else.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(5);

/// Makes a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    urls: Vec<String>,
    timeout: Duration,
    patience: Duration,
}

/// Why no client was made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Name at least one coordinator.
    #[error("no coordinator named: give at least one url, such as http://127.0.0.1:6334")]
    NoUrl,
    /// Correct this url.
    #[error("url {url:?}: {problem}, must be like http://127.0.0.1:6334")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Correct the timeout.
    #[error("timeout: {given_ms} ms, must be 1..={} ms", limits::TIMEOUT_MS_MAX)]
    Timeout {
        /// As given, in milliseconds.
        given_ms: u128,
    },
    /// Call `build` inside a tokio runtime.
    #[error("a client lives in a tokio runtime, and there is none here")]
    NoRuntime,
}

impl ClientBuilder {
    pub(crate) fn new() -> Self {
        ClientBuilder {
            urls: Vec::new(),
            timeout: Duration::from_millis(limits::TIMEOUT_MS_DEFAULT),
            patience: PATIENCE_DEFAULT,
        }
    }

    /// Adds a coordinator's gRPC address, such as `http://127.0.0.1:6334`; `http://` may be left out.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// How long a call may take, repetitions included; 30 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long, within the timeout, a call goes on trying while no coordinator can be reached at all; 5 s unless set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The client. Connections are made when first needed.
    pub fn build(self) -> Result<Client, BuildError> {
        if self.urls.is_empty() {
            return Err(BuildError::NoUrl);
        }
        if self.timeout.is_zero() || self.timeout.as_millis() > u128::from(limits::TIMEOUT_MS_MAX) {
            return Err(BuildError::Timeout {
                given_ms: self.timeout.as_millis(),
            });
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BuildError::NoRuntime);
        }
        let coordinators = self.urls.iter().map(|url| coordinator(url)).collect::<Result<_, _>>()?;
        Ok(Client::new(coordinators, self.timeout, self.patience))
    }
}

fn coordinator(given: &str) -> Result<Coordinator, BuildError> {
    let wrong = |problem: &str| BuildError::Url {
        url: given.to_owned(),
        problem: problem.to_owned(),
    };
    let trimmed = given.trim().trim_end_matches('/');
    let url = match trimmed.split_once("://") {
        None => format!("http://{trimmed}"),
        Some(("http", _)) => trimmed.to_owned(),
        Some(("https", _)) => return Err(wrong("TLS is not spoken yet")),
        Some((scheme, _)) => return Err(wrong(&format!("unknown scheme {scheme:?}"))),
    };
    let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| wrong("not a url"))?;
    match (endpoint.uri().host(), endpoint.uri().port_u16()) {
        (None | Some(""), _) => return Err(wrong("no host")),
        (_, None) => return Err(wrong("no port")),
        _ => {}
    }
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_adaptive_window(true);
    Ok(Coordinator {
        url,
        channel: endpoint.connect_lazy(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(url: &str, problem: &str) {
        let error = Client::builder().url(url).build().unwrap_err().to_string();
        assert!(error.contains(problem), "{url}: {error}");
    }

    #[tokio::test]
    async fn urls_are_checked_before_anything_is_sent() {
        refused("https://a:1", "TLS");
        refused("ftp://a:1", "scheme");
        refused("http://a", "no port");
        refused("", "url");
        refused("http://a b:1", "not a url");
        assert!(Client::builder().url("127.0.0.1:6334/").build().is_ok());
        assert!(matches!(Client::builder().build(), Err(BuildError::NoUrl)));
    }

    #[test]
    fn outside_a_runtime_there_is_an_error_and_no_panic() {
        assert!(matches!(
            Client::builder().url("http://a:1").build(),
            Err(BuildError::NoRuntime)
        ));
    }
}
