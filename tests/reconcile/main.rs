//! The reconciler against an API server that notes every request: which ones it makes, in which order, and which not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "Clippy's own exception misses what test functions call"
)]

mod adoption;
mod api_server;
mod auto_fence;
mod external;
mod limiter;
mod objects;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::reflector::store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use palisade::api::{
    DEGRADED, DependencySource, Learning, READY, ServiceFence, ServiceFenceSpec,
    WorkloadSelector as FenceSelector, reasons,
};
use palisade::controllers::{Again, Caches, Context, Error, Mesh, Message, Metrics, Switch, Turn, reconcile};
use palisade::fence::{
    CLUSTERS_ADDED, Defaults, GlobalProxy, ROUTES_ADDED, ROUTES_REMOVED, Settings, Timings, WARMING_SINCE,
    WIDENED, facts,
};
use palisade::graph::{
    Change, Coverage, Covered, Debounce, EgressHost, Fence, Labels, ObjectKey, Observation, Pod, Service,
};
use palisade::istio::Sidecar;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use api_server::{ApiServer, Call};

const REVIEWS: &str = "reviews.shop.svc.cluster.local";
const PROXY: &str = "mesh/proxy.mesh.svc.cluster.local";
const OPEN_FIRST: &str = "palisade.io/open-first";

const FINALIZER: &str = "PATCH servicefences/client?fieldManager=palisade-finalizer";
const STATUS: &str = "PATCH servicefences/client/status?force=true&fieldManager=palisade";
const NEW_SIDECAR: &str = "PATCH sidecars/client?fieldManager=palisade";
const SIDECAR: &str = "PATCH sidecars/client?force=true&fieldManager=palisade";
const SELECTOR: &str = "PATCH sidecars/client?fieldManager=palisade";
const DELETE: &str = "DELETE sidecars/client";
const EVENT: &str = "POST events";
const NOTHING: [&str; 0] = [];

/// Long enough that no step is due by itself while a test runs; see [`Bench::an_hour_later`].
const STEP: SignedDuration = SignedDuration::from_mins(30);

fn key() -> ObjectKey {
    ObjectKey::new("shop", "client")
}

fn caller() -> IpAddr {
    IpAddr::from([10, 244, 0, 1])
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "client".to_owned())])
}

fn fence() -> ServiceFence {
    let selector = FenceSelector { labels: labels(), from_service: false };
    let spec =
        ServiceFenceSpec { enable: true, workload_selector: Some(selector), ..ServiceFenceSpec::default() };
    let mut fence = ServiceFence::new("client", spec);
    fence.metadata.namespace = Some("shop".to_owned());
    fence.metadata.uid = Some("uid-of-fence".to_owned());
    fence.metadata.generation = Some(1);
    fence.metadata.resource_version = Some("1".to_owned());
    fence
}

fn settings() -> Settings {
    let host = EgressHost { namespace: "mesh".into(), host: "proxy.mesh.svc.cluster.local".into() };
    Settings {
        global_proxy: GlobalProxy { host, port: 15001 },
        timings: Timings { settle: STEP, open_settle: STEP, drain: STEP, debounce: Debounce::DEFAULT },
        defaults: Defaults::default(),
        patience: None,
        asks_proxies: false,
        istio: palisade::istio::Installation::default(),
    }
}

/// The operator without its watches: a test says when they catch up.
struct Bench {
    server: ApiServer,
    context: Arc<Context>,
    mesh: Mesh,
    switch: Switch,
    fences: Writer<ServiceFence>,
    sidecars: Writer<Sidecar>,
    registry: Registry,
    /// Kept, so that the graph's owner lives on.
    _alive: (mpsc::Receiver<ObjectKey>, DropGuard),
}

impl Bench {
    /// What is counted, as Prometheus reads it.
    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    /// A shop with a service, a client's pod, and a fence for it that was just made.
    async fn new() -> Self {
        Self::with(fence()).await
    }

    async fn with(fence: ServiceFence) -> Self {
        let (client, server) = ApiServer::new(fence);
        let (mesh, owner, triggers) = Mesh::new("cluster.local");
        let stop = CancellationToken::new();
        tokio::spawn(owner.run(stop.clone()));
        let ((fence_store, fences), (sidecar_store, sidecars)) = (store(), store());
        let (caches, switch) = (Arc::new(Caches::new(fence_store, sidecar_store)), Switch::default());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (instance, own, turned) = (Some("palisade-0".to_owned()), mesh.clone(), switch.clone());
        let context = Arc::new(Context::new(client, instance, own, caches, turned, settings(), metrics));
        let alive = (triggers, stop.drop_guard());
        let mut bench = Self { server, context, mesh, switch, fences, sidecars, registry, _alive: alive };
        let (pod, ips) = (ObjectKey::new("shop", "client-1"), vec![caller()]);
        bench
            .tell(Change::Pod(Pod { key: pod, ips, labels: Labels::from(labels()), ..Pod::default() }))
            .await;
        let service = Service { key: ObjectKey::new("shop", "reviews"), ..Service::default() };
        bench.tell(Change::Service(service)).await;
        bench.watches_catch_up().await;
        bench
    }

    /// A fence that has been in force for long.
    async fn fenced() -> Self {
        let mut bench = Self::new().await;
        for _ in 0..5 {
            bench.reconcile().await.expect("nothing is refused");
            bench.an_hour_later().await;
        }
        assert_eq!(bench.lines().await, NOTHING, "nothing is left to do");
        assert_eq!((bench.reason(), bench.routed()), (reasons::FENCED, vec![PROXY.to_owned()]));
        bench
    }

    /// A fence whose Sidecar was widened, as long ago as it takes: it is about to be trimmed.
    async fn widened() -> Self {
        let mut bench = Self::new().await;
        assert_eq!(bench.lines().await, [NEW_SIDECAR]);
        assert_eq!(bench.lines().await, [FINALIZER, STATUS]);
        assert_eq!(bench.routed(), ["*/*"]);
        bench.an_hour_later().await;
        bench
    }

    /// A fence that opens, and whose Sidecar is wide for long enough: it is about to be deleted.
    async fn opened() -> Self {
        let mut bench = Self::fenced().await;
        bench.edit(delete).await;
        for routed in [PROXY, "*/*"] {
            assert_eq!(bench.lines().await, [SIDECAR]);
            assert_eq!(bench.routed(), [routed]);
            bench.an_hour_later().await;
        }
        bench
    }

    async fn tell(&self, change: Change) {
        self.mesh.tell(Message::Change(change)).await;
        self.mesh.settled().await;
    }

    async fn call(&self, host: &str) {
        let source = DependencySource::AccessLog;
        let call = Observation { caller: caller().into(), host: host.into(), source, seen: Timestamp::now() };
        self.tell(Change::Call(call)).await;
    }

    /// The watches say what the API server holds.
    async fn watches_catch_up(&mut self) {
        let fence = self.server.fence.clone();
        self.fences.apply_watcher_event(&Event::Apply(fence.clone()));
        if let Some(sidecar) = &self.server.sidecar {
            self.sidecars.apply_watcher_event(&Event::Apply(sidecar.clone()));
        }
        self.tell(Change::Fence(facts(&fence))).await;
    }

    /// Dates back what the Sidecar says of its last step.
    async fn an_hour_later(&mut self) {
        let version = self.server.next_version();
        if let Some(sidecar) = &mut self.server.sidecar {
            for annotation in [CLUSTERS_ADDED, WARMING_SINCE, ROUTES_REMOVED, ROUTES_ADDED, WIDENED] {
                if let Some(time) = sidecar.annotations_mut().get_mut(annotation) {
                    let long_ago = time.parse::<Timestamp>().expect("a time") - SignedDuration::from_hours(1);
                    *time = long_ago.to_string();
                }
            }
            sidecar.metadata.resource_version = Some(version);
        }
        self.watches_catch_up().await;
    }

    /// Changes the fence as a user would; the watch tells of it at once.
    async fn edit(&mut self, edit: impl FnOnce(&mut ServiceFence)) {
        edit(&mut self.server.fence);
        self.server.fence.metadata.resource_version = Some(self.server.next_version());
        self.watches_catch_up().await;
    }

    async fn edit_sidecar(&mut self, edit: impl FnOnce(&mut Sidecar)) {
        let version = self.server.next_version();
        let sidecar = self.server.sidecar.as_mut().expect("a Sidecar");
        edit(sidecar);
        sidecar.metadata.resource_version = Some(version);
        self.watches_catch_up().await;
    }

    /// Reconciles, and notes only the requests of this time.
    async fn reconcile(&mut self) -> Result<Option<Again>, Error> {
        self.reconcile_in(Turn::Patient).await
    }

    async fn reconcile_in(&mut self, turn: Turn) -> Result<Option<Again>, Error> {
        self.server.calls.clear();
        let work = Box::pin(reconcile(Arc::new(self.server.fence.clone()), turn, self.context.clone()));
        timeout(Duration::from_secs(2), self.server.serve(work)).await.expect("an end in time")
    }

    /// The requests of a reconciliation that succeeds.
    async fn lines(&mut self) -> Vec<String> {
        self.reconcile().await.expect("nothing is refused");
        self.noted()
    }

    fn noted(&self) -> Vec<String> {
        self.server.calls.iter().map(Call::line).collect()
    }

    /// The only request with this line.
    fn noted_one(&self, line: &str) -> &Call {
        let mut found = self.server.calls.iter().filter(|call| call.line() == line);
        let one = found.next().expect("a request");
        assert_eq!(found.count(), 0);
        one
    }

    fn reason(&self) -> &str {
        let conditions = self.server.fence.status.iter().flat_map(|status| &status.conditions);
        conditions
            .filter(|condition| condition.type_ == READY)
            .map(|ready| &*ready.reason)
            .next()
            .expect("Ready")
    }

    /// What the captured traffic's listener lists.
    fn routed(&self) -> Vec<String> {
        let sidecar = self.server.sidecar.as_ref().expect("a Sidecar");
        sidecar.spec.egress.last().expect("a listener").hosts.clone()
    }
}

#[tokio::test]
async fn a_new_fence_gets_a_wide_sidecar_then_is_held_and_noted_then_enforced() {
    let mut bench = Bench::new().await;
    assert!(matches!(bench.reconcile().await.unwrap(), Some(Again::WhenIdle(Some(_)))));
    let mut calls = std::mem::take(&mut bench.server.calls);
    assert_eq!(bench.lines().await, [FINALIZER, STATUS]);
    calls.splice(..0, std::mem::take(&mut bench.server.calls));

    let paths: Vec<_> = calls.iter().map(|call| call.path.split('?').next().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "/apis/microservice.slime.io/v1alpha1/namespaces/shop/servicefences/client",
            "/apis/microservice.slime.io/v1alpha1/namespaces/shop/servicefences/client/status",
            "/apis/networking.istio.io/v1/namespaces/shop/sidecars/client",
        ]
    );
    assert!(calls.iter().all(|call| call.content_type == "application/apply-patch+yaml"));
    let identity = |call: &Call| {
        let Call { body, .. } = call;
        json!([body["apiVersion"], body["kind"], body["metadata"]["name"], body["metadata"]["uid"]])
    };
    let of_fence = json!(["microservice.slime.io/v1alpha1", "ServiceFence", "client", "uid-of-fence"]);
    assert_eq!([identity(&calls[0]), identity(&calls[1])], [of_fence.clone(), of_fence]);
    assert_eq!(calls[0].body["metadata"]["finalizers"], json!([OPEN_FIRST]));
    assert_eq!(calls[0].body.get("spec"), None, "the spec is the user's");
    assert_eq!(calls[1].body.get("spec"), None, "the spec is the user's");
    assert_eq!(calls[1].body["status"]["conditions"][0]["reason"], reasons::FENCING);
    let owner = &calls[2].body["metadata"]["ownerReferences"][0];
    assert_eq!([&owner["uid"], &owner["controller"]], [&json!("uid-of-fence"), &json!(true)]);
    assert_eq!(calls[2].body["metadata"].get("resourceVersion"), None);
    assert_eq!(calls[2].body["metadata"].get("managedFields"), None);
    assert_eq!(calls[2].body["spec"]["egress"], json!([{ "hosts": ["*/*"] }]));
    assert_eq!(bench.lines().await, NOTHING, "the catch-all has not turned yet");
    assert_eq!(bench.reason(), reasons::FENCING);

    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.server.sidecar.as_ref().unwrap().spec.egress[0].hosts, ["*/*"]);
    assert_eq!(bench.routed(), [PROXY]);
}

#[tokio::test]
async fn a_fence_in_force_is_told_by_its_status_and_one_event() {
    let mut bench = Bench::widened().await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.lines().await, [STATUS, EVENT]);
    let event = &bench.noted_one(EVENT).body;
    assert_eq!([&event["type"], &event["reason"]], [&json!("Normal"), &json!(reasons::FENCED)]);
    assert_eq!(event["regarding"]["uid"], "uid-of-fence");
    assert_eq!(event["reportingInstance"], "palisade-0");
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn nothing_is_written_twice_while_the_watches_lag_behind() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.lines().await.len(), 1);
    assert_eq!(bench.lines().await.len(), 2);
    for _ in 0..3 {
        assert_eq!(bench.lines().await, NOTHING);
    }
    bench.an_hour_later().await;
    assert_eq!(bench.lines().await.len(), 1);
    assert_eq!(bench.lines().await.len(), 2);
    for _ in 0..3 {
        assert_eq!(bench.lines().await, NOTHING);
    }
    bench.watches_catch_up().await;
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_learned_host_costs_one_status_and_two_sidecars() {
    let mut bench = Bench::fenced().await;
    bench.call(REVIEWS).await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.lines().await, [STATUS], "fences that wait for a cluster go before it");
    let domains = bench.noted_one(STATUS).body["status"]["domains"].clone();
    assert_eq!(domains[REVIEWS]["hosts"], json!([format!("shop/{REVIEWS}")]));
    assert_eq!(bench.routed(), [PROXY], "knowledge is durable before it is routed to");

    bench.watches_catch_up().await;
    assert_eq!(bench.lines().await, NOTHING, "the cluster is not warm yet");
    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.routed(), [PROXY.to_owned(), format!("shop/{REVIEWS}")]);
    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn an_unused_host_costs_one_status_and_is_forgotten() {
    let mut bench = Bench::fenced().await;
    let (now, hours) = (Timestamp::now(), SignedDuration::from_hours);
    let seen = |host: &str, source, seen| {
        Change::Call(Observation { caller: caller().into(), host: host.into(), source, seen })
    };
    bench.tell(Change::Service(Service { key: ObjectKey::new("shop", "used"), ..Service::default() })).await;
    let used = "used.shop.svc.cluster.local";
    bench.tell(seen(REVIEWS, DependencySource::AccessLog, now - hours(1000))).await;
    bench.tell(seen(used, DependencySource::Prometheus, now)).await;
    for _ in 0..3 {
        bench.reconcile().await.unwrap();
        bench.an_hour_later().await;
    }
    assert_eq!(bench.lines().await, NOTHING, "nobody has watched");
    let time = Coverage { since: now - hours(1000), until: now };
    bench.tell(Change::Covered(Covered { source: DependencySource::Prometheus, time })).await;
    assert_eq!(bench.lines().await, [STATUS, SIDECAR]);
    let status = bench.noted_one(STATUS).body["status"].clone();
    assert_eq!(status["domains"].as_object().unwrap().keys().collect::<Vec<_>>(), [used]);
    assert_eq!(status["conditions"][3]["reason"], reasons::CALLS_SEEN);
    bench.mesh.settled().await;
    let knows = |bench: &Bench| bench.mesh.graph().fence(&key()).unwrap().known.contains_key(REVIEWS);
    assert!(!knows(&bench));
    bench.an_hour_later().await;
    assert_eq!((bench.lines().await, knows(&bench)), (vec![SIDECAR.to_owned()], false));
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_bound_that_bites_is_told_by_one_status_and_one_event() {
    let mut fence = fence();
    fence.spec.learning = Some(Learning { max_hosts: Some(1), ..Learning::default() });
    let mut bench = Bench::with(fence).await;
    for _ in 0..4 {
        bench.reconcile().await.unwrap();
        bench.an_hour_later().await;
    }
    bench.call(REVIEWS).await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.lines().await, [STATUS, EVENT]);
    let event = &bench.noted_one(EVENT).body;
    assert_eq!([&event["type"], &event["reason"]], [&json!("Warning"), &json!(reasons::HOST_LIMIT)]);
    let degraded = &bench.noted_one(STATUS).body["status"]["conditions"][4];
    assert_eq!([&degraded["type"], &degraded["status"]], [&json!(DEGRADED), &json!("True")]);
    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    bench.tell(Change::Service(Service { key: ObjectKey::new("shop", "more"), ..Service::default() })).await;
    bench.call("more.shop.svc.cluster.local").await;
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn calls_of_known_hosts_cost_nothing() {
    let mut bench = Bench::fenced().await;
    bench.call(REVIEWS).await;
    for _ in 0..2 {
        bench.reconcile().await.unwrap();
    }
    bench.call(REVIEWS).await;
    bench.call("no.such.host").await;
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_wait_is_as_long_as_the_step_needs() {
    let mut bench = Bench::fenced().await;
    assert_eq!(bench.reconcile().await.unwrap(), None);
    bench.call(REVIEWS).await;
    let again = bench.reconcile().await.unwrap();
    assert!(matches!(again, Some(Again::WhenIdle(Some(_)))), "the status is still to be written: {again:?}");
    let Some(Again::At(at)) = bench.reconcile().await.unwrap() else { panic!("no wait") };
    let wait = at.duration_since(Timestamp::now()).as_secs();
    assert!(matches!(wait, 1798..=1800), "{wait}");
}

#[tokio::test]
async fn a_status_that_no_route_waits_for_waits_for_other_fences() {
    let mut bench = Bench::fenced().await;
    bench.call(REVIEWS).await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    let again = bench.reconcile_in(Turn::Prompt).await.unwrap();
    assert!(matches!(again, Some(Again::WhenIdle(Some(_)))), "until the route is due: {again:?}");
    assert_eq!(bench.noted(), NOTHING);
    bench.an_hour_later().await;
    bench.reconcile_in(Turn::Prompt).await.unwrap();
    assert_eq!(bench.noted(), [STATUS, SIDECAR], "a route waits for it now");
}

#[tokio::test]
async fn nothing_is_routed_to_while_the_status_is_refused() {
    for (code, category) in [(409, "conflict"), (500, "refused"), (403, "forbidden"), (422, "invalid")] {
        let mut bench = Bench::fenced().await;
        bench.call(REVIEWS).await;
        bench.server.refuse = Some(("servicefences/client/status", code));
        assert_eq!(bench.lines().await, [SIDECAR]);
        let error = bench.reconcile().await.unwrap_err();
        let status = STATUS.to_owned();
        assert_eq!((error.category(), bench.noted()), (category, vec![status.clone()]));
        let counted = format!("palisade_writes_total{{kind=\"Status\",result=\"{category}\"}} 1");
        assert!(bench.metrics().lines().any(|line| line == counted), "{counted}: {}", bench.metrics());
        bench.an_hour_later().await;
        assert!(bench.reconcile().await.is_err());
        assert_eq!((bench.noted(), bench.routed()), (vec![status], vec![PROXY.to_owned()]));
        bench.server.refuse = None;
        assert_eq!(bench.lines().await, [STATUS, SIDECAR], "the next try does all of it");
        assert_eq!(bench.routed(), [PROXY.to_owned(), format!("shop/{REVIEWS}")]);
    }
}

#[tokio::test]
async fn a_sidecar_that_is_refused_is_tried_again_alone() {
    let mut bench = Bench::fenced().await;
    bench.call(REVIEWS).await;
    bench.server.refuse = Some(("sidecars", 500));
    assert!(bench.reconcile().await.is_err());
    assert_eq!(bench.noted(), [SIDECAR, STATUS], "what is known is noted all the same");
    bench.server.refuse = None;
    assert_eq!(bench.lines().await, [SIDECAR]);
}

#[tokio::test]
async fn a_finalizer_that_is_refused_keeps_the_sidecar_from_being_trimmed() {
    let mut bench = Bench::new().await;
    bench.server.refuse = Some(("fieldManager=palisade-finalizer", 409));
    assert_eq!(bench.lines().await, [NEW_SIDECAR]);
    for _ in 0..2 {
        assert!(bench.reconcile().await.is_err());
        assert_eq!((bench.noted(), bench.routed()), (vec![FINALIZER.to_owned()], vec!["*/*".to_owned()]));
        bench.an_hour_later().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_given_up_on() {
    let bench = Bench::new().await;
    let fence = Arc::new(bench.server.fence.clone());
    let error = Box::pin(reconcile(fence, Turn::Patient, bench.context.clone())).await.unwrap_err();
    assert_eq!(error.category(), "timeout", "{error}");
}

#[tokio::test]
async fn an_event_that_is_refused_is_no_reason_to_try_again() {
    let mut bench = Bench::widened().await;
    bench.reconcile().await.unwrap();
    bench.server.refuse = Some(("events", 500));
    assert_eq!(bench.lines().await, [STATUS, EVENT]);
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_fence_that_is_disabled_opens_before_its_sidecar_goes() {
    let mut bench = Bench::fenced().await;
    bench.edit(|fence| fence.spec.enable = false).await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.lines().await, [STATUS]);
    assert_eq!(bench.reason(), reasons::OPENING);
    assert_eq!(bench.server.sidecar.as_ref().unwrap().spec.egress[0].hosts, ["*/*"]);
    assert_eq!(bench.routed(), [PROXY]);
    assert_eq!(bench.lines().await, NOTHING, "the clusters are not warm yet");

    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!((bench.reason(), bench.routed()), (reasons::OPENING, vec!["*/*".to_owned()]));
    assert_eq!(bench.lines().await, NOTHING, "the catch-all is turned back last");

    bench.an_hour_later().await;
    let before = bench.server.sidecar.clone().unwrap();
    assert_eq!(bench.lines().await, [DELETE, FINALIZER]);
    let wanted = &bench.noted_one(DELETE).body["preconditions"];
    assert_eq!(*wanted, json!({ "uid": before.uid(), "resourceVersion": before.resource_version() }));
    assert_eq!(bench.noted_one(FINALIZER).body["metadata"]["finalizers"], json!([]));
    assert_eq!(bench.server.fence.finalizers(), NOTHING);

    assert_eq!(bench.lines().await, [STATUS, EVENT]);
    assert_eq!(bench.reason(), reasons::OPEN);
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn the_switch_opens_a_fence_and_fences_it_again() {
    let mut bench = Bench::fenced().await;
    assert!(bench.switch.set(true));
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.lines().await, [STATUS]);
    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.routed(), ["*/*"]);
    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, [DELETE, FINALIZER]);
    assert!(bench.switch.set(false));
    assert_eq!(bench.lines().await, [NEW_SIDECAR]);
    assert_eq!(bench.lines().await, [FINALIZER, STATUS]);
}

fn delete(fence: &mut ServiceFence) {
    fence.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
}

#[tokio::test]
async fn a_fence_that_is_deleted_opens_first_and_its_status_is_left_alone() {
    let mut bench = Bench::fenced().await;
    bench.edit(delete).await;
    for routed in [PROXY, "*/*"] {
        assert_eq!(bench.lines().await, [SIDECAR]);
        assert_eq!(bench.routed(), [routed]);
        assert_eq!(bench.lines().await, NOTHING);
        bench.an_hour_later().await;
    }
    assert_eq!(bench.lines().await, [DELETE, FINALIZER]);
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_fence_that_was_never_enabled_is_noted_as_open_and_nothing_else() {
    let mut fence = fence();
    fence.spec.enable = false;
    let mut bench = Bench::with(fence).await;
    assert_eq!(bench.lines().await, [STATUS]);
    assert_eq!(bench.reason(), reasons::OPEN);
    assert_eq!(bench.lines().await, NOTHING);
    bench.edit(delete).await;
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn the_finalizers_of_others_are_left_alone() {
    let mut fence = fence();
    fence.metadata.finalizers = Some(vec!["example.com/other".to_owned()]);
    let mut bench = Bench::with(fence).await;
    bench.reconcile().await.unwrap();
    bench.reconcile().await.unwrap();
    assert_eq!(bench.noted_one(FINALIZER).body["metadata"]["finalizers"], json!([OPEN_FIRST]));
    assert_eq!(bench.server.fence.finalizers(), ["example.com/other", OPEN_FIRST]);
}

#[tokio::test]
async fn a_sidecar_that_is_gone_already_need_not_be_deleted() {
    let mut bench = Bench::opened().await;
    bench.server.sidecar = None;
    assert_eq!(bench.lines().await, [DELETE, FINALIZER]);
}

#[tokio::test]
async fn a_sidecar_that_changed_meanwhile_is_not_deleted_and_its_fence_is_held() {
    let mut bench = Bench::opened().await;
    bench.server.sidecar.as_mut().unwrap().metadata.resource_version = Some(bench.server.next_version());
    assert_eq!(bench.reconcile().await.unwrap_err().category(), "conflict");
    assert_eq!(bench.noted(), [DELETE]);
    assert_eq!(bench.server.fence.finalizers(), [OPEN_FIRST]);
}

#[tokio::test]
async fn the_sidecar_of_somebody_else_is_told_of_once_and_left_alone() {
    let mut bench = Bench::new().await;
    let mut foreign = Sidecar::new("client", palisade::istio::SidecarSpec::default());
    foreign.metadata.namespace = Some("shop".to_owned());
    foreign.metadata.resource_version = Some(bench.server.next_version());
    bench.server.sidecar = Some(foreign);
    bench.watches_catch_up().await;
    assert_eq!(bench.lines().await, [STATUS, EVENT]);
    assert_eq!(bench.noted_one(EVENT).body["type"], "Warning");
    assert_eq!(bench.reason(), reasons::SIDECAR_CONFLICT);
    assert_eq!(bench.lines().await, NOTHING);
    bench.edit(|fence| fence.spec.enable = false).await;
    assert_eq!(bench.lines().await, [STATUS, EVENT]);
    bench.edit(delete).await;
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_sidecar_that_the_watch_has_not_shown_yet_is_not_taken_over() {
    let mut bench = Bench::new().await;
    bench.server.refuse = Some(("sidecars", 409));
    assert_eq!(bench.reconcile().await.unwrap_err().category(), "conflict");
    assert_eq!(bench.noted(), [NEW_SIDECAR, FINALIZER, STATUS], "never by force, and told of");
}

#[tokio::test]
async fn a_sidecar_that_drifted_is_repaired_by_one_request() {
    let mut bench = Bench::fenced().await;
    bench.edit_sidecar(|sidecar| sidecar.spec.outbound_traffic_policy = None).await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_label_that_somebody_adds_to_our_selector_is_taken_off_again() {
    let mut bench = Bench::fenced().await;
    let (pod, ips, mut with) = (ObjectKey::new("shop", "client-1"), vec![caller()], labels());
    with.insert("version".to_owned(), "v2".to_owned());
    bench.tell(Change::Pod(Pod { key: pod, ips, labels: Labels::from(with), ..Pod::default() })).await;
    let add = |sidecar: &mut Sidecar| {
        let selector = sidecar.spec.workload_selector.as_mut().unwrap();
        selector.labels.insert("version".to_owned(), "v2".to_owned());
    };
    bench.edit_sidecar(add).await;
    assert_eq!(bench.lines().await, [SIDECAR, SELECTOR]);
    let merge = bench.noted_one(SELECTOR);
    assert_eq!(merge.content_type, "application/merge-patch+json");
    assert_eq!(merge.body, json!({ "spec": { "workloadSelector": { "labels": { "version": null } } } }));
    assert_eq!(
        bench.server.sidecar.as_ref().unwrap().spec.workload_selector.as_ref().unwrap().labels,
        labels()
    );
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_sidecar_that_somebody_deleted_is_made_again() {
    let mut bench = Bench::fenced().await;
    let gone = bench.server.sidecar.take().unwrap();
    bench.sidecars.apply_watcher_event(&Event::Delete(gone));
    assert_eq!(bench.lines().await, [NEW_SIDECAR]);
    assert_eq!(bench.lines().await, [STATUS]);
    assert_eq!((bench.reason(), bench.routed()), (reasons::FENCING, vec!["*/*".to_owned()]));
    bench.an_hour_later().await;
    assert_eq!(bench.lines().await, [SIDECAR]);
    assert_eq!(bench.routed(), [PROXY]);
}

#[tokio::test]
async fn a_mesh_of_many_fences_is_taken_in_before_anybody_works_on_them() {
    let (mesh, owner, mut triggers) = Mesh::new("cluster.local");
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(owner.run(stop));
    let all: BTreeSet<_> =
        (0..3_000).map(|number| ObjectKey::new("shop", format!("fence-{number}"))).collect();
    let listing = async {
        for key in &all {
            let fence = Fence { key: key.clone(), ..Fence::default() };
            mesh.tell(Message::Change(Change::Fence(fence))).await;
        }
        mesh.settled().await;
    };
    timeout(Duration::from_secs(2), listing).await.expect("the owner waits for nobody");
    let mut named = BTreeSet::new();
    while named != all {
        let next = timeout(Duration::from_secs(2), triggers.recv()).await;
        named.insert(next.expect("every fence is named").expect("the owner is there"));
    }
}
