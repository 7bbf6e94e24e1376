//! Tables and properties of what limits come to.

mod expressions;
mod global;
mod matchers;
mod metrics;
mod plans;
mod programmed;
mod properties;
mod quotas;
mod under_way;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Input, Known, MetricSettings, Plan, RateLimitService, plan};
use crate::api::{SmartLimiter, SmartLimiterStatus};
use crate::graph::{Change, DestinationRule, Graph, Labels, ObjectKey, Pod, Service};
use crate::istio::EnvoyFilter;

/// A limiter `shop/web` of this spec.
fn limiter(spec: &Value) -> SmartLimiter {
    serde_json::from_value(json!({
        "apiVersion": "microservice.slime.io/v1alpha2",
        "kind": "SmartLimiter",
        "metadata": { "namespace": "shop", "name": "web", "uid": "u-1", "generation": 3 },
        "spec": spec,
    }))
    .unwrap()
}

/// A limiter with one descriptor for all pods: 10 requests a second on port 8080, and what `more` says instead.
fn one(more: &Value) -> SmartLimiter {
    limiter(&json!({ "sets": { "_base": { "descriptor": [descriptor(more)] } } }))
}

fn descriptor(more: &Value) -> Value {
    let mut descriptor = json!({
        "condition": "true",
        "action": { "quota": "10", "fill_interval": { "seconds": 1 } },
        "target": { "port": 8080 },
    });
    merge(&mut descriptor, more);
    descriptor
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        match value {
            Value::Object(_) if into[key].is_object() => merge(&mut into[key], value),
            _ => into[key] = value.clone(),
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Labels::from(pairs.collect::<std::collections::BTreeMap<_, _>>())
}

fn pod(name: &str, version: &str, ready: bool) -> Change {
    let labels = labels(&[("app", "web"), ("version", version)]);
    Change::Pod(Pod { key: ObjectKey::new("shop", name), labels, ready, ..Pod::default() })
}

/// The Service `shop/web` with two ready pods of version 1, one of version 2, and one that is not ready; a
/// `DestinationRule` calls the versions by their names.
fn mesh() -> Graph {
    let mut graph = Graph::new("cluster.local");
    let selector = labels(&[("app", "web")]);
    graph.apply(Change::Service(Service {
        key: ObjectKey::new("shop", "web"),
        selector,
        ..Service::default()
    }));
    for change in [pod("a", "1", true), pod("b", "1", true), pod("c", "2", true), pod("d", "2", false)] {
        graph.apply(change);
    }
    graph.apply(rule("web"));
    graph
}

fn rule(host: &str) -> Change {
    let subset = |name: &str, version: &str| (name.into(), labels(&[("version", version)]));
    Change::DestinationRule(DestinationRule {
        key: ObjectKey::new("shop", "web-versions"),
        host: host.into(),
        subsets: vec![subset("v1", "1"), subset("v2", "2")],
        ..DestinationRule::default()
    })
}

fn decide(limiter: &SmartLimiter) -> Plan {
    decide_with(limiter, &[], &mesh())
}

fn decide_with(limiter: &SmartLimiter, filters: &[Arc<EnvoyFilter>], graph: &Graph) -> Plan {
    decide_by(limiter, filters, graph, Some(&service()))
}

fn decide_by(
    limiter: &SmartLimiter,
    filters: &[Arc<EnvoyFilter>],
    graph: &Graph,
    service: Option<&RateLimitService>,
) -> Plan {
    let settings = MetricSettings::default();
    let (readings, differing) = (BTreeMap::new(), BTreeMap::new());
    let now = jiff::Timestamp::UNIX_EPOCH;
    let metrics = Known { settings: &settings, readings: &readings, differing: &differing, now };
    plan(&Input { limiter, filters, graph, metrics, service, proxies: None })
}

fn service() -> RateLimitService {
    RateLimitService {
        host: "limits.example.com".to_owned(),
        port: 18092,
        timeout: SignedDuration::from_millis(100),
    }
}

fn status(limiter: &SmartLimiter, plan: &Plan) -> SmartLimiterStatus {
    plan.report.clone().status(limiter, jiff::Timestamp::UNIX_EPOCH).0
}

/// The reason and the message of `Ready`.
fn ready(limiter: &SmartLimiter) -> (String, String) {
    let status = status(limiter, &decide(limiter));
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    (ready.reason.clone(), ready.message.clone())
}

/// The configuration of the only filter of a plan.
fn config_of(plan: &Plan) -> Value {
    let [(filter, _)] = &*plan.apply else { panic!("{plan:?}") };
    let [(_, config)] = &*configs(filter) else { panic!("{plan:?}") };
    config.clone()
}

/// The configurations that an `EnvoyFilter` has sent, by name.
fn configs(filter: &EnvoyFilter) -> Vec<(String, Value)> {
    let patches = filter.spec.config_patches.iter().filter(|patch| patch.apply_to == "EXTENSION_CONFIG");
    let values = patches.map(|patch| &patch.patch["value"]);
    values.map(|value| (value["name"].as_str().unwrap().to_owned(), value["typed_config"].clone())).collect()
}
