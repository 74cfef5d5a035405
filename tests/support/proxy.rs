//! Ways to a server: one that opens late and can be shut, and one that can swallow answers, so that what was asked has
//! happened and the one who asked never hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

/// A port on which nobody listens, below the range from which the system takes the clients' own: a server that is away
/// for a moment finds it free again.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    let random = || 20_000 + (Uuid::new_v4().as_u128() % 12_000) as u16;
    let mut ports = std::iter::repeat_with(random).take(1000);
    let port = ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    port.expect("a free port can be had")
}

/// Passes connections on for as long as the value lives; then the port is closed and all connections are cut.
#[derive(Debug)]
pub struct OpenProxy {
    _accepting: JoinSet<()>,
}

impl OpenProxy {
    /// Listens on `port`, and passes connections on to this address.
    ///
    /// # Panics
    /// The port is taken.
    pub async fn start(port: u16, server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.expect("the port is free");
        let server = server.to_owned();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        // Either side may end it.
                        copy_bidirectional(&mut client, &mut server).await.ok();
                    }
                });
            }
        });
        Self {
            _accepting: accepting,
        }
    }
}

/// Passes connections on. Those that are open when it is frozen stay open and carry nothing any more, as behind a
/// firewall that has forgotten them; new ones are passed on.
#[derive(Debug)]
pub struct FreezingProxy {
    port: u16,
    freezes: watch::Sender<u32>,
    _accepting: JoinSet<()>,
}

impl FreezingProxy {
    /// Passes connections on to this port.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a free port can be had");
        let port = listener.local_addr().expect("it is bound").port();
        let (freezes, frozen) = watch::channel(0);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", server_port)).await else {
                    continue;
                };
                let mut frozen = frozen.clone();
                frozen.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        // Either side may end it.
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = frozen.changed() => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self {
            port,
            freezes,
            _accepting: accepting,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the connections that are open carry nothing.
    pub fn freeze(&self) {
        self.freezes.send_modify(|freezes| *freezes += 1);
    }
}

/// Passes connections on, until a request contains the word.
#[derive(Debug)]
pub struct SwallowingProxy {
    port: u16,
    _accepting: JoinSet<()>,
}

impl SwallowingProxy {
    /// Passes connections on to this port; from the first request with `word` on, no answer comes back.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start(server_port: u16, word: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a free port can be had");
        let port = listener.local_addr().expect("it is bound").port();
        let is_seen = Arc::new(AtomicBool::new(false));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                connections.spawn(requests(from_client, to_server, word, Arc::clone(&is_seen)));
                connections.spawn(answers(from_server, to_client, Arc::clone(&is_seen)));
            }
        });
        Self {
            port,
            _accepting: accepting,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    word: &str,
    is_seen: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let mut windows = bytes[..count].windows(word.len());
        if windows.any(|window| window == word.as_bytes()) {
            // Before the server can answer.
            is_seen.store(true, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_seen: Arc<AtomicBool>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let is_swallowed = is_seen.load(Ordering::SeqCst);
        if !is_swallowed && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
