//! A relay before a node's Raft port, which can be told to stop after so many bytes, and to cut all connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes forwarded at once.
const PIECE_BYTES: usize = 16 << 10;

/// Forwards connections to one address.
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// Bytes towards the node that may still pass.
    left_bytes: AtomicI64,
    is_cut: watch::Sender<bool>,
}

impl Relay {
    /// Forwards to `to` from a port of its own.
    pub async fn start(to: String) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay {
            address: listener.local_addr().unwrap(),
            state: Arc::new(State {
                left_bytes: AtomicI64::new(i64::MAX),
                is_cut: watch::Sender::new(false),
            }),
        };
        let state = relay.state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, to.clone(), state.clone()));
            }
        });
        relay
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets so many bytes through to the node from now on. Connections stand, and nothing more passes.
    pub fn stop_after(&self, bytes: u64) {
        self.state.left_bytes.store(bytes as i64, Ordering::SeqCst);
    }

    /// Cuts all connections, new ones too.
    pub fn cut(&self) {
        self.state.is_cut.send_replace(true);
    }

    /// Lets everything through again.
    pub fn open(&self) {
        self.state.left_bytes.store(i64::MAX, Ordering::SeqCst);
        self.state.is_cut.send_replace(false);
    }
}

async fn carry(client: TcpStream, to: String, state: Arc<State>) {
    let mut is_cut = state.is_cut.subscribe();
    if *is_cut.borrow_and_update() {
        return;
    }
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = is_cut.wait_for(|is_cut| *is_cut) => {}
        () = forward(from_client, to_server, Some(&state)) => {}
        () = forward(from_server, to_client, None) => {}
    }
}

/// Forwards until either side ends; for ever silent once the bytes that `counted` allows have passed.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counted: Option<&State>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        if let Some(state) = counted
            && state.left_bytes.fetch_sub(bytes as i64, Ordering::SeqCst) < bytes as i64
        {
            std::future::pending::<()>().await;
        }
        if to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
}
