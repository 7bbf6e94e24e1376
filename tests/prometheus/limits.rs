//! The metrics that limiters name.

use std::sync::Mutex;

use palisade::limiter::{Answer as Kind, Handler, Metric, MetricSettings, Reading, Source};
use palisade::sources::limiter_metrics::{self, LimiterMetrics, Readings, checked};
use palisade::sources::prometheus;

use super::*;

struct Bench {
    server: Server,
    source: LimiterMetrics,
    readings: Readings,
    metrics: limiter_metrics::Metrics,
    told: Arc<Mutex<Vec<String>>>,
    graph: Arc<ArcSwap<Graph>>,
}

const HANDLERS: [(&str, &str, Kind); 4] = [
    ("rate", "sum(rate{ns=\"$namespace\"})", Kind::Value),
    ("own", "own{app=\"$source_app\"}", Kind::Value),
    ("cpu.sum", "cpu{pod=~\"$pod_name\"}", Kind::Value),
    ("by", "by", Kind::Group),
];

impl Bench {
    async fn new() -> Self {
        let server = Server::start().await;
        let handlers =
            HANDLERS.map(|(name, query, answer)| (name.into(), Handler { query: query.to_owned(), answer }));
        let settings = MetricSettings { handlers: handlers.into(), ..MetricSettings::default() };
        let prometheus = prometheus::Settings {
            url: server.url(),
            timeout: SignedDuration::from_secs(1),
            ..prometheus::Settings::default()
        };
        let settings = Arc::new(checked(settings, &prometheus).unwrap());
        let mut graph = Graph::new("cluster.local");
        for name in ["b.1", "a"] {
            graph.apply(ready(name, true));
        }
        graph.apply(ready("c", false));
        let graph = Arc::new(ArcSwap::from_pointee(graph));
        let (readings, told) = (Readings::default(), Arc::new(Mutex::new(Vec::new())));
        let hearing = told.clone();
        let tell = Box::new(move |key: ObjectKey| hearing.lock().unwrap().push(key.to_string()));
        let metrics = limiter_metrics::Metrics::register(&mut Registry::default());
        let (nobody, _) =
            tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<kube::client::Body>>();
        let cluster = kube::Client::new(nobody, "default");
        let kept = (readings.clone(), tell as _);
        let source =
            LimiterMetrics::new(settings, &prometheus, cluster, graph.clone(), kept, metrics.clone())
                .unwrap();
        Self { server, source, readings, metrics, told, graph }
    }

    fn want(&self, limiter: &str, metrics: &[Metric]) {
        self.readings.want(&key(limiter), metrics.iter().cloned().collect(), BTreeMap::new(), at(0));
    }

    fn reading(&self, limiter: &str, metric: &Metric) -> Reading {
        self.readings.of(&key(limiter)).readings[metric].clone()
    }

    /// The values of a metric, or why there are none.
    fn known(&self, limiter: &str, metric: &Metric) -> Result<Vec<(String, f64)>, String> {
        let reading = self.reading(limiter, metric);
        match reading.failure {
            Some(failure) => Err(failure),
            None => Ok(reading.last.unwrap().0.into_iter().collect()),
        }
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.server.asked();
        asked.sort();
        asked
    }

    fn told(&self) -> Vec<String> {
        let mut told = std::mem::take(&mut *self.told.lock().unwrap());
        told.sort();
        told
    }
}

fn web() -> Labels {
    Labels::from(BTreeMap::from([("app".to_owned(), "web".to_owned())]))
}

fn ready(name: &str, ready: bool) -> Change {
    Change::Pod(Pod { key: ObjectKey::new("shop", name), labels: web(), ready, ..Pod::default() })
}

fn metric(handler: &str) -> Metric {
    let pods = handler.starts_with("cpu").then(web);
    Metric { source: Source::Handler(handler.into()), pods }
}

fn one(value: &str) -> Answer {
    vector(&[json!({ "metric": {}, "value": [1, value] })])
}

#[tokio::test]
async fn what_limiters_name_is_asked_and_each_text_once() {
    let bench = Bench::new().await;
    assert!(bench.source.pass(false).await);
    assert!(bench.asked().is_empty(), "nobody names a metric");
    bench.server.answer("sum(rate", one("7"));
    bench.server.answer("own", one("8"));
    bench.server.answer("cpu", one("9"));
    let all = [metric("rate"), metric("own"), metric("cpu.sum")];
    bench.want("shop/web", &all);
    bench.want("shop/api", &all);
    assert!(bench.source.pass(true).await);
    let expected =
        ["cpu{pod=~\"a|b[.]1\"}", "own{app=\"api\"}", "own{app=\"web\"}", "sum(rate{ns=\"shop\"})"];
    assert_eq!(bench.asked(), expected);
    for (limiter, name, value) in [("shop/web", "rate", 7.0), ("shop/api", "cpu.sum", 9.0)] {
        assert_eq!(bench.known(limiter, &metric(name)), Ok(vec![(String::new(), value)]), "{limiter} {name}");
    }
    assert!(bench.source.pass(true).await);
    assert_eq!(bench.asked().len(), 4, "nothing is new");
    assert_eq!(bench.metrics.queries("ok"), 4);
}

#[tokio::test]
async fn a_limiter_is_told_of_what_changes_and_of_nothing_else() {
    let bench = Bench::new().await;
    bench.server.answer("sum(rate", one("7"));
    bench.want("shop/web", &[metric("rate")]);
    bench.source.pass(false).await;
    assert_eq!(bench.told(), ["shop/web"]);
    bench.source.pass(false).await;
    assert!(bench.told().is_empty());
    bench.server.answer("sum(rate", one("8"));
    bench.source.pass(false).await;
    assert_eq!(bench.told(), ["shop/web"]);
    bench.want("shop/web", &[]);
    bench.source.pass(false).await;
    assert_eq!((bench.asked().len(), bench.told().len()), (3, 0), "nobody names it any more");
}

#[tokio::test]
async fn a_query_that_fails_spoils_only_itself_and_what_was_known_stays_known() {
    let bench = Bench::new().await;
    bench.want("shop/web", &[metric("rate"), metric("own")]);
    for (answer, label, expected) in [
        (Answer::Status(500), "refused", "it refused: 500"),
        (Answer::Stall, "timeout", "no answer in time"),
        (Answer::BreakOff, "unreachable", "cannot be reached"),
        (Answer::Redirect, "refused", "it refused: 302"),
        (Answer::Text("<html>".to_owned()), "unreadable", "no instant vector"),
        (Answer::Text("x".repeat(2 << 20)), "too_large", "larger than"),
        (Answer::Json(json!({ "error": "parse error" })), "refused", "parse error"),
        (
            Answer::Json(json!({ "data": { "result": [] }, "warnings": ["a shard is away"] })),
            "refused",
            "warnings",
        ),
    ] {
        bench.server.answer("own", one("8"));
        bench.server.answer("sum(rate", one("7"));
        bench.source.pass(false).await;
        bench.server.answer("sum(rate", answer);
        let before = bench.metrics.queries(label);
        assert!(bench.source.pass(false).await, "the other one is answered");
        let reading = bench.reading("shop/web", &metric("rate"));
        assert!(reading.failure.as_ref().is_some_and(|why| why.contains(expected)), "{reading:?}");
        assert_eq!(reading.last.unwrap().0, BTreeMap::from([(String::new(), 7.0)]));
        assert!(bench.known("shop/web", &metric("own")).is_ok());
        assert_eq!(bench.metrics.queries(label), before + 1, "{label}");
    }
    bench.server.stop();
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn an_answer_is_one_series_or_a_group() {
    let bench = Bench::new().await;
    let series = |code: &str, method: &str, value: &str| json!({ "metric": { "__name__": "x", "method": method, "code": code }, "value": [1, value] });
    let two = vector(&[series("200", "GET", "3"), series("503", "PUT", "4")]);
    bench.server.answer("by", two.clone());
    bench.server.answer("sum(rate", two);
    bench.server.answer("own", vector(&[]));
    bench.want("shop/web", &[metric("by"), metric("rate"), metric("own")]);
    bench.source.pass(false).await;
    let group = vec![("200.GET".to_owned(), 3.0), ("503.PUT".to_owned(), 4.0)];
    assert_eq!(bench.known("shop/web", &metric("by")), Ok(group));
    let several = bench.known("shop/web", &metric("rate")).unwrap_err();
    assert!(several.contains("2 series instead of one"), "{several}");
    assert!(bench.known("shop/web", &metric("own")).unwrap_err().contains("no series"));
}

#[tokio::test]
async fn pods_that_come_and_go_are_in_the_next_query_and_without_any_nothing_is_asked() {
    let bench = Bench::new().await;
    bench.server.answer("cpu", one("9"));
    bench.want("shop/web", &[metric("cpu.sum")]);
    bench.source.pass(false).await;
    let change = |changes: &[Change]| {
        let mut graph = Graph::clone(&bench.graph.load());
        for change in changes {
            graph.apply(change.clone());
        }
        bench.graph.store(Arc::new(graph));
    };
    change(&[ready("c", true), ready("a", false)]);
    bench.source.pass(false).await;
    assert_eq!(bench.asked(), ["cpu{pod=~\"a|b[.]1\"}", "cpu{pod=~\"b[.]1|c\"}"]);
    change(&[ready("b.1", false), ready("c", false)]);
    bench.source.pass(false).await;
    assert_eq!(bench.asked().len(), 2);
    assert_eq!(bench.known("shop/web", &metric("cpu.sum")), Err("no pod is ready".to_owned()));
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    for (text, expected) in [
        (r#"{"interval": "0s"}"#, "limiter.metrics.interval"),
        (r#"{"maxAge": "30s"}"#, "limiter.metrics.maxAge"),
        (r#"{"minInterval": "-1s"}"#, "limiter.metrics.minInterval"),
        (r#"{"url": "http://p", "handlers": {"a b": {"query": "x"}}}"#, "\"a b\""),
        (r#"{"handlers": {"a": {"query": "x", "type": "Group"}}}"#, "limiter.metrics.url"),
    ] {
        let settings: MetricSettings = serde_json::from_str(text).unwrap();
        let error = checked(settings, &prometheus::Settings::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let fine = r#"{"handlers": {"a.b-c_1": {"query": "x"}}, "podMetrics": true, "minChange": 0}"#;
    let here = prometheus::Settings { url: "http://p".to_owned(), ..prometheus::Settings::default() };
    assert_eq!(checked(serde_json::from_str(fine).unwrap(), &here).unwrap().url, "http://p");
}
