use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::question::Question;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    source: &'static str,
    result: &'static str,
}

/// The metrics of the metrics that limiters name. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    queries: Family<QueryLabels, Counter>,
    wanted: Gauge,
    answered: Gauge,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_limiter_queries_total` by `source` and `result`,
    /// `palisade_limiter_metrics_wanted` and `…_answered`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "palisade_limiter_queries",
            "Queries for the metrics that limiters name, by whom they went to and what became of them",
            metrics.queries.clone(),
        );
        registry.register(
            "palisade_limiter_metrics_wanted",
            "Metrics that limiters name, each once a limiter",
            metrics.wanted.clone(),
        );
        registry.register(
            "palisade_limiter_metrics_answered",
            "Those of them that were answered when they were asked for last",
            metrics.answered.clone(),
        );
        for source in [PROMETHEUS, PODS] {
            drop(metrics.queries.get_or_create(&QueryLabels { source, result: "ok" }));
        }
        metrics
    }

    /// How many queries of Prometheus ended so: `ok`, or the word for a failure.
    #[must_use]
    pub fn queries(&self, result: &'static str) -> u64 {
        self.queries.get_or_create(&QueryLabels { source: PROMETHEUS, result }).get()
    }

    pub(super) fn asked(&self, question: &Question, result: &'static str) {
        let source = match question {
            Question::Query(_) => PROMETHEUS,
            Question::Pods(_) => PODS,
        };
        self.queries.get_or_create(&QueryLabels { source, result }).inc();
    }

    pub(super) fn count(&self, wanted: usize, answered: usize) {
        self.wanted.set(i64::try_from(wanted).unwrap_or(i64::MAX));
        self.answered.set(i64::try_from(answered).unwrap_or(i64::MAX));
    }
}

const PROMETHEUS: &str = "prometheus";
const PODS: &str = "pods";
