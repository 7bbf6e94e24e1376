use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::detours::Detours;
use super::passthrough::Passthrough;
use crate::graph::Judgement;

/// What became of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It tells of a dependency that the caller's fence does not know.
    New,
    /// It tells of a known dependency that was not seen for a while.
    Stale,
    /// It says nothing new.
    Known,
    /// It tells of a host that the caller's fence may not learn.
    Refused,
    /// No pod has the caller's address.
    UnknownCaller,
    /// The caller is in no fence.
    Unfenced,
    /// No Service or `ServiceEntry` defines the host.
    UnknownHost,
    /// It would be news, but a policy guards the host, and nothing shows that the call was let in.
    Denied,
    /// It went to the global proxy, which tells itself where it ended.
    Detour,
    /// It went to no service: it was refused, passed through, or is about inbound traffic.
    NotOutbound,
    /// The global proxy's own configuration sent it elsewhere (`globalProxy.dispatches`).
    Dispatched,
    /// Its cluster's name begins as that of a service, but is none.
    InvalidCluster,
    /// The host in its cluster's name is not a DNS name in lower case.
    InvalidHost,
    /// The caller has no IP address: it is missing, or a pipe.
    NoCaller,
    /// The caller's address is not an IP address.
    InvalidCaller,
    /// It has no `common_properties`.
    NoProperties,
    /// It is not valid protobuf.
    Malformed,
}

impl Outcome {
    const COUNT: usize = Self::ALL.len();

    const ALL: [Self; 17] = [
        Self::New,
        Self::Stale,
        Self::Known,
        Self::Refused,
        Self::UnknownCaller,
        Self::Unfenced,
        Self::UnknownHost,
        Self::Denied,
        Self::Detour,
        Self::NotOutbound,
        Self::Dispatched,
        Self::InvalidCluster,
        Self::InvalidHost,
        Self::NoCaller,
        Self::InvalidCaller,
        Self::NoProperties,
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
            Self::Denied => "denied",
            Self::Detour => "detour",
            Self::NotOutbound => "not_outbound",
            Self::Dispatched => "dispatched",
            Self::InvalidCluster => "invalid_cluster",
            Self::InvalidHost => "invalid_host",
            Self::NoCaller => "no_caller",
            Self::InvalidCaller => "invalid_caller",
            Self::NoProperties => "no_properties",
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EntryLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    reason: &'static str,
}

/// Why a stream is refused that would be one more than the limit.
pub(super) const TOO_MANY: &str = "too_many";

/// The metrics of the access log source. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// By the outcome's number, so that no label is looked up where entries are read.
    entries: [Counter; Outcome::COUNT],
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
        let (entries, streams, dropped) =
            (Family::<EntryLabels, Counter>::default(), Gauge::default(), Counter::default());
        registry.register(
            "palisade_access_log_entries",
            "Log entries read, by what became of them",
            entries.clone(),
        );
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
        let entries = Outcome::ALL.map(|outcome| entries.get_or_create_owned(&EntryLabels { outcome }));
        let detours = Detours::register(registry);
        let passthrough = Passthrough::register(registry);
        Self { entries, streams, refused, dropped, detours, passthrough }
    }

    /// How many entries had this outcome.
    #[must_use]
    pub fn entries(&self, outcome: Outcome) -> u64 {
        self.entries[outcome as usize].get()
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
        for (counter, count) in self.entries.iter().zip(tally.0).filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
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

/// The outcomes of one message.
#[derive(Default)]
pub(super) struct Tally([u64; Outcome::COUNT]);

impl Tally {
    pub(super) fn count(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
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

    #[test]
    fn every_outcome_stands_at_its_own_number_with_its_own_label() {
        let mut labels: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Outcome::COUNT);
    }

    #[test]
    fn metrics_are_named_as_documented() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut tally = Tally::default();
        tally.count(Outcome::UnknownHost);
        metrics.add(&tally);
        metrics.add_dropped(2);
        let _open = metrics.stream();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "palisade_access_log_entries_total{outcome=\"unknown_host\"} 1",
            "palisade_access_log_entries_total{outcome=\"new\"} 0",
            "palisade_access_log_streams 1",
            "palisade_observations_dropped_total 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
