//! The Prometheus source against a server that answers whatever a test wants.

#![allow(clippy::unwrap_used, reason = "Clippy's own exception misses what test functions call")]

mod limits;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use palisade::api::DependencySource;
use palisade::graph::{
    Caller, Change, Coverage, Covered, Fence, Graph, Judgement, Labels, ObjectKey, Observation, Pod,
    PodSelection, Service, Terms,
};
use palisade::sources::prometheus::{CallerLabels, Metrics, Prometheus, Query, Settings};
use palisade::sources::{Observer, Outcome, Unusable};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use server::{Answer, HEARTBEAT, Server};

const REVIEWS: &str = "reviews.shop.svc.cluster.local";
const RATINGS: &str = "ratings.shop.svc.cluster.local";
const PROXY: &str = "proxy.mesh.svc.cluster.local";

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(10_000) + SignedDuration::from_mins(minutes)
}

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name)
}

fn fence(name: &str) -> Change {
    let key = key(name);
    let labels = Labels::from(BTreeMap::from([("app".to_owned(), key.name.to_string())]));
    let selection = PodSelection::Labels(labels);
    Change::Fence(Fence {
        key,
        selection,
        wants: Vec::new(),
        known: Vec::new(),
        learning: None,
        terms: Terms::default(),
    })
}

fn pod(workload: &str) -> Change {
    let ObjectKey { namespace, name } = key(workload);
    let labels = Labels::from(BTreeMap::from([("app".to_owned(), name.to_string())]));
    let key = ObjectKey::new(namespace, format!("{name}-5d8f-x"));
    Change::Pod(Pod { key, labels, workload: name, ..Pod::default() })
}

fn query(text: &str) -> Query {
    let caller =
        CallerLabels { namespace: "ns".to_owned(), workload: Some("workload".to_owned()), pod: None };
    Query { query: text.to_owned(), caller, callee: "to".to_owned() }
}

fn series(namespace: &str, workload: &str, to: &str, value: &str) -> Value {
    json!({ "metric": { "ns": namespace, "workload": workload, "to": to }, "value": [1_700_000_000.5, value] })
}

fn vector(series: &[Value]) -> Answer {
    Answer::Json(json!({ "status": "success", "data": { "resultType": "vector", "result": series } }))
}

/// Prometheus looks since then.
fn looks_since(time: Timestamp) -> Answer {
    vector(&[json!({ "metric": {}, "value": [0, time.as_second().to_string()] })])
}

/// A source, a Prometheus, and the graph between them.
struct Bench {
    server: Server,
    source: Prometheus,
    metrics: Metrics,
    graph: Arc<ArcSwap<Graph>>,
    queue: mpsc::Receiver<Vec<Observation>>,
    told: mpsc::Receiver<Change>,
}

impl Bench {
    async fn new(queries: &[&str]) -> Self {
        Self::with(|settings| settings.queries = queries.iter().map(|text| query(text)).collect()).await
    }

    /// A shop with a client in a fence, a plain pod in none, and two services. Prometheus is old.
    async fn with(edit: impl FnOnce(&mut Settings)) -> Self {
        let server = Server::start().await;
        server.answer(HEARTBEAT, looks_since(Timestamp::UNIX_EPOCH));
        let mut settings =
            Settings { url: server.url(), timeout: SignedDuration::from_secs(2), ..Settings::default() };
        edit(&mut settings);
        let mut graph = Graph::new("cluster.local");
        for service in ["shop/reviews", "shop/ratings", "mesh/proxy"] {
            graph.apply(Change::Service(Service { key: key(service), ..Service::default() }));
        }
        for change in [fence("shop/client"), pod("shop/client"), pod("shop/plain")] {
            graph.apply(change);
        }
        let graph = Arc::new(ArcSwap::from_pointee(graph));
        let ((into, queue), (tell, told)) = (mpsc::channel(4), mpsc::channel(16));
        let observer = Observer::new(graph.clone(), into);
        let metrics = Metrics::register(&mut Registry::default());
        let source = Prometheus::new(settings, observer, PROXY.into(), tell, metrics.clone()).unwrap();
        Self { server, source, metrics, graph, queue, told }
    }

    /// What came into the queue: `caller → host`.
    fn news(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        while let Ok(batch) = self.queue.try_recv() {
            news.extend(batch.iter().map(show));
        }
        news.sort();
        news
    }

    fn told(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    /// The graph's owner takes all in.
    fn learn(&mut self) {
        let mut graph = Graph::clone(&self.graph.load());
        while let Ok(batch) = self.queue.try_recv() {
            for call in batch {
                graph.apply(Change::Call(call));
            }
        }
        for change in self.told() {
            graph.apply(change);
        }
        self.graph.store(Arc::new(graph));
    }

    fn known(&self) -> Vec<String> {
        let graph = self.graph.load();
        graph.fence(&key("shop/client")).unwrap().known.keys().map(ToString::to_string).collect()
    }
}

fn show(call: &Observation) -> String {
    assert_eq!(call.source, DependencySource::Prometheus);
    match &call.caller {
        Caller::Workload(key) => format!("workload {key} → {}", call.host),
        Caller::Pod(key) => format!("pod {key} → {}", call.host),
        Caller::Address(address) => format!("{address} → {}", call.host),
    }
}

fn covered(change: &Change) -> Option<Coverage> {
    match change {
        Change::Covered(Covered { source: DependencySource::Prometheus, time }) => Some(*time),
        _ => None,
    }
}

fn history_of(change: &Change) -> Option<Vec<String>> {
    match change {
        Change::HistoryTold(keys) => Some(keys.iter().map(ToString::to_string).collect()),
        _ => None,
    }
}

#[tokio::test]
async fn every_series_of_an_answer_is_judged_and_only_news_is_handed_on() {
    let mut bench = Bench::new(&["calls"]).await;
    bench.server.answer(
        "calls",
        vector(&[
            series("shop", "client", REVIEWS, "3"),
            series("shop", "client", "outbound|9080|v1|ratings.shop.svc.cluster.local", "0.2"),
            series("shop", "client", RATINGS, "0"),
            series("shop", "client", RATINGS, "NaN"),
            series("shop", "client", RATINGS, "-1"),
            series("shop", "client", PROXY, "9"),
            series("shop", "client", "PassthroughCluster", "9"),
            series("shop", "client", "outbound|80||a.*.example.com", "9"),
            series("shop", "client", "nobody.shop.svc.cluster.local", "9"),
            series("shop", "plain", REVIEWS, "9"),
            series("other", "client", REVIEWS, "9"),
            json!({ "metric": { "ns": "shop", "workload": "client" }, "value": [1, "9"] }),
            json!({ "metric": { "ns": "shop", "to": REVIEWS }, "value": [1, "9"] }),
        ]),
    );
    assert!(bench.source.ask_lately(at(0)).await);
    let client = "workload shop/client → ";
    assert_eq!(bench.news(), [format!("{client}{RATINGS}"), format!("{client}{REVIEWS}")]);
    let expected: [(Outcome, u64); 8] = [
        (Judgement::New.into(), 2),
        (Unusable::NoCall.into(), 3),
        (Unusable::Detour.into(), 1),
        (Unusable::InvalidHost.into(), 2),
        (Judgement::UnknownHost.into(), 1),
        (Judgement::Unfenced.into(), 1),
        (Judgement::UnknownCaller.into(), 1),
        (Unusable::NoLabels.into(), 2),
    ];
    for (outcome, count) in expected {
        assert_eq!(bench.metrics.series(outcome), count, "{outcome:?}");
    }
}

#[tokio::test]
async fn what_is_known_is_not_handed_on_again() {
    let mut bench = Bench::new(&["calls"]).await;
    bench.server.answer("calls", vector(&[series("shop", "client", REVIEWS, "3")]));
    bench.source.ask_lately(at(0)).await;
    bench.learn();
    assert_eq!(bench.known(), [REVIEWS]);
    bench.source.ask_lately(at(1)).await;
    assert_eq!((bench.news().len(), bench.metrics.series(Judgement::Known)), (0, 1));
}

#[tokio::test]
async fn a_caller_can_be_named_by_its_pod() {
    let mut bench = Bench::with(|settings| {
        let caller =
            CallerLabels { namespace: "ns".to_owned(), workload: None, pod: Some("workload".to_owned()) };
        settings.queries = vec![Query { caller, ..query("calls") }];
    })
    .await;
    let named = |pod: &str| series("shop", pod, REVIEWS, "1");
    bench.server.answer("calls", vector(&[named("client-5d8f-x"), named("client")]));
    bench.source.ask_lately(at(0)).await;
    assert_eq!(bench.news(), [format!("pod shop/client-5d8f-x → {REVIEWS}")]);
    assert_eq!(bench.metrics.series(Judgement::UnknownCaller), 1);
}

#[tokio::test]
async fn a_query_that_fails_spoils_only_itself_and_makes_up_for_it() {
    let mut bench = Bench::new(&["calls[$window]", "tcp[$window]"]).await;
    bench.server.answer("calls", vector(&[series("shop", "client", REVIEWS, "1")]));
    bench.server.answer("tcp", Answer::Status(503));
    assert!(!bench.source.ask_lately(at(0)).await);
    assert_eq!(bench.news(), [format!("workload shop/client → {REVIEWS}")]);
    assert!(bench.told().is_empty(), "what was not asked is not covered");
    assert_eq!((bench.metrics.passes("partial"), bench.metrics.queries("unreadable")), (1, 1));
    bench.server.answer("tcp", vector(&[series("shop", "client", RATINGS, "1")]));
    assert!(bench.source.ask_lately(at(0)).await);
    assert!(bench.source.ask_lately(at(60)).await);
    let back: Vec<_> =
        bench.told().iter().filter_map(covered).map(|time| time.until.duration_since(time.since)).collect();
    assert_eq!(back, [SignedDuration::from_mins(5), SignedDuration::from_mins(65)], "the shortest of both");
    let asked = bench.server.asked();
    let windows = ["calls[300s]", "tcp[300s]", "calls[300s]", "tcp[300s]", "calls[3900s]", "tcp[3900s]"];
    assert_eq!(asked, windows, "an hour without an answer is looked back over");
}

#[tokio::test]
async fn nothing_that_goes_wrong_takes_anything_away() {
    let mut bench = Bench::new(&["calls"]).await;
    bench.server.answer("calls", vector(&[series("shop", "client", REVIEWS, "1")]));
    bench.source.ask_lately(at(0)).await;
    bench.learn();
    let large = format!("[\"{}\"]", "x".repeat(33 << 20));
    let refused = json!({ "status": "error", "errorType": "bad_data", "error": "parse error" });
    for (what, answer, result) in [
        ("garbage", Answer::Text("<html>".to_owned()), "unreadable"),
        ("a refusal", Answer::Json(refused), "refused"),
        ("a proxy's refusal", Answer::Status(401), "refused"),
        ("a redirection", Answer::Redirect, "refused"),
        ("too much", Answer::Text(large), "too_large"),
        ("an answer that does not end", Answer::Stall, "timeout"),
        ("an answer that breaks off", Answer::BreakOff, "unreachable"),
    ] {
        bench.server.answer("calls", answer);
        let before = bench.metrics.queries(result);
        assert!(!bench.source.ask_lately(at(1)).await, "{what}");
        assert_eq!(bench.metrics.queries(result), before + 1, "{what}");
        assert!(bench.told().is_empty() && bench.news().is_empty(), "{what}");
    }
    bench.server.answer("calls", vector(&[]));
    assert!(bench.source.ask_lately(at(2)).await, "its series are gone");
    bench.learn();
    assert_eq!(bench.known(), [REVIEWS]);
    bench.server.stop();
    assert!(!bench.source.ask_lately(at(3)).await, "nobody is there");
    assert_eq!(bench.known(), [REVIEWS]);
}

#[tokio::test]
async fn an_answer_with_warnings_teaches_but_covers_nothing() {
    let mut bench = Bench::new(&["calls"]).await;
    let data = json!({ "resultType": "vector", "result": [series("shop", "client", REVIEWS, "1")] });
    bench.server.answer(
        "calls",
        Answer::Json(json!({ "status": "success", "data": data, "warnings": ["a store is away"] })),
    );
    assert!(bench.source.ask_lately(at(0)).await, "it is no failure");
    assert_eq!((bench.news().len(), bench.told().len(), bench.metrics.passes("partial")), (1, 0, 1));
    assert_eq!(bench.source.ask_history(at(0)).await, Some(false));
    assert!(bench.told().is_empty());
}

/// The time that a pass at minute 60 covers, in minutes.
async fn covered_minutes(bench: &mut Bench) -> Vec<(i64, i64)> {
    assert!(bench.source.ask_lately(at(60)).await);
    let minute = |time: Timestamp| time.duration_since(at(0)).as_mins();
    bench.told().iter().filter_map(covered).map(|time| (minute(time.since), minute(time.until))).collect()
}

#[tokio::test]
async fn no_time_is_covered_that_prometheus_does_not_remember() {
    for (what, heartbeat, covered) in [
        ("it looks since long ago", looks_since(at(0)), vec![(55, 60)]),
        ("it looks since a minute ago", looks_since(at(59)), vec![(59, 60)]),
        ("it has no such metric", vector(&[]), vec![]),
    ] {
        let mut bench = Bench::new(&["calls"]).await;
        bench.server.answer("calls", vector(&[series("shop", "client", REVIEWS, "1")]));
        bench.server.answer(HEARTBEAT, heartbeat);
        assert_eq!(covered_minutes(&mut bench).await, covered, "{what}");
        assert_eq!(bench.news().len(), 1, "{what}: it is learned from in any case");
        let whole = u64::from(!covered.is_empty());
        assert_eq!(
            (bench.metrics.passes("success"), bench.metrics.passes("partial")),
            (whole, 1 - whole),
            "{what}"
        );
    }
}

#[tokio::test]
async fn the_time_before_the_start_is_covered_as_far_as_prometheus_remembers_it() {
    let mut bench = Bench::new(&["calls"]).await;
    bench.server.answer("calls", vector(&[]));
    bench.server.answer(HEARTBEAT, looks_since(at(-90)));
    assert_eq!(bench.source.ask_history(at(0)).await, Some(true));
    let since: Vec<_> = bench.told().iter().filter_map(covered).map(|time| time.since).collect();
    assert_eq!(since, [at(-90)]);
}

#[tokio::test]
async fn a_fence_that_waits_in_vain_makes_no_other_wait() {
    let mut bench = Bench::new(&["calls"]).await;
    assert!(bench.source.has_new_fences());
    bench.server.answer("calls", Answer::Status(500));
    assert_eq!(bench.source.ask_history(at(0)).await, Some(false));
    assert!(!bench.source.has_new_fences(), "it was asked for");
    bench.graph.rcu_apply(fence("shop/plain"));
    assert!(bench.source.has_new_fences());
    bench.server.answer("calls", vector(&[]));
    assert_eq!(bench.source.ask_history(at(0)).await, Some(true));
    bench.learn();
    assert!(!bench.source.has_new_fences());
}

#[tokio::test]
async fn new_fences_have_their_history_told_once_and_together() {
    let mut bench = Bench::new(&["calls{ns=~\"$namespaces\"}[$window]"]).await;
    bench.server.answer("calls", vector(&[series("shop", "client", REVIEWS, "1")]));
    assert_eq!(bench.source.ask_history(at(0)).await, Some(true));
    let told = bench.told();
    assert_eq!(told.iter().filter_map(history_of).collect::<Vec<_>>(), [["shop/client"]]);
    let day =
        told.iter().filter_map(covered).map(|time| time.until.duration_since(time.since)).collect::<Vec<_>>();
    assert_eq!(
        day,
        [SignedDuration::from_hours(24)],
        "these are all fences, so the time before the start is covered"
    );
    for change in told {
        bench.graph.rcu_apply(change);
    }
    bench.learn();
    assert_eq!(bench.known(), [REVIEWS], "it is warm before its first call");
    assert_eq!(bench.source.ask_history(at(1)).await, None, "nothing is left to tell");
    for change in [fence("pay/billing"), fence("shop/plain")] {
        bench.graph.rcu_apply(change);
    }
    assert_eq!(bench.source.ask_history(at(2)).await, Some(true));
    let told = bench.told();
    assert_eq!(told.iter().filter_map(history_of).collect::<Vec<_>>(), [["pay/billing", "shop/plain"]]);
    assert_eq!(told.iter().filter_map(covered).count(), 0, "the other fences were not asked about");
    assert_eq!(bench.server.asked(), ["calls{ns=~\"shop\"}[86400s]", "calls{ns=~\"pay|shop\"}[86400s]"]);
}

#[tokio::test]
async fn a_history_that_was_not_told_is_asked_for_again() {
    let mut bench = Bench::new(&["calls", "tcp"]).await;
    bench.server.answer("calls", vector(&[series("shop", "client", REVIEWS, "1")]));
    bench.server.answer("tcp", Answer::Status(500));
    assert_eq!(bench.source.ask_history(at(0)).await, Some(false));
    assert!(bench.told().is_empty());
    bench.server.answer("tcp", vector(&[]));
    assert_eq!(bench.source.ask_history(at(1)).await, Some(true));
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_comes_again() {
    let mut bench = Bench::new(&["calls"]).await;
    let graph = Graph::clone(&bench.graph.load());
    let many = |graph: Graph| {
        (0..6000).fold(graph, |mut graph, number| {
            let key = ObjectKey::new("shop", format!("service-{number}"));
            graph.apply(Change::Service(Service { key, ..Service::default() }));
            graph
        })
    };
    bench.graph.store(Arc::new(many(graph)));
    let host = |number: u32| format!("service-{number}.shop.svc.cluster.local");
    let all: Vec<_> = (0..6000).map(|number| series("shop", "client", &host(number), "1")).collect();
    bench.server.answer("calls", vector(&all));
    assert!(bench.source.ask_lately(at(0)).await);
    assert_eq!(bench.told().len(), 0, "4 batches of 1,024 have room");
    assert_eq!(bench.news().len(), 4096);
    assert_eq!(bench.source.ask_history(at(0)).await, Some(false), "the history is not told either");
}

#[tokio::test]
async fn a_token_and_headers_go_with_each_query() {
    let folder = std::env::temp_dir().join(format!("palisade-prometheus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("token");
    std::fs::write(&file, "first\n").unwrap();
    let mut bench = Bench::with(|settings| {
        settings.bearer_token_file = Some(file.clone());
        settings.headers = BTreeMap::from([("X-Scope-OrgID".to_owned(), "team".to_owned())]);
        settings.queries = vec![query("calls")];
    })
    .await;
    bench.server.answer("calls", vector(&[]));
    assert!(bench.source.ask_lately(at(0)).await);
    std::fs::write(&file, "second").unwrap();
    assert!(bench.source.ask_lately(at(1)).await);
    let sent = |token: &str| (format!("Bearer {token}"), "team".to_owned());
    // With each the query and the one that asks since when it looks.
    assert_eq!(bench.server.credentials(), ["first", "first", "second", "second"].map(sent));
    std::fs::remove_file(&file).unwrap();
    assert!(!bench.source.ask_lately(at(2)).await);
    assert_eq!(bench.metrics.queries("token"), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn it_asks_at_once_and_again_after_the_interval() {
    let mut bench = Bench::with(|settings| {
        settings.interval = SignedDuration::from_secs(1);
        settings.queries = vec![query("calls")];
    })
    .await;
    bench.server.answer("calls", vector(&[series("shop", "client", REVIEWS, "1")]));
    let running = tokio::spawn(bench.source.run());
    let mut told = Vec::new();
    while told.iter().filter_map(covered).count() < 3 {
        told.push(tokio::time::timeout(Duration::from_secs(20), bench.told.recv()).await.unwrap().unwrap());
    }
    running.abort();
    assert!(told.iter().filter_map(history_of).count() >= 1, "{told:?}");
    assert!(bench.queue.try_recv().is_ok());
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let make = |settings: Settings| {
        let observer =
            Observer::new(Arc::new(ArcSwap::from_pointee(Graph::new("cluster.local"))), mpsc::channel(1).0);
        let metrics = Metrics::register(&mut Registry::default());
        Prometheus::new(settings, observer, PROXY.into(), mpsc::channel(1).0, metrics)
            .err()
            .unwrap()
            .to_string()
    };
    let url = |url: &str| Settings { url: url.to_owned(), ..Settings::default() };
    let headers = BTreeMap::from([("no header".to_owned(), "x".to_owned())]);
    for (settings, named) in [
        (url("prometheus:9090"), "prometheus.url"),
        (url("http://[::bad"), "prometheus.url"),
        (Settings { headers, ..url("http://p:9090") }, "no header"),
        (Settings { ca_file: Some("/nowhere/ca.pem".into()), ..url("https://p:9090") }, "/nowhere/ca.pem"),
        (Settings { interval: SignedDuration::ZERO, ..url("http://p:9090") }, "prometheus.interval"),
    ] {
        let error = make(settings);
        assert!(error.contains(named), "{error}");
    }
}

/// Changes a published graph, as its owner would.
trait Owner {
    fn rcu_apply(&self, change: Change);
}

impl Owner for ArcSwap<Graph> {
    fn rcu_apply(&self, change: Change) {
        let mut graph = Graph::clone(&self.load());
        graph.apply(change);
        self.store(Arc::new(graph));
    }
}
