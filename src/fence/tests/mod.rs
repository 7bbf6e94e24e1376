//! What is decided for a fence, in every situation that it can be in.

#![allow(clippy::unwrap_used, reason = "Clippy's own exception misses what test functions call")]

mod adoption;
mod bounds;
mod conditions;
mod drift;
mod expiry;
mod external;
mod first_fencing;
mod fitness;
mod history;
mod hosts;
mod mesh_config;
mod modes;
mod obstacles;
mod opening;
mod overlap;
mod properties;
mod sidecars_of_others;
mod town;
mod wants;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use insta::assert_snapshot;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, OwnerReference, Time};
use kube::ResourceExt;
use proptest::prelude::*;

use super::domains::{domains, known, remembered};
use super::expiry::Expiry;
use super::{
    ADOPT, CLUSTERS_ADDED, Defaults, GlobalProxy, Input, KEEP_BIND, MANAGER, Plan, ROUTES_REMOVED, Settings,
    SidecarAction, Timings, WIDENED, consent, facts, is_owned_by, keep_writers, plan, standing,
};
use crate::api::{
    Dependency, DependencySource, READY, RecyclingStrategy, ServiceFence, ServiceFenceSpec,
    ServiceFenceStatus, WorkloadSelector, reasons,
};
use crate::graph::{
    self, CallerPattern, Change, Debounce, EgressHost, Fence, Graph, Known, Labels, ObjectKey, Observation,
    Origin, Pod, Policy, Service, ServiceEntry, Want, Wanted,
};
use crate::istio::{EgressListener, Installation, Mode, Sidecar};

const REVIEWS: &str = "reviews.shop.svc.cluster.local";
const EXAMPLE: &str = "www.example.com";
const PROXY: &str = "mesh/proxy.mesh.svc.cluster.local";
const CALLER: [u8; 4] = [10, 244, 0, 1];

fn settings() -> Settings {
    Settings {
        global_proxy: GlobalProxy {
            host: EgressHost { namespace: "mesh".into(), host: "proxy.mesh.svc.cluster.local".into() },
            port: 15001,
        },
        timings: Timings {
            settle: SignedDuration::from_millis(300),
            open_settle: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(50),
            debounce: Debounce::DEFAULT,
        },
        defaults: Defaults::default(),
        patience: None,
        asks_proxies: false,
        istio: Installation::default(),
    }
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name)
}

fn service(name: &str) -> Change {
    Change::Service(Service {
        key: key(name),
        selector: Labels::from(labels("app=any")),
        ..Service::default()
    })
}

/// What istiod's chart makes for the tag `prod`.
fn tag() -> Service {
    Service {
        key: key("istio-system/istiod-revision-tag-prod"),
        labels: Labels::from(labels("istio.io/tag=prod,istio.io/rev=1-30")),
        ..Service::default()
    }
}

fn headless(name: &str) -> Change {
    Change::Service(Service {
        key: key(name),
        selector: Labels::from(labels("app=any")),
        headless: true,
        ..Service::default()
    })
}

fn entry(name: &str, host: &str) -> Change {
    Change::ServiceEntry(ServiceEntry { key: key(name), hosts: vec![host.into()], ..ServiceEntry::default() })
}

/// A fence, its Sidecar, and the mesh around them: what the API server would hold.
#[derive(Clone)]
struct World {
    fence: ServiceFence,
    sidecar: Option<Sidecar>,
    sidecar_created: Option<Timestamp>,
    graph: Graph,
    defaults: Defaults,
    open_all: bool,
    /// Since when the mesh has been known.
    since: Timestamp,
    /// How long Prometheus is waited for, if there is one.
    patience: Option<SignedDuration>,
    asks_proxies: bool,
    istio: Installation,
    now: Timestamp,
}

impl World {
    /// The fence `shop/client` for pods with `app=client`, of which there is one.
    fn new() -> Self {
        let selector = WorkloadSelector { labels: labels("app=client"), from_service: false };
        let spec = ServiceFenceSpec {
            enable: true,
            workload_selector: Some(selector),
            ..ServiceFenceSpec::default()
        };
        let mut fence = ServiceFence::new("client", spec);
        fence.metadata.namespace = Some("shop".to_owned());
        fence.metadata.uid = Some("uid-1".to_owned());
        fence.metadata.generation = Some(1);
        let now = "2026-01-01T12:00:00.25Z".parse().unwrap();
        let graph = Graph::new("cluster.local");
        let (defaults, since, patience, asks_proxies) = (Defaults::default(), now, None, false);
        let (sidecar, sidecar_created, open_all, istio) = (None, None, false, Installation::default());
        let mut world = Self {
            fence,
            sidecar,
            sidecar_created,
            graph,
            defaults,
            open_all,
            since,
            patience,
            asks_proxies,
            istio,
            now,
        };
        let pod = |name: &str, ips: &[[u8; 4]], with: &str| {
            let ips = ips.iter().copied().map(Into::into).collect();
            Change::Pod(Pod { key: key(name), ips, labels: Labels::from(labels(with)), ..Pod::default() })
        };
        world.tell([Change::MeshConfig(graph::MeshConfig::default())]);
        // One of the fence, and one of every Service.
        world.tell([pod("shop/client-1", &[CALLER], "app=client"), pod("shop/any-1", &[], "app=any")]);
        world.edit(|_| ());
        world
    }

    /// A world in which the fence has been in force for long.
    fn fenced() -> Self {
        let mut world = Self::new();
        world.run();
        world
    }

    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.graph.apply(change);
        }
    }

    fn call(&mut self, host: &str) {
        let (caller, source) = (IpAddr::from(CALLER).into(), DependencySource::AccessLog);
        self.tell([Change::Call(Observation { caller, host: host.into(), source, seen: self.now })]);
    }

    /// Edits the fence's spec, as a user would.
    fn edit(&mut self, edit: impl FnOnce(&mut ServiceFenceSpec)) {
        edit(&mut self.fence.spec);
        self.listed();
    }

    /// Makes the fence one for the pods of the Service of its name, and of no others.
    fn select_by_service(&mut self) {
        self.edit(|spec| {
            spec.workload_selector =
                Some(WorkloadSelector { from_service: true, ..WorkloadSelector::default() });
        });
    }

    fn edit_sidecar(&mut self, edit: impl FnOnce(&mut Sidecar)) {
        edit(self.sidecar.as_mut().unwrap());
        self.sidecar_listed();
    }

    /// The watch tells of the fence as it stands.
    fn listed(&mut self) {
        let fence = facts(&self.fence);
        self.tell([Change::Fence(fence)]);
    }

    /// The watch tells of the Sidecar of the fence's name as it stands.
    fn sidecar_listed(&mut self) {
        let Some(sidecar) = &self.sidecar else {
            self.sidecar_created = None;
            let listed = self.graph.sidecar_keys().any(|listed| listed == key("shop/client"));
            return self.tell(listed.then(|| Change::SidecarGone(key("shop/client"))));
        };
        let origin = if self.has_own_sidecar() {
            Origin::Fence(standing(sidecar))
        } else {
            Origin::Other(Arc::new(sidecar.spec.clone()), consent(sidecar))
        };
        let created = Some(*self.sidecar_created.get_or_insert(self.now));
        let revision = sidecar.labels().get("istio.io/rev").map(|revision| revision.as_str().into());
        let change = Change::Sidecar(graph::Sidecar { key: key("shop/client"), created, revision, origin });
        self.tell([change]);
    }

    fn plan(&self) -> Plan {
        let (defaults, patience, asks_proxies) = (self.defaults.clone(), self.patience, self.asks_proxies);
        let istio = self.istio.clone();
        plan(&Input {
            written: None,
            fence: &self.fence,
            sidecar: self.sidecar.as_ref(),
            graph: &self.graph,
            settings: &Settings { defaults, patience, asks_proxies, istio, ..settings() },
            open_all: self.open_all,
            since: self.since,
            now: self.now,
        })
    }

    /// Does what was decided.
    fn take(&mut self, plan: &Plan) {
        match &plan.sidecar {
            SidecarAction::Leave => {}
            SidecarAction::Warm(sidecar) | SidecarAction::Apply(sidecar) => {
                self.sidecar = Some(managed((**sidecar).clone()));
            }
            // What others own of it stays.
            SidecarAction::Adopt(sidecar) | SidecarAction::GiveBack(sidecar) => {
                let mut sidecar = (**sidecar).clone();
                sidecar.annotations_mut().insert(ADOPT.to_owned(), "true".to_owned());
                self.sidecar = Some(sidecar);
            }
            SidecarAction::Delete => self.sidecar = None,
        }
        self.sidecar_listed();
        // As it comes back from the API server.
        let status = serde_json::to_string(&plan.status).unwrap();
        self.fence.status = serde_json::from_str(&status).unwrap();
        self.listed();
    }

    fn step(&mut self) -> Plan {
        let plan = self.plan();
        self.take(&plan);
        plan
    }

    /// A new fence whose Sidecar is wide for as long as it has to be: the next step trims it.
    fn widened() -> Self {
        let mut world = Self::new();
        world.turn();
        world
    }

    /// Has the Sidecar widened, and lets the time pass until it may be trimmed or deleted.
    fn turn(&mut self) {
        let wake = self.settle().unwrap();
        assert_eq!(self.hosts(), "route: */*");
        self.now = wake;
    }

    /// Whether there is nothing to write.
    fn is_quiet(&self, plan: &Plan) -> bool {
        plan.sidecar == SidecarAction::Leave
            && self.fence.status.as_ref() == Some(&plan.status)
            && plan.transitions.is_empty()
    }

    /// Steps until nothing is left to do now, and tells when the next step is due.
    fn settle(&mut self) -> Option<Timestamp> {
        for _ in 0..5 {
            let plan = self.step();
            let again = self.plan();
            if self.is_quiet(&again) && again.wake.is_none_or(|wake| wake > self.now) {
                assert_eq!((plan.wake, plan.hold), (again.wake, again.hold));
                return again.wake;
            }
        }
        panic!("no rest: {:?}\n{}", self.plan(), self.hosts());
    }

    /// Steps until nothing is left to do at all.
    fn run(&mut self) {
        for _ in 0..10 {
            match self.settle() {
                Some(wake) => self.now = wake,
                None => return,
            }
        }
        panic!("no end: {:?}", self.plan());
    }

    /// What the Sidecar lists: `keep: hosts | route: hosts`.
    fn hosts(&self) -> String {
        self.sidecar.as_ref().map_or_else(|| "no Sidecar".to_owned(), hosts)
    }

    fn has_own_sidecar(&self) -> bool {
        self.sidecar.as_ref().is_some_and(|sidecar| is_owned_by(sidecar, &self.fence))
    }

    fn reason(&self) -> &str {
        let conditions = self.fence.status.iter().flat_map(|status| &status.conditions);
        conditions
            .filter(|condition| condition.type_ == READY)
            .map(|ready| ready.reason.as_str())
            .next()
            .unwrap()
    }
}

/// As the API server notes who applied the labels.
fn managed(mut sidecar: Sidecar) -> Sidecar {
    let labels: serde_json::Map<_, _> =
        sidecar.labels().keys().map(|label| (format!("f:{label}"), serde_json::json!({}))).collect();
    let fields = serde_json::json!({ "f:metadata": { "f:labels": labels } });
    let entry = ManagedFieldsEntry {
        manager: Some(MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    };
    sidecar.metadata.managed_fields = Some(vec![entry]);
    keep_writers(&mut sidecar.metadata);
    sidecar
}

fn hosts(sidecar: &Sidecar) -> String {
    let listener = |l: &EgressListener| {
        format!("{}: {}", if l.bind == KEEP_BIND { "keep" } else { "route" }, l.hosts.join(" "))
    };
    sidecar.spec.egress.iter().map(listener).collect::<Vec<_>>().join(" | ")
}

/// What a plan does to the Sidecar, in the words of [`hosts`].
fn action(plan: &Plan) -> String {
    match &plan.sidecar {
        SidecarAction::Leave => "leave".to_owned(),
        SidecarAction::Warm(sidecar) | SidecarAction::Apply(sidecar) => hosts(sidecar),
        SidecarAction::Adopt(sidecar) => format!("adopt: {}", hosts(sidecar)),
        SidecarAction::GiveBack(sidecar) => format!("give back: {}", hosts(sidecar)),
        SidecarAction::Delete => "delete".to_owned(),
    }
}

fn applied(plan: &Plan) -> &Sidecar {
    let (SidecarAction::Warm(sidecar) | SidecarAction::Apply(sidecar)) = &plan.sidecar else {
        panic!("{}", action(plan))
    };
    sidecar
}

fn ready(status: &ServiceFenceStatus) -> (&str, &str) {
    (status.conditions[0].status.as_str(), status.conditions[0].reason.as_str())
}

/// What a plan tells as Events: the reason, and whether somebody has to do something about it.
fn told(plan: &Plan) -> Vec<(&'static str, bool)> {
    plan.transitions.iter().map(|transition| (transition.reason, transition.warning)).collect()
}

fn wants(hosts: &[&str]) -> BTreeMap<String, RecyclingStrategy> {
    hosts.iter().map(|host| ((*host).to_owned(), RecyclingStrategy::default())).collect()
}

/// What happens to something, in words and in fact.
type Case<T> = (&'static str, fn(&mut T));

/// The ways to open a fence.
const OPENINGS: [Case<World>; 4] = [
    ("disabled", |world| world.edit(|spec| spec.enable = false)),
    ("deleted", |world| world.fence.metadata.deletion_timestamp = Some(Time(world.now))),
    ("asked to open with all others", |world| world.open_all = true),
    ("left to another revision", |world| {
        world.istio = Installation { revisions: vec!["1-31".to_owned()], strict_revision: true };
    }),
];
