//! Learning from access logs: a server of Envoy's `AccessLogService`, to which the global proxy's listeners
//! stream their entries, and if the mesh is told to, ordinary sidecars theirs.
//!
//! ```text
//! server::grpc ──▶ service ──▶ wire ──▶ entry ──▶ ingest ──▶ the graph's owner
//! (accept, h2)     (streams)   (bytes)  (a call)  (news?)
//!                  identity
//!                  (whose?)
//! ```
//!
//! The two have a listener each, so that nobody is taken for the global proxy by what it says, and no number of
//! sidecars keeps the global proxy out.
//!
//! Nearly every entry says what is known already, so this path is made for that case: an entry's two fields are
//! read in place, judged against the published graph, and counted once a message.
//!
//! Who may connect is the network's and the mesh's business; what is sent is not trusted. Everything that a
//! peer can make grow has a limit in [`limits`], and no input can end more than the stream that carried it.

mod detours;
mod entry;
mod identity;
mod ingest;
pub mod limits;
mod metrics;
mod passthrough;
mod service;
mod wire;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use ingest::Ingest;
pub use metrics::Metrics;
pub use wire::{Message, Unreadable};

use super::Observer;
use crate::server::grpc::Transport;
use limits::Limits;
use service::AccessLogService;

/// Who streams to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// The global proxy: the caller of each entry is its downstream's address, and the call is a detour.
    GlobalProxy,
    /// Ordinary sidecars: the caller of all entries of a stream is its own node, and the calls are direct.
    Sidecars,
}

impl Peers {
    /// What they can make grow.
    #[must_use]
    pub fn limits(self) -> Limits {
        match self {
            Self::GlobalProxy => Limits::GLOBAL_PROXY,
            Self::Sidecars => Limits::SIDECARS,
        }
    }
}

/// How long streams get to end after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the server ended early.
#[derive(Debug, thiserror::Error)]
#[error("the access log server failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves `StreamAccessLogs` to `peers` on `listener` until `stop` is cancelled.
///
/// # Errors
/// If the transport fails as a whole; the failure of a connection or a stream is no error.
pub async fn serve(
    listener: TcpListener,
    peers: Peers,
    observer: Observer,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    info!(address = ?listener.local_addr().ok(), ?peers, "serving access logs");
    let service = AccessLogService::new(Ingest::new(observer, metrics), peers, stop.clone());
    Ok(transport(peers.limits()).serve(listener, service, stop).await?)
}

fn transport(of: Limits) -> Transport {
    Transport {
        connections: of.connections,
        streams_per_connection: limits::STREAMS_PER_CONNECTION,
        calls: of.streams,
        stream_window: of.stream_window,
        connection_window: of.connection_window,
        drain: DRAIN,
    }
}
