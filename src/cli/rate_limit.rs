use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::SignedDuration;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::run::{Logging, duration, stop_on_signal};
use crate::rate_limit::{Metrics, serve};
use crate::server;

/// Serves Envoy's rate limit service.
#[derive(Debug, Args)]
pub(super) struct RateLimit {
    /// Where to serve proxies (gRPC).
    #[arg(long, default_value = "0.0.0.0:18092")]
    address: SocketAddr,
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    http_address: SocketAddr,
    /// What the buckets may take of the memory, in MiB. When that is used up, what a limiter says for a service that does not
    /// answer holds for new buckets.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u16).range(1..))]
    memory: u16,
    /// How long to go on serving after being told to stop: until proxies have heard that this endpoint is gone.
    #[arg(long, default_value = "5s", value_parser = duration)]
    linger: SignedDuration,
    #[command(flatten)]
    logging: Logging,
}

impl RateLimit {
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        self.logging.start()?;
        let stopping = CancellationToken::new();
        tokio::spawn(stop_on_signal(stopping.clone())?);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let grpc = bind(self.address).await?;
        let http = bind(self.http_address).await?;
        info!(version = env!("CARGO_PKG_VERSION"), "starting");
        let stop = CancellationToken::new();
        let linger = Duration::try_from(self.linger).context("--linger is too long")?;
        tokio::spawn(stop_later(stopping.clone(), linger, stop.clone()));
        let limits = serve(grpc, usize::from(self.memory) << 20, metrics, stop.clone());
        let ready = move || {
            let stopping = stopping.is_cancelled();
            std::future::ready(if stopping { Err("it is stopping") } else { Ok(()) })
        };
        let health = server::serve(http, (|| std::future::ready(Ok(())), ready), registry, stop);
        tokio::try_join!(async { limits.await.map_err(anyhow::Error::from) }, async {
            health.await.context("serving health and metrics failed")
        },)?;
        Ok(())
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn stop_later(stopping: CancellationToken, linger: Duration, stop: CancellationToken) {
    stopping.cancelled().await;
    tokio::time::sleep(linger).await;
    stop.cancel();
}
