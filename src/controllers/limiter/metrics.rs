use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{LimiterContext, run};
use crate::controllers::mesh::Mesh;
use crate::controllers::named::Named;
use crate::controllers::operator::until;
use crate::limiter::MetricSettings;
use crate::sources::limiter_metrics::{LimiterMetrics, Metrics, Readings, checked};
use crate::sources::prometheus;

/// The metrics that limiters name: which there are, and what is known of them.
pub(in crate::controllers) struct Asked {
    settings: Arc<MetricSettings>,
    readings: Readings,
    /// Who asks.
    asking: BoxFuture<'static, ()>,
}

impl Asked {
    /// The same if there are settings: else limiters are not looked after.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub(in crate::controllers) fn all(
        settings: Option<MetricSettings>,
        prometheus: &prometheus::Settings,
        ways: (&Client, &Mesh, &Named),
        registry: &mut Registry,
    ) -> anyhow::Result<Option<Self>> {
        settings.map(|settings| Self::new(settings, prometheus, ways, registry)).transpose()
    }

    /// What brings limiters about, and what asks for their metrics.
    pub(in crate::controllers) fn parts(
        self,
        limits: LimiterContext,
        stop: &CancellationToken,
    ) -> [BoxFuture<'static, ()>; 2] {
        let limits = limits.knowing(self.settings, self.readings);
        [run(limits, stop.clone()).boxed(), until(stop.clone(), self.asking).boxed()]
    }

    /// Has limiters in `named` looked at when what is known of their metrics changes.
    ///
    /// # Errors
    /// If the settings make no sense.
    fn new(
        settings: MetricSettings,
        prometheus: &prometheus::Settings,
        (client, mesh, named): (&Client, &Mesh, &Named),
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let settings =
            checked(settings, prometheus).context("the configuration of limiters cannot be used")?;
        let (settings, readings, named) = (Arc::new(settings), Readings::default(), named.clone());
        let told = Box::new(move |limiter| named.add([limiter]));
        let (graph, metrics) = (mesh.observer().graph, Metrics::register(registry));
        let kept = (readings.clone(), told as _);
        let source = LimiterMetrics::new(settings.clone(), prometheus, client.clone(), graph, kept, metrics)?;
        Ok(Self { settings, readings, asking: source.run().boxed() })
    }
}
