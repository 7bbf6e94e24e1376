//! Every metric is in docs/metrics.md, and nothing else is.

#![allow(clippy::unwrap_used, reason = "Clippy's own exception misses what test functions call")]

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use palisade::api::{
    Dependency, DependencySource, ServiceFence, ServiceFenceSpec, ServiceFenceStatus, SmartLimiter,
};
use palisade::controllers::{Caches, Census, Leadership, LimiterCaches, Metrics};
use palisade::rate_limit;
use palisade::sources::{access_log, limiter_metrics, prometheus, proxy_metrics, proxy_status};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

fn ready(reason: &str) -> Value {
    json!({ "type": "Ready", "status": "True", "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-01T12:00:00Z" })
}

fn fence(name: &str, reason: &str, sources: &[DependencySource]) -> ServiceFence {
    let mut fence = ServiceFence::new(name, ServiceFenceSpec::default());
    fence.metadata.namespace = Some("shop".to_owned());
    let domain = |source: &DependencySource| {
        (format!("{source:?}.example.com"), Dependency { sources: vec![*source], ..Dependency::default() })
    };
    fence.status = Some(ServiceFenceStatus {
        conditions: serde_json::from_value(json!([ready(reason)])).unwrap(),
        domains: sources.iter().map(domain).collect(),
        ..ServiceFenceStatus::default()
    });
    fence
}

fn limiter(name: &str, limits: u32) -> SmartLimiter {
    serde_json::from_value(json!({
        "metadata": { "namespace": "shop", "name": name },
        "spec": {},
        "status": { "conditions": [ready("Limiting")], "limits": limits },
    }))
    .unwrap()
}

/// What the operator exposes with two fences and two limiters.
fn exposed() -> String {
    let (fences, mut writer) = store();
    let (sidecars, _) = store();
    let caches = Arc::new(Caches::new(fences, sidecars));
    let (limiters, mut limiter_writer) = store();
    let (filters, _) = store();
    let limiter_caches = Arc::new(LimiterCaches::new(limiters, filters));
    limiter_writer.apply_watcher_event(&Event::Apply(limiter("a", 2)));
    limiter_writer.apply_watcher_event(&Event::Apply(limiter("b", 3)));
    writer.apply_watcher_event(&Event::Apply(fence("a", "Fenced", &[DependencySource::AccessLog])));
    let both = [DependencySource::AccessLog, DependencySource::Spec];
    writer.apply_watcher_event(&Event::Apply(fence("b", "Fenced", &both)));
    let mut registry = Registry::default();
    let _controllers = Metrics::register(&mut registry);
    let _leadership = Leadership::register(&mut registry);
    let _access_log = access_log::Metrics::register(&mut registry);
    let _prometheus = prometheus::Metrics::register(&mut registry);
    let _proxies = proxy_metrics::Metrics::register(&mut registry);
    let _limits = limiter_metrics::Metrics::register(&mut registry);
    let _looks = proxy_status::Metrics::register(&mut registry);
    let _rates = rate_limit::Metrics::register(&mut registry);
    registry.register_collector(Box::new(Census::new(caches, Some(limiter_caches))));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

#[test]
fn every_metric_is_documented_and_nothing_else() {
    let types = exposed();
    let types = types.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.map(|line| match line.split_once(' ').unwrap() {
        (name, "counter") => format!("{name}_total"),
        (name, _) => name.to_owned(),
    });
    let docs = include_str!("../docs/metrics.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<_> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names.collect::<BTreeSet<_>>(), documented);
}

#[test]
fn fences_dependencies_and_limiters_are_counted_as_they_stand() {
    let text = exposed();
    for line in [
        r#"palisade_fences{condition="Ready",status="True",reason="Fenced"} 2"#,
        r#"palisade_dependencies{source="AccessLog"} 2"#,
        r#"palisade_dependencies{source="Spec"} 1"#,
        r#"palisade_limiters{condition="Ready",status="True",reason="Limiting"} 2"#,
        "palisade_limits 5",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn every_kind_of_write_is_counted_from_the_start() {
    let text = exposed();
    let kinds = ["Sidecar", "Status", "Finalizer", "Event", "Fence", "Deletions", "ServiceEntry"];
    for kind in kinds {
        let line = format!(r#"palisade_writes_total{{kind="{kind}",result="ok"}} 0"#);
        assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
    }
}
