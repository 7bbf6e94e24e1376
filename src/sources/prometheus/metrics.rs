use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Answered;
use super::client::Failure;
use crate::sources::outcome::{Outcomes, Tally};
use crate::sources::{Outcome, Unusable};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Why a series may teach nothing.
const REASONS: [Unusable; 4] =
    [Unusable::InvalidHost, Unusable::Detour, Unusable::NoLabels, Unusable::NoCall];

/// The metrics of the Prometheus source. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    passes: Family<ResultLabels, Counter>,
    queries: Family<ResultLabels, Counter>,
    series: Outcomes,
    dropped: Counter,
    last_success: Gauge,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_prometheus_passes_total` and `…_queries_total` by `result`,
    /// `…_series_total` by `outcome`, `…_observations_dropped_total`, and `…_last_success_timestamp_seconds`.
    pub fn register(registry: &mut Registry) -> Self {
        let help = "Series that Prometheus answered, by what became of them";
        let series = Outcomes::register(registry, "palisade_prometheus_series", help, &REASONS);
        let metrics = Self { series, ..Self::default() };
        registry.register(
            "palisade_prometheus_passes",
            "Passes over all queries: success, partial (some was missing), failure (no query was answered)",
            metrics.passes.clone(),
        );
        registry.register(
            "palisade_prometheus_queries",
            "Queries to Prometheus, by what became of them",
            metrics.queries.clone(),
        );
        registry.register(
            "palisade_prometheus_observations_dropped",
            "Pairs that did not fit into the queue; a later pass brings them again",
            metrics.dropped.clone(),
        );
        registry.register(
            "palisade_prometheus_last_success_timestamp_seconds",
            "When a pass over all queries succeeded last; 0 before the first",
            metrics.last_success.clone(),
        );
        for result in ["success", "partial", "failure"] {
            drop(metrics.passes.get_or_create(&ResultLabels { result }));
        }
        drop(metrics.queries.get_or_create(&ResultLabels { result: "ok" }));
        metrics
    }

    /// How many series had this outcome.
    #[must_use]
    pub fn series(&self, outcome: impl Into<Outcome>) -> u64 {
        self.series.get(outcome)
    }

    /// How many passes ended so: `success`, `partial` or `failure`.
    #[must_use]
    pub fn passes(&self, result: &'static str) -> u64 {
        self.passes.get_or_create(&ResultLabels { result }).get()
    }

    /// How many queries ended so: `ok`, or the word for a failure.
    #[must_use]
    pub fn queries(&self, result: &'static str) -> u64 {
        self.queries.get_or_create(&ResultLabels { result }).get()
    }

    /// A pass over all queries has ended.
    pub(super) fn passed(&self, answers: &[Answered], now: Timestamp) {
        let whole = answers.iter().all(|answered| *answered == Answered::Whole);
        if whole {
            self.last_success.set(now.as_second());
        }
        let result = match answers {
            _ if whole => "success",
            answers if answers.iter().all(|answered| *answered == Answered::No) => "failure",
            _ => "partial",
        };
        self.passes.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn asked(&self, failure: Option<&Failure>) {
        self.queries.get_or_create(&ResultLabels { result: failure.map_or("ok", Failure::label) }).inc();
    }

    pub(super) fn read(&self, tally: &Tally) {
        self.series.add(tally);
    }

    pub(super) fn dropped(&self, count: usize) {
        self.dropped.inc_by(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_documented() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut tally = Tally::default();
        for reason in REASONS {
            tally.count(reason);
        }
        metrics.read(&tally);
        metrics.asked(None);
        metrics.asked(Some(&Failure::TooLarge(1)));
        for answers in
            [[Answered::Whole; 2], [Answered::Whole, Answered::No], [Answered::InPart; 2], [Answered::No; 2]]
        {
            metrics.passed(&answers, Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(7));
        }
        metrics.dropped(2);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "palisade_prometheus_passes_total{result=\"success\"} 1",
            "palisade_prometheus_passes_total{result=\"partial\"} 2",
            "palisade_prometheus_passes_total{result=\"failure\"} 1",
            "palisade_prometheus_queries_total{result=\"ok\"} 1",
            "palisade_prometheus_queries_total{result=\"too_large\"} 1",
            "palisade_prometheus_series_total{outcome=\"detour\"} 1",
            "palisade_prometheus_series_total{outcome=\"no_call\"} 1",
            "palisade_prometheus_observations_dropped_total 2",
            "palisade_prometheus_last_success_timestamp_seconds 7",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
