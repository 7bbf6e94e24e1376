//! `bed app serve`: one server for every protocol, which names itself in every answer.

mod detect;
mod grpc;
mod http;
mod listen;
mod options;
mod paths;
mod raw;
mod websocket;
mod wiring;

pub use options::{Mode, Options, Port};
pub use wiring::Forward;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::listen::{accept, listen};
use self::wiring::Wiring;
use super::tls;

/// The most connections at once; more wait in the kernel's backlog.
const CONNECTIONS: usize = 8192;
/// How long open requests may take to end after the stop.
const GRACE: Duration = Duration::from_secs(3);

/// What all connections share.
#[derive(Debug)]
struct App {
    name: String,
    pod: String,
    namespace: String,
    wiring: Wiring,
    tls: Arc<rustls::ServerConfig>,
    connections: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One accepted connection.
#[derive(Debug, Clone)]
struct Peer {
    app: Arc<App>,
    mode: Mode,
    port: u16,
    remote: SocketAddr,
    tls: bool,
    sni: Option<String>,
}

/// A server that listens already.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listeners: Vec<(Mode, TcpListener)>,
}

impl Server {
    /// Listens on all ports.
    ///
    /// # Errors
    ///
    /// When a port cannot be bound, or no certificate can be made.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn bind(options: Options) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for port in options.all_ports() {
            let listener = listen(options.address, port.number);
            listeners
                .push((port.mode, listener.with_context(|| format!("listening on port {}", port.number))?));
        }
        let app = App {
            tls: tls::server(&options.name, &options.namespace)?,
            wiring: Wiring::new(&options.name, &options.pod, options.forwards),
            name: options.name,
            pod: options.pod,
            namespace: options.namespace,
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Ok(Self { app: Arc::new(app), listeners })
    }

    /// The ports that it listens on, in the order of the options: first `ports`, then `server_first`, then
    /// `tls`.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn ports(&self) -> io::Result<Vec<u16>> {
        self.listeners.iter().map(|(_, listener)| Ok(listener.local_addr()?.port())).collect()
    }

    /// Serves until `stop`, and then until open requests have ended, three seconds at most.
    ///
    /// # Errors
    ///
    /// None at present: what goes wrong with one connection concerns that connection.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let accepting = TaskTracker::new();
        for (mode, listener) in self.listeners {
            accepting.spawn(accept(Arc::clone(&self.app), mode, listener));
        }
        stop.cancelled().await;
        self.app.stop.cancel();
        accepting.close();
        accepting.wait().await;
        self.app.tasks.close();
        if tokio::time::timeout(GRACE, self.app.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.app.tasks.len(), "connections cut off at the end of the grace");
        }
        Ok(())
    }
}

/// Listens and serves until `stop`.
///
/// # Errors
///
/// When a port cannot be bound, or no certificate can be made.
pub async fn serve(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    Server::bind(options)?.run(stop).await
}
