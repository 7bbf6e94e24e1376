//! What limits come to by metrics, over time.

mod in_use;
mod missing;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{configs, one};
use crate::api::{SmartLimiter, SmartLimiterStatus};
use crate::graph::{Change, Graph, ObjectKey};
use crate::limiter::metric::Meaning;
use crate::limiter::{
    Answer, Handler, Input, Known, Metric, MetricSettings, POD_NAME, Plan, Reading, Resource, Source, plan,
};

const CPU: &str = "_base.cpu.sum";

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn settings() -> MetricSettings {
    let handler = |query: &str, answer| Handler { query: query.to_owned(), answer };
    let by_pods = format!("sum(cpu{{pod=~\"{POD_NAME}\"}})");
    let handlers = [
        ("cpu.sum", handler(&by_pods, Answer::Value)),
        ("rt", handler("rt", Answer::Value)),
        ("rt.by", handler("sum by (code) (rt)", Answer::Group)),
        ("v1.x", handler("all", Answer::Value)),
    ];
    MetricSettings {
        url: "http://prometheus".to_owned(),
        handlers: handlers.map(|(name, handler)| (name.into(), handler)).into(),
        pod_metrics: true,
        ..MetricSettings::default()
    }
}

/// A limiter that is looked at over time.
struct Bench {
    limiter: SmartLimiter,
    graph: Graph,
    readings: BTreeMap<Metric, Reading>,
    differing: BTreeMap<String, Timestamp>,
    now: Timestamp,
    filters: Vec<std::sync::Arc<crate::istio::EnvoyFilter>>,
    /// How many writes to the mesh and to the status there were.
    writes: (usize, usize),
}

impl Bench {
    fn new(more: &Value) -> Self {
        let (readings, differing) = (BTreeMap::new(), BTreeMap::new());
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000);
        let (limiter, filters) = (one(more), Vec::new());
        let mut bench =
            Self { limiter, graph: super::mesh(), readings, differing, now, filters, writes: (0, 0) };
        bench.look();
        bench
    }

    /// Looks, and brings it about.
    fn look(&mut self) -> Plan {
        let settings = settings();
        let metrics = Known {
            settings: &settings,
            readings: &self.readings,
            differing: &self.differing,
            now: self.now,
        };
        let (limiter, filters, graph) = (&self.limiter, &self.filters, &self.graph);
        let input = Input { limiter, filters, graph, metrics, service: None, proxies: None };
        let plan = plan(&input);
        self.differing.clone_from(&plan.differing);
        let wanted = plan.metrics.iter().map(|metric| {
            let old = self.readings.get(metric).cloned();
            (metric.clone(), old.unwrap_or_else(|| Reading::wanted(self.now)))
        });
        self.readings = wanted.collect();
        if plan.hold {
            return plan;
        }
        self.writes.0 += plan.apply.len() + plan.delete.len();
        if let Some((filter, _)) = plan.apply.first() {
            self.filters = vec![std::sync::Arc::new(filter.clone())];
        } else if !plan.delete.is_empty() {
            self.filters.clear();
        }
        let (status, _) = plan.report.clone().status(&self.limiter, self.now);
        self.writes.1 += usize::from(self.limiter.status.as_ref() != Some(&status));
        self.limiter.status = Some(status);
        plan
    }

    /// All metrics have this value from now on.
    fn answer(&mut self, value: f64) -> Plan {
        for reading in self.readings.values_mut() {
            reading.last = Some(([(String::new(), value)].into(), self.now));
            reading.failure = None;
        }
        self.look()
    }

    fn fail(&mut self) -> Plan {
        self.readings.values_mut().for_each(|reading| reading.failure = Some("no answer in time".to_owned()));
        self.look()
    }

    fn after(&mut self, time: i64) -> &mut Self {
        self.now += seconds(time);
        self
    }

    fn status(&self) -> &SmartLimiterStatus {
        self.limiter.status.as_ref().unwrap()
    }

    fn ready(&self) -> (&str, &str) {
        let ready = self.status().conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        (&ready.reason, &ready.message)
    }

    /// The tokens of the only bucket; none without a limit.
    fn tokens(&self) -> Option<u64> {
        let config = configs(self.filters.first()?).into_iter().next()?.1;
        config["descriptors"][0]["token_bucket"]["max_tokens"].as_u64()
    }
}

fn by_condition() -> Value {
    json!({ "condition": format!("{{{{.{CPU}}}}} > 10") })
}

fn by_quota() -> Value {
    json!({ "action": { "quota": format!("{{{{.{CPU}}}}}*10"), "strategy": "average" } })
}

#[test]
fn a_name_means_a_number_of_a_query_or_of_the_cluster() {
    let settings = settings();
    let handler = |name: &str| Source::Handler(name.into());
    for (name, source, subset, key) in [
        ("_base.cpu.sum", handler("cpu.sum"), Some("_base"), ""),
        ("v1.cpu.sum", handler("cpu.sum"), Some("v1"), ""),
        ("rt", handler("rt"), None, ""),
        ("rt.by.200", handler("rt.by"), None, "200"),
        ("rt.by.200.GET", handler("rt.by"), None, "200.GET"),
        ("v1.x", handler("v1.x"), None, ""),
        ("v1.cpu.max", Source::Pods(Resource::Cpu), Some("v1"), "max"),
        ("v1.memory.avg", Source::Pods(Resource::Memory), Some("v1"), "avg"),
    ] {
        assert_eq!(settings.meaning(name), Some(Meaning { source, subset, key }), "{name}");
    }
    // A query by pods is asked by subset, and one that is not by none; a group has no number of its own.
    for name in ["cpu.sum", "_base.rt", "rt.by", "v1.cpu.least", "v1.disk.sum", "other"] {
        assert_eq!(settings.meaning(name), None, "{name}");
    }
    let nobody = MetricSettings { url: String::new(), pod_metrics: false, ..settings };
    assert_eq!(nobody.meaning("rt").or(nobody.meaning("v1.cpu.max")), None);
}
