use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What the controllers count.
#[derive(Clone, Debug)]
pub struct Metrics {
    writes: Family<WriteLabels, Counter>,
    reconciles: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    kind: Written,
    result: &'static str,
}

/// What is written.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
pub(super) enum Written {
    Sidecar,
    Status,
    Finalizer,
    Event,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            writes: Family::default(),
            reconciles: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
        };
        registry.register(
            "palisade_writes",
            "Requests to the API server that were to change something, by kind and result",
            metrics.writes.clone(),
        );
        registry.register(
            "palisade_reconcile_duration_seconds",
            "How long it took to decide about a fence and to write the outcome",
            metrics.reconciles.clone(),
        );
        metrics
    }

    pub(super) fn wrote(&self, kind: Written, result: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, result }).inc();
    }

    pub(super) fn reconciled(&self, since: std::time::Instant) {
        self.reconciles.observe(since.elapsed().as_secs_f64());
    }
}
