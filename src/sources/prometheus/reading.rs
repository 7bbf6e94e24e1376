//! From the series of an answer to what is news.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_http_query::response::InstantVector;

use super::settings::Query;
use crate::api::DependencySource;
use crate::graph::{Caller, Graph, Judgement, ObjectKey, Observation};
use crate::sources::Unusable;
use crate::sources::host::host_or_cluster;
use crate::sources::outcome::Tally;

/// The reading of one answer: judges every series, counts what became of it, and keeps what is news.
pub(super) struct Reading<'a> {
    graph: &'a Graph,
    query: &'a Query,
    /// The host to which unknown calls are diverted: nobody uses it by its own wish.
    detour: &'a str,
    now: Timestamp,
    pub(super) tally: Tally,
    news: HashSet<(Caller, Arc<str>)>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(graph: &'a Graph, query: &'a Query, detour: &'a str, now: Timestamp) -> Self {
        Self { graph, query, detour, now, tally: Tally::default(), news: HashSet::new() }
    }

    pub(super) fn read(&mut self, series: &InstantVector) {
        let outcome = self.judge(series);
        self.tally.count(outcome);
    }

    /// What is to be learned; each pair once. A call counts as seen at the time of the pass.
    pub(super) fn into_news(self) -> (Tally, Vec<Observation>) {
        let (source, seen) = (DependencySource::Prometheus, self.now);
        let news = self.news.into_iter().map(|(caller, host)| Observation { caller, host, source, seen });
        (self.tally, news.collect())
    }

    fn judge(&mut self, series: &InstantVector) -> Result<Judgement, Unusable> {
        let value = series.sample().value();
        if value.is_nan() || value <= 0.0 {
            return Err(Unusable::NoCall);
        }
        let caller = self.caller(series).ok_or(Unusable::NoLabels)?;
        let named = series.metric().get(&self.query.callee).ok_or(Unusable::NoLabels)?;
        let host = host_or_cluster(named).map_err(|_| Unusable::InvalidHost)?;
        if host == self.detour {
            return Err(Unusable::Detour);
        }
        let judgement = self.graph.judge(&caller, host, self.now);
        let routed =
            self.graph.perhaps_called(&caller, host, self.now).map(|host| (caller.clone(), host.clone()));
        self.news.extend(routed);
        if matches!(judgement, Judgement::New | Judgement::Stale) {
            self.news.insert((caller, host.into()));
        }
        Ok(judgement)
    }

    fn caller(&self, series: &InstantVector) -> Option<Caller> {
        let label = |name: &String| series.metric().get(name).map(String::as_str);
        let labels = &self.query.caller;
        let key = |name| Some(ObjectKey::new(label(&labels.namespace)?, label(name)?));
        match (&labels.workload, &labels.pod) {
            (Some(workload), _) => key(workload).map(Caller::Workload),
            (None, Some(pod)) => key(pod).map(Caller::Pod),
            (None, None) => None,
        }
    }
}
