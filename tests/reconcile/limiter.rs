//! Limiters, against an API server that notes every request.

use std::sync::Arc;

use kube::runtime::reflector::store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use palisade::api::SmartLimiter;
use palisade::controllers::{
    Caches, Context, Error, LimiterCaches, LimiterContext, Mesh, Message, Metrics, Named, Switch,
    reconcile_limiter,
};
use palisade::graph::{Change, Debounce, Labels, ObjectKey, Pod, Service};
use palisade::limiter::{MetricSettings, first_look};
use palisade::sources::limiter_metrics::{self, LimiterMetrics, Readings};
use palisade::sources::prometheus;
use palisade::sources::proxy_status::{self, Looks, ProxyStatus};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::objects::Objects;
use crate::settings;

const APPLY: &str = "PATCH envoyfilters/web.shop.ratelimit?fieldManager=palisade";
const REPAIR: &str = "PATCH envoyfilters/web.shop.ratelimit?force=true&fieldManager=palisade";
const DELETE: &str = "DELETE envoyfilters/web.shop.ratelimit";
const STATUS: &str = "PATCH smartlimiters/web/status?force=true&fieldManager=palisade";
const EVENT: &str = "POST events";
const NOTHING: [&str; 0] = [];

const LIMITER: &str = "/apis/microservice.slime.io/v1alpha2/namespaces/shop/smartlimiters/web";
const POD_METRICS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods";
const FILTER: &str = "/shop/envoyfilters/web.shop.ratelimit";

/// The operator without its watches: a test says when they catch up.
struct Bench {
    server: Objects,
    mesh: Mesh,
    context: LimiterContext,
    /// Who asks for the cluster's metrics of pods.
    source: LimiterMetrics,
    /// Who asks istiod what proxies say.
    proxies: ProxyStatus,
    looks: Looks,
    limiters: Writer<SmartLimiter>,
    /// Kept, so that the graph's owner lives on, and so that the watch of `EnvoyFilter`s has shown nothing yet.
    _alive: (mpsc::Receiver<ObjectKey>, DropGuard, Writer<palisade::istio::EnvoyFilter>),
}

fn web() -> Labels {
    Labels::from(std::collections::BTreeMap::from([("app".to_owned(), "web".to_owned())]))
}

fn pod(name: &str) -> Change {
    Change::Pod(Pod { key: ObjectKey::new("shop", name), labels: web(), ready: true, ..Pod::default() })
}

fn limiter(action: &Value) -> Value {
    json!({
        "apiVersion": "microservice.slime.io/v1alpha2",
        "kind": "SmartLimiter",
        "metadata": { "namespace": "shop", "name": "web", "uid": "uid-of-limiter", "generation": 1, "resourceVersion": "1" },
        "spec": { "sets": { "_base": { "descriptor": [
            { "condition": "true", "action": action, "target": { "port": 8080 } },
        ] } } },
    })
}

fn average() -> Value {
    json!({ "quota": "10", "fill_interval": { "seconds": 1 }, "strategy": "average" })
}

impl Bench {
    /// A Service with two ready pods, and a limiter for it that was just made.
    async fn new() -> Self {
        let (client, mut server) = Objects::new();
        let (mesh, owner, triggers) = Mesh::new("cluster.local");
        let stop = CancellationToken::new();
        tokio::spawn(owner.run(stop.clone()));
        let (fences, sidecars) = (store().0, store().0);
        let caches = Arc::new(Caches::new(fences, sidecars));
        let metrics = Metrics::register(&mut Registry::default());
        let switch = Switch::default();
        let cluster = client.clone();
        let fences = Context::new(client, None, mesh.clone(), caches, switch, settings(), metrics);
        let ((limiters, writer), (filters, filter_writer)) = (store(), store());
        let caches = Arc::new(LimiterCaches::new(limiters, filters));
        let context = LimiterContext::new(&fences, Named::default(), caches, None);
        let asked = Arc::new(MetricSettings { pod_metrics: true, ..MetricSettings::default() });
        let readings = Readings::default();
        let context = context.knowing(asked.clone(), readings.clone(), Named::default());
        let looks = Looks::default();
        let context = context.looking(Some((looks.clone(), Debounce::DEFAULT)));
        let proxies = proxies_over(&mesh, looks.clone());
        let (graph, told) = (mesh.observer().graph, Box::new(|_| ()) as _);
        let counted = limiter_metrics::Metrics::register(&mut Registry::default());
        let prometheus = prometheus::Settings::default();
        let kept = (readings, told);
        let source = LimiterMetrics::new(asked, &prometheus, cluster, graph, kept, counted).unwrap();
        server.all.insert(LIMITER.to_owned(), limiter(&average()));
        let alive = (triggers, stop.drop_guard(), filter_writer);
        let mut bench =
            Self { server, mesh, context, source, proxies, looks, limiters: writer, _alive: alive };
        let service = Service { key: key(), selector: web(), ..Service::default() };
        bench.tell(Change::Service(service)).await;
        bench.tell(pod("web-1")).await;
        bench.tell(pod("web-2")).await;
        bench.watch_catches_up();
        bench
    }

    async fn tell(&self, change: Change) {
        self.mesh.tell(Message::Change(change)).await;
        self.mesh.settled().await;
    }

    /// Waits until what was written last is pushed and answered.
    async fn pushed(&self) {
        let written = self.looks.written(&key()).unwrap();
        let due = first_look(written, &Debounce::DEFAULT);
        tokio::time::sleep(due.duration_since(jiff::Timestamp::now()).try_into().unwrap()).await;
    }

    fn watch_catches_up(&mut self) {
        let limiter: SmartLimiter = serde_json::from_value(self.server.all[LIMITER].clone()).unwrap();
        self.limiters.apply_watcher_event(&Event::Apply(limiter));
    }

    /// Somebody changes the limiter.
    fn edit(&mut self, action: &Value) {
        let mut changed = self.server.all[LIMITER].clone();
        changed["spec"] = limiter(action)["spec"].clone();
        changed["metadata"]["generation"] = json!(2);
        changed["metadata"]["resourceVersion"] = json!(self.server.next_version());
        self.server.all.insert(LIMITER.to_owned(), changed);
        self.watch_catches_up();
    }

    /// What a look requests.
    async fn lines(&mut self) -> Vec<String> {
        self.look().await.unwrap();
        self.noted()
    }

    fn noted(&mut self) -> Vec<String> {
        let calls = std::mem::take(&mut self.server.calls);
        calls.iter().map(palisade_line).collect()
    }

    async fn look(&mut self) -> Result<Option<jiff::Timestamp>, Error> {
        Box::pin(self.server.serve(reconcile_limiter(&key(), &self.context))).await
    }

    /// Asks for metrics, and tells what was asked.
    async fn ask(&mut self) -> Vec<String> {
        Box::pin(self.server.serve(self.source.pass(false))).await;
        self.noted()
    }

    /// Each of the pods uses so much.
    fn pods_use(&mut self, cpu: &[&str]) {
        let pods = cpu.iter().enumerate().map(|(number, cpu)| {
            let container = json!({ "name": "app", "usage": { "cpu": cpu, "memory": "64Mi" } });
            json!({ "metadata": { "name": format!("web-{}", number + 1) }, "containers": [container] })
        });
        let list = json!({ "kind": "PodMetricsList", "items": pods.collect::<Vec<_>>() });
        self.server.all.insert(POD_METRICS.to_owned(), list);
    }

    fn tokens(&self) -> Value {
        let filter = self.server.get(FILTER).unwrap();
        let config = &filter["spec"]["configPatches"][2]["patch"]["value"]["typed_config"];
        config["descriptors"][0]["token_bucket"]["max_tokens"].clone()
    }

    fn ready(&self) -> (String, String) {
        self.said("Ready")
    }

    /// The status and the reason of a condition.
    fn said(&self, condition: &str) -> (String, String) {
        let all = self.server.all[LIMITER]["status"]["conditions"].as_array().unwrap();
        let said = all.iter().find(|said| said["type"] == condition).unwrap();
        let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }
}

fn proxies_over(mesh: &Mesh, looks: Looks) -> ProxyStatus {
    let (settings, graph) = (proxy_status::Settings::default(), mesh.observer().graph);
    let metrics = proxy_status::Metrics::register(&mut Registry::default());
    ProxyStatus::new(settings, "palisade-system", graph, (looks, Box::new(|_| ())), metrics).unwrap()
}

fn palisade_line(call: &crate::api_server::Call) -> String {
    call.line().replace("/apis/events.k8s.io/v1", "").trim_start_matches('/').to_owned()
}

fn key() -> ObjectKey {
    ObjectKey::new("shop", "web")
}

#[tokio::test]
async fn limits_go_before_the_status_and_nothing_is_written_again() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.lines().await, [APPLY, STATUS, EVENT]);
    assert_eq!((bench.tokens(), bench.ready()), (json!(5), ("True".to_owned(), "Limiting".to_owned())));
    assert_eq!(bench.lines().await, NOTHING, "although no watch has shown it yet");
    bench.watch_catches_up();
    assert_eq!(bench.lines().await, NOTHING);
}

/// Server-side apply leaves it where it is, and istiods of other revisions would not read the filter.
#[tokio::test]
async fn a_revision_that_somebody_gave_a_filter_comes_off_once() {
    let mut bench = Bench::new().await;
    let theirs = json!({ "istio.io/rev": "1-30", "team": "a" });
    let path = "/apis/networking.istio.io/v1alpha3/namespaces/shop/envoyfilters/web.shop.ratelimit";
    bench.server.all.insert(path.to_owned(), json!({ "metadata": { "labels": theirs } }));
    assert_eq!(bench.lines().await, [APPLY, APPLY, STATUS, EVENT], "the second by a merge patch");
    let labels = json!({ "team": "a", "app.kubernetes.io/managed-by": "palisade" });
    assert_eq!(bench.server.get(FILTER).unwrap()["metadata"]["labels"], labels);
    assert_eq!(bench.lines().await, NOTHING);
}

/// What istiod says when it is there, the case `limits-taken` shows.
#[tokio::test]
async fn that_there_is_no_istiod_to_ask_is_told_once_and_limits_are_in_force_nevertheless() {
    let said = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    let mut bench = Bench::new().await;
    bench.lines().await;
    assert_eq!(bench.said("Programmed"), said("Unknown", "Pending"));
    bench.proxies.look().await;
    assert_eq!(bench.lines().await, NOTHING, "it has had no time to push");
    // It is pushed, and answered, after a little more than a second.
    bench.pushed().await;
    bench.proxies.look().await;
    assert_eq!(bench.lines().await, [STATUS]);
    assert_eq!(bench.said("Programmed"), said("Unknown", "IstiodUnavailable"));
    assert_eq!(bench.ready(), said("True", "Limiting"));
    bench.proxies.look().await;
    assert_eq!(bench.lines().await, NOTHING);
}

/// Else a filter that cannot be written would have istiod asked again and again.
#[tokio::test]
async fn what_was_not_written_is_not_looked_at() {
    let mut bench = Bench::new().await;
    bench.server.refuse = Some(("envoyfilters/", 409));
    bench.look().await.unwrap();
    assert_eq!(bench.looks.written(&key()), None);
    bench.server.refuse = None;
    bench.look().await.unwrap();
    assert!(bench.looks.written(&key()).is_some());
}

#[tokio::test]
async fn a_pod_that_comes_changes_the_share_of_each_in_one_look() {
    let mut bench = Bench::new().await;
    bench.lines().await;
    bench.tell(pod("web-3")).await;
    assert_eq!(bench.lines().await, [REPAIR, STATUS]);
    assert_eq!(bench.tokens(), json!(3));
    bench.tell(Change::PodGone(ObjectKey::new("shop", "web-3"))).await;
    bench.tell(Change::PodGone(ObjectKey::new("shop", "web-2"))).await;
    assert_eq!(bench.lines().await, [REPAIR, STATUS]);
    assert_eq!(bench.tokens(), json!(10));
    // Nobody is left: the first who comes will find the limit of one.
    bench.tell(Change::PodGone(ObjectKey::new("shop", "web-1"))).await;
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_limit_that_goes_wrong_is_taken_back_and_told() {
    let mut bench = Bench::new().await;
    bench.lines().await;
    bench.edit(&json!({ "quota": "10" }));
    assert_eq!(bench.lines().await, [DELETE, STATUS, EVENT]);
    assert_eq!(bench.ready(), ("False".to_owned(), "InvalidDescriptor".to_owned()));
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn somebody_elses_filter_is_left_alone_and_told() {
    let mut bench = Bench::new().await;
    bench.server.refuse = Some(("envoyfilters/", 409));
    assert!(bench.look().await.unwrap().is_some(), "it is looked again");
    assert_eq!(bench.noted(), [APPLY, STATUS, EVENT]);
    assert_eq!(bench.ready(), ("False".to_owned(), "EnvoyFilterConflict".to_owned()));
    bench.server.refuse = None;
    assert_eq!(bench.lines().await, [APPLY, STATUS, EVENT]);
    assert_eq!(bench.ready().1, "Limiting");
}

#[tokio::test]
async fn a_write_that_fails_is_an_error_and_the_status_says_nothing_yet() {
    let mut bench = Bench::new().await;
    bench.server.refuse = Some(("envoyfilters/", 500));
    assert!(bench.look().await.is_err());
    assert_eq!(bench.noted(), [APPLY]);
    bench.server.refuse = None;
    assert_eq!(bench.lines().await, [APPLY, STATUS, EVENT]);
}

#[tokio::test]
async fn a_limiter_that_is_gone_or_going_costs_nothing() {
    let mut bench = Bench::new().await;
    bench.server.all.get_mut(LIMITER).unwrap()["metadata"]["deletionTimestamp"] =
        json!("2026-01-01T00:00:00Z");
    bench.watch_catches_up();
    assert_eq!(bench.lines().await, NOTHING);
    let limiter: SmartLimiter = serde_json::from_value(bench.server.all[LIMITER].clone()).unwrap();
    bench.limiters.apply_watcher_event(&Event::Delete(limiter));
    assert_eq!(bench.lines().await, NOTHING);
}

/// The bed has no metrics-server: this is all that shows how the cluster's metrics are read.
#[tokio::test]
async fn the_clusters_metrics_of_pods_are_listed_once_a_namespace_and_set_the_quota() {
    let mut bench = Bench::new().await;
    bench.lines().await;
    assert_eq!(bench.ask().await, NOTHING, "nobody names a metric");
    bench.edit(&json!({ "quota": "{{._base.cpu.max}}*10+{{._base.memory.sum}}/134217728", "fill_interval": { "seconds": 1 } }));
    assert_eq!(bench.lines().await, NOTHING, "the old limit stands until the metrics are there");
    // A pod that is not the limiter's counts for nothing.
    bench.pods_use(&["500m", "1500m", "9"]);
    assert_eq!(bench.ask().await, ["GET pods"], "of metrics.k8s.io");
    assert_eq!(bench.lines().await, [REPAIR, STATUS]);
    assert_eq!((bench.tokens(), bench.ready().1), (json!(16), "Limiting".to_owned()));
    bench.pods_use(&["500m", "1530m"]);
    bench.ask().await;
    assert_eq!(bench.lines().await, NOTHING, "the quota would change by 2 percent");
    bench.server.all.remove(POD_METRICS);
    bench.ask().await;
    assert_eq!(bench.lines().await, NOTHING, "it is not missing for long");
}
