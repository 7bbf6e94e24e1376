use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::graph::Judgement;

/// What became of what a source read: a log entry, or a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It tells of a call; this is what the graph says of it.
    Judged(Judgement),
    /// It teaches nothing, whatever the graph says.
    Unusable(Unusable),
}

/// Why something that was read teaches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unusable {
    /// A policy guards the host, and nothing shows that the call was let in.
    Denied,
    /// It went to the global proxy: no dependency, and the proxy tells itself where it ended.
    Detour,
    /// It went to no service: it was refused, passed through, or is about inbound traffic.
    NotOutbound,
    /// The global proxy's own configuration sent it elsewhere (`globalProxy.dispatches`).
    Dispatched,
    /// Its cluster's name begins as that of a service, but is none.
    InvalidCluster,
    /// It names no host: what stands there is not a DNS name in lower case.
    InvalidHost,
    /// The caller has no IP address: it is missing, or a pipe.
    NoCaller,
    /// The caller's address is not an IP address.
    InvalidCaller,
    /// A log entry has no `common_properties`.
    NoProperties,
    /// A label that the query was said to give is missing.
    NoLabels,
    /// Its value is not above zero.
    NoCall,
    /// It cannot be read at all.
    Malformed,
}

impl Unusable {
    const ALL: [Self; 12] = [
        Self::Denied,
        Self::Detour,
        Self::NotOutbound,
        Self::Dispatched,
        Self::InvalidCluster,
        Self::InvalidHost,
        Self::NoCaller,
        Self::InvalidCaller,
        Self::NoProperties,
        Self::NoLabels,
        Self::NoCall,
        Self::Malformed,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Detour => "detour",
            Self::NotOutbound => "not_outbound",
            Self::Dispatched => "dispatched",
            Self::InvalidCluster => "invalid_cluster",
            Self::InvalidHost => "invalid_host",
            Self::NoCaller => "no_caller",
            Self::InvalidCaller => "invalid_caller",
            Self::NoProperties => "no_properties",
            Self::NoLabels => "no_labels",
            Self::NoCall => "no_call",
            Self::Malformed => "malformed",
        }
    }
}

impl Outcome {
    const COUNT: usize = Judgement::ALL.len() + Unusable::ALL.len();

    /// Every outcome, each at its own number.
    fn all() -> impl Iterator<Item = Self> {
        Judgement::ALL.map(Self::Judged).into_iter().chain(Unusable::ALL.map(Self::Unusable))
    }

    fn number(self) -> usize {
        match self {
            Self::Judged(judgement) => judgement as usize,
            Self::Unusable(reason) => Judgement::ALL.len() + reason as usize,
        }
    }

    /// The value of the `outcome` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Judged(judgement) => judgement.label(),
            Self::Unusable(reason) => reason.label(),
        }
    }
}

impl From<Judgement> for Outcome {
    fn from(judgement: Judgement) -> Self {
        Self::Judged(judgement)
    }
}

impl From<Unusable> for Outcome {
    fn from(reason: Unusable) -> Self {
        Self::Unusable(reason)
    }
}

impl From<Result<Judgement, Unusable>> for Outcome {
    fn from(result: Result<Judgement, Unusable>) -> Self {
        result.map_or_else(Self::Unusable, Self::Judged)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.label().encode(encoder)
    }
}

/// The outcomes of one message or answer, counted without a look at any label.
#[derive(Default)]
pub(super) struct Tally([u64; Outcome::COUNT]);

impl Tally {
    pub(super) fn count(&mut self, outcome: impl Into<Outcome>) {
        self.0[outcome.into().number()] += 1;
    }

    /// The outcomes that were met, and how often.
    pub(super) fn met(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::all().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// A source's counter by outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcomes(Family<Labels, Counter>);

impl Outcomes {
    /// Makes the counter `name` and registers it, with a series for each judgement and each of the reasons that the
    /// source may have.
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str, reasons: &[Unusable]) -> Self {
        let outcomes = Self::default();
        registry.register(name, help, outcomes.0.clone());
        let all = Judgement::ALL.map(Outcome::from).into_iter();
        for outcome in all.chain(reasons.iter().copied().map(Outcome::from)) {
            drop(outcomes.0.get_or_create(&Labels { outcome }));
        }
        outcomes
    }

    pub(super) fn get(&self, outcome: impl Into<Outcome>) -> u64 {
        self.0.get_or_create(&Labels { outcome: outcome.into() }).get()
    }

    pub(super) fn add(&self, tally: &Tally) {
        for (outcome, count) in tally.met() {
            self.0.get_or_create(&Labels { outcome }).inc_by(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_outcome_stands_at_its_own_number_with_its_own_label() {
        assert!(Outcome::all().map(Outcome::number).eq(0..Outcome::COUNT));
        let labels: BTreeSet<_> = Outcome::all().map(Outcome::label).collect();
        assert_eq!(labels.len(), Outcome::COUNT);
    }

    #[test]
    fn what_was_tallied_is_added_and_nothing_else() {
        let mut registry = Registry::default();
        let outcomes = Outcomes::register(&mut registry, "read", "What was read", &[Unusable::NoCall]);
        let mut tally = Tally::default();
        tally.count(Judgement::Known);
        tally.count(Unusable::NoCall);
        tally.count(Judgement::Known);
        outcomes.add(&tally);
        outcomes.add(&Tally::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let series = text.lines().filter(|line| line.starts_with("read_total"));
        assert_eq!(series.clone().count(), Judgement::ALL.len() + 1, "{text}");
        let counted: BTreeSet<_> = series.filter(|line| !line.ends_with(" 0")).collect();
        let expected = [r#"read_total{outcome="known"} 2"#, r#"read_total{outcome="no_call"} 1"#];
        assert_eq!(counted, BTreeSet::from(expected));
    }
}
