use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use super::registry::discard;
use super::{Labels, ObjectKey};

/// What matters of a Pod: who calls from which address, and by which proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its own addresses: none yet while it starts, none at all on the host's network.
    pub ips: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
    /// Its service account.
    pub account: Arc<str>,
    /// Its proxy.
    pub proxy: Proxy,
}

/// The proxy of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// Istio's sidecar: what a `Sidecar` configures.
    #[default]
    Sidecar,
    /// The pod is a gateway.
    Gateway,
    /// The pod is a waypoint.
    Waypoint,
    /// None of its own.
    None,
    /// None, and it cannot have one: the pod is on the host's network.
    HostNetwork,
}

/// The pods that may call others, by address.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    pods: HashMap<ObjectKey, Placed>,
    by_namespace: HashMap<Arc<str>, OrdSet<ObjectKey>>,
    by_fence: HashMap<ObjectKey, OrdSet<ObjectKey>>,
    callers: HashMap<IpAddr, Caller>,
}

/// A pod, and the fences that it is in.
#[derive(Clone, Debug)]
struct Placed {
    pod: Pod,
    fences: Arc<[ObjectKey]>,
}

#[derive(Clone, Debug)]
struct Caller {
    pod: ObjectKey,
    fences: Arc<[ObjectKey]>,
}

impl Workloads {
    /// The fences of the pod with this address; `None` if no pod has it.
    #[must_use]
    pub fn fences_of(&self, caller: IpAddr) -> Option<&Arc<[ObjectKey]>> {
        self.callers.get(&caller).map(|caller| &caller.fences)
    }

    /// Every pod, to find those that are gone after a fresh listing.
    pub fn pod_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.pods.keys()
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, key: &ObjectKey) -> Option<&Pod> {
        self.pods.get(key).map(|placed| &placed.pod)
    }

    /// The pods of one namespace.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Pod> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|key| self.pod(key))
    }

    /// The pods of a fence.
    pub fn of_fence(&self, fence: &ObjectKey) -> impl Iterator<Item = &Pod> {
        self.by_fence.get(fence).into_iter().flatten().filter_map(|key| self.pod(key))
    }

    /// Whether a pod is in just these fences.
    pub(super) fn is_in(&self, pod: &ObjectKey, fences: &[ObjectKey]) -> bool {
        self.pods.get(pod).is_some_and(|placed| *placed.fences == *fences)
    }

    /// Takes a pod in, and tells the fences to which that is news.
    pub(super) fn apply(&mut self, pod: &Pod, fences: &Arc<[ObjectKey]>) -> BTreeSet<ObjectKey> {
        let old = self.pods.get(&pod.key).cloned();
        let before: Vec<_> = old.iter().flat_map(|old| &old.pod.ips).copied().collect();
        self.release(&pod.key, before.iter().filter(|ip| !pod.ips.contains(ip)));
        // An address that the pod just got is its own now, whoever had it before.
        for ip in pod.ips.iter().filter(|ip| !before.contains(ip)) {
            self.callers.remove(ip);
        }
        self.by_namespace.entry(pod.key.namespace.clone()).or_default().insert(pod.key.clone());
        self.assign(pod, fences);
        let is_as_before = |old: &Placed| {
            old.pod.labels == pod.labels && old.pod.account == pod.account && old.pod.proxy == pod.proxy
        };
        if old.as_ref().is_some_and(|old| is_as_before(old) && old.fences == *fences) {
            return BTreeSet::new();
        }
        old.iter().flat_map(|old| old.fences.iter()).chain(fences.iter()).cloned().collect()
    }

    /// Forgets a pod, and tells the fences that it was in.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(old) = self.pods.remove(key) else { return BTreeSet::new() };
        self.release(key, old.pod.ips.iter());
        discard(&mut self.by_namespace, &key.namespace, key);
        for fence in old.fences.iter() {
            discard(&mut self.by_fence, fence, key);
        }
        old.fences.iter().cloned().collect()
    }

    /// Notes anew which fences a pod is in; its address stays with another pod that has got it meanwhile.
    pub(super) fn assign(&mut self, pod: &Pod, fences: &Arc<[ObjectKey]>) {
        for ip in &pod.ips {
            if self.callers.get(ip).is_none_or(|caller| caller.pod == pod.key) {
                self.callers.insert(*ip, Caller { pod: pod.key.clone(), fences: fences.clone() });
            }
        }
        let placed = Placed { pod: pod.clone(), fences: fences.clone() };
        let old = self.pods.insert(pod.key.clone(), placed);
        for fence in old.iter().flat_map(|old| old.fences.iter()).filter(|fence| !fences.contains(fence)) {
            discard(&mut self.by_fence, fence, &pod.key);
        }
        for fence in fences.iter() {
            self.by_fence.entry(fence.clone()).or_default().insert(pod.key.clone());
        }
    }

    /// Forgets addresses of `pod`, unless another pod has got them meanwhile.
    fn release<'a>(&mut self, pod: &ObjectKey, ips: impl Iterator<Item = &'a IpAddr>) {
        for ip in ips {
            if self.callers.get(ip).is_some_and(|caller| caller.pod == *pod) {
                self.callers.remove(ip);
            }
        }
    }
}
