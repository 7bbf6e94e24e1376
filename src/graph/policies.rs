use std::collections::BTreeSet;
use std::sync::Arc;

use super::callers::{CallerPattern, Identity};
use super::namespaced::Namespaced;
use super::relation::Relation;
use super::workloads::Workloads;
use super::{Labels, MeshWide, ObjectKey, Service};

/// What matters of an `AuthorizationPolicy`: which workloads it is about, and which callers it names. Its action does
/// not matter: whoever it names has to arrive under the own identity, to be let in as well as to be kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The labels of the workloads that it is about; empty for all of its namespace.
    pub selector: Labels,
    /// The Services that it is attached to, instead of workloads.
    pub targets: Option<Vec<Arc<str>>>,
    /// The callers that it names, to let them in or to keep them out.
    pub callers: Vec<CallerPattern>,
}

/// The namespace and the account that a pattern spells out.
type Pins = (Option<Arc<str>>, Option<Arc<str>>);

/// The policies that name callers.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    root_namespace: Arc<str>,
    global_proxy: Option<Arc<Identity>>,
    all: Namespaced<Policy>,
    by_pins: Relation<Pins, ObjectKey>,
}

impl Policies {
    pub(super) fn new(mesh: &MeshWide) -> Self {
        let global_proxy = mesh.global_proxy_identity.clone().map(Arc::new);
        Self { root_namespace: mesh.root_namespace.clone(), global_proxy, ..Self::default() }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<Policy>> {
        self.all.get(key).cloned()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.all.keys()
    }

    /// Takes a policy in; one that names nobody is as good as none.
    pub(super) fn apply(&mut self, mut policy: Policy) {
        self.remove(&policy.key);
        let proxy = self.global_proxy.as_ref();
        policy.callers.retain(|pattern| !proxy.is_some_and(|proxy| pattern.matches(proxy)));
        if policy.callers.is_empty() {
            return;
        }
        let key = &policy.key;
        for pattern in &policy.callers {
            self.by_pins.insert(owned(pattern.pins()), key.clone());
        }
        self.all.insert(key.clone(), Arc::new(policy));
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        let Some(old) = self.all.remove(key) else { return };
        for pattern in &old.callers {
            self.by_pins.remove(&owned(pattern.pins()), key);
        }
    }

    /// The policies that name a caller.
    pub(super) fn naming(&self, caller: &Identity) -> impl Iterator<Item = &Policy> {
        let (namespace, account) = (Some(&caller.namespace), Some(&caller.account));
        let pins = [(namespace, account), (namespace, None), (None, account), (None, None)];
        let keys: BTreeSet<_> = pins
            .into_iter()
            .flat_map(|(namespace, account)| self.by_pins.of(&(namespace.cloned(), account.cloned())))
            .collect();
        let policies = keys.into_iter().filter_map(|key| self.all.get(key)).map(Arc::as_ref);
        policies.filter(|policy| policy.names(caller))
    }

    /// The policies that may be about workloads of a namespace.
    pub(super) fn about(&self, namespace: &str) -> impl Iterator<Item = &Policy> + use<'_> {
        self.all.about(namespace, &self.root_namespace).map(Arc::as_ref)
    }

    /// Whether a policy is about the workloads of all namespaces.
    pub(super) fn is_mesh_wide(&self, policy: &Policy) -> bool {
        policy.key.namespace == self.root_namespace && policy.targets.is_none()
    }

    /// Whether a policy is about workloads behind a Service.
    pub(super) fn concerns(&self, policy: &Policy, service: &Service, pods: &Workloads) -> bool {
        if policy.key.namespace != service.key.namespace && !self.is_mesh_wide(policy) {
            return false;
        }
        match &policy.targets {
            Some(targets) => targets.contains(&service.key.name),
            None if policy.selector.is_empty() => true,
            None => {
                service.selector.satisfy(&policy.selector)
                    || pods.share(&service.key.namespace, service, policy)
            }
        }
    }
}

impl Policy {
    /// Whether it names a caller.
    pub(super) fn names(&self, caller: &Identity) -> bool {
        self.callers.iter().any(|pattern| pattern.matches(caller))
    }

    /// Whether a pod with these labels may be what makes it be about a Service.
    pub(super) fn selects(&self, labels: &Labels) -> bool {
        self.targets.is_none() && labels.satisfy(&self.selector)
    }
}

impl Workloads {
    /// Whether a pod of a namespace is behind the Service and under the policy.
    fn share(&self, namespace: &str, service: &Service, policy: &Policy) -> bool {
        let contradict = |(key, value)| service.selector.get(key).is_some_and(|other| other != value);
        !service.selector.is_empty()
            && !policy.selector.iter().any(contradict)
            && self
                .labels_in(namespace)
                .any(|labels| labels.satisfy(&service.selector) && labels.satisfy(&policy.selector))
    }
}

fn owned((namespace, account): (Option<&str>, Option<&str>)) -> Pins {
    (namespace.map(Into::into), account.map(Into::into))
}
