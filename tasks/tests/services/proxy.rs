//! A TCP proxy in front of PostgreSQL that can cut or freeze what passes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the proxy does to a connection.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Drop the connection once the next COMMIT has reached the server, and its answer is on the way back.
    pub(crate) cut_after_commit: AtomicBool,
    /// That was done.
    pub(crate) was_cut: AtomicBool,
    /// Pass nothing more, in either direction, once the next COPY has begun; the connection stays open.
    pub(crate) freeze_in_copy: AtomicBool,
    /// That was done.
    pub(crate) was_frozen: AtomicBool,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) faults: Arc<Faults>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Passes connections on to `target` (`host:port`).
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let faults = Arc::new(Faults::default());
        let mut accepting = JoinSet::new();
        let for_connections = Arc::clone(&faults);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else {
                    continue;
                };
                connections.spawn(pass(client, server, Arc::clone(&for_connections)));
            }
        });
        Self {
            port,
            faults,
            _accepting: accepting,
        }
    }
}

async fn pass(client: TcpStream, server: TcpStream, faults: Arc<Faults>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let armed = Arc::new(AtomicBool::new(false));
    tokio::select! {
        () = requests(from_client, to_server, &faults, &armed) => {}
        () = answers(from_server, to_client, &faults, &armed) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &Faults,
    armed: &AtomicBool,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let is_commit = bytes[..count]
            .windows(7)
            .any(|window| window == b"commit\0");
        if is_commit && faults.cut_after_commit.swap(false, Ordering::SeqCst) {
            armed.store(true, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
        let is_copy = bytes[..count]
            .windows(8)
            .any(|window| window == b"copy raw");
        if is_copy && faults.freeze_in_copy.swap(false, Ordering::SeqCst) {
            faults.was_frozen.store(true, Ordering::SeqCst);
            // What still comes is taken and forgotten, as by a cable that was cut.
            while let Ok(1..) = from.read(&mut bytes).await {}
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &Faults,
    armed: &AtomicBool,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if armed.load(Ordering::SeqCst) {
            // The server has committed; the client will never hear of it.
            faults.was_cut.store(true, Ordering::SeqCst);
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
