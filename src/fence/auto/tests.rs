//! Which fences are created, kept and deleted, and which change has which of them looked at.

#![allow(clippy::unwrap_used, reason = "Clippy's own exception misses what test functions call")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;

use super::*;
use crate::api::{ServiceFence, ServiceFenceSpec};
use crate::graph::{
    Change, Fence, Graph, Labels, Namespace, ObjectKey, Pod, PodSelection, Proxy, Service, Terms,
};

const YES: &str = "slime.io/serviceFenced=true";
const NO: &str = "slime.io/serviceFenced=false";
const WORKLOAD: &str = "shop/app-batch.workload.identity";

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name)
}

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Labels::from(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>())
}

fn namespace(name: &str, with: &str) -> Change {
    Change::Namespace(Namespace { name: name.into(), labels: labels(with) })
}

fn service(name: &str, with: &str, selector: &str) -> Change {
    let (key, uid) = (key(name), "uid-of-service".into());
    Change::Service(Service {
        key,
        uid,
        labels: labels(with),
        selector: labels(selector),
        ..Service::default()
    })
}

fn pod(name: &str, with: &str) -> Change {
    Change::Pod(Pod {
        key: key(name),
        ips: vec![[10, 0, 0, 1].into()],
        labels: labels(with),
        ..Pod::default()
    })
}

fn bare(name: &str, with: &str, proxy: Proxy) -> Change {
    Change::Pod(Pod { key: key(name), labels: labels(with), proxy, ..Pod::default() })
}

fn settings(json: serde_json::Value) -> AutoFence {
    serde_json::from_value(json).unwrap()
}

fn on() -> AutoFence {
    settings(json!({ "enabled": true, "default": true }))
}

fn by_label() -> AutoFence {
    settings(json!({ "enabled": true, "workloadLabel": "run" }))
}

/// The mesh, the fence of one name, and what is remembered of it.
struct World {
    graph: Graph,
    settings: AutoFence,
    fence: Option<ServiceFence>,
    deleted: Option<String>,
    vacant_since: Option<Timestamp>,
    open_all: bool,
    now: Timestamp,
}

impl World {
    fn new(settings: AutoFence, changes: impl IntoIterator<Item = Change>) -> Self {
        let graph = Graph::new("cluster.local");
        let (fence, deleted, vacant_since, now) = (None, None, None, Timestamp::UNIX_EPOCH);
        let mut world = Self { graph, settings, fence, deleted, vacant_since, open_all: false, now };
        world.tell(changes);
        world
    }

    /// A shop with a Service `foo`, its pod, and its automatic fence.
    fn fenced() -> Self {
        let mut world = Self::new(on(), shop());
        assert_eq!(world.step("shop/foo"), "apply");
        world
    }

    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| drop(self.graph.apply(change)));
    }

    fn plan(&self, name: &str) -> AutoPlan {
        plan(&AutoInput {
            key: &key(name),
            fence: self.fence.as_ref(),
            deleted: self.deleted.as_deref(),
            vacant_since: self.vacant_since,
            graph: &self.graph,
            settings: &self.settings,
            system_namespaces: &["kube-system".to_owned()],
            open_all: self.open_all,
            now: self.now,
        })
    }

    /// Does what was decided, and tells it in a few words.
    fn step(&mut self, name: &str) -> String {
        let plan = self.plan(name);
        let mut words = Vec::new();
        match &plan.memory {
            Memory::Keep => {}
            Memory::Remember(subject) => {
                words.push("remember");
                self.deleted = Some(subject.to_string());
            }
            Memory::Forget => {
                words.push("forget");
                self.deleted = None;
            }
        }
        if plan.release {
            words.push("release");
            self.fence.as_mut().unwrap().finalizers_mut().retain(|finalizer| finalizer != REMEMBER);
        }
        match plan.fence {
            FenceAction::Leave => {}
            FenceAction::Apply(fence) => {
                words.push("apply");
                self.fence = Some(*fence);
            }
            FenceAction::Delete => {
                words.push("delete");
                self.fence = None;
            }
        }
        self.vacant_since = plan.vacant_since;
        words.join(" ")
    }

    fn edit(&mut self, edit: impl FnOnce(&mut ServiceFence)) {
        edit(self.fence.as_mut().unwrap());
    }

    /// Somebody deletes the fence.
    fn delete(&mut self) {
        let now = Time(self.now);
        self.edit(|fence| fence.metadata.deletion_timestamp = Some(now));
    }
}

fn shop() -> [Change; 3] {
    [namespace("shop", ""), service("shop/foo", "", "app=foo"), pod("shop/foo-1", "app=foo")]
}

#[test]
fn a_service_is_fenced_by_its_label_then_its_namespaces_then_the_default() {
    let cases = [
        (YES, NO, false, true),
        (YES, "", false, true),
        (NO, YES, true, false),
        (NO, "", true, false),
        ("", YES, false, true),
        ("", NO, true, false),
        ("", "", true, true),
        ("", "", false, false),
        ("slime.io/serviceFenced=yes", "", false, false),
        ("slime.io/serviceFenced=yes", YES, false, true),
    ];
    for (own, namespaces, default, expected) in cases {
        let settings = AutoFence { default, ..on() };
        let (service, pod) = (service("shop/foo", own, "app=foo"), pod("shop/foo-1", "app=foo"));
        let mut world = World::new(settings, [namespace("shop", namespaces), service, pod]);
        let expected = if expected { "apply" } else { "" };
        assert_eq!(world.step("shop/foo"), expected, "{own:?} {namespaces:?} {default}");
    }
}

#[test]
fn labels_that_change_take_fences_away_and_bring_them_back() {
    let mut world = World::fenced();
    world.tell([namespace("shop", NO)]);
    assert_eq!(world.step("shop/foo"), "release delete");
    world.tell([service("shop/foo", YES, "app=foo")]);
    assert_eq!(world.step("shop/foo"), "apply");
    world.tell([service("shop/foo", "", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "release delete");
    world.tell([namespace("shop", "")]);
    assert_eq!(world.step("shop/foo"), "apply");
    assert_eq!(world.step("shop/foo"), "", "nothing is left to do");
}

#[test]
fn a_namespace_is_in_scope_by_lists_and_selectors() {
    let cases = [
        ("no list", json!({}), "", true),
        ("allowed", json!({ "namespaces": { "allow": ["shop"] } }), "", true),
        ("only others are allowed", json!({ "namespaces": { "allow": ["shop-2", "sho"] } }), "", false),
        ("denied", json!({ "namespaces": { "deny": ["shop"] } }), "", false),
        ("both", json!({ "namespaces": { "allow": ["shop"], "deny": ["shop"] } }), "", false),
        ("selected", json!({ "managementSelectors": [{ "matchLabels": { "team": "a" } }] }), "team=a", true),
        (
            "not selected",
            json!({ "managementSelectors": [{ "matchLabels": { "team": "a" } }] }),
            "team=b",
            false,
        ),
        (
            "selected by one of two",
            json!({ "managementSelectors": [
                { "matchLabels": { "team": "a" } },
                { "matchExpressions": [{ "key": "team", "operator": "In", "values": ["b", "c"] }] },
            ] }),
            "team=b",
            true,
        ),
    ];
    for (what, mut json, labels, expected) in cases {
        json["enabled"] = json!(true);
        json["default"] = json!(true);
        let [_, service, pod] = shop();
        let mut world = World::new(settings(json), [namespace("shop", labels), service, pod]);
        assert_eq!(world.step("shop/foo"), if expected { "apply" } else { "" }, "{what}");
    }
}

#[test]
fn settings_that_would_be_misread_are_refused() {
    let refused = [
        json!({ "managementSelectors": [{}] }),
        json!({ "managementSelectors": [{ "matchLabel": { "a": "b" } }] }),
        json!({ "managementSelectors": [{ "matchExpressions": [{ "key": "a", "operator": "Is" }] }] }),
        json!({ "workloadLabel": ":app" }),
        json!({ "workloadLabel": "app:My_App" }),
        json!({ "defaultFence": true }),
        json!({ "namespaces": { "white": [] } }),
    ];
    for json in refused {
        assert!(serde_json::from_value::<AutoFence>(json.clone()).is_err(), "{json}");
    }
    let read = settings(json!({ "workloadLabel": "", "revision": "" }));
    assert_eq!(read, AutoFence::default(), "the chart says none with an empty text");
    let label = settings(json!({ "workloadLabel": "run:job" })).workload_label.unwrap();
    assert_eq!((&*label.key, &*label.alias), ("run", "job"));
}

#[test]
fn what_no_sidecar_can_configure_is_not_fenced_by_itself() {
    let cases = [
        ("no pod", None),
        ("no sidecar", Some(Proxy::None)),
        ("a gateway", Some(Proxy::Gateway)),
        ("a waypoint", Some(Proxy::Waypoint)),
        ("the host's network", Some(Proxy::HostNetwork)),
    ];
    for (what, proxy) in cases {
        let [namespace, service, _] = shop();
        let mut world = World::new(on(), [namespace, service]);
        world.tell(proxy.map(|proxy| bare("shop/foo-1", "app=foo", proxy)));
        assert_eq!(world.step("shop/foo"), "", "{what}");
        world.tell([pod("shop/foo-2", "app=foo")]);
        assert_eq!(world.step("shop/foo"), "apply", "{what}: then a pod with a sidecar comes");
        world.tell([Change::PodGone(key("shop/foo-2"))]);
        assert_eq!(world.step("shop/foo"), "", "{what}: and its fence survives it");
    }
    let without_selector = service("shop/foo", YES, "");
    let mut world = World::new(on(), [namespace("shop", ""), without_selector, pod("shop/foo-1", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "", "a Service without a selector");
    let system = [namespace("kube-system", YES), service("kube-system/dns", YES, "app=dns")];
    let mut world = World::new(on(), system.into_iter().chain([pod("kube-system/dns-1", "app=dns")]));
    assert_eq!(world.step("kube-system/dns"), "", "a system namespace");
}

#[test]
fn an_automatic_fence_is_marked_owned_and_held() {
    let mut world = World::new(AutoFence { revision: Some("canary".to_owned()), ..on() }, shop());
    world.step("shop/foo");
    let fence = world.fence.as_ref().unwrap();
    let marks = [
        ("app.kubernetes.io/created-by", "fence-controller"),
        ("app.kubernetes.io/managed-by", "palisade"),
        ("istio.io/rev", "canary"),
    ];
    assert_eq!(fence.labels(), labels(&marks.map(|(k, v)| format!("{k}={v}")).join(",")).as_map());
    assert_eq!(
        json!(fence.spec),
        json!({ "enable": true, "mode": "Observe", "workloadSelector": { "fromService": true } })
    );
    let owner = &fence.owner_references()[0];
    assert_eq!((&*owner.kind, &*owner.name, &*owner.uid), ("Service", "foo", "uid-of-service"));
    assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));
    assert_eq!(fence.finalizers(), [REMEMBER]);
}

#[test]
fn a_fence_without_the_label_is_nobodys_but_its_users() {
    let spec = ServiceFenceSpec::default();
    for wished in [true, false] {
        let mut world = World::new(AutoFence { default: wished, ..on() }, shop());
        world.fence = Some(ServiceFence::new("foo", spec.clone()));
        assert_eq!(world.step("shop/foo"), "", "it was there before");
    }
    let mut world = World::fenced();
    world.edit(|fence| drop(fence.labels_mut().remove(CREATED_BY)));
    world.tell([namespace("shop", NO)]);
    assert_eq!(world.step("shop/foo"), "", "the user took it over");
    world.tell([Change::ServiceGone(key("shop/foo"))]);
    assert_eq!(world.step("shop/foo"), "");
    world.delete();
    assert_eq!(world.step("shop/foo"), "release", "it can be deleted");
}

#[test]
fn what_a_user_changed_in_an_automatic_fence_is_left_alone() {
    let mut world = World::fenced();
    world.edit(|fence| fence.spec.enable = false);
    world.edit(|fence| drop(fence.labels_mut().insert("team".to_owned(), "a".to_owned())));
    assert_eq!(world.step("shop/foo"), "");
}

#[test]
fn a_fence_of_slimes_is_taken_over_while_it_is_wished_for_and_survives_a_switch_that_is_off() {
    let slimes = || {
        let mut fence = ServiceFence::new("foo", ServiceFenceSpec { enable: true, ..Default::default() });
        fence.labels_mut().insert(CREATED_BY.to_owned(), FENCE_CONTROLLER.to_owned());
        fence.metadata.uid = Some("uid-of-fence".to_owned());
        Some(fence)
    };
    let mut world = World { fence: slimes(), ..World::new(on(), shop()) };
    assert_eq!(world.step("shop/foo"), "apply");
    assert_eq!(world.fence.as_ref().unwrap().uid().as_deref(), Some("uid-of-fence"), "none is created by it");
    assert_eq!(world.fence.as_ref().unwrap().spec.mode, None, "it goes on enforcing");
    let mut world = World { fence: slimes(), ..World::new(AutoFence::default(), shop()) };
    assert_eq!(world.step("shop/foo"), "");
    let mut world = World { fence: slimes(), ..World::new(on(), [namespace("shop", "")]) };
    assert_eq!(world.step("shop/foo"), "delete", "its Service went while nobody looked");
}

#[test]
fn what_we_created_goes_when_it_is_switched_off() {
    let mut world = World::fenced();
    world.settings = AutoFence::default();
    assert_eq!(world.step("shop/foo"), "release delete");
    assert_eq!(world.step("shop/foo"), "");
}

#[test]
fn while_all_fences_are_open_none_needs_us_to_be_deleted() {
    let mut world = World::fenced();
    world.open_all = true;
    assert_eq!(world.step("shop/foo"), "release");
    assert_eq!(world.step("shop/foo"), "");
    world.delete();
    assert_eq!(world.step("shop/foo"), "");
    world.fence = None;
    assert_eq!(world.step("shop/foo"), "apply");
    assert!(world.fence.as_ref().unwrap().finalizers().is_empty());
    world.open_all = false;
    assert_eq!(world.step("shop/foo"), "apply");
    assert_eq!(world.fence.as_ref().unwrap().finalizers(), [REMEMBER]);
}

#[test]
fn a_fence_goes_with_its_service_and_that_is_nobodys_will() {
    let mut world = World::fenced();
    world.tell([Change::ServiceGone(key("shop/foo"))]);
    let mut collected = World { fence: world.fence.clone(), ..World::new(on(), [namespace("shop", "")]) };
    collected.delete();
    assert_eq!(collected.step("shop/foo"), "release", "garbage collection was faster");
    assert_eq!(world.step("shop/foo"), "release delete");
    world.tell(shop());
    assert_eq!(world.step("shop/foo"), "apply", "a Service of that name comes again");
}

#[test]
fn a_fence_of_an_earlier_service_of_the_same_name_is_not_remembered() {
    let mut world = World::fenced();
    let again = Service {
        key: key("shop/foo"),
        uid: "uid-of-another".into(),
        selector: labels("app=foo"),
        ..Service::default()
    };
    world.tell([Change::Service(again)]);
    world.delete();
    assert_eq!(world.step("shop/foo"), "release");
    world.fence = None;
    assert_eq!(world.step("shop/foo"), "apply");
}

#[test]
fn a_fence_of_a_namespace_that_goes_is_not_remembered() {
    let mut world = World::fenced();
    world.tell([Change::NamespaceGone(ObjectKey::new("", "shop"))]);
    world.delete();
    assert_eq!(world.step("shop/foo"), "release");
}

#[test]
fn a_fence_that_a_user_deleted_is_not_created_again_until_the_wish_is_another() {
    let mut world = World::fenced();
    world.delete();
    assert_eq!(world.step("shop/foo"), "remember release");
    assert_eq!(world.step("shop/foo"), "", "it opens first");
    world.fence = None;
    world.tell([pod("shop/foo-2", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "");

    world.fence = Some(ServiceFence::new("foo", ServiceFenceSpec::default()));
    assert_eq!(world.step("shop/foo"), "", "the user makes one by hand");
    world.fence = None;
    assert_eq!(world.step("shop/foo"), "", "and deletes it");

    world.tell([service("shop/foo", NO, "app=foo")]);
    assert_eq!(world.step("shop/foo"), "forget");
    world.tell([service("shop/foo", "", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "apply");
}

#[test]
fn a_deletion_is_forgotten_with_its_service() {
    let mut world = World { deleted: Some("uid-of-service".to_owned()), ..World::new(on(), shop()) };
    assert_eq!(world.step("shop/foo"), "");
    world.tell([Change::ServiceGone(key("shop/foo"))]);
    assert_eq!(world.step("shop/foo"), "forget");
    let mut world = World { deleted: Some("uid-of-an-earlier-one".to_owned()), ..World::new(on(), shop()) };
    assert_eq!(world.step("shop/foo"), "forget apply");
}

#[test]
fn pods_without_a_service_are_fenced_by_their_label() {
    let mut world = World::new(by_label(), [namespace("shop", "")]);
    assert_eq!(world.step(WORKLOAD), "", "no pod");
    world.tell([bare("shop/batch-1", "run=batch", Proxy::Sidecar)]);
    assert_eq!(world.step(WORKLOAD), "", "no address yet");
    world.tell([pod("shop/batch-1", "run=batch")]);
    assert_eq!(world.step(WORKLOAD), "apply");
    let fence = world.fence.as_ref().unwrap();
    assert_eq!(
        json!(fence.spec),
        json!({ "enable": true, "mode": "Observe", "workloadSelector": { "labels": { "run": "batch" } } })
    );
    assert_eq!((fence.owner_references().len(), fence.finalizers()), (0, &[REMEMBER.to_owned()][..]));
    world.tell([pod("shop/batch-1", "run=batch,pod=2")]);
    assert_eq!(world.step(WORKLOAD), "");
}

#[test]
fn what_is_no_workload_of_its_own_gets_no_fence_by_label() {
    let selected = [service("shop/foo", NO, "app=foo"), pod("shop/batch-1", "run=batch,app=foo")];
    let cases: [(&str, &str, Vec<Change>); 6] = [
        ("a Service selects the pod", WORKLOAD, selected.into()),
        ("no sidecar", WORKLOAD, vec![bare("shop/batch-1", "run=batch", Proxy::None)]),
        ("another namespace's pod", WORKLOAD, vec![pod("other/batch-1", "run=batch")]),
        ("the pod refuses", WORKLOAD, vec![pod("shop/batch-1", &format!("run=batch,{NO}"))]),
        ("the namespace refuses", WORKLOAD, vec![namespace("shop", NO), pod("shop/batch-1", "run=batch")]),
        ("another alias", "shop/job-batch.workload.identity", vec![pod("shop/batch-1", "run=batch")]),
    ];
    for (what, name, changes) in cases {
        let mut world = World::new(by_label(), [namespace("shop", ""), namespace("other", "")]);
        world.tell(changes);
        assert_eq!(world.step(name), "", "{what}");
    }
}

#[test]
fn the_fence_of_a_workload_outlives_its_last_pod_for_a_while() {
    let mut world = World::new(by_label(), [namespace("shop", ""), pod("shop/batch-1", "run=batch")]);
    world.step(WORKLOAD);
    world.tell([Change::PodGone(key("shop/batch-1"))]);
    let wake = Some(world.now + VACANCY);
    assert_eq!((world.plan(WORKLOAD).wake, world.step(WORKLOAD)), (wake, String::new()));
    world.now += VACANCY - SignedDuration::from_secs(1);
    assert_eq!((world.plan(WORKLOAD).wake, world.step(WORKLOAD)), (wake, String::new()));
    world.tell([pod("shop/batch-2", "run=batch")]);
    assert_eq!(world.step(WORKLOAD), "");
    assert_eq!(world.vacant_since, None, "a pod came in time");
    world.tell([Change::PodGone(key("shop/batch-2"))]);
    assert_eq!(world.step(WORKLOAD), "");
    world.now += VACANCY;
    assert_eq!(world.step(WORKLOAD), "release delete");
}

#[test]
fn a_workloads_fence_that_a_user_deleted_stays_away_whatever_its_pods_do() {
    let mut world = World::new(by_label(), [namespace("shop", ""), pod("shop/batch-1", "run=batch")]);
    world.step(WORKLOAD);
    world.delete();
    assert_eq!(world.step(WORKLOAD), "remember release");
    world.fence = None;
    world.tell([Change::PodGone(key("shop/batch-1"))]);
    assert_eq!(world.step(WORKLOAD), "");
    world.tell([pod("shop/batch-2", "run=batch")]);
    assert_eq!(world.step(WORKLOAD), "");
    world.tell([namespace("shop", NO)]);
    assert_eq!(world.step(WORKLOAD), "forget");
}

#[test]
fn a_workloads_fence_has_slimes_name_or_none() {
    let label = settings(json!({ "workloadLabel": "run:job" })).workload_label.unwrap();
    for value in ["batch", "a", "1", "a-b.c", "v1.2"] {
        let name = label.fence_of(value).unwrap();
        assert_eq!(name, format!("job-{value}.workload.identity"));
        assert_eq!(label.value_of(&name), Some(value));
    }
    for value in ["", "Batch", "a_b", "a-", "a..b", "a.-b", "a-.b", ".a"] {
        assert_eq!(label.fence_of(value), None, "{value:?} cannot be in an object's name");
    }
    for name in ["foo", "job.workload.identity", "job-batch", "app-batch.workload.identity"] {
        assert_eq!(label.value_of(name), None, "{name}");
    }
}

/// The fences that a change in a shop has looked at.
fn looked_at(settings: &AutoFence, change: &Change) -> Vec<String> {
    let others = [
        service("shop/bar", "", "app=bar"),
        pod("shop/batch-1", "run=batch"),
        namespace("other", ""),
        service("other/foo", "", "app=foo"),
        Change::Fence(fence_facts("shop/old")),
    ];
    let world = World::new(settings.clone(), shop().into_iter().chain(others));
    concerned(&world.graph, change, settings).iter().map(ToString::to_string).collect()
}

fn fence_facts(name: &str) -> Fence {
    Fence {
        key: key(name),
        selection: PodSelection::Service,
        wants: Vec::new(),
        known: Vec::new(),
        learning: None,
        terms: Terms::default(),
    }
}

#[test]
fn a_change_has_those_fences_looked_at_for_which_it_may_be_news() {
    let settings = AutoFence { default: true, ..by_label() };
    let none: [&str; 0] = [];
    let in_shop = ["shop/app-batch.workload.identity", "shop/bar", "shop/foo", "shop/old"];
    let cases: [(&str, Change, &[&str]); 15] = [
        ("the same Service", service("shop/foo", "", "app=foo"), &none),
        ("a Service's labels", service("shop/foo", YES, "app=foo"), &["shop/foo"]),
        ("a Service's selector", service("shop/foo", "", "run=batch"), &[WORKLOAD, "shop/foo"]),
        ("a new Service", service("shop/new", "", "app=new"), &[WORKLOAD, "shop/new"]),
        ("a Service goes", Change::ServiceGone(key("shop/bar")), &[WORKLOAD, "shop/bar"]),
        ("the same Namespace", namespace("shop", ""), &none),
        ("a Namespace's labels", namespace("shop", NO), &in_shop),
        ("a Namespace goes", Change::NamespaceGone(ObjectKey::new("", "shop")), &in_shop),
        ("the same pod", pod("shop/foo-1", "app=foo"), &none),
        ("a new pod", pod("shop/foo-2", "app=foo,run=x"), &["shop/app-x.workload.identity", "shop/foo"]),
        ("a pod's labels", pod("shop/batch-1", "app=bar"), &[WORKLOAD, "shop/bar"]),
        ("a pod loses its address", bare("shop/foo-1", "app=foo", Proxy::Sidecar), &["shop/foo"]),
        ("a pod goes", Change::PodGone(key("shop/batch-1")), &[WORKLOAD]),
        ("a fence", Change::Fence(fence_facts("shop/any")), &["shop/any"]),
        ("a fence goes", Change::FenceGone(key("shop/any")), &["shop/any"]),
    ];
    for (what, change, expected) in cases {
        assert_eq!(looked_at(&settings, &change), expected, "{what}");
    }
    let off = AutoFence::default();
    assert!(looked_at(&off, &namespace("shop", NO)).is_empty());
    assert_eq!(looked_at(&off, &Change::Fence(fence_facts("shop/any"))), ["shop/any"], "it may have to go");
}

#[test]
fn after_any_change_what_was_not_looked_at_is_right_as_it_is() {
    let settings = AutoFence { default: true, ..by_label() };
    let changes = || {
        let names = ["shop/foo", "shop/bar"];
        let services = names.iter().flat_map(|name| {
            ["", YES, NO].into_iter().flat_map(move |with| {
                ["", "app=foo", "run=batch"].map(move |selector| service(name, with, selector))
            })
        });
        let pods = ["", "app=foo", "run=batch", "app=foo,run=batch"].map(|with| pod("shop/p", with));
        let bare = ["app=foo", "run=batch"].map(|with| bare("shop/p", with, Proxy::None));
        let rest = [
            namespace("shop", ""),
            namespace("shop", NO),
            Change::NamespaceGone(ObjectKey::new("", "shop")),
            Change::PodGone(key("shop/p")),
            Change::ServiceGone(key("shop/foo")),
        ];
        services.chain(pods).chain(bare).chain(rest).collect::<Vec<_>>()
    };
    let view =
        |world: &World| ["shop/foo", "shop/bar", WORKLOAD].map(|name| format!("{:?}", world.plan(name)));
    for first in changes() {
        for second in changes() {
            let mut world = World::new(settings.clone(), [namespace("shop", ""), pod("shop/q", "run=batch")]);
            world.tell([first.clone()]);
            let before = view(&world);
            let looked_at: BTreeSet<_> = concerned(&world.graph, &second, &settings);
            world.tell([second.clone()]);
            for (name, (before, after)) in
                ["shop/foo", "shop/bar", WORKLOAD].iter().zip(before.iter().zip(view(&world)))
            {
                assert!(
                    *before == after || looked_at.contains(&key(name)),
                    "{name} after {first:?} and {second:?}: {before} {after}"
                );
            }
        }
    }
}
