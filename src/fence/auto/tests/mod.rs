//! Which fences are created, kept and deleted, and which change has which of them looked at.

#![allow(clippy::unwrap_used, reason = "Clippy's own exception misses what test functions call")]

mod concern;
mod deletions;
mod ownership;
mod wishes;
mod workloads;

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
use crate::istio::Installation;

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
    istio: Installation,
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
        let (istio, open_all) = (Installation::default(), false);
        let mut world = Self { graph, settings, istio, fence, deleted, vacant_since, open_all, now };
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
            istio: &self.istio,
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
            FenceAction::Disown => {
                words.push("disown");
                let fence = self.fence.as_mut().unwrap();
                let owners = fence.owner_references().iter();
                let others: Vec<_> = owners.filter(|owner| !is_its_service(owner, fence)).cloned().collect();
                fence.metadata.owner_references = Some(others);
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
