//! The entries of external hosts, against an API server that notes every request.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use palisade::api::ServiceFence;
use palisade::controllers::{Caches, Context, Entries, Error, Mesh, Message, Metrics, Namespaces, Switch};
use palisade::fence::facts;
use palisade::graph::{
    Change, ExportTo, ExternalPolicy, Graph, Labels, MeshWide, ObjectKey, OwnEntry, PassedThrough, Pod,
    ServiceEntry, entry_key,
};
use palisade::istio::{EgressListener, Sidecar, SidecarSpec};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api_server::Call;
use crate::objects::Objects;
use crate::{caller, fence, key, labels, settings};

const HOST: &str = "api.example.org";

/// The operator without its watches: a test says when they catch up.
struct Bench {
    server: Objects,
    entries: Entries,
    mesh: Mesh,
    fences: Writer<ServiceFence>,
    sidecars: Writer<Sidecar>,
    /// Kept, so that the graph's owner lives on.
    _alive: (mpsc::Receiver<ObjectKey>, DropGuard),
}

impl Bench {
    /// A fence whose pod has connected to the host.
    async fn new() -> Self {
        let (client, server) = Objects::new();
        let external = ExternalPolicy { service_entries: true, ..ExternalPolicy::default() };
        let (mesh, owner, triggers) = Mesh::over(Graph::of(MeshWide { external, ..MeshWide::default() }));
        let stop = CancellationToken::new();
        tokio::spawn(owner.run(stop.clone()));
        let ((fence_store, fences), (sidecar_store, sidecars)) = (store(), store());
        let caches = Arc::new(Caches::new(fence_store, sidecar_store));
        let metrics = Metrics::register(&mut Registry::default());
        let context =
            Context::new(client, None, mesh.clone(), caches, Switch::default(), settings(), metrics);
        let entries = Entries::new(&context, Namespaces::default());
        let alive = (triggers, stop.drop_guard());
        let mut bench = Self { server, entries, mesh, fences, sidecars, _alive: alive };
        bench.fences.apply_watcher_event(&Event::Apply(fence()));
        bench.tell(Change::Fence(facts(&fence()))).await;
        let pod = Pod { key: ObjectKey::new("shop", "client-1"), ips: vec![caller()], ..Pod::default() };
        bench.tell(Change::Pod(Pod { labels: Labels::from(labels()), ..pod })).await;
        let call = PassedThrough { caller: caller().into(), host: HOST.into(), port: 443 };
        bench.tell(Change::PassedThrough(call, Timestamp::UNIX_EPOCH)).await;
        bench
    }

    async fn tell(&self, change: Change) {
        self.mesh.tell(Message::Change(change)).await;
        self.mesh.settled().await;
    }

    async fn reconcile(&mut self) -> Result<(), Error> {
        let work = self.server.serve(self.entries.reconcile("shop"));
        timeout(Duration::from_secs(10), work).await.expect("it ends")
    }

    /// What was asked of the API server since the last time.
    fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.server.calls).iter().map(Call::line).collect()
    }

    /// The watch shows the entry as it was written.
    async fn the_entry_comes(&self) {
        let object = self.server.get(&path()).expect("an entry");
        let owners = object["metadata"]["ownerReferences"].as_array().unwrap().iter();
        let owners = owners.map(|owner| owner["uid"].as_str().unwrap().into()).collect();
        self.tell(Change::ServiceEntry(ServiceEntry {
            key: entry_key("shop", HOST),
            hosts: vec![HOST.into()],
            export_to: ExportTo::Only(["shop".into()].into()),
            own: Some(OwnEntry { ports: [443].into(), owners }),
            ..ServiceEntry::default()
        }))
        .await;
    }

    async fn the_fence_goes(&mut self) {
        self.fences.apply_watcher_event(&Event::Delete(fence()));
        self.tell(Change::FenceGone(key())).await;
    }
}

fn path() -> String {
    format!("/shop/serviceentries/{}", entry_key("shop", HOST).name)
}

fn line(method: &str, query: &str) -> String {
    format!("{method} serviceentries/{}{query}", entry_key("shop", HOST).name)
}

#[tokio::test]
async fn a_host_gets_an_entry_owned_by_its_caller_once_and_not_by_force() {
    let mut bench = Bench::new().await;
    bench.reconcile().await.unwrap();
    assert_eq!(bench.lines(), [line("PATCH", "?fieldManager=palisade")]);
    let entry = bench.server.get(&path()).unwrap();
    assert_eq!(entry["metadata"]["ownerReferences"][0]["uid"], "uid-of-fence");
    assert_eq!((&entry["spec"]["hosts"][0], &entry["spec"]["exportTo"][0]), (&HOST.into(), &".".into()));
    bench.the_entry_comes().await;
    bench.reconcile().await.unwrap();
    assert!(bench.lines().is_empty(), "nothing changed");
}

#[tokio::test]
async fn what_somebody_else_has_written_under_its_name_is_an_error_and_stays() {
    let mut bench = Bench::new().await;
    bench.server.refuse = Some(("PATCH", 409));
    assert!(bench.reconcile().await.is_err());
    assert!(bench.server.get(&path()).is_none());
    bench.server.refuse = None;
    bench.reconcile().await.unwrap();
    assert!(bench.server.get(&path()).is_some(), "it is tried again");
}

#[tokio::test]
async fn an_entry_that_is_refused_does_not_stop_the_others() {
    let mut bench = Bench::new().await;
    let call = PassedThrough { caller: caller().into(), host: "b.example.org".into(), port: 443 };
    bench.tell(Change::PassedThrough(call, Timestamp::UNIX_EPOCH)).await;
    bench.server.refuse = Some(("PATCH", 409));
    assert!(bench.reconcile().await.is_err());
    assert_eq!(bench.lines().len(), 2);
}

#[tokio::test]
async fn an_entry_that_nobody_needs_stays_while_a_sidecar_lists_its_host() {
    let mut bench = Bench::new().await;
    bench.reconcile().await.unwrap();
    bench.the_entry_comes().await;
    bench.lines();
    let listener = EgressListener { hosts: vec![format!("shop/{HOST}")], ..EgressListener::default() };
    let mut sidecar = Sidecar::new("web", SidecarSpec { egress: vec![listener], ..SidecarSpec::default() });
    sidecar.metadata.namespace = Some("shop".to_owned());
    bench.sidecars.apply_watcher_event(&Event::Apply(sidecar.clone()));
    let mut other = fence();
    other.metadata.name = Some("web".to_owned());
    bench.tell(Change::Fence(facts(&other))).await;
    bench.the_fence_goes().await;
    bench.reconcile().await.unwrap();
    assert!(bench.lines().is_empty(), "its clusters would go before its routes");

    bench.sidecars.apply_watcher_event(&Event::Delete(sidecar));
    bench.reconcile().await.unwrap();
    assert_eq!(bench.lines(), [line("DELETE", "")]);
    bench.reconcile().await.expect("it is gone, which is what was wanted");
}
