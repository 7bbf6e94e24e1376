//! Asking those who remember calls, and telling the graph's owner how far they have answered.

use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use super::mesh::{Mesh, Message};
use crate::graph::Change;
use crate::sources::prometheus::{self, Prometheus};
use crate::sources::proxy_metrics::{self, ProxyMetrics, Queue};

/// How much of that may wait for the graph's owner. The source waits for room.
const WAITING: usize = 16;

/// Who is asked, and how.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) prometheus: prometheus::Settings,
    pub(super) proxies: proxy_metrics::Settings,
    /// The fences whose pods' proxies are to be asked.
    pub(super) queue: Queue,
    /// The host of the global proxy.
    pub(super) detour: Arc<str>,
}

impl Asked {
    /// What asks, to be run when there is a picture of the mesh to judge the answers by.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub(super) fn ask(
        self,
        mesh: &Mesh,
        registry: &mut Registry,
    ) -> anyhow::Result<Vec<BoxFuture<'static, ()>>> {
        let mut asking = Vec::new();
        if self.prometheus.is_on() {
            let (told, changes) = mpsc::channel(WAITING);
            let metrics = prometheus::Metrics::register(registry);
            let source =
                Prometheus::new(self.prometheus, mesh.observer(), self.detour.clone(), told, metrics)
                    .context("the configuration of Prometheus cannot be used")?;
            asking.push(together(source.run(), mesh.clone(), changes));
        }
        if self.proxies.enabled {
            let (told, changes) = mpsc::channel(WAITING);
            let metrics = proxy_metrics::Metrics::register(registry);
            let source =
                ProxyMetrics::new(self.proxies, mesh.observer(), self.detour, self.queue, told, metrics)
                    .context("the configuration of proxyMetrics cannot be used")?;
            asking.push(together(source.run(), mesh.clone(), changes));
        }
        Ok(asking)
    }
}

fn together(
    source: impl Future<Output = ()> + Send + 'static,
    mesh: Mesh,
    mut changes: mpsc::Receiver<Change>,
) -> BoxFuture<'static, ()> {
    let forward = async move {
        while let Some(change) = changes.recv().await {
            mesh.tell(Message::Change(change)).await;
        }
    };
    futures::future::join(source, forward).map(|_| ()).boxed()
}
