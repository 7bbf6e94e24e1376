//! What limits come to by metrics, over time.

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
        let input = Input { limiter, filters, graph, metrics, service: None };
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

#[test]
fn a_limit_comes_and_goes_with_a_metric() {
    let mut bench = Bench::new(&by_condition());
    assert_eq!((bench.tokens(), bench.ready().0), (None, "AwaitingMetrics"));
    let asked: Vec<_> = bench.readings.keys().cloned().collect();
    let pods = Some(super::labels(&[("app", "web")]));
    assert_eq!(asked, [Metric { source: Source::Handler("cpu.sum".into()), pods }]);
    bench.answer(5.0);
    assert_eq!((bench.tokens(), bench.ready().0), (None, "Idle"));
    bench.after(30).answer(10.5);
    assert_eq!((bench.tokens(), bench.ready().0), (Some(10), "Limiting"));
    assert_eq!(bench.status().metric_status[CPU], "10.5");
    assert_eq!(bench.status().metrics_in_use["_base/0"].values[CPU], "10.5");
    bench.after(30).answer(9.0);
    assert_eq!((bench.tokens(), bench.ready().0), (None, "Idle"));
}

#[test]
fn a_metric_that_jitters_writes_nothing() {
    let mut bench = Bench::new(&by_quota());
    bench.answer(60.0);
    assert_eq!(bench.tokens(), Some(200));
    bench.writes = (0, 0);
    for value in [61.0, 59.0, 62.9, 57.1, 60.0] {
        bench.after(30).answer(value);
    }
    assert_eq!((bench.tokens(), bench.writes), (Some(200), (0, 0)));
    bench.after(30).answer(63.0);
    assert_eq!((bench.tokens(), bench.writes), (Some(210), (1, 1)));
}

#[test]
fn a_limit_stays_for_the_least_interval_and_then_changes_by_itself() {
    let mut bench = Bench::new(&by_condition());
    bench.answer(20.0);
    let changed = bench.now;
    assert_eq!(bench.after(3).answer(5.0).wake, Some(changed + seconds(10)));
    assert_eq!(bench.tokens(), Some(10));
    bench.after(7).look();
    assert_eq!(bench.tokens(), None);
}

#[test]
fn a_condition_must_hold_or_not_hold_for_its_time() {
    let mut more = by_condition();
    more["for"] = json!({ "seconds": 60 });
    let mut bench = Bench::new(&more);
    bench.answer(5.0);
    let writes = bench.writes;
    bench.after(30).answer(20.0);
    bench.after(30).answer(5.0);
    let since = bench.after(30).now;
    assert_eq!(bench.answer(20.0).wake, Some(since + seconds(60)));
    bench.after(59).answer(21.0);
    assert_eq!((bench.tokens(), bench.writes), (None, writes));
    bench.after(1).look();
    assert_eq!(bench.tokens(), Some(10));
    bench.after(30).answer(5.0);
    assert_eq!(bench.tokens(), Some(10));
    bench.after(60).answer(5.0);
    assert_eq!(bench.tokens(), None);
}

#[test]
fn without_metrics_a_limit_is_as_the_user_chose() {
    let fallback = json!({ "action": { "fallback_quota": "30/{{._base.pod}}" } });
    for (choice, more, expected) in [
        ("Keep", json!({}), Some(200)),
        ("Keep", fallback.clone(), Some(200)),
        ("Limit", fallback, Some(10)),
        ("DoNotLimit", json!({}), None),
    ] {
        let mut descriptor = by_quota();
        super::merge(&mut descriptor, &more);
        descriptor["on_missing_metrics"] = json!(choice);
        let mut bench = Bench::new(&descriptor);
        bench.answer(60.0);
        let plan = bench.after(60).fail();
        assert_eq!((bench.tokens(), bench.ready().0), (Some(200), "Limiting"), "{choice}: not for long yet");
        assert_eq!(plan.wake, Some(bench.now + seconds(30)), "{choice}");
        bench.after(30).look();
        assert_eq!((bench.tokens(), bench.ready().0), (expected, "MetricsMissing"), "{choice}");
        assert!(bench.ready().1.contains("sets._base.descriptor[0]: _base.cpu.sum: no answer in time"));
        let writes = bench.writes;
        bench.after(30).fail();
        assert_eq!(bench.writes, writes, "{choice}");
        bench.readings.clear();
        bench.after(1).look();
        bench.after(1).fail();
        assert_eq!(bench.writes, writes, "{choice}: a restart");
        bench.after(30).answer(90.0);
        assert_eq!((bench.tokens(), bench.ready().0), (Some(300), "Limiting"), "{choice}");
    }
}

#[test]
fn where_there_is_nothing_to_keep_the_fallback_is_the_limit_if_there_is_one() {
    for (more, expected) in
        [(json!({}), None), (json!({ "fallbackQuota": "30", "fill_interval": { "seconds": 1 } }), Some(10))]
    {
        let mut descriptor = by_quota();
        super::merge(&mut descriptor, &json!({ "action": more }));
        let mut bench = Bench::new(&descriptor);
        assert_eq!(bench.ready().0, "AwaitingMetrics");
        bench.fail();
        assert_eq!((bench.tokens(), bench.ready().0), (expected, "MetricsMissing"));
    }
    let mut bench = Bench::new(&json!({ "condition": "{{.nothing}} > 1", "on_missing_metrics": "Limit" }));
    bench.look();
    assert_eq!((bench.tokens(), bench.ready().0), (Some(10), "MetricsMissing"));
    assert!(bench.ready().1.contains("nothing: the operator's configuration has no such metric"));
}

#[test]
fn a_fallback_must_do_without_metrics() {
    let limit = |quota: &str, fallback: &str| {
        let action = json!({ "quota": quota, "fallback_quota": fallback });
        let bench = Bench::new(&json!({ "action": action, "on_missing_metrics": "Limit" }));
        (bench.ready().0.to_owned(), bench.ready().1.to_owned())
    };
    for (quota, fallback, expected) in [
        ("{{.rt}}", "", "needs action.fallbackQuota"),
        ("{{.rt}}", "{{.rt}}/2", "may be missing too"),
        ("10", "ten", "action.fallbackQuota: "),
    ] {
        let (reason, message) = limit(quota, fallback);
        assert_eq!(reason, "InvalidDescriptor", "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(limit("10", "").0, "Limiting");
}

#[test]
fn pods_change_a_limit_at_once_although_its_metrics_are_held() {
    let mut bench = Bench::new(&by_quota());
    bench.answer(60.0);
    bench.after(300).fail();
    bench.graph.apply(Change::PodGone(ObjectKey::new("shop", "a")));
    bench.after(1).look();
    assert_eq!((bench.tokens(), bench.ready().0), (Some(300), "MetricsMissing"));
    bench.graph.apply(super::pod("a", "1", true));
    bench.after(1).look();
    assert_eq!(bench.tokens(), Some(200));
}

#[test]
fn a_restart_changes_nothing_and_an_edit_finds_what_was_known() {
    let mut bench = Bench::new(&by_quota());
    bench.answer(60.0);
    let writes = bench.writes;
    bench.readings.clear();
    bench.after(1).look();
    assert_eq!(bench.writes, writes, "nobody was asked yet");
    bench.fail();
    assert_eq!(bench.writes, writes, "and not in vain for long");
    let mut edited = by_quota();
    edited["action"]["quota"] = json!(format!("{{{{.{CPU}}}}}*20"));
    let status = bench.limiter.status.take();
    bench.limiter = one(&edited);
    bench.limiter.status = status;
    bench.look();
    assert_eq!(bench.tokens(), Some(400));
}

#[test]
fn a_limit_stands_until_the_metrics_that_it_gets_were_asked_for() {
    let mut bench = Bench::new(&json!({}));
    assert_eq!(bench.tokens(), Some(10));
    let writes = bench.writes;
    let status = bench.limiter.status.take();
    bench.limiter = one(&by_condition());
    bench.limiter.status = status;
    let plan = bench.look();
    assert_eq!((bench.tokens(), bench.writes), (Some(10), writes));
    assert_eq!(plan.wake, Some(bench.now + seconds(90)), "should nobody ask");
    bench.answer(5.0);
    assert_eq!((bench.tokens(), bench.ready().0), (None, "Idle"));
}

#[test]
fn a_quota_that_would_be_none_leaves_the_limit_as_it_was() {
    let quota = format!("100-{{{{.{CPU}}}}}");
    let mut bench = Bench::new(&json!({ "action": { "quota": quota } }));
    bench.answer(40.0);
    assert_eq!(bench.tokens(), Some(60));
    bench.after(30).answer(100.0);
    assert_eq!((bench.tokens(), bench.ready().0), (Some(60), "InvalidDescriptor"));
    let writes = bench.writes;
    bench.after(30).answer(120.0);
    assert_eq!(bench.writes, writes);
    bench.after(30).answer(60.0);
    assert_eq!((bench.tokens(), bench.ready().0), (Some(40), "Limiting"));
    // There never was one.
    let quota = format!("-{{{{.{CPU}}}}}");
    let mut bench = Bench::new(&json!({ "action": { "quota": quota } }));
    bench.answer(1.0);
    let writes = bench.writes;
    bench.after(30).answer(2.0);
    assert_eq!((bench.tokens(), bench.ready().0, bench.writes), (None, "InvalidDescriptor", writes));
}

#[test]
fn what_is_no_number_is_missing() {
    for value in [f64::NAN, f64::INFINITY, 1e30] {
        let mut bench = Bench::new(&by_condition());
        bench.answer(value);
        assert_eq!(bench.ready().0, "MetricsMissing", "{value}");
        assert!(bench.ready().1.contains("no number"), "{}", bench.ready().1);
    }
}

#[test]
fn a_time_that_cannot_be_is_told() {
    for time in [json!({ "seconds": -1 }), json!({ "seconds": 86401 }), json!({ "seconds": i64::MAX })] {
        let bench = Bench::new(&json!({ "for": time }));
        assert_eq!(bench.ready().0, "InvalidDescriptor");
    }
}

proptest! {
    /// However metrics go, a limit follows them within the least change and the least interval, and changes no more often.
    #[test]
    fn limits_follow_metrics_and_change_no_more_often_than_they_may(
        steps in prop::collection::vec((1..40_i64, prop::option::of(1..1000_u32)), 1..60),
    ) {
        let mut bench = Bench::new(&by_quota());
        let (mut last, mut changed) = (None, None);
        for (time, value) in steps {
            bench.after(time);
            let before = bench.writes.0;
            match value {
                Some(value) => {
                    last = Some((value, bench.now));
                    bench.answer(f64::from(value));
                }
                None => drop(bench.fail()),
            }
            if bench.writes.0 > before {
                if let Some(changed) = changed {
                    prop_assert!(bench.now >= changed + seconds(10));
                }
                changed = Some(bench.now);
            }
            // Nobody has chosen anything else: once there is a limit, it stays.
            prop_assert_eq!(bench.tokens().is_some(), last.is_some());
            if let (Some((value, _)), Some(changed)) = (last, changed) && bench.now >= changed + seconds(10) {
                let (wanted, tokens) = (u64::from(value) * 10, bench.tokens().unwrap() * 3);
                prop_assert!(wanted.abs_diff(tokens) * 100 <= wanted.max(tokens) * 5 + 300, "{wanted} {tokens}");
            }
        }
    }
}
