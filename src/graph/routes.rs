//! Where `VirtualService`s send calls. A log names the host at which a call ended; a caller's `Sidecar` has to list
//! the host that was called, for only then does its proxy import the `VirtualService` (and istiod its
//! destinations with it: `collectImportedServices` in Istio's `pilot/pkg/model/sidecar.go`, 1.29 to 1.31).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdSet;
use jiff::Timestamp;

use super::names::{ByHost, is_covered_by};
use super::registry::Registry;
use super::relation::Relation;
use super::{
    Caller, DefaultExport, EgressHost, ExportTo, Graph, HashMap, Judgement, Labels, MeshWide, ObjectKey,
};

/// What matters of a `VirtualService`. A host without a dot is a Service of its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualService {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The hosts that it routes; none for one that others delegate to.
    pub hosts: Vec<Arc<str>>,
    /// Whose calls it routes.
    pub audience: Audience,
    /// The hosts to which it sends calls.
    pub destinations: Vec<Arc<str>>,
    /// The `VirtualService`s to which it delegates.
    pub delegates: Vec<ObjectKey>,
    /// The callers for whom it has routes of their own. The global proxy is none of them, so their first call must
    /// not go there.
    pub callers: Vec<Source>,
    /// Who sees it. If the global proxy does not, a first call must not go there either.
    pub export_to: ExportTo,
}

/// Whose calls a `VirtualService` routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Those of all workloads that import it.
    #[default]
    Mesh,
    /// Those of the workloads of its own namespace.
    Namespace,
    /// Those that come in at gateways, and none of a workload.
    Gateways,
}

/// Callers that a route is for (`sourceNamespace`, `sourceLabels`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Their namespace; `None` for any.
    pub namespace: Option<Arc<str>>,
    /// Labels that they all have.
    pub labels: Labels,
}

/// What a log entry says of the host that was called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The address that was called.
    pub address: Option<IpAddr>,
    /// The name that the caller gave: an HTTP authority, or a TLS server name. It may be forged, so it only ever
    /// chooses among the hosts that are really sent where the call ended.
    pub name: Option<String>,
}

/// The `VirtualService`s, by where they send calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    global_proxy: Arc<str>,
    /// Who sees what does not say who does.
    default_export: DefaultExport,
    by_key: HashMap<ObjectKey, Arc<VirtualService>>,
    to: Relation<Arc<str>, ObjectKey>,
    /// A host → those that route its calls.
    of: ByHost<ObjectKey>,
    /// A `VirtualService` → those that delegate to it.
    roots: Relation<ObjectKey, ObjectKey>,
    /// Those that have routes for particular callers, or that the global proxy does not see.
    particular: OrdSet<ObjectKey>,
}

impl VirtualService {
    /// Whether it may route the calls of workloads of a namespace.
    pub(super) fn is_for(&self, namespace: &str) -> bool {
        match self.audience {
            Audience::Mesh => true,
            Audience::Namespace => *self.key.namespace == *namespace,
            Audience::Gateways => false,
        }
    }
}

impl Routes {
    pub(super) fn new(mesh: &MeshWide) -> Self {
        Self { global_proxy: mesh.global_proxy_namespace.clone(), ..Self::default() }
    }

    /// Has whatever does not say who sees it be seen by others than before.
    pub(super) fn set_default_export(&mut self, default: DefaultExport) {
        if self.default_export == default {
            return;
        }
        self.default_export = default;
        for service in self.by_key.values().cloned().collect::<Vec<_>>() {
            self.note_particular(&service);
        }
    }

    fn note_particular(&mut self, service: &VirtualService) {
        if service.callers.is_empty() && self.hidden(service).next().is_none() {
            self.particular.remove(&service.key);
        } else {
            self.particular.insert(service.key.clone());
        }
    }

    /// The namespaces to which alone a `VirtualService` matters, because the global proxy does not see it.
    fn hidden<'a>(&self, service: &'a VirtualService) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let (own, default) = (&service.key.namespace, self.default_export);
        let hidden = service.export_to.hidden_from(&self.global_proxy, own, default);
        hidden.filter(|_| service.audience != Audience::Gateways)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.by_key.keys()
    }

    pub(super) fn apply(&mut self, mut service: VirtualService, registry: &Registry) {
        self.remove(&service.key);
        for host in service.hosts.iter_mut().chain(&mut service.destinations) {
            *host = registry.full_name(host, &service.key.namespace);
        }
        for host in service.hosts.iter().filter(|_| service.audience != Audience::Gateways) {
            self.of.insert(host.clone(), service.key.clone());
        }
        for destination in &service.destinations {
            self.to.insert(destination.clone(), service.key.clone());
        }
        for delegate in &service.delegates {
            self.roots.insert(delegate.clone(), service.key.clone());
        }
        self.note_particular(&service);
        self.by_key.insert(service.key.clone(), Arc::new(service));
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        let Some(old) = self.by_key.remove(key) else { return };
        self.particular.remove(key);
        for host in &old.hosts {
            self.of.remove(host, key);
        }
        for destination in &old.destinations {
            self.to.remove(destination, key);
        }
        for delegate in &old.delegates {
            self.roots.remove(delegate, key);
        }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<VirtualService>> {
        self.by_key.get(key).cloned()
    }

    /// The hosts for whose calls one of the callers has a route of its own, that `is_caller` tells.
    pub(super) fn hosts_for(&self, is_caller: impl Fn(&Source) -> bool) -> BTreeSet<Arc<str>> {
        let services =
            self.particular().filter(|service| self.callers_of(service).any(|source| is_caller(&source)));
        services.flat_map(|service| service.hosts.iter().cloned()).collect()
    }

    /// The `VirtualService`s that have routes for particular callers (those of a namespace, if it alone sees them), or
    /// delegate to one that has.
    pub(super) fn particular(&self) -> impl Iterator<Item = &VirtualService> {
        let keys = self.particular.iter().flat_map(|key| std::iter::once(key).chain(self.roots.of(key)));
        keys.filter_map(|key| self.by_key.get(key)).map(Arc::as_ref)
    }

    /// The callers that a `VirtualService`, or one that it delegates to, has routes for.
    pub(super) fn callers_of<'a>(&'a self, service: &'a VirtualService) -> impl Iterator<Item = Source> + 'a {
        let delegates = service.delegates.iter().filter_map(|key| self.by_key.get(key));
        let named = service.callers.iter().chain(delegates.flat_map(|delegate| &delegate.callers));
        let all_of =
            |namespace: &Arc<str>| Source { namespace: Some(namespace.clone()), labels: Labels::default() };
        named.cloned().chain(self.hidden(service).map(all_of))
    }

    /// The namespaces of those that route calls of `host`, or of some of the names that it stands for, that come from the
    /// namespace `caller`.
    pub(super) fn namespaces_routing<'a>(
        &'a self,
        host: &'a str,
        caller: &'a str,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        self.routing(host).filter(move |service| service.is_for(caller)).map(|service| &service.key.namespace)
    }

    /// Those that route calls of `host`, or of some of the names that it stands for; they may name it by a wildcard.
    pub(super) fn routing<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a VirtualService> {
        self.of.overlapping(host).filter_map(|key| self.by_key.get(key)).map(Arc::as_ref)
    }

    /// Whether some route leads to a host.
    pub(super) fn is_destination(&self, host: &str) -> bool {
        self.to.key(host).is_some()
    }

    /// The other hosts whose calls may end at `destination`.
    pub(super) fn hosts_to<'a>(&'a self, destination: &'a str) -> impl Iterator<Item = &'a Arc<str>> + 'a {
        let direct = self.to.of(destination);
        // A delegate cannot delegate again (Istio's API), so one step back is enough.
        let keys = direct.flat_map(|key| std::iter::once(key).chain(self.roots.of(key)));
        let services = keys.filter_map(|key| self.by_key.get(key));
        let services = services.filter(|service| service.audience != Audience::Gateways);
        services.flat_map(|service| &service.hosts).filter(move |host| &***host != destination)
    }
}

impl Graph {
    /// What a `Sidecar` imports besides `namespace/host`, so that calls of the host are routed as without a `Sidecar`:
    /// istiod takes `VirtualService`s only from namespaces in which the `Sidecar` lists the host that they route
    /// (`SelectVirtualServices` in Istio's `pilot/pkg/model`). `caller` is the namespace of the `Sidecar`.
    pub fn routed_from<'a>(
        &'a self,
        host: &'a str,
        caller: &'a str,
    ) -> impl Iterator<Item = EgressHost> + 'a {
        let namespaces = self.routes.namespaces_routing(host, caller);
        namespaces.map(move |namespace| EgressHost { namespace: namespace.clone(), host: host.into() })
    }

    /// The host that was called, of a call that ended at `upstream`: that one, unless a `VirtualService` sends calls
    /// of another host there and `asked` names that.
    #[must_use]
    pub fn called<'a>(&'a self, upstream: &'a str, asked: impl FnOnce() -> Asked) -> &'a str {
        let mut others = self.routes.hosts_to(upstream).peekable();
        if others.peek().is_none() {
            return upstream;
        }
        let asked = asked();
        others.find(|host| self.is_asked_for(host, &asked)).map_or(upstream, |host| host)
    }

    /// What a call that ended at `upstream` says of the hosts whose calls `VirtualService`s send there, by the word of a source
    /// that does not know which host was called. Those that `caller` knows are in use, perhaps; one that it does not know was
    /// called if there is just one: of several, a call that takes the detour will tell.
    pub fn perhaps_called<'a>(
        &'a self,
        caller: &'a Caller,
        upstream: &'a str,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let hosts: BTreeSet<_> = self.routes.hosts_to(upstream).collect();
        let alone = hosts.len() == 1;
        hosts.into_iter().filter(move |host| match self.judge(caller, host, now) {
            Judgement::Stale => true,
            Judgement::New => alone,
            _ => false,
        })
    }

    /// Whether `asked` means `host`: by its cluster IP, or by its name if it has none.
    fn is_asked_for(&self, host: &str, asked: &Asked) -> bool {
        match self.registry.addresses(host) {
            [] => asked.name.as_ref().is_some_and(|name| means(&name.to_ascii_lowercase(), host)),
            addresses => asked.address.is_some_and(|address| addresses.contains(&address)),
        }
    }
}

/// Whether a caller's `name` means `host`: itself, one of those that it stands for, or a short form (`db.shop`, `db.shop.svc`).
fn means(name: &str, host: &str) -> bool {
    let short = || host.strip_prefix(name).is_some_and(|rest| name.contains('.') && rest.starts_with('.'));
    is_covered_by(name, host) || short()
}
