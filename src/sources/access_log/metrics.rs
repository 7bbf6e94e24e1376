use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::detours::Detours;
use super::passthrough::Passthrough;
use crate::sources::outcome::{Outcomes, Tally};
use crate::sources::{Outcome, Unusable};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    reason: &'static str,
}

/// Why a stream is refused that would be one more than the limit.
pub(super) const TOO_MANY: &str = "too_many";

/// Why a log entry may teach nothing.
const REASONS: [Unusable; 10] = [
    Unusable::Denied,
    Unusable::Detour,
    Unusable::NotOutbound,
    Unusable::Dispatched,
    Unusable::InvalidCluster,
    Unusable::InvalidHost,
    Unusable::NoCaller,
    Unusable::InvalidCaller,
    Unusable::NoProperties,
    Unusable::Malformed,
];

/// The metrics of the access log source. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    entries: Outcomes,
    streams: Gauge,
    refused: Family<StreamLabels, Counter>,
    dropped: Counter,
    detours: Detours,
    passthrough: Passthrough,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_access_log_entries_total`, by `outcome`,
    /// `palisade_access_log_streams`, `palisade_access_log_streams_refused_total` by `reason`,
    /// `palisade_observations_dropped_total`, `palisade_detours_total` and `palisade_passthrough_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let (streams, dropped) = (Gauge::default(), Counter::default());
        let help = "Log entries read, by what became of them";
        let entries = Outcomes::register(registry, "palisade_access_log_entries", help, &REASONS);
        registry.register("palisade_access_log_streams", "Access log streams that are open", streams.clone());
        let refused = Family::<StreamLabels, Counter>::default();
        registry.register(
            "palisade_access_log_streams_refused",
            "Access log streams that were refused or ended, because they were too many or said not whose they are",
            refused.clone(),
        );
        drop(refused.get_or_create(&StreamLabels { reason: TOO_MANY }));
        registry.register(
            "palisade_observations_dropped",
            "Observed calls that did not fit into the queue; the next call brings them again",
            dropped.clone(),
        );
        let detours = Detours::register(registry);
        let passthrough = Passthrough::register(registry);
        Self { entries, streams, refused, dropped, detours, passthrough }
    }

    /// How many entries had this outcome.
    #[must_use]
    pub fn entries(&self, outcome: impl Into<Outcome>) -> u64 {
        self.entries.get(outcome)
    }

    /// How many streams are open.
    #[must_use]
    pub fn streams(&self) -> i64 {
        self.streams.get()
    }

    /// How many streams were refused for this reason.
    #[must_use]
    pub fn streams_refused(&self, reason: &'static str) -> u64 {
        self.refused.get_or_create(&StreamLabels { reason }).get()
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&StreamLabels { reason }).inc();
    }

    /// How many observations did not fit into the queue.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    pub(super) fn add(&self, tally: &Tally) {
        self.entries.add(tally);
    }

    pub(super) fn detours(&self) -> &Detours {
        &self.detours
    }

    pub(super) fn passthrough(&self) -> &Passthrough {
        &self.passthrough
    }

    pub(super) fn add_dropped(&self, count: usize) {
        if count > 0 {
            self.dropped.inc_by(count as u64);
        }
    }

    /// Counts a stream for as long as the guard lives.
    pub(super) fn stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }
}

pub(super) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Judgement;

    #[test]
    fn metrics_are_named_as_documented() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut tally = Tally::default();
        tally.count(Judgement::UnknownHost);
        tally.count(Unusable::Denied);
        metrics.add(&tally);
        metrics.add_dropped(2);
        let _open = metrics.stream();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "palisade_access_log_entries_total{outcome=\"unknown_host\"} 1",
            "palisade_access_log_entries_total{outcome=\"denied\"} 1",
            "palisade_access_log_entries_total{outcome=\"new\"} 0",
            "palisade_access_log_entries_total{outcome=\"malformed\"} 0",
            "palisade_access_log_streams 1",
            "palisade_observations_dropped_total 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
