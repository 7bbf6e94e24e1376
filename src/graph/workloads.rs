use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdSet;

use super::by_workload::ByWorkload;
use super::relation::Relation;
use super::{Caller, HashMap, Labels, ObjectKey};

/// What matters of a Pod: who calls from which address, by which proxy, under which name metrics speak of it, and whether
/// it takes part in what its Service does.
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
    /// The revision of the istiod that its proxy is configured by; `None` if nothing tells.
    pub revision: Option<Arc<str>>,
    /// Whether its proxy answers the names that it asks for, by what istiod says of them.
    pub captures_dns: bool,
    /// The name of its workload, as Istio has it in `source_workload`.
    pub workload: Arc<str>,
    /// Whether it is ready, and stays: one that is being deleted is not counted any more.
    pub ready: bool,
}

impl Pod {
    /// What matters of it to the fences that it is in, besides its labels.
    fn terms(&self) -> (&str, Proxy, Option<&str>, bool) {
        (&self.account, self.proxy, self.revision.as_deref(), self.captures_dns)
    }
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

/// The pods that may call others: by address, by name and by workload.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    pods: HashMap<ObjectKey, Arc<Pod>>,
    /// Namespace → labels → the pods that have just these. What selects one of them selects them all.
    groups: HashMap<Arc<str>, HashMap<Labels, Group>>,
    /// Fence → the labels of the groups that are in it.
    by_fence: Relation<ObjectKey, Labels>,
    by_address: HashMap<IpAddr, Tenant>,
    by_workload: ByWorkload,
    /// Namespace → how many of its pods have proxies that capture DNS.
    capturing_dns: HashMap<Arc<str>, usize>,
}

/// Pods with the same labels.
#[derive(Clone, Debug, Default)]
struct Group {
    pods: OrdSet<ObjectKey>,
    /// Sorted.
    fences: Arc<[ObjectKey]>,
}

#[derive(Clone, Debug)]
struct Tenant {
    pod: Arc<Pod>,
    fences: Arc<[ObjectKey]>,
}

impl Workloads {
    /// The fences of a caller, some of them twice perhaps; `None` if there is no such caller.
    #[must_use]
    pub fn fences_of<'a>(&'a self, caller: &Caller) -> Option<impl Iterator<Item = &'a ObjectKey> + use<'a>> {
        let (one, several) = match caller {
            Caller::Address(address) => (Some(&self.by_address.get(address)?.fences), None),
            Caller::Pod(key) => {
                let pod = self.pods.get(key)?;
                (self.group(&key.namespace, &pod.labels).map(|group| &group.fences), None)
            }
            Caller::Workload(key) => (None, Some(self.by_workload.get(key)?)),
        };
        let groups = several.into_iter().flatten();
        let groups = groups.filter_map(|(workload, labels)| self.group(&workload.namespace, labels));
        let several = groups.map(|group| &group.fences);
        Some(one.into_iter().chain(several).flat_map(|fences| fences.iter()))
    }

    /// Every pod, to find those that are gone after a fresh listing.
    pub fn pod_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.pods.keys()
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, key: &ObjectKey) -> Option<&Pod> {
        self.pods.get(key).map(Arc::as_ref)
    }

    /// The pods of a fence, in the order of their names.
    pub fn of_fence(&self, fence: &ObjectKey) -> impl Iterator<Item = &Pod> {
        let groups = self.labels_of(fence).filter_map(|labels| self.group(&fence.namespace, labels));
        let keys: BTreeSet<_> = groups.flat_map(|group| &group.pods).collect();
        keys.into_iter().filter_map(|key| self.pod(key))
    }

    /// The pods of a namespace whose labels are as `asked` for, which is asked once for each set of labels.
    pub fn with_labels(
        &self,
        namespace: &str,
        asked: impl Fn(&Labels) -> bool,
    ) -> impl Iterator<Item = &Pod> {
        let groups =
            self.groups.get(namespace).into_iter().flatten().filter(move |(labels, _)| asked(labels));
        groups.flat_map(|(_, group)| &group.pods).filter_map(|key| self.pod(key))
    }

    /// The namespaces with pods whose proxies capture DNS.
    pub(super) fn capturing_dns(&self) -> impl Iterator<Item = &Arc<str>> {
        self.capturing_dns.keys()
    }

    /// The labels of a fence's pods, each set once.
    pub(super) fn labels_of(&self, fence: &ObjectKey) -> impl Iterator<Item = &Labels> {
        self.by_fence.of(fence)
    }

    /// The fences that ask for pods with just these labels.
    pub(super) fn fences_asking(&self, namespace: &str, labels: &Labels) -> impl Iterator<Item = &ObjectKey> {
        self.group(namespace, labels).into_iter().flat_map(|group| group.fences.iter())
    }

    /// The other fences that have a pod in common with `fence`.
    pub(super) fn peers(&self, fence: &ObjectKey) -> BTreeSet<&ObjectKey> {
        let groups = self.labels_of(fence).filter_map(|labels| self.group(&fence.namespace, labels));
        groups.flat_map(|group| group.fences.iter()).filter(|other| *other != fence).collect()
    }

    /// Whether `fence` has pods, and all of them are pods of `other` too.
    pub(super) fn covers(&self, other: &ObjectKey, fence: &ObjectKey) -> bool {
        let mut mine = self.labels_of(fence).peekable();
        let theirs: BTreeSet<_> = self.labels_of(other).collect();
        other.namespace == fence.namespace
            && mine.peek().is_some()
            && mine.all(|labels| theirs.contains(labels))
    }

    /// The labels of a namespace's pods, each set once.
    pub(super) fn labels_in(&self, namespace: &str) -> impl Iterator<Item = &Labels> {
        self.groups.get(namespace).into_iter().flat_map(HashMap::keys)
    }

    fn group(&self, namespace: &str, labels: &Labels) -> Option<&Group> {
        self.groups.get(namespace)?.get(labels)
    }

    /// Takes a pod in, and tells the fences to which that is news. `selecting` finds the fences of labels that no
    /// pod of the namespace had.
    pub(super) fn apply(
        &mut self,
        mut pod: Pod,
        selecting: impl FnOnce(&Labels) -> Arc<[ObjectKey]>,
    ) -> BTreeSet<ObjectKey> {
        let old = self.pods.get(&pod.key).cloned();
        let before: Vec<_> = old.iter().flat_map(|old| &old.ips).copied().collect();
        self.release(&pod.key, before.iter().filter(|ip| !pod.ips.contains(ip)));
        // An address that the pod just got is its own now, whoever had it before.
        for ip in pod.ips.iter().filter(|ip| !before.contains(ip)) {
            self.by_address.remove(ip);
        }
        let moved = old.as_ref().is_none_or(|old| old.labels != pod.labels);
        let mut affected = BTreeSet::new();
        if let Some(old) = old.as_ref().filter(|_| moved) {
            affected.extend(self.leave(old).iter().cloned());
        }
        self.join(&mut pod, selecting);
        self.by_workload.add(&pod);
        self.count_capturing(&pod, true);
        if let Some(old) = &old {
            self.by_workload.remove(old);
            self.count_capturing(old, false);
        }
        let fences = self.group(&pod.key.namespace, &pod.labels).map(|group| group.fences.clone());
        let (fences, pod) = (fences.unwrap_or_default(), Arc::new(pod));
        place(&mut self.by_address, &pod, &fences);
        if moved || old.is_some_and(|old| old.terms() != pod.terms()) {
            affected.extend(fences.iter().cloned());
        }
        self.pods.insert(pod.key.clone(), pod);
        affected
    }

    /// Forgets a pod, and tells the fences that it was in.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(old) = self.pods.remove(key) else { return BTreeSet::new() };
        self.release(key, old.ips.iter());
        self.by_workload.remove(&old);
        self.count_capturing(&old, false);
        self.leave(&old).iter().cloned().collect()
    }

    /// Counts a pod that comes, or that goes.
    fn count_capturing(&mut self, pod: &Pod, comes: bool) {
        if !pod.captures_dns {
            return;
        }
        let count = self.capturing_dns.entry(pod.key.namespace.clone()).or_default();
        *count = if comes { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.capturing_dns.remove(&pod.key.namespace);
        }
    }

    /// Notes whom a fence selects from now on. It costs a look at each set of labels of its namespace, and more
    /// only for the pods that it gains or loses. Tells the fences of these, itself among them.
    pub(super) fn select(&mut self, fence: &ObjectKey, selector: Option<&Labels>) -> BTreeSet<ObjectKey> {
        let turns = |labels: &Labels, group: &Group| {
            let selected = selector.is_some_and(|selector| labels.satisfy(selector));
            selected != group.fences.contains(fence)
        };
        let groups = self.groups.get(&fence.namespace).into_iter().flatten();
        let turned: Vec<_> =
            groups.filter(|(labels, group)| turns(labels, group)).map(|(labels, _)| labels.clone()).collect();
        let mut affected = BTreeSet::new();
        for labels in turned {
            self.turn(fence, &labels);
            let group = self.group(&fence.namespace, &labels);
            affected.extend(group.into_iter().flat_map(|group| group.fences.iter()).cloned());
            affected.insert(fence.clone());
        }
        affected
    }

    /// Takes a group into a fence, or out of it if it is in.
    fn turn(&mut self, fence: &ObjectKey, labels: &Labels) {
        let groups = self.groups.get_mut(&fence.namespace);
        let Some(group) = groups.and_then(|groups| groups.get_mut(labels)) else { return };
        let mut fences: BTreeSet<_> = group.fences.iter().cloned().collect();
        if fences.remove(fence) {
            self.by_fence.remove(fence, labels);
        } else {
            fences.insert(fence.clone());
            self.by_fence.insert(fence.clone(), labels.clone());
        }
        group.fences = fences.into_iter().collect();
        for pod in group.pods.iter().filter_map(|key| self.pods.get(key)) {
            place(&mut self.by_address, pod, &group.fences);
        }
    }

    /// Puts a pod into the group of its labels. What pods have in common is kept once.
    fn join(&mut self, pod: &mut Pod, selecting: impl FnOnce(&Labels) -> Arc<[ObjectKey]>) {
        if let Some((namespace, groups)) = self.groups.get_key_value(&pod.key.namespace) {
            pod.key.namespace = namespace.clone();
            if let Some((labels, _)) = groups.get_key_value(&pod.labels) {
                pod.labels = labels.clone();
            }
        }
        let groups = self.groups.entry(pod.key.namespace.clone()).or_default();
        let by_fence = &mut self.by_fence;
        let group = groups.entry(pod.labels.clone()).or_insert_with(|| {
            let fences = selecting(&pod.labels);
            for fence in fences.iter() {
                by_fence.insert(fence.clone(), pod.labels.clone());
            }
            Group { pods: OrdSet::new(), fences }
        });
        group.pods.insert(pod.key.clone());
    }

    /// Takes a pod out of its group, and tells the fences of that.
    fn leave(&mut self, pod: &Pod) -> Arc<[ObjectKey]> {
        let Some(groups) = self.groups.get_mut(&pod.key.namespace) else { return Arc::default() };
        let Some(group) = groups.get_mut(&pod.labels) else { return Arc::default() };
        group.pods.remove(&pod.key);
        let (fences, is_empty) = (group.fences.clone(), group.pods.is_empty());
        if is_empty {
            groups.remove(&pod.labels);
            for fence in fences.iter() {
                self.by_fence.remove(fence, &pod.labels);
            }
        }
        if groups.is_empty() {
            self.groups.remove(&pod.key.namespace);
        }
        fences
    }

    /// Forgets addresses of `pod`, unless another pod has got them meanwhile.
    fn release<'a>(&mut self, pod: &ObjectKey, ips: impl Iterator<Item = &'a IpAddr>) {
        for ip in ips {
            if self.by_address.get(ip).is_some_and(|tenant| tenant.pod.key == *pod) {
                self.by_address.remove(ip);
            }
        }
    }
}

/// Notes the fences of a pod's addresses; an address stays with another pod that has got it meanwhile.
fn place(tenants: &mut HashMap<IpAddr, Tenant>, pod: &Arc<Pod>, fences: &Arc<[ObjectKey]>) {
    for ip in &pod.ips {
        if tenants.get(ip).is_none_or(|tenant| tenant.pod.key == pod.key) {
            tenants.insert(*ip, Tenant { pod: pod.clone(), fences: fences.clone() });
        }
    }
}
