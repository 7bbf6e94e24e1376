//! Automatic fences, against an API server that notes every request.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::runtime::reflector::store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use palisade::api::ServiceFence;
use palisade::controllers::{
    AutoContext, Caches, Concerns, Context, Deletions, Error, Mesh, Message, Metrics, Switch, reconcile_auto,
};
use palisade::fence::auto::AutoFence;
use palisade::graph::{Change, Labels, Namespace, ObjectKey, Pod, Service};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api_server::Call;
use crate::objects::Objects;
use crate::settings;

const APPLY: &str = "PATCH servicefences/foo?fieldManager=palisade-autofence";
const RELEASE: &str = APPLY;
const DELETE: &str = "DELETE servicefences/foo";
const NOTE: &str =
    "PATCH /api/v1/namespaces/mesh/configmaps/palisade-deleted-fences?fieldManager=palisade-autofence";
const FIRST_NOTE: &str = "POST /api/v1/namespaces/mesh/configmaps?fieldManager=palisade-autofence";
const NOTHING: [&str; 0] = [];

const FENCE: &str = "/shop/servicefences/foo";
const DELETIONS: &str = "/configmaps/palisade-deleted-fences";

fn key() -> ObjectKey {
    ObjectKey::new("shop", "foo")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
}

fn namespace(fenced: &str) -> Change {
    Change::Namespace(Namespace {
        name: "shop".into(),
        labels: labels(&[("slime.io/serviceFenced", fenced)]),
    })
}

/// The operator without its watches: a test says when they catch up.
struct Bench {
    server: Objects,
    client: Client,
    mesh: Mesh,
    context: AutoContext,
    concerns: Concerns,
    fences: Writer<ServiceFence>,
    deletions: Writer<ConfigMap>,
    /// Kept, so that the graph's owner lives on.
    _alive: (mpsc::Receiver<ObjectKey>, DropGuard),
}

impl Bench {
    /// A shop with a Service and its pod, in a namespace that wants fences.
    async fn new() -> Self {
        let (client, server) = Objects::new();
        Self::over(client, server).await
    }

    async fn over(client: Client, server: Objects) -> Self {
        let auto: AutoFence = serde_json::from_value(json!({ "enabled": true })).unwrap();
        let concerns = Concerns::new(auto);
        let (mesh, owner, triggers) = Mesh::new("cluster.local");
        let stop = CancellationToken::new();
        tokio::spawn(owner.naming(concerns.clone()).run(stop.clone()));
        let ((fence_store, fences), (sidecars, _), (deleted, deletions)) = (store(), store(), store());
        let caches = Arc::new(Caches::new(fence_store, sidecars));
        let metrics = Metrics::register(&mut Registry::default());
        let parts = (mesh.clone(), caches, Switch::default());
        let all = Context::new(client.clone(), None, parts.0, parts.1, parts.2, settings(), metrics);
        let memory = Deletions::new(ObjectKey::new("mesh", "palisade-deleted-fences"), deleted);
        let context = AutoContext::new(&all, concerns.clone(), memory);
        let alive = (triggers, stop.drop_guard());
        let mut bench = Self { server, client, mesh, context, concerns, fences, deletions, _alive: alive };
        let selector = labels(&[("app", "foo")]);
        let service = Service {
            key: key(),
            uid: "uid-of-service".into(),
            selector: selector.clone(),
            ..Service::default()
        };
        let pod = Pod { key: ObjectKey::new("shop", "foo-1"), labels: selector, ..Pod::default() };
        for change in [namespace("true"), Change::Service(service), Change::Pod(pod)] {
            bench.tell(change).await;
        }
        bench.watches_catch_up();
        bench
    }

    /// The operator starts again, and lists what the API server holds.
    async fn restart(self) -> Self {
        Self::over(self.client, self.server).await
    }

    async fn tell(&self, change: Change) {
        self.mesh.tell(Message::Change(change)).await;
        self.mesh.settled().await;
    }

    /// The watches list what the API server holds.
    fn watches_catch_up(&mut self) {
        list(&mut self.fences, self.server.get(FENCE));
        list(&mut self.deletions, self.server.get(DELETIONS));
    }

    async fn reconcile(&mut self) -> Result<Option<Timestamp>, Error> {
        self.server.calls.clear();
        let (key, work) = (key(), &self.context);
        let work = Box::pin(reconcile_auto(&key, work));
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

    /// A fence that was created.
    async fn fenced() -> Self {
        let mut bench = Self::new().await;
        assert_eq!(bench.lines().await, [APPLY]);
        bench.watches_catch_up();
        bench
    }

    /// A user deletes the fence; the watch tells of it at once.
    fn delete(&mut self) {
        self.server.delete(FENCE);
        self.watches_catch_up();
    }
}

fn list<K>(writer: &mut Writer<K>, object: Option<&Value>)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + 'static,
{
    writer.apply_watcher_event(&Event::Init);
    if let Some(object) = object {
        let object = serde_json::from_value(object.clone()).expect("an object of its kind");
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
}

#[tokio::test]
async fn a_service_gets_its_fence_by_one_request() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.lines().await, [APPLY]);
    let call = bench.server.calls[0].clone();
    assert_eq!(call.content_type, "application/apply-patch+yaml");
    assert_eq!(
        call.body["spec"],
        json!({ "enable": true, "mode": "Observe", "workloadSelector": { "fromService": true } })
    );
    assert_eq!(call.body["metadata"]["ownerReferences"][0]["uid"], "uid-of-service");
    assert_eq!(call.body.get("status"), None);
    for _ in 0..2 {
        assert_eq!(bench.lines().await, NOTHING, "the watches lag behind");
    }
    bench.watches_catch_up();
    assert_eq!(bench.lines().await, NOTHING);
    assert_eq!(bench.restart().await.lines().await, NOTHING);
}

#[tokio::test]
async fn a_fence_that_nobody_asks_for_is_released_then_deleted() {
    let mut bench = Bench::fenced().await;
    bench.tell(namespace("false")).await;
    assert_eq!(bench.lines().await, [RELEASE, DELETE]);
    assert_eq!(bench.server.get(FENCE), None);
    assert_eq!(bench.server.get(DELETIONS), None, "that was no user's will");
    bench.tell(namespace("true")).await;
    bench.watches_catch_up();
    assert_eq!(bench.lines().await, [APPLY]);
}

#[tokio::test]
async fn a_wish_that_went_while_we_were_down_takes_its_fence_with_it() {
    let mut bench = Bench::fenced().await.restart().await;
    bench.tell(Change::ServiceGone(key())).await;
    assert_eq!(bench.lines().await, [RELEASE, DELETE]);
}

#[tokio::test]
async fn a_deletion_is_noted_before_the_fence_goes_and_outlives_restarts() {
    let mut bench = Bench::fenced().await;
    bench.delete();
    assert_eq!(bench.lines().await, [NOTE, FIRST_NOTE, RELEASE]);
    assert_eq!(bench.server.get(FENCE), None);
    assert_eq!(bench.server.get(DELETIONS).unwrap()["data"], json!({ "shop_foo": "uid-of-service" }));
    list(&mut bench.fences, None);
    assert_eq!(bench.lines().await, NOTHING, "the watch of the ConfigMap lags behind");
    let mut bench = bench.restart().await;
    assert_eq!(bench.lines().await, NOTHING);
    bench.tell(namespace("false")).await;
    assert_eq!(bench.lines().await, [NOTE]);
    assert_eq!(bench.server.get(DELETIONS).unwrap()["data"], json!({}));
    bench.tell(namespace("true")).await;
    assert_eq!(bench.lines().await, [APPLY]);
}

#[tokio::test]
async fn a_deletion_while_we_were_down_counts_as_well() {
    let mut bench = Bench::fenced().await;
    bench.server.delete(FENCE);
    let mut bench = bench.restart().await;
    assert_eq!(bench.lines().await, [NOTE, FIRST_NOTE, RELEASE]);
    bench.watches_catch_up();
    assert_eq!(bench.lines().await, NOTHING);
}

#[tokio::test]
async fn a_fence_does_not_go_before_its_deletion_is_noted() {
    let mut bench = Bench::fenced().await;
    bench.delete();
    bench.server.refuse = Some(("configmaps", 500));
    assert!(bench.reconcile().await.is_err());
    assert_eq!(bench.noted(), [NOTE]);
    bench.server.refuse = None;
    assert_eq!(bench.lines().await, [NOTE, FIRST_NOTE, RELEASE]);
}

#[tokio::test]
async fn a_memory_that_is_full_keeps_no_fence_from_going() {
    let mut bench = Bench::fenced().await;
    let data: serde_json::Map<_, _> = (0..2500).map(|n| (format!("shop_s{n}"), json!("uid"))).collect();
    let full = json!({ "metadata": { "namespace": "mesh", "name": "palisade-deleted-fences", "resourceVersion": "1" }, "data": data });
    list(&mut bench.deletions, Some(&full));
    bench.server.delete(FENCE);
    list(&mut bench.fences, bench.server.get(FENCE));
    assert_eq!(bench.lines().await, [RELEASE]);
}

#[tokio::test]
async fn a_users_hand_in_a_fence_is_no_trouble() {
    let mut bench = Bench::fenced().await;
    let path = bench.server.all.keys().find(|path| path.ends_with(FENCE)).unwrap().clone();
    bench.server.all.get_mut(&path).unwrap()["metadata"]["labels"]["app.kubernetes.io/managed-by"] =
        json!("me");
    bench.watches_catch_up();
    bench.server.refuse = Some(("servicefences/foo", 409));
    assert_eq!(
        bench.lines().await,
        [APPLY],
        "what is the user's by server-side apply stays, and is not an error"
    );
}

#[tokio::test]
async fn the_owner_of_the_graph_names_the_fences_that_a_change_concerns() {
    let bench = Bench::new().await;
    let mut named = Box::pin(bench.concerns.stream());
    assert_eq!(named.next().await, Some(key()), "once, for three changes");
    assert!(timeout(Duration::from_millis(20), named.next()).await.is_err());
    bench.tell(namespace("false")).await;
    assert_eq!(named.next().await, Some(key()));
    bench.tell(namespace("false")).await;
    assert!(timeout(Duration::from_millis(20), named.next()).await.is_err(), "nothing changed");
}
