//! What is served: health and metrics over HTTP (`/livez`, `/readyz`, `/metrics`), and gRPC.

pub mod grpc;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How a part of the process is: well, or what ails it.
pub type Health = Result<(), &'static str>;

/// Serves health and metrics on `listener` until `stop` is cancelled.
///
/// # Errors
/// If the listener fails.
pub async fn serve<A, R>(
    listener: TcpListener,
    (alive, ready): (
        impl Fn() -> A + Clone + Send + Sync + 'static,
        impl Fn() -> R + Clone + Send + Sync + 'static,
    ),
    registry: Registry,
    stop: CancellationToken,
) -> std::io::Result<()>
where
    A: Future<Output = Health> + Send + 'static,
    R: Future<Output = Health> + Send + 'static,
{
    let registry = Arc::new(registry);
    let router = Router::new()
        .route("/livez", get(async move || answer(alive().await)))
        .route("/readyz", get(async move || answer(ready().await)))
        .route("/metrics", get(async move || metrics(&registry)));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn answer(health: Health) -> impl IntoResponse + use<> {
    match health {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(ailment) => (StatusCode::SERVICE_UNAVAILABLE, format!("{ailment}\n")),
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
