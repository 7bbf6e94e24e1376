mod changes;
mod own_entries;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdSet;

use super::names::{HostNames, is_wildcard, overlap, wildcards};
use super::relation::Relation;
use super::want::label_word;
use super::{
    Aliases, DefaultExport, EgressHost, ExportTo, HashMap, Labels, MeshWide, ObjectKey, Pod, Service,
    ServiceEntry,
};

/// The hosts that istiod knows, and which namespace defines each.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    domain: Arc<str>,
    global_proxy: Arc<str>,
    /// Who sees what does not say who does.
    default_export: DefaultExport,
    rules: Arc<Aliases>,
    services: HashMap<ObjectKey, Arc<Service>>,
    /// Namespace → its Services.
    keys: Relation<Arc<str>, ObjectKey>,
    entries: HashMap<ObjectKey, ServiceEntry>,
    /// Host → the objects that define it: one host may come from several namespaces.
    definers: Relation<Arc<str>, Definer>,
    /// The hosts, to be found by a wildcard.
    names: HostNames,
    /// Namespace → the hosts of its Services.
    by_namespace: Relation<Arc<str>, Arc<str>>,
    /// Namespace → the hosts of its headless Services.
    headless: Relation<Arc<str>, Arc<str>>,
    /// Label (`key=value`) → the Services that have it.
    by_label: Relation<Arc<str>, ObjectKey>,
    /// Host → the `ExternalName` Services that are other names for it.
    aliases: Relation<Arc<str>, ObjectKey>,
    /// Host → the hosts to which rules give it as a further name.
    aliased: Relation<Arc<str>, Arc<str>>,
    /// Namespace → the hosts that it sees and the global proxy does not.
    hidden: Relation<Arc<str>, (Definer, Arc<str>)>,
    /// Namespace → the hosts of our own entries.
    own: Relation<Arc<str>, Arc<str>>,
    /// The entries whose hosts istiod alone resolves.
    resolved_by_istiod: OrdSet<ObjectKey>,
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
    /// Hosts that came or went, or stand for another one now.
    pub(super) hosts: Vec<Arc<str>>,
    /// Hosts that have another name more or less.
    pub(super) renamed: Vec<Arc<str>>,
    /// The labels of a Service before and after.
    pub(super) labels: (Labels, Labels),
    /// Whether the set of headless services of the Service's namespace changed.
    pub(super) headless: bool,
    /// Whether a Service's selector changed.
    pub(super) selector: bool,
    /// The namespaces that see more or less than the global proxy does.
    pub(super) hidden: BTreeSet<Arc<str>>,
}

impl Registry {
    /// An empty registry.
    pub(super) fn new(mesh: &MeshWide) -> Self {
        let (domain, global_proxy) = (mesh.cluster_domain.clone(), mesh.global_proxy_namespace.clone());
        Self { domain, global_proxy, rules: mesh.aliases.clone(), ..Self::default() }
    }

    /// The namespaces that define just `host`; none for a host that istiod does not know.
    #[must_use]
    pub fn namespaces(&self, host: &str) -> Vec<Arc<str>> {
        self.definers_of(host).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The same, once for each object that defines it, and without a copy. Entries of our own are left out: each is for
    /// its own namespace alone.
    pub(super) fn definers_of(&self, host: &str) -> impl Iterator<Item = &Arc<str>> {
        let definers = self.definers.of(host);
        definers.filter(|definer| !self.is_own(definer)).map(Definer::namespace)
    }

    /// Whether some object defines just `host`.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        self.definers.key(host).is_some()
    }

    /// The cluster IPs of the Service that defines `host`; none for a headless one, or a host of a `ServiceEntry`.
    #[must_use]
    pub fn addresses(&self, host: &str) -> &[IpAddr] {
        let keys = self.definers.of(host).filter_map(Definer::service);
        keys.filter_map(|key| self.service(key)).map(|service| &*service.addresses).next().unwrap_or_default()
    }

    /// How many hosts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name by which istiod knows `host`: its own, or the closest wildcard of a `ServiceEntry` that covers it.
    #[must_use]
    pub fn canonical(&self, host: &str) -> Option<Arc<str>> {
        let own = self.definers.key(host).cloned();
        own.or_else(|| wildcards(host).find_map(|name| self.definers.key(name.as_str()).cloned()))
    }

    /// A host, and the known ones that stand for some of the same names: those that it covers, and those that cover it.
    pub(super) fn overlapping(&self, host: &Arc<str>) -> BTreeSet<Arc<str>> {
        let covering = wildcards(host).filter_map(|name| self.definers.key(name.as_str()));
        self.names.covered_by(host).chain(covering).chain([host]).cloned().collect()
    }

    /// What a `Sidecar` imports for `host`, for each namespace that defines it, with the other names that it has.
    ///
    /// istiod imports what a listed host covers, never what covers it: a host under the wildcard of a
    /// `ServiceEntry` is imported by that wildcard (`hostClassification.Matches`, Istio 1.31). It merges an
    /// `ExternalName` Service into the one that it names, and keeps only those names that are listed, too
    /// (`matchingAliasService`).
    #[must_use]
    pub fn resolve(&self, host: &str) -> BTreeSet<EgressHost> {
        let mut names = BTreeSet::from([Arc::from(host)]);
        if is_wildcard(host) {
            names.extend(self.names.covered_by(host).cloned());
        }
        let all = names.iter().flat_map(|name| self.same_as(name));
        all.chain(self.canonical(host)).flat_map(|name| self.listed(name)).collect()
    }

    /// What a `Sidecar` imports besides `host` itself, as other names for it.
    pub(crate) fn other_names(&self, host: &Arc<str>) -> impl Iterator<Item = EgressHost> {
        self.same_as(host).into_iter().filter(move |name| name != host).flat_map(|name| self.listed(name))
    }

    /// The hosts of which it makes a difference that `hosts` come or go: themselves, and those to which rules give
    /// them as further names.
    pub(super) fn concerned_by(&self, hosts: &[Arc<str>]) -> BTreeSet<Arc<str>> {
        let aliased = hosts.iter().flat_map(|host| self.aliased.of(host));
        hosts.iter().chain(aliased).cloned().collect()
    }

    /// A host, the one that it stands for, the names that stand for either, and those that rules give them.
    pub(super) fn same_as(&self, host: &Arc<str>) -> BTreeSet<Arc<str>> {
        let (mut all, mut next) = (BTreeSet::new(), vec![host.clone()]);
        while let Some(host) = next.pop() {
            if all.insert(host.clone()) {
                next.extend(self.rules.of(&host));
                next.extend(self.target_of(&host));
                next.extend(self.aliases_of(&host).map(|service| self.host_of(service)));
            }
        }
        all
    }

    fn target_of(&self, host: &str) -> Option<Arc<str>> {
        let definers = self.definers.of(host);
        let mut services = definers.filter_map(|definer| match definer {
            Definer::Service(key) => self.service(key),
            Definer::ServiceEntry(_) => None,
        });
        services.find_map(|service| service.external_name.clone())
    }

    fn aliases_of(&self, host: &str) -> impl Iterator<Item = &ObjectKey> {
        self.aliases.of(host)
    }

    /// The host that an `ExternalName` Service stands for in the end; `None` for any other host, and for one that goes in a
    /// circle.
    fn concrete_of(&self, host: &str) -> Option<Arc<str>> {
        let (mut seen, mut last) = (BTreeSet::new(), self.target_of(host)?);
        while seen.insert(last.clone()) {
            let Some(next) = self.target_of(&last) else { return Some(last) };
            last = next;
        }
        None
    }

    /// A host as a `Sidecar` lists it: in the namespaces that define it. Another name for a host counts in those that define
    /// that (Istio 1.31, `matchingAliasService`), where it is listed as well.
    fn listed(&self, host: Arc<str>) -> impl Iterator<Item = EgressHost> + use<> {
        let concrete = self.concrete_of(&host).map(|concrete| self.namespaces(&concrete));
        let namespaces: BTreeSet<_> =
            self.namespaces(&host).into_iter().chain(concrete.into_iter().flatten()).collect();
        namespaces.into_iter().map(move |namespace| EgressHost { namespace, host: host.clone() })
    }

    /// The hosts of a namespace's Services.
    pub fn hosts_in(&self, namespace: &str) -> impl Iterator<Item = EgressHost> + '_ {
        in_namespace(&self.by_namespace, namespace)
    }

    /// The hosts of a namespace's headless Services.
    pub fn headless_in(&self, namespace: &str) -> impl Iterator<Item = EgressHost> + '_ {
        in_namespace(&self.headless, namespace)
    }

    /// The hosts of the Services of all namespaces that `selector` selects.
    pub fn labelled<'a>(&'a self, selector: &'a Labels) -> impl Iterator<Item = EgressHost> + 'a {
        let words: Vec<_> = selector.iter().map(|(key, value)| label_word(key, value)).collect();
        let fewest = first_to_end(words.iter().map(|word| self.by_label.of(word)).collect());
        fewest.into_iter().flat_map(move |at| self.by_label.of(&words[at])).filter_map(move |key| {
            let service = self.service(key).filter(|service| service.labels.satisfy(selector))?;
            Some(EgressHost { namespace: service.key.namespace.clone(), host: self.host_of(key) })
        })
    }

    /// Whether a Service of `namespace` has this label.
    pub(super) fn has_labelled(&self, namespace: &str, label: &str, value: &str) -> bool {
        self.by_label.of(&label_word(label, value)).any(|key| *key.namespace == *namespace)
    }

    /// The namespaces that see an object of `own` that the global proxy does not see.
    fn hidden<'a>(
        &self,
        export_to: &'a ExportTo,
        own: &'a Arc<str>,
    ) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        export_to.hidden_from(&self.global_proxy, own, self.default_export)
    }

    /// The hosts that a namespace sees and the global proxy does not: nobody could learn them there.
    #[must_use]
    pub fn hidden_in(&self, namespace: &str) -> BTreeSet<EgressHost> {
        let hidden = self.hidden.of(namespace);
        hidden
            .map(|(definer, host)| EgressHost { namespace: definer.namespace().clone(), host: host.clone() })
            .collect()
    }

    /// The hosts that `namespace` sees and istiod alone resolves.
    pub(super) fn resolved_by_istiod(&self, namespace: &str) -> impl Iterator<Item = &Arc<str>> {
        let entries = self.resolved_by_istiod.iter().filter_map(|key| self.entries.get(key));
        let seen = entries.filter(move |entry| self.is_visible(entry, namespace));
        seen.flat_map(|entry| &entry.resolved_by_istiod)
    }

    /// The entries that define hosts which istiod alone resolves, and for which `host` makes a difference.
    pub(super) fn resolving<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a ServiceEntry> {
        let entries = self.resolved_by_istiod.iter().filter_map(|key| self.entries.get(key));
        entries.filter(move |entry| entry.resolved_by_istiod.iter().any(|other| overlap(other, host)))
    }

    /// Whether `namespace` sees an entry.
    pub(super) fn is_visible(&self, entry: &ServiceEntry, namespace: &str) -> bool {
        entry.export_to.includes(namespace, &entry.key.namespace, self.default_export)
    }

    /// The namespaces that see `host` where the global proxy does not: their fences list it.
    pub(super) fn hiding<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        self.definers.of(host).flat_map(move |definer| {
            let export_to = match definer {
                Definer::Service(key) => self.services.get(key).map(|service| &service.export_to),
                Definer::ServiceEntry(key) => self.entries.get(key).map(ServiceEntry::learnable),
            };
            export_to.into_iter().flat_map(move |export_to| self.hidden(export_to, definer.namespace()))
        })
    }

    /// A Service by its key.
    #[must_use]
    pub fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key).map(Arc::as_ref)
    }

    /// The labels of the pods of a namespace that stand for `host`, by its Services and `ServiceEntry`s: none if no object of
    /// the namespace defines the host, empty ones if none has a selector.
    #[must_use]
    pub fn pods_of(&self, namespace: &str, host: &str) -> Option<&Labels> {
        let definers = self.definers.of(host).filter(|definer| **definer.namespace() == *namespace);
        let mut all = definers.filter_map(|definer| match definer {
            Definer::Service(key) => self.service(key).map(|service| &service.selector),
            Definer::ServiceEntry(key) => self.entries.get(key).map(|entry| &entry.selector),
        });
        let first = all.next()?;
        if first.is_empty() {
            Some(all.find(|labels| !labels.is_empty()).unwrap_or(first))
        } else {
            Some(first)
        }
    }

    /// The Service that has a host.
    pub(super) fn service_of(&self, host: &str) -> Option<&Service> {
        self.definers.of(host).find_map(|definer| match definer {
            Definer::Service(key) => self.service(key),
            Definer::ServiceEntry(_) => None,
        })
    }

    /// The Services of a namespace, or all there are.
    #[must_use]
    pub fn services_in(&self, namespace: Option<&str>) -> Box<dyn Iterator<Item = &Service> + '_> {
        match namespace {
            Some(namespace) => {
                let keys = self.keys.of(namespace);
                Box::new(keys.filter_map(|key| self.service(key)))
            }
            None => Box::new(self.services.values().map(Arc::as_ref)),
        }
    }

    /// The Services that select a pod.
    pub fn selecting(&self, pod: &Pod) -> impl Iterator<Item = &Service> {
        let all = self.services_in(Some(&pod.key.namespace));
        all.filter(|service| pod.labels.satisfy(&service.selector))
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

    /// Whether a host has the name of a Service of a namespace.
    pub(super) fn is_service_in(&self, host: &str, namespace: &str) -> bool {
        let name = host.strip_suffix(&*self.domain).and_then(|host| host.strip_suffix(".svc."));
        name.and_then(|name| name.split_once('.')).is_some_and(|(_, own)| own == namespace)
    }

    /// The host name of a Service (`name.namespace.svc.<cluster domain>`).
    #[must_use]
    pub fn host_of(&self, key: &ObjectKey) -> Arc<str> {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.domain).into()
    }
}

/// Which of several iterators ends first, found without going on with the others.
fn first_to_end(mut all: Vec<impl Iterator>) -> Option<usize> {
    while !all.is_empty() {
        if let Some(ended) = all.iter_mut().position(|one| one.next().is_none()) {
            return Some(ended);
        }
    }
    None
}

fn in_namespace<'a>(
    index: &'a Relation<Arc<str>, Arc<str>>,
    namespace: &str,
) -> impl Iterator<Item = EgressHost> + 'a {
    index.key(namespace).into_iter().flat_map(|namespace| {
        index.of(namespace).map(|host| EgressHost { namespace: namespace.clone(), host: host.clone() })
    })
}
