use jiff::Timestamp;
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
    learning: Histogram,
    expired: Counter,
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
    Fence,
    Deletions,
    ServiceEntry,
    EnvoyFilter,
}

impl Written {
    const ALL: [Self; 8] = [
        Self::Sidecar,
        Self::Status,
        Self::Finalizer,
        Self::Event,
        Self::Fence,
        Self::Deletions,
        Self::ServiceEntry,
        Self::EnvoyFilter,
    ];
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            writes: Family::default(),
            reconciles: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            learning: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            expired: Counter::default(),
        };
        for kind in Written::ALL {
            drop(metrics.writes.get_or_create(&WriteLabels { kind, result: "ok" }));
        }
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
        registry.register(
            "palisade_learning_duration_seconds",
            "From the first call to a host that was seen to the Sidecar that has its cluster",
            metrics.learning.clone(),
        );
        registry.register(
            "palisade_expired_hosts",
            "Hosts that left a fence because nobody has used them for their retention",
            metrics.expired.clone(),
        );
        metrics
    }

    pub(super) fn wrote(&self, kind: Written, result: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, result }).inc();
    }

    /// Hosts whose first calls were seen at these times are in a Sidecar now.
    pub(super) fn learned(&self, first_calls: impl IntoIterator<Item = Timestamp>) {
        let now = Timestamp::now();
        for seen in first_calls {
            self.learning.observe(now.duration_since(seen).as_secs_f64().max(0.0));
        }
    }

    pub(super) fn expired(&self, hosts: usize) {
        self.expired.inc_by(hosts as u64);
    }

    pub(super) fn reconciled(&self, since: std::time::Instant) {
        self.reconciles.observe(since.elapsed().as_secs_f64());
    }
}
