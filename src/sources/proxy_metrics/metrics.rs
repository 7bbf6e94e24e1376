use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::client::Failure;
use crate::sources::outcome::{Outcomes, Tally};
use crate::sources::{Outcome, Unusable};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Why a series may teach nothing.
const REASONS: [Unusable; 6] = [
    Unusable::InvalidHost,
    Unusable::NotOutbound,
    Unusable::Detour,
    Unusable::Denied,
    Unusable::NoCall,
    Unusable::Malformed,
];

/// The metrics of the source of proxies' metrics. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<ResultLabels, Counter>,
    series: Outcomes,
    dropped: Counter,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_proxy_metrics_requests_total` by `result`, `…_series_total` by
    /// `outcome`, and `…_observations_dropped_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let help = "Series of calls and connections that proxies answered, by what became of them";
        let series = Outcomes::register(registry, "palisade_proxy_metrics_series", help, &REASONS);
        let metrics = Self { series, ..Self::default() };
        registry.register(
            "palisade_proxy_metrics_requests",
            "Requests to the proxies of pods for what they have counted, by what became of them",
            metrics.requests.clone(),
        );
        registry.register(
            "palisade_proxy_metrics_observations_dropped",
            "Hosts that did not fit into the queue",
            metrics.dropped.clone(),
        );
        drop(metrics.requests.get_or_create(&ResultLabels { result: "ok" }));
        metrics
    }

    /// How many series had this outcome.
    #[must_use]
    pub fn series(&self, outcome: impl Into<Outcome>) -> u64 {
        self.series.get(outcome)
    }

    /// How many requests ended so: `ok`, or the word for a failure.
    #[must_use]
    pub fn requests(&self, result: &'static str) -> u64 {
        self.requests.get_or_create(&ResultLabels { result }).get()
    }

    pub(super) fn asked(&self, failure: Option<&Failure>) {
        self.requests.get_or_create(&ResultLabels { result: failure.map_or("ok", Failure::label) }).inc();
    }

    pub(super) fn read(&self, tally: &Tally) {
        self.series.add(tally);
    }

    pub(super) fn dropped(&self, count: usize) {
        self.dropped.inc_by(count as u64);
    }
}
