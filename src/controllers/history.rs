//! Asking Prometheus, and telling the graph's owner how far it has answered.

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use super::mesh::{Mesh, Message};
use crate::sources::prometheus::{Metrics, Prometheus, Settings};

/// How much of that may wait for the graph's owner. The source waits for room.
const WAITING: usize = 16;

/// What asks Prometheus, to be run when there is a picture of the mesh to judge the answers by; `None` without a
/// Prometheus.
///
/// # Errors
/// If the settings make no sense.
pub(super) fn ask(
    settings: Settings,
    mesh: Mesh,
    detour: std::sync::Arc<str>,
    registry: &mut Registry,
) -> anyhow::Result<Option<impl Future<Output = ()> + Send + use<>>> {
    if !settings.is_on() {
        return Ok(None);
    }
    let (told, mut changes) = mpsc::channel(WAITING);
    let metrics = Metrics::register(registry);
    let prometheus = Prometheus::new(settings, mesh.observer(), detour, told, metrics)
        .context("the configuration of Prometheus cannot be used")?;
    let mut forward = async move |mesh: &Mesh| {
        while let Some(change) = changes.recv().await {
            mesh.tell(Message::Change(change)).await;
        }
    };
    Ok(Some(async move {
        tokio::join!(prometheus.run(), forward(&mesh));
    }))
}
