//! The source that asks proxies, against proxies that answer whatever a test wants.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "Clippy's own exception misses what test functions call"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{StreamExt, stream};
use jiff::SignedDuration;
use palisade::api::DependencySource;
use palisade::graph::{
    Caller, Change, Fence, Graph, Judgement, Labels, ObjectKey, Observation, Pod, PodSelection, Proxy,
    Service,
};
use palisade::sources::Observer;
use palisade::sources::proxy_metrics::{Metrics, ProxyMetrics, Queue, Settings};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const REVIEWS: &str = "reviews.shop.svc.cluster.local";
const PROXY: &str = "proxy.mesh.svc.cluster.local";
/// More than all pods of a fence may take.
const SOON: Duration = Duration::from_secs(10);

const USED: &str = "# TYPE istio_requests_total counter
istio_requests_total{reporter=\"source\",response_code=\"200\",destination_service=\"reviews.shop.svc.cluster.local\"} 3
envoy_cluster_upstream_cx_active{cluster_name=\"outbound|6379||redis.shop.svc.cluster.local\"} 1
";

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name)
}

fn pod(name: &str, address: Option<u8>, proxy: Proxy) -> Change {
    let labels = Labels::from(BTreeMap::from([("app".to_owned(), "client".to_owned())]));
    let ips = address.map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).into_iter().collect();
    Change::Pod(Pod { key: key(name), labels, ips, proxy, ..Pod::default() })
}

/// Asks the pods of `shop/client`, one for each answer, on loopback addresses of their own and one port; gives what was
/// told, and what was counted.
async fn ask(answers: Vec<fn() -> Response>) -> ((u32, u32), Vec<String>, Metrics) {
    let mut graph = Graph::new("cluster.local");
    for service in ["shop/reviews", "shop/redis"] {
        graph.apply(Change::Service(Service { key: key(service), ..Service::default() }));
    }
    let selection =
        PodSelection::Labels(Labels::from(BTreeMap::from([("app".to_owned(), "client".to_owned())])));
    graph.apply(Change::Fence(Fence { key: key("shop/client"), selection, ..Fence::default() }));
    // Nobody asks these: one has no sidecar, one no address yet.
    graph.apply(pod("shop/plain", Some(200), Proxy::None));
    graph.apply(pod("shop/pending", None, Proxy::Sidecar));
    let mut port = 0;
    for (last, answer) in (1..).zip(answers) {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).await.unwrap();
        port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/stats/prometheus", get(move || async move { answer() }));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        graph.apply(pod(&format!("shop/client-{last}"), Some(last), Proxy::Sidecar));
    }
    let settings =
        Settings { enabled: true, port, timeout: SignedDuration::from_secs(1), ..Settings::default() };
    run(settings, graph).await
}

async fn run(settings: Settings, graph: Graph) -> ((u32, u32), Vec<String>, Metrics) {
    let ((into, mut calls), (tell, mut told)) = (mpsc::channel(16), mpsc::channel(16));
    let observer = Observer::new(Arc::new(ArcSwap::from_pointee(graph)), into);
    let (metrics, queue) = (Metrics::register(&mut Registry::default()), Queue::default());
    let source =
        ProxyMetrics::new(settings, observer, PROXY.into(), queue.clone(), tell, metrics.clone()).unwrap();
    let running = tokio::spawn(source.run());
    queue.add(&key("shop/client"));
    let change = tokio::time::timeout(SOON, told.recv()).await.unwrap().unwrap();
    running.abort();
    let Change::ProxiesAsked(fence, answers) = change else { panic!("{change:?}") };
    assert_eq!(fence, key("shop/client"));
    let mut seen = Vec::new();
    while let Ok(batch) = calls.try_recv() {
        seen.extend(batch.iter().map(call));
    }
    seen.sort();
    ((answers.asked, answers.silent), seen, metrics)
}

fn call(call: &Observation) -> String {
    assert_eq!(call.source, DependencySource::ProxyMetrics);
    let Caller::Pod(pod) = &call.caller else { panic!("{call:?}") };
    format!("{pod} {}", call.host)
}

#[tokio::test]
async fn what_pods_have_used_is_handed_over_before_it_is_told_that_they_were_asked() {
    let (answers, seen, metrics) = ask(vec![|| USED.into_response(), || "".into_response()]).await;
    assert_eq!(answers, (2, 0));
    assert_eq!(seen, ["shop/client-1 redis.shop.svc.cluster.local", &format!("shop/client-1 {REVIEWS}")]);
    assert_eq!((metrics.requests("ok"), metrics.series(Judgement::New)), (2, 2));
}

#[tokio::test]
async fn who_does_not_answer_whole_is_silent_and_keeps_nobody_up() {
    let stalled: fn() -> Response = || {
        let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(USED.as_bytes()))]);
        Body::from_stream(begun.chain(stream::pending())).into_response()
    };
    let refused: fn() -> Response = || StatusCode::SERVICE_UNAVAILABLE.into_response();
    let redirected: fn() -> Response =
        || (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.1:1/")]).into_response();
    let endless: fn() -> Response = || {
        let line = Bytes::from(vec![b'a'; 1 << 20]);
        Body::from_stream(stream::repeat_with(move || Ok::<_, std::io::Error>(line.clone()))).into_response()
    };
    let (answers, seen, metrics) = ask(vec![stalled, refused, redirected, endless]).await;
    assert_eq!(answers, (4, 4));
    assert_eq!(seen.len(), 2, "what was read before it stalled has been used as well: {seen:?}");
    assert!(
        metrics.requests("refused") >= 2 && metrics.requests("too_large") + metrics.requests("timeout") == 2
    );
}

#[tokio::test]
async fn a_pod_that_cannot_be_reached_is_asked_again_and_then_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut graph = Graph::new("cluster.local");
    let selection =
        PodSelection::Labels(Labels::from(BTreeMap::from([("app".to_owned(), "client".to_owned())])));
    graph.apply(Change::Fence(Fence { key: key("shop/client"), selection, ..Fence::default() }));
    graph.apply(pod("shop/client-1", Some(1), Proxy::Sidecar));
    let settings = Settings { enabled: true, port, ..Settings::default() };
    let (answers, seen, metrics) = run(settings, graph).await;
    assert_eq!((answers, seen), ((1, 1), vec![]));
    assert_eq!(metrics.requests("unreachable"), 3);
}

#[tokio::test]
async fn a_fence_without_pods_to_ask_is_told_so_at_once() {
    let (answers, seen, _) = ask(vec![]).await;
    assert_eq!((answers, seen), ((0, 0), vec![]));
}
