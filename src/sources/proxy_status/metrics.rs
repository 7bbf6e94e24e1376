use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::client::Failure;
use crate::limiter::{Look, ProxyState};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProxyLabels {
    state: &'static str,
}

/// The metrics of what proxies say. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    queries: Family<QueryLabels, Counter>,
    proxies: Family<ProxyLabels, Gauge>,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_proxy_status_queries_total` by `result`, and
    /// `palisade_proxy_status_proxies` by `state`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "palisade_proxy_status_queries",
            "Questions to istiods whether proxies have taken what they were sent, by what became of them",
            metrics.queries.clone(),
        );
        registry.register(
            "palisade_proxy_status_proxies",
            "Proxies that istiod showed when it was asked last, by whether they have taken their listeners and filters",
            metrics.proxies.clone(),
        );
        drop(metrics.queries.get_or_create(&QueryLabels { result: "ok" }));
        metrics.proxies(&Look::default());
        metrics
    }

    pub(super) fn asked(&self, failure: Option<&Failure>) {
        let result = failure.map_or("ok", Failure::label);
        self.queries.get_or_create(&QueryLabels { result }).inc();
    }

    pub(super) fn proxies(&self, look: &Look) {
        let mut counts = [("synced", 0), ("pending", 0), ("rejected", 0)];
        for state in look.proxies.values() {
            let number = match state {
                ProxyState::Synced => 0,
                ProxyState::Pending(_) => 1,
                ProxyState::Rejected(_) => 2,
            };
            counts[number].1 += 1;
        }
        for (state, count) in counts {
            self.proxies.get_or_create(&ProxyLabels { state }).set(count);
        }
    }
}
