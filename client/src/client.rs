//! The handle itself: who can be asked, and what a session has seen. Cheap to clone; clones share connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::Channel;

use crate::builder::ClientBuilder;
use crate::session::Session;

/// A cluster, by its coordinators.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<Pool>,
    pub(crate) timeout: Duration,
    pub(crate) session: Option<Arc<Session>>,
}

/// One coordinator and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    pub url: String,
    pub channel: Channel,
}

#[derive(Debug)]
struct Pool {
    /// At least one.
    coordinators: Vec<Coordinator>,
    patience: Duration,
    /// Whose turn it is, modulo their number.
    turn: AtomicUsize,
}

impl Client {
    /// Begins with no coordinator and a timeout of 30 s.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    pub(crate) fn new(coordinators: Vec<Coordinator>, timeout: Duration, patience: Duration) -> Self {
        assert!(!coordinators.is_empty(), "a client needs a coordinator");
        let pool = Pool {
            coordinators,
            patience,
            turn: AtomicUsize::new(0),
        };
        Client {
            pool: Arc::new(pool),
            timeout,
            session: None,
        }
    }

    /// The same cluster with another timeout.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Client {
            timeout,
            ..self.clone()
        }
    }

    /// The same cluster in a session of its own: its reads see all that it wrote and all that it has read before, unless
    /// they name a read level themselves.
    pub fn session(&self) -> Self {
        Client {
            session: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// What the session has seen so far; none outside a session.
    pub fn session_token(&self) -> Option<crate::v1::SessionToken> {
        self.session.as_ref().map(|session| session.token())
    }

    pub(crate) fn patience(&self) -> Duration {
        self.pool.patience
    }

    pub(crate) fn coordinators(&self) -> &[Coordinator] {
        &self.pool.coordinators
    }

    /// Where the next call begins.
    pub(crate) fn next_turn(&self) -> usize {
        self.pool.turn.fetch_add(1, Ordering::Relaxed) % self.pool.coordinators.len()
    }
}
