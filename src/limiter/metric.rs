//! The metrics that expressions name, and what is known of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::ratio::Ratio;
use crate::graph::Labels;

/// What stands in a query for the ready pods of a subset.
pub const POD_NAME: &str = "$pod_name";

/// The section `limiter.metrics` of the operator's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricSettings {
    /// Where Prometheus's HTTP API is; empty: where the section `prometheus` has it. All else of how it is asked is said
    /// there.
    pub url: String,
    /// How often metrics are asked for.
    pub interval: SignedDuration,
    /// How old a metric may be; an older one is missing.
    pub max_age: SignedDuration,
    /// How long a limiter's limits stay, at least, before metrics change them again.
    pub min_interval: SignedDuration,
    /// By how many percent of itself a quota changes at least, for metrics alone.
    pub min_change: u8,
    /// What Prometheus is asked, by name.
    pub handlers: BTreeMap<Arc<str>, Handler>,
    /// Whether the cluster's own metrics of pods (metrics.k8s.io) may be named.
    pub pod_metrics: bool,
}

/// A query of Prometheus with a name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    /// `PromQL`. `$namespace` stands for the limiter's namespace, `$source_app` for its name, and [`POD_NAME`] for the names of
    /// a subset's ready pods with `|` between.
    pub query: String,
    /// What the answer is.
    #[serde(default, rename = "type")]
    pub answer: Answer,
}

/// What a query's answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Answer {
    /// One series: the metric has the handler's name.
    #[default]
    Value,
    /// Some series: each has a name of its own, in which the values of its labels follow the handler's.
    Group,
}

impl Default for MetricSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            interval: SignedDuration::from_secs(30),
            max_age: SignedDuration::from_secs(90),
            min_interval: SignedDuration::from_secs(10),
            min_change: 5,
            handlers: BTreeMap::new(),
            pod_metrics: false,
        }
    }
}

/// What is asked for a limiter: all that one query, or one list of the cluster's metrics, tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// Whom.
    pub source: Source,
    /// The labels of the pods that it is about, if it is about pods.
    pub pods: Option<Labels>,
}

/// Whom a metric comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Prometheus, by the handler of this name.
    Handler(Arc<str>),
    /// The cluster, which tells what pods use of this: `sum`, `max` and `avg`.
    Pods(Resource),
}

/// What pods use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// In cores.
    Cpu,
    /// In bytes.
    Memory,
}

/// What a name in an expression means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning<'a> {
    pub(super) source: Source,
    /// The subset whose pods it is about.
    pub(super) subset: Option<&'a str>,
    /// Which value of the answer it is.
    pub(super) key: &'a str,
}

impl MetricSettings {
    /// What a name means that is no number of pods; `None` if nothing.
    pub(super) fn meaning<'a>(&self, name: &'a str) -> Option<Meaning<'a>> {
        let by_pods = |handler: &Handler| handler.query.contains(POD_NAME);
        if let Some((source, key)) = self.handler(name, |handler| !by_pods(handler)) {
            return Some(Meaning { source, subset: None, key });
        }
        let (subset, rest) = name.split_once('.')?;
        let (source, key) = self.handler(rest, by_pods).or_else(|| self.of_pods(rest))?;
        Some(Meaning { source, subset: Some(subset), key })
    }

    /// The handler of a name, and what the name has besides.
    fn handler<'a>(&self, name: &'a str, is_meant: impl Fn(&Handler) -> bool) -> Option<(Source, &'a str)> {
        if self.url.is_empty() {
            return None;
        }
        let ends = std::iter::once(name.len()).chain(name.rmatch_indices('.').map(|(end, _)| end));
        ends.filter_map(|end| name.split_at_checked(end)).find_map(|(name, key)| {
            let (name, handler) = self.handlers.get_key_value(name)?;
            let fits = is_meant(handler) && (key.is_empty() == (handler.answer == Answer::Value));
            fits.then(|| (Source::Handler(name.clone()), key.trim_start_matches('.')))
        })
    }

    fn of_pods<'a>(&self, name: &'a str) -> Option<(Source, &'a str)> {
        let (resource, key) = name.split_once('.').filter(|_| self.pod_metrics)?;
        let resource = match resource {
            "cpu" => Resource::Cpu,
            "memory" => Resource::Memory,
            _ => return None,
        };
        matches!(key, "sum" | "max" | "avg").then_some((Source::Pods(resource), key))
    }
}

/// What is known of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Since when it is wanted.
    pub since: Timestamp,
    /// What was answered last, and when. The value of a handler of type `Value` has an empty key.
    pub last: Option<(BTreeMap<String, f64>, Timestamp)>,
    /// Why there was no answer, if there was none when it was asked for last.
    pub failure: Option<String>,
}

/// What is known of one value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Its value.
    Fresh(f64),
    /// It was not asked for yet.
    Awaited,
    /// It was asked for in vain, but not for long.
    Failing(String),
    /// It is not known, and why.
    Missing(String),
}

impl Reading {
    /// A metric that is wanted from now on.
    #[must_use]
    pub fn wanted(since: Timestamp) -> Self {
        Self { since, last: None, failure: None }
    }

    /// What is known of a value, and until when that is true.
    pub(super) fn of(
        &self,
        key: &str,
        max_age: SignedDuration,
        now: Timestamp,
    ) -> (State, Option<Timestamp>) {
        let ends = |from: Timestamp| from.checked_add(max_age).ok().filter(|end| *end > now);
        let answered = self.last.as_ref().and_then(|(values, at)| Some((values, ends(*at)?)));
        if let Some((values, end)) = answered {
            let value = values.get(key).copied().filter(|value| Ratio::near(*value).is_some());
            return (value.map_or_else(|| State::Missing(NO_VALUE.to_owned()), State::Fresh), Some(end));
        }
        let end = ends(self.since).filter(|_| self.last.is_none());
        let state = match (&self.failure, end) {
            (None, Some(_)) => State::Awaited,
            (Some(why), Some(_)) => State::Failing(why.clone()),
            (why, None) => State::Missing(why.clone().unwrap_or_else(|| "no answer".to_owned())),
        };
        (state, end)
    }
}

const NO_VALUE: &str = "the answer has no number of this name";
