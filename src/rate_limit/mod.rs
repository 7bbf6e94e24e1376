//! Envoy's rate limit service, for limits of the strategy `global`: one token bucket that all proxies share.
//!
//! ```text
//! service ──▶ wire ──▶ answer ──▶ buckets
//! (gRPC)      (bytes)  (limits)   (token buckets in memory)
//! ```
//!
//! It has no configuration: each descriptor carries its limit, as the limiter's `EnvoyFilter` says it (`limiter::LIMIT_KEY`).
//! So nothing can be left over of a limiter that has gone, nothing has to be watched, and it works without an API server.

mod answer;
mod buckets;
mod limit;
mod metrics;
mod service;
mod wire;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};

pub use metrics::Metrics;

use crate::sources::access_log::{connections, limits};
use service::RateLimitService;

/// Connections at a time: behind a sidecar there are as many as that has worker threads, without one as many as all callers'
/// have.
const CONNECTIONS: usize = 1024;
/// Bytes that a connection may send ahead of us. With the requests at a time, that is 96 MiB, besides the buckets.
const WINDOW: u32 = 64 << 10;
/// Calls of one connection at a time.
const STREAMS_PER_CONNECTION: u32 = 256;
/// How long calls get to end after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// Why the server ended early.
#[derive(Debug, thiserror::Error)]
#[error("the rate limit server failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves `ShouldRateLimit` on `listener` until `stop` is cancelled, with buckets in `memory` bytes at most.
///
/// # Errors
/// If the transport fails as a whole; the failure of a connection or a call is no error.
pub async fn serve(
    listener: TcpListener,
    memory: usize,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    info!(address = ?listener.local_addr().ok(), "serving rate limits");
    let service = RateLimitService::new(memory, metrics);
    let incoming = connections::accept(listener, CONNECTIONS);
    let serving = server().add_service(service).serve_with_incoming_shutdown(incoming, stop.cancelled());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = serving => Ok(result?),
        () = late => {
            warn!("some calls did not end in time");
            Ok(())
        }
    }
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(limits::HEADER_LIST)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
}
