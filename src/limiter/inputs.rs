//! Which metrics a limit is computed from: those that are known now, or those that are in use.
//!
//! Those in use stay until others change the limit by enough, and long enough after the last change. So what is computed does
//! not jitter with the metrics, while pods that come and go still change it at once; and while nothing is known, the limit
//! stays.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::limit::Rule;
use super::metric::{MetricSettings, State};
use super::ratio::Ratio;
use super::refusal::Refusal;
use crate::api::{MetricsInUse, OnMissingMetrics, reasons, whole_seconds};

/// What a limit's metrics are chosen by.
pub(super) struct Choice<'a> {
    pub(super) rule: &'a Rule<'a>,
    /// The subset that the limit is for.
    pub(super) subset: &'a str,
    /// The numbers of pods.
    pub(super) pods: &'a BTreeMap<String, Ratio>,
    /// What is known of the metrics that its expressions name; at least one.
    pub(super) known: BTreeMap<&'a str, State>,
    /// Those in use by this limit.
    pub(super) own: Option<&'a MetricsInUse>,
    /// Those in use by all limits of the limiter.
    pub(super) all: &'a BTreeMap<String, MetricsInUse>,
    /// Since when metrics have said otherwise than the condition does.
    pub(super) differing: Option<Timestamp>,
    pub(super) settings: &'a MetricSettings,
    pub(super) now: Timestamp,
}

/// What a limit is computed from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Inputs {
    /// These metrics.
    Metrics(MetricsInUse),
    /// None: the limit is in force without them.
    Fallback,
    /// None: there is no limit without them.
    NoLimit,
    /// None: they are being asked for.
    Awaited,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) inputs: Inputs,
    /// Whether metrics are missing.
    pub(super) missing: bool,
    /// What is to be told.
    pub(super) refusal: Option<Refusal>,
    /// When something else may be chosen, even if nothing changes.
    pub(super) wake: Option<Timestamp>,
    /// Since when metrics have said otherwise than the condition does.
    pub(super) differing: Option<Timestamp>,
}

impl From<Inputs> for Chosen {
    fn from(inputs: Inputs) -> Self {
        Self { inputs, missing: false, refusal: None, wake: None, differing: None }
    }
}

impl Choice<'_> {
    /// Chooses.
    pub(super) fn choose(&self) -> Chosen {
        let in_use = self.in_use();
        let is_awaited = |(name, state): (&&str, &State)| {
            *state == State::Awaited && (self.was_missing() || !in_use.contains_key(*name))
        };
        if self.known.iter().any(is_awaited) {
            let refusal = Refusal::new(reasons::AWAITING_METRICS, "its metrics are being asked for");
            return Chosen { refusal: Some(refusal), ..Inputs::Awaited.into() };
        }
        let why = self.missing(&in_use);
        let missing = !why.is_empty();
        let refusal = missing.then(|| {
            let message = format!("{}; {}", why.join("; "), self.consequence(&in_use));
            Refusal::new(reasons::METRICS_MISSING, message)
        });
        let chosen = match (self.rule.missing, missing) {
            (OnMissingMetrics::Limit, true) => Inputs::Fallback.into(),
            (OnMissingMetrics::DoNotLimit, true) => Inputs::NoLimit.into(),
            _ => self.with_known(&in_use),
        };
        Chosen { missing, refusal: refusal.or(chosen.refusal), ..chosen }
    }

    /// Whether metrics were missing when somebody looked last, maybe before a restart.
    fn was_missing(&self) -> bool {
        self.own.is_some_and(|own| own.missing)
    }

    /// The values in use: this limit's own, else those that another limit has for the name.
    fn in_use(&self) -> BTreeMap<String, String> {
        let of = |name: &str| {
            let newest = self.all.values().filter(|metrics| metrics.values.contains_key(name));
            let newest = newest.max_by_key(|metrics| metrics.since.as_ref().map(|since| since.0));
            self.own.into_iter().chain(newest).find_map(|metrics| metrics.values.get(name)).cloned()
        };
        let values = self.known.keys().filter_map(|name| Some(((*name).to_owned(), of(name)?)));
        values.filter(|(_, value)| ratio(value).is_some()).collect()
    }

    /// The metrics that are not known, and why.
    fn missing(&self, in_use: &BTreeMap<String, String>) -> Vec<String> {
        let why = |(name, known): (&&str, &State)| match known {
            State::Missing(why) => Some(format!("{name}: {why}")),
            State::Failing(why) if self.was_missing() || !in_use.contains_key(*name) => {
                Some(format!("{name}: {why}"))
            }
            _ => None,
        };
        self.known.iter().filter_map(why).collect()
    }

    fn consequence(&self, in_use: &BTreeMap<String, String>) -> &'static str {
        match self.rule.missing {
            OnMissingMetrics::Keep if in_use.len() == self.known.len() => "the limit stays as it was",
            OnMissingMetrics::Keep if self.rule.has_fallback() => {
                "there is nothing to keep, so it is the fallback"
            }
            OnMissingMetrics::Keep => "there is nothing to keep, so there is no limit",
            OnMissingMetrics::Limit => "the limit is in force without",
            OnMissingMetrics::DoNotLimit => "the limit is not in force",
        }
    }

    fn with_known(&self, in_use: &BTreeMap<String, String>) -> Chosen {
        let mut fresh = in_use.clone();
        for (name, known) in &self.known {
            if let State::Fresh(value) = known {
                fresh.insert((*name).to_owned(), value.to_string());
            }
        }
        if fresh.len() == self.known.len() {
            return self.settle(&fresh);
        }
        let inputs = if self.rule.has_fallback() { Inputs::Fallback } else { Inputs::NoLimit };
        inputs.into()
    }

    /// Whether what is known now is used instead of what is in use.
    fn settle(&self, fresh: &BTreeMap<String, String>) -> Chosen {
        let adopted = || {
            let metrics =
                MetricsInUse { values: fresh.clone(), since: Some(whole_seconds(self.now)), missing: false };
            Chosen::from(Inputs::Metrics(metrics))
        };
        let is_complete = |own: &&MetricsInUse| {
            own.values.len() == fresh.len() && fresh.keys().all(|name| own.values.contains_key(name))
        };
        let Some(own) = self.own.filter(is_complete) else { return adopted() };
        let kept = || Chosen::from(Inputs::Metrics(own.clone()));
        match (self.outcome(&own.values), self.outcome(fresh)) {
            // There is no limit, and there will be none.
            (Err(_), Err(_)) => kept(),
            (Err(_), _) => adopted(),
            (_, Err(refusal)) => {
                let message = format!("{}; the limit stays as it was", refusal.message);
                Chosen { refusal: Some(Refusal { message, ..refusal }), ..kept() }
            }
            (Ok(old), Ok(new)) if !self.is_worth_a_change(old, new) => kept(),
            (Ok(old), Ok(new)) => {
                let differing = (old.is_some() != new.is_some()).then(|| self.differing.unwrap_or(self.now));
                match self.due(differing) {
                    None => adopted(),
                    wake => Chosen { wake, differing, ..kept() },
                }
            }
        }
    }

    /// What the expressions come to with these metrics; an error as well if that is no quota.
    fn outcome(&self, metrics: &BTreeMap<String, String>) -> Result<Option<Ratio>, Refusal> {
        let outcome = self.rule.outcome(self.subset, &material(self.pods, metrics))?;
        match outcome {
            Some(quota) if !quota.is_positive() => Err(Refusal::invalid("the quota is not above zero")),
            outcome => Ok(outcome),
        }
    }

    fn is_worth_a_change(&self, old: Option<Ratio>, new: Option<Ratio>) -> bool {
        match (old, new) {
            (Some(old), Some(new)) => is_apart(old, new, self.settings.min_change),
            (old, new) => old.is_some() != new.is_some(),
        }
    }

    /// When a change is due, unless it is now.
    fn due(&self, differing: Option<Timestamp>) -> Option<Timestamp> {
        let held = differing.and_then(|since| after(since, self.rule.hold, self.now));
        let times = self.all.values().filter_map(|metrics| metrics.since.as_ref()).map(|since| since.0);
        let spaced = times.max().and_then(|last| after(last, self.settings.min_interval, self.now));
        held.max(spaced)
    }
}

/// The end of a time that has begun, if it is still to come. A clock that was set back ends it.
fn after(begin: Timestamp, time: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    begin.checked_add(time).ok().filter(|end| begin <= now && now < *end)
}

/// Whether a quota has changed by at least so many percent.
fn is_apart(old: Ratio, new: Ratio, percent: u8) -> bool {
    let difference = old.negated().and_then(|old| new.add(old));
    let parts = difference.and_then(|difference| difference.times(Ratio::of(100))?.over(old));
    let apart = parts.and_then(|parts| {
        let size = if parts.is_positive() { parts } else { parts.negated()? };
        Some(!size.is_zero() && size.order(Ratio::of(percent))? != std::cmp::Ordering::Less)
    });
    apart.unwrap_or(old != new)
}

/// The numbers of pods, and metrics.
pub(super) fn material(
    pods: &BTreeMap<String, Ratio>,
    metrics: &BTreeMap<String, String>,
) -> BTreeMap<String, Ratio> {
    let metrics = metrics.iter().filter_map(|(name, value)| Some((name.clone(), ratio(value)?)));
    pods.iter().map(|(name, pods)| (name.clone(), *pods)).chain(metrics).collect()
}

fn ratio(value: &str) -> Option<Ratio> {
    value.parse().ok().and_then(Ratio::near)
}
