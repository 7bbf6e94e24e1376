use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use tokio::time::timeout;

use super::mesh::Mesh;
use crate::server::Health;

/// How long the graph's owner may take to show that it is alive: shorter than the chart's probes wait (3 s).
const PATIENCE: Duration = Duration::from_secs(2);

/// Alive is who still takes changes in: a stuck owner of the graph is a reason to restart.
pub(super) fn alive(mesh: Mesh) -> impl Fn() -> BoxFuture<'static, Health> + Clone {
    move || {
        let mesh = mesh.clone();
        let settled = async move { timeout(PATIENCE, mesh.settled()).await };
        settled.map_err(|_| "the graph's owner does not answer").boxed()
    }
}

/// Ready is who has seen every object once: only then is anything learned from an access log.
pub(super) fn ready(mesh: Mesh) -> impl Fn() -> std::future::Ready<Health> + Clone {
    move || {
        let synced = mesh.is_synced();
        std::future::ready(if synced { Ok(()) } else { Err("not every watch has listed its objects yet") })
    }
}
