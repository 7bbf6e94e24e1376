use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde::Deserialize;

use super::queries;

/// The section `prometheus` of the operator's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Where Prometheus's HTTP API is (`http://prometheus.monitoring:9090`), or that of anything that speaks it; empty
    /// turns the source off.
    pub url: String,
    /// How often what was called lately is asked.
    pub interval: SignedDuration,
    /// How long one query may take, its answer included.
    pub timeout: SignedDuration,
    /// How far each query looks back, at least; after an outage, to where the last answer ended. A counter's growth
    /// can only be seen between two scrapes, so it must be several times the interval between them.
    pub window: SignedDuration,
    /// How far back is looked for a fence that is new, and after an outage at most.
    pub history: SignedDuration,
    /// A metric that Prometheus has as long as it looks; hosts leave only on the word of one that has it.
    pub heartbeat: String,
    /// A file with a bearer token, read before each query, so that it may change.
    pub bearer_token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) of those who may sign that of Prometheus, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Headers of each request, such as `X-Scope-OrgID`. No secrets: they are in the configuration for all to see.
    pub headers: BTreeMap<String, String>,
    /// What is asked. Empty: Istio's own metrics.
    pub queries: Vec<Query>,
}

/// A query whose answer tells of calls: one series for each pair of caller and callee, of a value above zero.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// `PromQL`. `$window` stands for how far to look back (`300s`), `$namespaces` for a regular expression of the callers'
    /// namespaces.
    pub query: String,
    /// The labels that name the caller.
    pub caller: CallerLabels,
    /// The label that names the callee: by its host, or by Envoy's cluster for it (`outbound|80||host`).
    pub callee: String,
}

/// The labels that name a caller: its namespace, and either its workload or its pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CallerLabels {
    /// The label that has its namespace.
    pub namespace: String,
    /// The label that has the name of its workload, as Istio derives it.
    pub workload: Option<String>,
    /// The label that has the name of its pod.
    pub pod: Option<String>,
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A duration that makes no sense.
    #[error("prometheus.{0} must be at least {1}s")]
    TooShort(&'static str, i64),
    /// Less is looked back over at first than each time.
    #[error("prometheus.history must not be shorter than prometheus.window")]
    HistoryTooShort,
    /// No metric by which to tell since when Prometheus looks.
    #[error("prometheus.heartbeat must name a metric")]
    Heartbeat,
    /// A query that names no caller.
    #[error(
        "each of prometheus.queries must name caller.namespace, callee, and one of caller.workload and caller.pod"
    )]
    Caller,
    /// A header that cannot be sent.
    #[error("prometheus.headers: {0:?} is no valid header")]
    Header(String),
    /// A URL that nothing can be asked at.
    #[error("prometheus.url must be an http or https URL: {0}")]
    Url(String),
    /// A file that cannot be used.
    #[error("prometheus.caFile cannot be used: {0}")]
    Ca(String),
    /// No client came about.
    #[error("no client for Prometheus can be made: {0}")]
    Client(String),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            interval: SignedDuration::from_secs(30),
            timeout: SignedDuration::from_secs(10),
            window: SignedDuration::from_mins(5),
            history: SignedDuration::from_hours(24),
            heartbeat: "up".to_owned(),
            bearer_token_file: None,
            ca_file: None,
            headers: BTreeMap::new(),
            queries: Vec::new(),
        }
    }
}

impl Settings {
    /// Whether Prometheus is to be asked.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    /// How long a new fence is kept waiting for what its pods have used so far: time for a pass of each kind to end,
    /// successful or not. `None` if there is nobody to ask.
    #[must_use]
    pub fn patience(&self) -> Option<SignedDuration> {
        self.is_on().then(|| self.interval.saturating_add(self.timeout).saturating_add(self.timeout))
    }

    /// What is asked.
    pub(super) fn all_queries(&self) -> Vec<Query> {
        if self.queries.is_empty() { queries::of_istio() } else { self.queries.clone() }
    }

    /// Whether the section makes sense.
    ///
    /// # Errors
    /// If it does not; by name.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let least =
            [("interval", self.interval, 1), ("timeout", self.timeout, 1), ("window", self.window, 10)];
        for (name, duration, seconds) in least {
            if duration < SignedDuration::from_secs(seconds) {
                return Err(SettingsError::TooShort(name, seconds));
            }
        }
        if self.history < self.window {
            return Err(SettingsError::HistoryTooShort);
        }
        if self.heartbeat.is_empty() {
            return Err(SettingsError::Heartbeat);
        }
        if self.queries.iter().any(|query| !query.is_complete()) {
            return Err(SettingsError::Caller);
        }
        Ok(())
    }
}

impl Query {
    fn is_complete(&self) -> bool {
        let CallerLabels { namespace, workload, pod } = &self.caller;
        !namespace.is_empty() && !self.callee.is_empty() && workload.is_some() != pod.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_as_the_chart_writes_it() {
        let read: Settings = serde_json::from_str(
            r#"{"url": "http://prometheus:9090", "interval": "15s", "history": "7h", "headers": {"X-Scope-OrgID": "a"},
                "queries": [{"query": "up", "caller": {"namespace": "namespace", "pod": "pod"}, "callee": "cluster_name"}]}"#,
        )
        .unwrap();
        assert!(read.is_on() && read.check().is_ok());
        assert_eq!(
            (read.interval, read.history),
            (SignedDuration::from_secs(15), SignedDuration::from_hours(7))
        );
        assert_eq!(read.timeout, Settings::default().timeout);
        assert_eq!(read.all_queries(), read.queries);
        assert_eq!(read.patience(), Some(SignedDuration::from_secs(35)));
        assert_eq!(Settings::default().patience(), None);
    }

    #[test]
    fn a_section_that_makes_no_sense_is_refused_by_name() {
        let query = |labels: &str| {
            format!(r#"{{"queries": [{{"query": "up", "caller": {labels}, "callee": "c"}}]}}"#)
        };
        for (text, named) in [
            (r#"{"interval": "0s"}"#.to_owned(), "prometheus.interval"),
            (r#"{"timeout": "10ms"}"#.to_owned(), "prometheus.timeout"),
            (r#"{"window": "-5m"}"#.to_owned(), "prometheus.window"),
            (r#"{"window": "2h", "history": "1h"}"#.to_owned(), "prometheus.history"),
            (r#"{"heartbeat": ""}"#.to_owned(), "prometheus.heartbeat"),
            (query(r#"{"namespace": "n"}"#), "caller.workload"),
            (query(r#"{"namespace": "n", "pod": "p", "workload": "w"}"#), "caller.workload"),
            (query(r#"{"pod": "p"}"#), "caller.namespace"),
        ] {
            let error = serde_json::from_str::<Settings>(&text).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }
}
