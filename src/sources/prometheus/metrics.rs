use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Answered;
use super::client::Failure;
use crate::graph::Judgement;

/// What became of a series of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It tells of a dependency that the caller's fence does not know.
    New,
    /// It tells of a known dependency that was not seen for a while.
    Stale,
    /// It says nothing new.
    Known,
    /// It goes to a host that the caller's fence may not learn.
    Refused,
    /// There is no such workload or pod.
    UnknownCaller,
    /// The caller is in no fence.
    Unfenced,
    /// No Service or `ServiceEntry` defines the host.
    UnknownHost,
    /// The label of the callee names no host.
    InvalidHost,
    /// It goes to the global proxy: a detour, no dependency.
    Detour,
    /// A label that the query was said to give is missing.
    NoLabels,
    /// Its value is not above zero.
    NoCall,
}

impl Outcome {
    const COUNT: usize = Self::ALL.len();

    const ALL: [Self; 11] = [
        Self::New,
        Self::Stale,
        Self::Known,
        Self::Refused,
        Self::UnknownCaller,
        Self::Unfenced,
        Self::UnknownHost,
        Self::InvalidHost,
        Self::Detour,
        Self::NoLabels,
        Self::NoCall,
    ];

    /// The value of the `outcome` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Stale => "stale",
            Self::Known => "known",
            Self::Refused => "refused",
            Self::UnknownCaller => "unknown_caller",
            Self::Unfenced => "unfenced",
            Self::UnknownHost => "unknown_host",
            Self::InvalidHost => "invalid_host",
            Self::Detour => "detour",
            Self::NoLabels => "no_labels",
            Self::NoCall => "no_call",
        }
    }
}

impl From<Judgement> for Outcome {
    fn from(judgement: Judgement) -> Self {
        match judgement {
            Judgement::New => Self::New,
            Judgement::Stale => Self::Stale,
            Judgement::Known => Self::Known,
            Judgement::Refused => Self::Refused,
            Judgement::UnknownCaller => Self::UnknownCaller,
            Judgement::Unfenced => Self::Unfenced,
            Judgement::UnknownHost => Self::UnknownHost,
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.label().encode(encoder)
    }
}

/// The outcomes of one answer.
#[derive(Default)]
pub(super) struct Tally([u64; Outcome::COUNT]);

impl Tally {
    pub(super) fn count(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeriesLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The metrics of the Prometheus source. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    passes: Family<ResultLabels, Counter>,
    queries: Family<ResultLabels, Counter>,
    series: Family<SeriesLabels, Counter>,
    dropped: Counter,
    last_success: Gauge,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_prometheus_passes_total` and `…_queries_total` by `result`,
    /// `…_series_total` by `outcome`, `…_observations_dropped_total`, and `…_last_success_timestamp_seconds`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
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
            "palisade_prometheus_series",
            "Series that Prometheus answered, by what became of them",
            metrics.series.clone(),
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
        for outcome in Outcome::ALL {
            drop(metrics.series.get_or_create(&SeriesLabels { outcome }));
        }
        for result in ["success", "partial", "failure"] {
            drop(metrics.passes.get_or_create(&ResultLabels { result }));
        }
        drop(metrics.queries.get_or_create(&ResultLabels { result: "ok" }));
        metrics
    }

    /// How many series had this outcome.
    #[must_use]
    pub fn series(&self, outcome: Outcome) -> u64 {
        self.series.get_or_create(&SeriesLabels { outcome }).get()
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
        for (outcome, count) in Outcome::ALL.into_iter().zip(tally.0).filter(|(_, count)| *count > 0) {
            self.series.get_or_create(&SeriesLabels { outcome }).inc_by(count);
        }
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
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::ALL[outcome as usize], outcome, "every outcome stands at its own number");
            tally.count(outcome);
        }
        metrics.read(&tally);
        metrics.asked(None);
        metrics.asked(Some(&Failure::TooLarge));
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
