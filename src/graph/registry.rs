use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use super::{Labels, ObjectKey};

/// A host together with the namespace that defines it: what a `Sidecar` imports, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EgressHost {
    /// The namespace of the Service or `ServiceEntry`.
    pub namespace: Arc<str>,
    /// The full host name.
    pub host: Arc<str>,
}

impl fmt::Display for EgressHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.host)
    }
}

/// What matters of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its own labels.
    pub labels: Labels,
    /// The pods that it stands for; empty if it has no selector.
    pub selector: Labels,
    /// Whether it has no cluster IP.
    pub headless: bool,
    /// Its cluster IPs.
    pub addresses: Vec<IpAddr>,
}

/// What matters of a `ServiceEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The hosts that it defines.
    pub hosts: Vec<Arc<str>>,
}

/// The hosts that istiod knows, and which namespace defines each.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    domain: Arc<str>,
    services: HashMap<ObjectKey, Service>,
    entries: HashMap<ObjectKey, Vec<Arc<str>>>,
    /// Host → the objects that define it: one host may come from several namespaces.
    definers: HashMap<Arc<str>, OrdSet<Definer>>,
    /// Namespace → the hosts of its Services.
    by_namespace: HashMap<Arc<str>, OrdSet<Arc<str>>>,
    /// Namespace → the hosts of its headless Services.
    headless: HashMap<Arc<str>, OrdSet<Arc<str>>>,
}

/// An object that defines a host. A Service and a `ServiceEntry` of one name are two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Definer {
    Service(ObjectKey),
    ServiceEntry(ObjectKey),
}

impl Definer {
    fn service(&self) -> Option<&ObjectKey> {
        match self {
            Self::Service(key) => Some(key),
            Self::ServiceEntry(_) => None,
        }
    }

    fn namespace(&self) -> &Arc<str> {
        let (Self::Service(key) | Self::ServiceEntry(key)) = self;
        &key.namespace
    }
}

/// What a change of the registry means for fences.
#[derive(Debug, Default)]
pub(super) struct RegistryChange {
    /// Hosts that came or went.
    pub(super) hosts: Vec<Arc<str>>,
    /// The namespace whose set of headless services changed.
    pub(super) headless: bool,
    /// Whether a Service's selector changed.
    pub(super) selector: bool,
}

impl Registry {
    pub(super) fn new(domain: &str) -> Self {
        Self { domain: domain.into(), ..Self::default() }
    }

    /// The namespaces that define `host`; none for a host that istiod does not know.
    #[must_use]
    pub fn namespaces(&self, host: &str) -> Vec<Arc<str>> {
        let definers = self.definers.get(host).into_iter().flatten();
        definers.map(Definer::namespace).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The same, once for each object that defines it, and without a copy.
    pub(super) fn definers_of(&self, host: &str) -> impl Iterator<Item = &Arc<str>> {
        self.definers.get(host).into_iter().flatten().map(Definer::namespace)
    }

    /// Whether some object defines `host`.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        self.definers.contains_key(host)
    }

    /// The cluster IPs of the Service that defines `host`; none for a headless one, or a host of a `ServiceEntry`.
    #[must_use]
    pub fn addresses(&self, host: &str) -> &[IpAddr] {
        let keys = self.definers.get(host).into_iter().flatten().filter_map(Definer::service);
        keys.filter_map(|key| self.services.get(key))
            .map(|service| &*service.addresses)
            .next()
            .unwrap_or_default()
    }

    /// The hosts of a namespace's Services.
    pub fn hosts_in(&self, namespace: &str) -> impl Iterator<Item = EgressHost> + '_ {
        in_namespace(&self.by_namespace, namespace)
    }

    /// The hosts of a namespace's headless Services.
    pub fn headless_in(&self, namespace: &str) -> impl Iterator<Item = EgressHost> + '_ {
        in_namespace(&self.headless, namespace)
    }

    /// A Service by its key.
    #[must_use]
    pub fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// The Service that has a host.
    pub(super) fn service_of(&self, host: &str) -> Option<&Service> {
        self.definers.get(host)?.iter().find_map(|definer| match definer {
            Definer::Service(key) => self.services.get(key),
            Definer::ServiceEntry(_) => None,
        })
    }

    /// The Services of a namespace, or all there are.
    pub(super) fn services_in(&self, namespace: Option<&str>) -> Box<dyn Iterator<Item = &Service> + '_> {
        match namespace {
            Some(namespace) => {
                let hosts = self.by_namespace.get(namespace).into_iter().flatten();
                Box::new(hosts.filter_map(|host| self.service_of(host)))
            }
            None => Box::new(self.services.values()),
        }
    }

    /// Every Service, to find those that are gone after a fresh listing.
    pub fn service_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.services.keys()
    }

    /// Every `ServiceEntry`, to find those that are gone after a fresh listing.
    pub fn entry_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.entries.keys()
    }

    /// The full name of a host that an Istio resource of `namespace` names: a name without a dot is that of a
    /// Service of the namespace (`ResolveShortnameToFQDN` in Istio's `pilot/pkg/model`).
    #[must_use]
    pub fn full_name(&self, host: &str, namespace: &str) -> Arc<str> {
        if host.contains('.') { host.into() } else { self.host_of(&ObjectKey::new(namespace, host)) }
    }

    /// The host name of a Service (`name.namespace.svc.<cluster domain>`).
    #[must_use]
    pub fn host_of(&self, key: &ObjectKey) -> Arc<str> {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.domain).into()
    }

    pub(super) fn apply_service(&mut self, service: Service) -> RegistryChange {
        let old = self.services.get(&service.key);
        let change = RegistryChange {
            hosts: if old.is_none() { vec![self.host_of(&service.key)] } else { Vec::new() },
            headless: old.is_some_and(|o| o.headless) != service.headless,
            selector: old.is_none_or(|o| o.selector != service.selector),
        };
        let (namespace, host) = (service.key.namespace.clone(), self.host_of(&service.key));
        self.definers.entry(host.clone()).or_default().insert(Definer::Service(service.key.clone()));
        self.by_namespace.entry(namespace.clone()).or_default().insert(host.clone());
        if service.headless {
            self.headless.entry(namespace).or_default().insert(host);
        } else {
            discard(&mut self.headless, &namespace, &host);
        }
        self.services.insert(service.key.clone(), service);
        change
    }

    pub(super) fn remove_service(&mut self, key: &ObjectKey) -> RegistryChange {
        let Some(old) = self.services.remove(key) else { return RegistryChange::default() };
        let host = self.host_of(key);
        discard(&mut self.definers, &host, &Definer::Service(key.clone()));
        discard(&mut self.by_namespace, &key.namespace, &host);
        discard(&mut self.headless, &key.namespace, &host);
        RegistryChange { hosts: vec![host], headless: old.headless, selector: true }
    }

    pub(super) fn apply_entry(&mut self, entry: ServiceEntry) -> RegistryChange {
        let before: BTreeSet<_> = self.remove_entry(&entry.key).hosts.into_iter().collect();
        let definer = Definer::ServiceEntry(entry.key.clone());
        for host in &entry.hosts {
            self.definers.entry(host.clone()).or_default().insert(definer.clone());
        }
        let after = entry.hosts.iter().cloned().collect();
        self.entries.insert(entry.key, entry.hosts);
        RegistryChange {
            hosts: before.symmetric_difference(&after).cloned().collect(),
            ..RegistryChange::default()
        }
    }

    pub(super) fn remove_entry(&mut self, key: &ObjectKey) -> RegistryChange {
        let hosts = self.entries.remove(key).unwrap_or_default();
        let definer = Definer::ServiceEntry(key.clone());
        for host in &hosts {
            discard(&mut self.definers, host, &definer);
        }
        RegistryChange { hosts, ..RegistryChange::default() }
    }
}

fn in_namespace<'a>(
    index: &'a HashMap<Arc<str>, OrdSet<Arc<str>>>,
    namespace: &str,
) -> impl Iterator<Item = EgressHost> + 'a {
    index.get_key_value(namespace).into_iter().flat_map(|(namespace, hosts)| {
        hosts.iter().map(|host| EgressHost { namespace: namespace.clone(), host: host.clone() })
    })
}

/// Takes `value` out of the set at `key`, and the set out of the map when it was the last.
pub(super) fn discard<K: Hash + Eq + Clone, V: Ord + Clone>(
    map: &mut HashMap<K, OrdSet<V>>,
    key: &K,
    value: &V,
) {
    let Some(set) = map.get_mut(key) else { return };
    set.remove(value);
    if set.is_empty() {
        map.remove(key);
    }
}
