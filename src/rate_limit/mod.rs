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
use tracing::info;

pub use metrics::Metrics;

use crate::server::grpc::Transport;
use service::RateLimitService;

/// Behind a sidecar there are as many connections as that has worker threads, without one as many as all callers' have. With
/// the requests at a time, what is sent ahead of us is 96 MiB, besides the buckets.
const TRANSPORT: Transport = Transport {
    connections: 1024,
    streams_per_connection: 256,
    // They wait for nothing but their own bytes.
    calls: 512,
    stream_window: 64 << 10,
    connection_window: 64 << 10,
    drain: Duration::from_secs(2),
};

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
    Ok(TRANSPORT.serve(listener, RateLimitService::new(memory, metrics), stop).await?)
}
