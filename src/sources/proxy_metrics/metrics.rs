use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::client::Failure;
use crate::graph::Judgement;

/// What became of a series of a proxy's answer.
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
    /// There is no such pod any more.
    UnknownCaller,
    /// The pod is in no fence any more.
    Unfenced,
    /// No Service or `ServiceEntry` defines the host.
    UnknownHost,
    /// Its label names no host.
    InvalidHost,
    /// It is not about calls of the pod.
    NotOutbound,
    /// It goes to the global proxy: a detour, no dependency.
    Detour,
    /// The callee did not let the pod in.
    Denied,
    /// Its value is not above zero.
    NoCall,
    /// The line is no sample, or too long.
    Malformed,
}

impl Outcome {
    const COUNT: usize = Self::ALL.len();

    const ALL: [Self; 13] = [
        Self::New,
        Self::Stale,
        Self::Known,
        Self::Refused,
        Self::UnknownCaller,
        Self::Unfenced,
        Self::UnknownHost,
        Self::InvalidHost,
        Self::NotOutbound,
        Self::Detour,
        Self::Denied,
        Self::NoCall,
        Self::Malformed,
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
            Self::NotOutbound => "not_outbound",
            Self::Detour => "detour",
            Self::Denied => "denied",
            Self::NoCall => "no_call",
            Self::Malformed => "malformed",
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

    /// Each outcome as often as it was counted.
    #[cfg(test)]
    pub(super) fn seen(&self) -> Vec<Outcome> {
        let times = |(outcome, count): (Outcome, u64)| (0..count).map(move |_| outcome);
        Outcome::ALL.into_iter().zip(self.0).flat_map(times).collect()
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

/// The metrics of the source of proxies' metrics. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<ResultLabels, Counter>,
    series: Family<SeriesLabels, Counter>,
    dropped: Counter,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_proxy_metrics_requests_total` by `result`, `…_series_total` by
    /// `outcome`, and `…_observations_dropped_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "palisade_proxy_metrics_requests",
            "Requests to the proxies of pods for what they have counted, by what became of them",
            metrics.requests.clone(),
        );
        registry.register(
            "palisade_proxy_metrics_series",
            "Series of calls and connections that proxies answered, by what became of them",
            metrics.series.clone(),
        );
        registry.register(
            "palisade_proxy_metrics_observations_dropped",
            "Hosts that did not fit into the queue",
            metrics.dropped.clone(),
        );
        for outcome in Outcome::ALL {
            drop(metrics.series.get_or_create(&SeriesLabels { outcome }));
        }
        drop(metrics.requests.get_or_create(&ResultLabels { result: "ok" }));
        metrics
    }

    /// How many series had this outcome.
    #[must_use]
    pub fn series(&self, outcome: Outcome) -> u64 {
        self.series.get_or_create(&SeriesLabels { outcome }).get()
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
    fn every_outcome_stands_at_its_own_number_with_its_own_label() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
        let labels: std::collections::BTreeSet<_> =
            Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        assert_eq!(labels.len(), Outcome::COUNT);
    }
}
