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
    /// Limiters of whose metrics something else is known.
    changed: Named,
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
        ways: (&Client, &Mesh),
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
        let limits = limits.knowing(self.settings, self.readings, self.changed);
        [run(limits, stop.clone()).boxed(), until(stop.clone(), self.asking).boxed()]
    }

    fn new(
        settings: MetricSettings,
        prometheus: &prometheus::Settings,
        (client, mesh): (&Client, &Mesh),
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let settings =
            checked(settings, prometheus).context("the configuration of limiters cannot be used")?;
        let (settings, readings, changed) = (Arc::new(settings), Readings::default(), Named::default());
        let naming = changed.clone();
        let told = Box::new(move |limiter| naming.add([limiter]));
        let (graph, metrics) = (mesh.observer().graph, Metrics::register(registry));
        let kept = (readings.clone(), told as _);
        let source = LimiterMetrics::new(settings.clone(), prometheus, client.clone(), graph, kept, metrics)?;
        Ok(Self { settings, readings, changed, asking: source.run().boxed() })
    }
}
