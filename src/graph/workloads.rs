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
    pods: HashMap<ObjectKey, Pod>,
    by_namespace: HashMap<Arc<str>, OrdSet<ObjectKey>>,
    callers: HashMap<IpAddr, Caller>,
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

    /// The pods of one namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Pod> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }

    pub(super) fn apply(&mut self, pod: Pod, fences: &Arc<[ObjectKey]>) {
        let before: Vec<_> = self.pods.get(&pod.key).into_iter().flat_map(|old| &old.ips).copied().collect();
        self.release(&pod.key, before.iter().filter(|ip| !pod.ips.contains(ip)));
        // An address that the pod just got is its own now, whoever had it before.
        for ip in pod.ips.iter().filter(|ip| !before.contains(ip)) {
            self.callers.remove(ip);
        }
        self.assign(&pod, fences);
        self.by_namespace.entry(pod.key.namespace.clone()).or_default().insert(pod.key.clone());
        self.pods.insert(pod.key.clone(), pod);
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        let Some(old) = self.pods.remove(key) else { return };
        self.release(key, old.ips.iter());
        discard(&mut self.by_namespace, &key.namespace, key);
    }

    /// Notes anew which fences a pod is in, unless another pod has got its address meanwhile.
    pub(super) fn assign(&mut self, pod: &Pod, fences: &Arc<[ObjectKey]>) {
        for ip in &pod.ips {
            if self.callers.get(ip).is_none_or(|caller| caller.pod == pod.key) {
                self.callers.insert(*ip, Caller { pod: pod.key.clone(), fences: fences.clone() });
            }
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
