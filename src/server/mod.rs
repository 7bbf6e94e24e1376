//! What is served: health and metrics over HTTP (`/livez`, `/readyz`, `/metrics`), and gRPC.

pub mod grpc;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::controllers::Mesh;

/// How long the graph's owner may take to show that it is alive.
const PATIENCE: Duration = Duration::from_secs(5);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves health and metrics on `listener` until `stop` is cancelled.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    mesh: Mesh,
    registry: Registry,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let health = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(mesh);
    serve_with(health, listener, registry, stop).await
}

/// Serves health and metrics of a part that has no graph, on `listener` until `stop` is cancelled. It is ready until
/// `stopping` is.
///
/// # Errors
/// If the listener fails.
pub async fn serve_alone(
    listener: TcpListener,
    registry: Registry,
    stopping: CancellationToken,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ready = async move || {
        if stopping.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "it is stopping\n")
        } else {
            (StatusCode::OK, "ok\n")
        }
    };
    let health = Router::new().route("/livez", get(async || "ok\n")).route("/readyz", get(ready));
    serve_with(health, listener, registry, stop).await
}

async fn serve_with(
    health: Router,
    listener: TcpListener,
    registry: Registry,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let registry = Arc::new(registry);
    let router = health.route("/metrics", get(async move || metrics(&registry)));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Alive is who still takes changes in: a stuck owner of the graph is a reason to restart.
async fn livez(State(mesh): State<Mesh>) -> impl IntoResponse {
    match timeout(PATIENCE, mesh.settled()).await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the graph's owner does not answer\n"),
    }
}

/// Ready is who has seen every object once: only then is anything learned from an access log.
async fn readyz(State(mesh): State<Mesh>) -> impl IntoResponse {
    if mesh.is_synced() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not every watch has listed its objects yet\n")
    }
}

/// The metrics, or why they cannot be written.
fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => Ok(([(CONTENT_TYPE, METRICS_TYPE)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
