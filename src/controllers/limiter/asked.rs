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
use crate::graph::{Debounce, ObjectKey};
use crate::limiter::MetricSettings;
use crate::sources::limiter_metrics::{LimiterMetrics, Metrics, Readings, checked};
use crate::sources::prometheus;
use crate::sources::proxy_status::{self, Looks, ProxyStatus};

/// What limiters need to know besides the graph.
#[derive(Debug)]
pub(in crate::controllers) struct Questions {
    /// The metrics that their expressions may name.
    pub(in crate::controllers) metrics: MetricSettings,
    /// Whether proxies have taken the limits, ...
    pub(in crate::controllers) proxies: proxy_status::Settings,
    /// ... which istiod pushes then.
    pub(in crate::controllers) debounce: Debounce,
}

/// Who asks for that, and what is known of it.
pub(in crate::controllers) struct Asked {
    settings: Arc<MetricSettings>,
    readings: Readings,
    looks: Option<(Looks, Debounce)>,
    /// Limiters of which something else is known.
    changed: Named,
    /// Who asks.
    asking: Vec<BoxFuture<'static, ()>>,
}

impl Asked {
    /// The same if there is anything to ask: else limiters are not looked after.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub(in crate::controllers) fn all(
        questions: Option<Questions>,
        prometheus: &prometheus::Settings,
        ways: (&Client, &Mesh),
        registry: &mut Registry,
    ) -> anyhow::Result<Option<Self>> {
        let asked = questions.map(|questions| Self::new(questions, prometheus, ways, registry));
        asked.transpose().context("the configuration of limiters cannot be used")
    }

    /// What brings limiters about, and what asks for their sake.
    pub(in crate::controllers) fn parts(
        self,
        limits: LimiterContext,
        stop: &CancellationToken,
    ) -> Vec<BoxFuture<'static, ()>> {
        let limits = limits.knowing(self.settings, self.readings, self.changed).looking(self.looks);
        let asking = self.asking.into_iter().map(|asking| until(stop.clone(), asking).boxed());
        [run(limits, stop.clone()).boxed()].into_iter().chain(asking).collect()
    }

    fn new(
        questions: Questions,
        prometheus: &prometheus::Settings,
        (client, mesh): (&Client, &Mesh),
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let settings = Arc::new(checked(questions.metrics, prometheus)?);
        let (graph, readings, changed) = (mesh.observer().graph, Readings::default(), Named::default());
        let told = || {
            let naming = changed.clone();
            Box::new(move |limiter: ObjectKey| naming.add([limiter])) as _
        };
        let kept = (readings.clone(), told());
        let metrics = Metrics::register(registry);
        let source =
            LimiterMetrics::new(settings.clone(), prometheus, client.clone(), graph.clone(), kept, metrics)?;
        let (mut asking, mut looks) = (vec![source.run().boxed()], None);
        if questions.proxies.enabled {
            let (kept, metrics) = (Looks::default(), proxy_status::Metrics::register(registry));
            let namespace = client.default_namespace();
            let source =
                ProxyStatus::new(questions.proxies, namespace, graph, (kept.clone(), told()), metrics)?;
            asking.push(source.run().boxed());
            looks = Some((kept, questions.debounce));
        }
        Ok(Self { settings, readings, looks, changed, asking })
    }
}
