//! What is asked, and what the answer means. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_http_query::response::InstantVector;

use super::pods::Usage;
use crate::graph::{Graph, Labels, ObjectKey};
use crate::limiter::{Answer, Metric, MetricSettings, POD_NAME, Resource, Source};

/// The largest number of series of an answer.
const SERIES: usize = 1000;

/// One question, whose answer may be wanted for many limiters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// A query of Prometheus.
    Query(String),
    /// What all pods of a namespace use.
    Pods(Arc<str>),
}

/// How a metric is asked for; why it is not, if that makes no sense now.
pub(super) fn question(
    limiter: &ObjectKey,
    metric: &Metric,
    settings: &MetricSettings,
    graph: &Graph,
) -> Result<Question, String> {
    let Source::Handler(name) = &metric.source else { return Ok(Question::Pods(limiter.namespace.clone())) };
    let handler = settings.handlers.get(name).ok_or("there is no such query")?;
    let query = handler.query.replace("$namespace", &limiter.namespace).replace("$source_app", &limiter.name);
    let pods = metric.pods.as_ref().map(|labels| pods(limiter, labels, graph)).transpose()?;
    Ok(Question::Query(pods.map_or_else(|| query.clone(), |pods| query.replace(POD_NAME, &pods))))
}

/// A regular expression of the names of a subset's ready pods. Dots are the only characters in them that mean something.
fn pods(limiter: &ObjectKey, labels: &Labels, graph: &Graph) -> Result<String, String> {
    let names = graph.ready_pod_names(&limiter.namespace, labels);
    if names.is_empty() {
        // An empty expression would match what is about no pod at all.
        return Err("no pod is ready".to_owned());
    }
    Ok(names.iter().map(|name| name.replace('.', "[.]")).collect::<Vec<_>>().join("|"))
}

/// The values of an answer of Prometheus.
pub(super) fn values(series: &[InstantVector], answer: Answer) -> Result<BTreeMap<String, f64>, String> {
    match (answer, series) {
        (_, []) => Err("the answer has no series".to_owned()),
        (Answer::Value, [one]) => Ok(BTreeMap::from([(String::new(), one.sample().value())])),
        (Answer::Value, _) => Err(format!("the answer has {} series instead of one", series.len())),
        (Answer::Group, series) if series.len() > SERIES => {
            Err(format!("the answer has more than {SERIES} series"))
        }
        (Answer::Group, series) => Ok(series.iter().map(|one| (key(one), one.sample().value())).collect()),
    }
}

/// The name of a series in a group: the values of its labels, in the order of the labels' names.
fn key(series: &InstantVector) -> String {
    let labels: BTreeMap<_, _> = series.metric().iter().filter(|(name, _)| *name != "__name__").collect();
    labels.values().map(|value| value.as_str()).collect::<Vec<_>>().join(".")
}

/// What the ready pods with these labels use, together, at most and on average.
pub(super) fn usage(
    limiter: &ObjectKey,
    labels: &Labels,
    resource: Resource,
    usages: &BTreeMap<String, Usage>,
    graph: &Graph,
) -> Result<BTreeMap<String, f64>, String> {
    let names = graph.ready_pod_names(&limiter.namespace, labels);
    let of = |usage: &Usage| match resource {
        Resource::Cpu => usage.cpu,
        Resource::Memory => usage.memory,
    };
    let all: Vec<_> = names.iter().filter_map(|name| usages.get(&**name)).map(of).collect();
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Err("no ready pod has metrics".to_owned());
    }
    let (sum, max) = (all.iter().sum::<f64>(), all.iter().copied().fold(f64::MIN, f64::max));
    let values = [("sum", sum), ("max", max), ("avg", sum / f64::from(count))];
    Ok(values.map(|(name, value)| (name.to_owned(), value)).into())
}
